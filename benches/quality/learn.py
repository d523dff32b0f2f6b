"""What training brings: rankers trained by persona.train from the behaviour tables alone, measured by the same protocols.

Nothing of what is reported is in what a ranker learns from: games' queries are of purchases that are not in the events, the
last purchases are taken out before training, and the gifts' orders end before September.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import protocols
from figures import interval, mean


def train(c, report, table: str, **options) -> None:
    """Trains from nothing; seconds, and the most private memory that the backend had meanwhile."""
    pid = c.execute("SELECT pg_backend_pid()").fetchone()[0]
    most, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            most[0] = max(most[0], private(pid))

    watching = threading.Thread(target=watch)
    watching.start()
    start = time.monotonic()
    try:
        c.execute("SELECT * FROM persona.train(%s::regclass, %s::jsonb)", (table, json.dumps({"anew": True, **options}))).fetchall()
    finally:
        done.set()
        watching.join()
    report.line(table, "train, seconds", time.monotonic() - start, 1, digits=0, key="train seconds")
    report.line(table, "train, private memory of the backend, MB", most[0], 1, digits=0, key="train MB")
    deployed, metrics = c.execute("""SELECT deployed, metrics FROM persona.rankers WHERE items = %s::regclass
        ORDER BY ranker DESC LIMIT 1""", (table,)).fetchone()
    report.note(f"{'deployed' if deployed else 'not deployed'}; held-out behaviour: {json.dumps(metrics)}")


def private(pid: int) -> float:
    """Private memory of a process, in MB; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


def games(c, report, asked) -> None:
    """Personalised search by a ranker that learnt from purchases alone."""
    train(c, report, "games")
    odd = [one for one in asked if int(one.user_id) % 2]
    protocols.personal(c, report, "games trained", "games", "id", odd, "trained, odd user ids", exclude_seen=True)


def recommend(c, report, every: int) -> None:
    """Recommendations by a ranker that never saw the last purchases."""
    held = protocols.hold_out(c)
    c.execute("SELECT persona.deploy('games', NULL)")  # a ranker of the part before has seen them
    train(c, report, "games")
    protocols.recommended(c, report, held, every, "recommend trained")


def gifts(c, report, asked, every: int) -> None:
    """September's invoices by a ranker that learnt from what lies before."""
    train(c, report, "gifts")
    asked = asked[::every]
    protocols.personal(c, report, "gifts trained", "gifts", "code", asked, f"trained, first invoice from September, 1 in {every}")
    # The same as of each invoice's own moment and country, and what these are worth.
    known, left_out = ([protocols.quality(c, "gifts", "code", one, one.user_id, one.context, without=without) for one in asked]
                       for without in ([], ["context"]))
    groups = [one.user_id for one in asked]
    report.line("gifts", "NDCG@10, trained, as of the invoice's moment and country", mean(known), len(asked), interval(known, groups))
    gap = [a - b for a, b in zip(known, left_out)]
    report.line("gifts", "gain from the moment and the country", mean(gap), len(asked), interval(gap, groups), digits=4, shown=True)
