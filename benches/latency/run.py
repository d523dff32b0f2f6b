"""The SQL part of `make bench`: what a statement costs a client, over a Unix socket, on the electronics data.

    run.py                      on a throw-away server, preloaded; the first search is measured without preload too
    run.py --queries 400        how many new queries are timed

Times are those of the client: statement sent until the last row is read, one client, nothing else running. A new query is
one that no backend has embedded: two to four words of a title, drawn by a seed. Prints one table; status 1 if a figure misses
its bound. Where the data is not there it says so and passes.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "quality"), str(Path(__file__).resolve().parents[1])]

import driver  # noqa: E402
import encoder  # noqa: E402
import shops  # noqa: E402
from figures import mean, percentile  # noqa: E402
from report import Report  # noqa: E402

SEARCH = "SELECT (s.item).id, s.score FROM persona.search(NULL::electronics, %s, k => 20) s"
SCORE = "SELECT id FROM electronics p WHERE id = ANY(%s) ORDER BY persona.score(p, %s) DESC LIMIT 20"
BACKENDS = 10
CANCELS = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=300)
    options = parser.parse_args()
    folder = driver.data()
    if folder is None:
        print("latency: the data sets are not there (PERSONA_DATA names their folder), skipped")
        return 0
    with driver.server() as server:
        queries = Queries(folder, seed=7)
        with driver.connect(server.dsn()) as c:
            report = Report("latency: Postgres " + c.execute("SELECT current_setting('server_version')").fetchone()[0])
            shops.electronics(c, folder)
            refresh(c, report)
            report.note(setting(c))
            search(c, report, queries, options.queries)
            overhead(c, report, server, queries)
            cancel(c, report, server)
        first(server, report, queries, "preloaded", key="first search ms")
        memory(server, report)
        ranking(report)
        server.restart({"shared_preload_libraries": "", "persona.preload": ""})
        first(server, report, queries, "not preloaded")
        return report.end("latency")


class Queries:
    """New queries without end, and the word that a third of the titles hold."""

    def __init__(self, folder: Path, seed: int):
        self.rng = random.Random(seed)
        self.titles = [re.findall(r"[A-Za-z][A-Za-z0-9]+", row["title"]) for row in shops.rows(folder, "electronics/products.csv")]
        self.given: set[str] = set()

    def new(self) -> str:
        """Two to four words that stand beside one another in a title; never the same twice."""
        while True:
            words = self.rng.choice(self.titles)
            count = self.rng.randint(2, 4)
            start = self.rng.randrange(max(1, len(words) - count))
            query = " ".join(words[start:start + count]).lower()
            if query and query not in self.given:
                self.given.add(query)
                return query

    def frequent(self) -> tuple[str, float]:
        """The word whose share of the titles is nearest to a third, and that share."""
        counts: dict[str, int] = {}
        for words in self.titles:
            for word in {word.lower() for word in words}:
                counts[word] = counts.get(word, 0) + 1
        word = min(counts, key=lambda w: (abs(counts[w] / len(self.titles) - 1 / 3), w))
        return word, counts[word] / len(self.titles)


def setting(c) -> str:
    """How the model runs: the settings that change a figure."""
    names = ("persona.precision", "persona.threads", "persona.device")
    return ", ".join(f"{name} {c.execute('SELECT current_setting(%s, true)', (name,)).fetchone()[0]}" for name in names)


def timed(c, sql: str, bound) -> float:
    """Milliseconds from sending a statement to its last row."""
    start = time.perf_counter()
    c.execute(sql, bound).fetchall()
    return 1000 * (time.perf_counter() - start)


def both(report, metric: str, times: list[float], key: str | None = None, shown: bool = False) -> None:
    """Lines for the median and the 95th percentile."""
    report.line("electronics", f"{metric}, p50, ms", percentile(times, 0.5), len(times), digits=2, key=key, shown=shown)
    report.line("electronics", f"{metric}, p95, ms", percentile(times, 0.95), len(times), digits=2)


def ranking(report) -> None:
    """A trained ranker over 1,000 candidates whose features are there, inside the engine."""
    program = subprocess.run([encoder.build("ranker")], check=True, stdout=subprocess.PIPE, text=True)
    times = [ns / 1e6 for ns in json.loads(program.stdout)["ns"]]
    report.line("engine", "trained ranker, 1,000 candidates, features ready, p50, ms", percentile(times, 0.5), len(times), digits=3,
                key="rank 1000 ms")
    report.line("engine", "trained ranker, 1,000 candidates, features ready, p95, ms", percentile(times, 0.95), len(times), digits=3)


def refresh(c, report) -> None:
    """The first refresh, which embeds every product; and one that finds nothing to do."""
    seen = []
    c.add_notice_handler(lambda notice: seen.append(notice.message_primary))
    steps = shops.refresh(c, "electronics")
    count, seconds = steps["vectors"]
    report.line("electronics", "refresh, texts embedded a second, one backend", count / seconds, count, digits=1, key="refresh texts/s")
    report.line("electronics", "refresh, whole, s", sum(s for _, s in steps.values()), count, digits=1)
    report.line("electronics", "refresh, notices of progress", len(seen), len(seen), digits=0)
    start = time.perf_counter()
    again = shops.refresh(c, "electronics")
    report.line("electronics", "refresh again, nothing changed, s", time.perf_counter() - start, again["vectors"][0], digits=1)


def search(c, report, queries: Queries, count: int) -> None:
    """Warm statements of one client."""
    fewer = max(50, count // 3)
    for _ in range(20):
        timed(c, SEARCH, (queries.new(),))
    both(report, "search, warm, new queries", [timed(c, SEARCH, (queries.new(),)) for _ in range(count)], key="search p50 ms")
    word, share = queries.frequent()
    times = [timed(c, SEARCH, (f"{word} {queries.new()}",)) for _ in range(fewer)]
    both(report, f"search, new queries with {word!r} ({share:.0%} of titles)", times, key="frequent word p50 ms")
    both(report, f"search, {word!r} alone, again and again", [timed(c, SEARCH, (word,)) for _ in range(50)])
    filtered = SEARCH.replace("k => 20", """filter => '{"brand": "HP"}', k => 20""")
    both(report, "search, new queries, brand filter of 15 %", [timed(c, filtered, (queries.new(),)) for _ in range(fewer)])
    ids = [row[0] for row in c.execute("SELECT id FROM electronics ORDER BY md5(id::text) LIMIT 1000")]
    times = [timed(c, SCORE, (ids, queries.new())) for _ in range(fewer)]
    both(report, "persona.score over 1,000 rows, new queries", times, key="score 1000 p50 ms")
    both(report, "persona.embed, new queries", [timed(c, "SELECT persona.embed(%s, 'query')", (queries.new(),)) for _ in range(count)])


def overhead(c, report, server, queries: Queries, blocks: int = 30) -> None:
    """What SQL adds to a query's vector: a call inside the server against the bare forward pass of the benchmark's program, in turns."""
    c.execute("""CREATE FUNCTION pg_temp.spent(queries text[]) RETURNS float8[] LANGUAGE plpgsql AS $$
        DECLARE spent float8[] := '{}'; query text; began timestamptz;
        BEGIN
            FOREACH query IN ARRAY queries LOOP
                began := clock_timestamp();
                PERFORM persona.embed(query, 'query');
                spent := spent || extract(epoch FROM clock_timestamp() - began)::float8 * 1e6;
            END LOOP;
            RETURN spent;
        END $$""")
    c.execute("SET persona.precision = int8")
    engine, inside, bare = encoder.Ours(server.at.models), [], []
    for block in range(blocks + 1):
        asked = [queries.new() for _ in range(10)]
        spent = c.execute("SELECT pg_temp.spent(%s)", (asked,)).fetchone()[0]
        alone = [1e3 * engine.ask([query], "int8") for query in asked]
        if block:
            inside, bare = inside + spent, bare + alone
    c.execute("RESET persona.precision")
    difference = percentile([left - right for left, right in zip(inside, bare)], 0.5)
    report.line("electronics", "persona.embed over the bare forward pass, same queries: p50, µs", difference, len(bare), digits=0, key="embed overhead us")


def first(server, report, queries: Queries, what: str, key: str | None = None) -> None:
    """The first search of a new connection; connecting is not counted."""
    times = []
    for _ in range(BACKENDS):
        with driver.connect(server.dsn()) as c:
            c.execute("SELECT 1")
            times.append(timed(c, SEARCH, (queries.new(),)))
    both(report, f"first search of a connection, {what}", times, key=key, shown=True)


def memory(server, report) -> None:
    """Private memory of backends that have embedded, above that of backends that have only said SELECT 1."""

    def private(statement: str) -> list[float]:
        held = [driver.connect(server.dsn()) for _ in range(BACKENDS)]
        try:
            for number, c in enumerate(held):
                c.execute(statement, (f"query number {number}",) if "%s" in statement else None)
            return [smaps(c.info.backend_pid) for c in held]
        finally:
            for c in held:
                c.close()

    idle = private("SELECT 1")
    embedded = private("SELECT persona.embed(%s, 'query')")
    report.line("memory", f"{BACKENDS} backends that embedded: private above idle, MB each", mean(embedded) - mean(idle), BACKENDS,
                digits=1, key="private MB")
    searched = private("SELECT count(*) FROM persona.search(NULL::electronics, %s, k => 20)")
    report.line("memory", f"{BACKENDS} backends that searched: private above idle, MB each", mean(searched) - mean(idle), BACKENDS, digits=1)


def smaps(pid: int) -> float:
    """Private megabytes of a process: Private_Clean + Private_Dirty of smaps_rollup."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_")) / 1024


