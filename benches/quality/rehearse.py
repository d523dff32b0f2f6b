"""Yesterday is not forgotten: the gift shop's orders in two slices of time, and a ranker that goes on from the one to the other.

A ranker learns from December to April. It goes on with May to August, once with a rehearsal of old behaviour and once
without, and all three are asked for what customers bought in either slice who are in nothing that was learnt or counted:
one in six, whose orders are another behaviour table, named to the catalog only when the training is over. The old slice is
asked as of its own moments, so what a search knows of the shopper is what it knew then.
"""

from __future__ import annotations

import json
import random
from datetime import datetime, timezone
from pathlib import Path

import protocols
import shops
from figures import interval, mean

SPLIT, END = (datetime(2011, month, 1, tzinfo=timezone.utc) for month in (5, 9))
COLUMNS = ["customer_id", "code", "at", "invoice", "country", "kind"]


def measure(c, report, folder: Path, count: int = 800) -> None:
    """A line for each ranker and slice, and for what rehearsing keeps."""
    old, new, held = orders(folder)
    titles = {row["code"]: row["title"] for row in shops.rows(folder, "gifts/products.csv")}
    c.execute("CREATE TABLE slices (code text PRIMARY KEY, title text, price numeric)")
    shops.copy(c, "slices", ["code", "title", "price"],
               ((r["code"], r["title"], r["price"]) for r in shops.rows(folder, "gifts/products.csv")))
    for table, rows in (("slices_orders", old), ("slices_held", held)):
        c.execute(f"CREATE TABLE {table} (customer_id bigint, code text, at timestamptz, invoice text, country text, kind text)")
        shops.copy(c, table, COLUMNS, rows)
        c.execute(f"CREATE INDEX ON {table} (customer_id, at)")
    c.execute("SELECT persona.create_catalog('slices', title => 'title', price => 'price')")
    behaviour(c, "slices_orders")
    shops.refresh(c, "slices")
    rankers = {"as it was": train(c, anew=True, deploy="always")}
    shops.copy(c, "slices_orders", COLUMNS, new)
    shops.refresh(c, "slices")
    for name, share in (("gone on, with rehearsal", 1), ("gone on, without", 0)):
        rankers[name] = train(c, rehearsal=share, deploy="never")
    behaviour(c, "slices_held")
    for slice_name, first, last in (("old", None, SPLIT), ("new", SPLIT, END)):
        asked = questions(held, titles, first, last, count)
        groups = [one.user_id for one in asked]
        values = {name: [protocols.quality(c, "slices", "code", one, one.user_id, one.context, ranker=ranker) for one in asked] for name, ranker in rankers.items()}
        for name, figure in values.items():
            report.line("gifts", f"NDCG@10 of the {slice_name} slice, ranker {name}", mean(figure), len(asked), interval(figure, groups), shown=True)
        before, kept, lost = values.values()
        for what, figure in (("with", kept), ("without", lost)):
            gap = [b - a for a, b in zip(before, figure)]
            report.line("gifts", f"{slice_name} slice, gone on {what} rehearsal, change", mean(gap), len(asked), interval(gap, groups), digits=4, shown=True,
                        key="rehearsed change" if (slice_name, what) == ("old", "with") else None)
        gap = [a - b for a, b in zip(kept, lost)]
        report.line("gifts", f"{slice_name} slice, with rehearsal against without", mean(gap), len(asked), interval(gap, groups), digits=4, shown=True,
                    key="rehearsed gain" if slice_name == "old" else None)


def behaviour(c, table: str) -> None:
    c.execute("""SELECT persona.add_events('slices', %s::regclass, user_id => 'customer_id', item_id => 'code', at => 'at',
        kind => 'kind', session => 'invoice', context => '{country}')""", (table,))


def train(c, **options) -> int:
    """Trains; the ranker's number."""
    c.execute("SELECT count(*) FROM persona.train('slices', %s::jsonb)", (json.dumps(options),)).fetchone()
    return c.execute("SELECT max(ranker) FROM persona.rankers WHERE items = 'slices'::regclass").fetchone()[0]


def orders(folder: Path) -> tuple[list, list, list]:
    """Rows of the old slice and of the new one, and those of the customers who are held out of both."""
    old, new, held = [], [], []
    for row in shops.rows(folder, "gifts/orders.csv.gz"):
        at = datetime.fromisoformat(row["at"]).replace(tzinfo=timezone.utc)
        if at >= END:
            continue
        customer = row["customer_id"]
        kind = "purchase" if int(row["quantity"]) > 0 else "return"
        is_held = customer and random.Random(f"held {customer}").random() < 1 / 6
        (held if is_held else old if at < SPLIT else new).append([customer, row["code"], at, row["invoice"], row["country"], kind])
    return old, new, held


def questions(held: list, titles: dict, first: datetime | None, last: datetime, count: int) -> list[shops.Asked]:
    """Words of the titles in each held-out customer's last invoice of a slice, asked by those who had bought before."""
    invoices: dict[str, tuple] = {}
    since: dict[str, datetime] = {}
    for customer, code, at, invoice, country, kind in held:
        since.setdefault(customer, at)
        if kind == "purchase" and code in titles and at < last and (first is None or at >= first):
            known = invoices.get(customer)
            if known is None or at > known[0]:
                known = invoices[customer] = (at, invoice, set(), country)
            if invoice == known[1]:
                known[2].add(code)
    known = {customer for customer, (at, *_) in invoices.items() if since[customer] < at}
    asked = shops.invoices(titles, invoices, known)
    random.Random("asked").shuffle(asked)
    return asked[:count]
