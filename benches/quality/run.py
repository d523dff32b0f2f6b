"""make quality: search quality on three shops' public data, through SQL, on a throw-away server.

Prints one table; ends with status 1 if a figure misses its bound in floors.json. Where the data is not there
(PERSONA_DATA, else shared/data beside the checkout), it says so and passes.

    run.py                           everything
    run.py games retrieval           some of: electronics retrieval precision understanding games recommend gifts together diversity interleave explore debias context intents tune learn rehearse
    run.py --dsn "host=... dbname=..."   on a server that runs, in an empty database with the extension
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from datetime import datetime, timezone
from types import SimpleNamespace

import arrange
import context
import debias
import diversity
import driver
import explore
import interleave
import learn
import precision
import protocols
import rehearse
import retrieval
import shops
import tuned
import understanding
from report import Report

PARTS = ("electronics", "retrieval", "precision", "understanding", "games", "recommend", "gifts", "together", "diversity", "interleave", "explore", "debias", "context",
         "intents", "tune", "learn", "rehearse")
GIFTS_SPLIT = datetime(2011, 9, 1, tzinfo=timezone.utc)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="default: all")
    parser.add_argument("--dsn", help="a server that runs; nothing in the database may bear the names of the data sets")
    parser.add_argument("--gifts-every", type=int, default=8, help="ask one in so many of the gift shop's 38,000 queries")
    parser.add_argument("--recommend-every", type=int, default=4, help="ask for one in so many of the 12,000 shoppers")
    parser.add_argument("--diversity-every", type=int, default=3, help="tune diversity on one in so many of the even shoppers' queries")
    options = parser.parse_args()
    if unknown := set(options.parts).difference(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    folder = driver.data()
    if folder is None:
        print("quality: the data sets are not there (PERSONA_DATA names their folder), skipped")
        return 0
    wanted = set(options.parts or PARTS)
    running = contextlib.nullcontext(SimpleNamespace(dsn=lambda: options.dsn)) if options.dsn else driver.server()
    with running as server, driver.connect(server.dsn()) as c:
        report = Report("quality: " + c.execute("SELECT current_setting('server_version')").fetchone()[0]
                        + ", pg_persona " + c.execute("SELECT extversion FROM pg_extension WHERE extname = 'pg_persona'").fetchone()[0])
        if wanted & {"electronics", "retrieval", "precision", "understanding"}:
            judged = ready(c, "electronics", lambda: shops.electronics(c, folder))
            if "electronics" in wanted:
                protocols.electronics(c, report, judged)
            if "retrieval" in wanted:
                retrieval.dense(c, report, sorted(judged))
                retrieval.filters(c, report, sorted(judged))
            if "precision" in wanted:
                precision.precision(c, report, judged)
            if "understanding" in wanted:
                understanding.measure(c, report, judged)
        if wanted & {"games", "recommend", "together", "diversity"}:
            asked = ready(c, "games", lambda: shops.games(c, folder))
            if "games" in wanted:
                odd = [one for one in asked if int(one.user_id) % 2]
                protocols.personal(c, report, "games", "games", "id", odd, "odd user ids", exclude_seen=True)
            if "diversity" in wanted:
                diversity.games(c, report, asked, options.diversity_every)
            if "together" in wanted:
                arrange.latency(c, report)
            if "recommend" in wanted:
                protocols.recommend(c, report, options.recommend_every)
        if "explore" in wanted:
            explore.run(c, report)
        if wanted & {"gifts", "together"}:
            asked = ready(c, "gifts", lambda: shops.gifts(c, folder, GIFTS_SPLIT))
            if "gifts" in wanted:
                what = f"first invoice from September, 1 in {options.gifts_every}"
                protocols.personal(c, report, "gifts", "gifts", "code", asked[:: options.gifts_every], what)
            if "together" in wanted:
                arrange.bought_together(c, report, *shops.baskets(folder, GIFTS_SPLIT), every=1)
        if "debias" in wanted:
            debias.measure(c, report)
        if "context" in wanted:
            context.measure(c, report)
        if "interleave" in wanted:
            interleave.measure(c, report)
        if "intents" in wanted:
            tuned.intents(c, report, folder)
            tuned.memory(server, report, driver.connect)
        if "tune" in wanted:
            judged = judged if wanted & {"electronics", "retrieval"} else ready(c, "electronics", lambda: shops.electronics(c, folder))
            tuned.electronics(c, report, judged)
        if "learn" in wanted:  # last: what it trains ranks from then on
            asked = ready(c, "games", lambda: shops.games(c, folder), again=True)
            learn.games(c, report, asked)
            learn.recommend(c, report, options.recommend_every)
            asked = ready(c, "gifts", lambda: shops.gifts(c, folder, GIFTS_SPLIT), again=True)
            learn.gifts(c, report, asked, options.gifts_every)
        if "rehearse" in wanted:
            rehearse.measure(c, report, folder)
        return report.end("quality" if wanted == set(PARTS) else None)


def ready(c, items: str, load, again: bool = False):
    """Loads a shop and refreshes its catalog; says on stderr how long it took. With `again`, what another part loaded goes first."""
    start = time.monotonic()
    if again:
        for table in (items, f"{items}_events", f"{items}_past", f"{items}_orders"):
            c.execute(f"DROP TABLE IF EXISTS {table} CASCADE")
    loaded = load()
    steps = shops.refresh(c, items)
    said = ", ".join(f"{step} {rows:,} rows {seconds:.1f} s" for step, (rows, seconds) in steps.items())
    print(f"==> {items} ready in {time.monotonic() - start:.0f} s: {said}", file=sys.stderr, flush=True)
    return loaded


if __name__ == "__main__":
    driver.place.main(main)