def cancel(c, report, server) -> None:
    """From pg_cancel_backend until the error is there, during a refresh; above the same for pg_sleep."""
    c.execute("CREATE TABLE again AS SELECT id, title, description FROM electronics")
    c.execute("ALTER TABLE again ADD PRIMARY KEY (id)")
    c.execute("SELECT persona.create_catalog('again', title => 'title', body => '{description}')")
    sleeping = [stopped(server, "SELECT pg_sleep(60)", 0.2) for _ in range(CANCELS)]
    # at another moment each time, so that no one step is favoured
    refreshing = [stopped(server, "SELECT * FROM persona.refresh('again')", 1.0 + 0.37 * n) for n in range(CANCELS)]
    report.line("electronics", "cancel during refresh, worst, ms above pg_sleep's median",
                max(refreshing) - percentile(sleeping, 0.5), CANCELS, digits=1, key="cancel ms")
    report.line("electronics", "cancel during refresh, p50, ms", percentile(refreshing, 0.5), CANCELS, digits=1)
    kept = "SELECT count(*) FROM again_persona WHERE embedding IS NOT NULL"
    report.line("electronics", "vectors left by the cancelled refreshes", c.execute(kept).fetchone()[0], CANCELS, digits=0)
    stopped(server, "CALL persona.work('refresh', 'again', '{\"batch\": 256}')", 5.0)
    report.line("electronics", "vectors kept by a persona.work cancelled after 5 s", c.execute(kept).fetchone()[0], 1, digits=0)
    c.execute("DROP TABLE again")


def stopped(server, sql: str, after: float) -> float:
    """Milliseconds between the cancel and the statement's error."""
    ended: list[float] = []

    def run(c) -> None:
        try:
            c.execute(sql)
        except driver.psycopg.errors.QueryCanceled:
            ended.append(time.perf_counter())

    with driver.connect(server.dsn()) as worker, driver.connect(server.dsn()) as other:
        thread = threading.Thread(target=run, args=(worker,))
        thread.start()
        time.sleep(after)
        start = time.perf_counter()
        other.execute("SELECT pg_cancel_backend(%s)", (worker.info.backend_pid,))
        thread.join()
    if not ended:
        raise driver.place.Failure(f"{sql} was over before it was cancelled")
    return 1000 * (ended[0] - start)


if __name__ == "__main__":
    driver.place.main(main)
