"""Three shops' public data as a shop would hold it: item tables and behaviour tables, each a catalog.

Loading is by COPY; the folder is the one that `driver.data` finds. Every function returns what its protocol asks.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

GAMES_START = datetime(2018, 1, 1, tzinfo=timezone.utc)  # the games have an order and no times


@dataclass
class Asked:
    """One query of a shopper and what answers it; `context` says when and where it was asked, for SQL."""

    user_id: str
    query: str
    relevant: set
    context: dict = field(default_factory=dict)


def rows(folder: Path, name: str):
    """The rows of a CSV file, gzipped or not, as dicts."""
    file = folder / name
    with gzip.open(file, "rt", newline="") if file.suffix == ".gz" else open(file, newline="") as handle:
        yield from csv.DictReader(handle)


def copy(c, table: str, columns: list[str], values) -> None:
    """Fills a table; an empty text is NULL."""
    with c.cursor().copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as into:
        for row in values:
            into.write_row([None if value == "" else value for value in row])
    c.execute(f"ANALYZE {table}")


def refresh(c, items: str) -> dict[str, tuple[int, float]]:
    """Runs refresh: rows and seconds by step."""
    return {step: (count, seconds) for step, count, seconds in c.execute("SELECT * FROM persona.refresh(%s::regclass)", (items,))}


def electronics(c, folder: Path) -> dict[str, dict[int, int]]:
    """Products with attributes. Returns ratings by query and product."""
    c.execute("""CREATE TABLE electronics (id bigint PRIMARY KEY, title text, description text, brand text, color text,
        type text, price numeric, released date, attributes jsonb)""")
    columns = ["id", "title", "description", "brand", "color", "type", "price", "released", "attributes"]
    copy(c, "electronics", columns, ([row[name] for name in columns] for row in rows(folder, "electronics/products.csv")))
    c.execute("""SELECT persona.create_catalog('electronics', title => 'title', body => '{description}',
        attributes => '{attributes,color}', brand => 'brand', category => 'type', price => 'price')""")
    judged: dict[str, dict[int, int]] = defaultdict(dict)
    for row in rows(folder, "electronics/judgments.csv"):
        judged[row["query"]][int(row["id"])] = int(row["rating"])
    return {query: ratings for query, ratings in judged.items() if max(ratings.values()) > 0}


def games(c, folder: Path) -> list[Asked]:
    """Titles and purchases in order. Returns one query a shopper, whose next purchase answers it."""
    c.execute("CREATE TABLE games (id bigint PRIMARY KEY, title text)")
    copy(c, "games", ["id", "title"], ((row["id"], row["title"]) for row in rows(folder, "games/products.csv")))
    c.execute("CREATE TABLE games_events (user_id bigint, item_id bigint, at timestamptz)")
    copy(c, "games_events", ["user_id", "item_id", "at"],
         ((row["user_id"], row["item_id"], GAMES_START + timedelta(days=int(row["seq"]))) for row in rows(folder, "games/events.csv")))
    c.execute("CREATE INDEX ON games_events (user_id, at)")
    c.execute("SELECT persona.create_catalog('games', title => 'title')")
    c.execute("SELECT persona.add_events('games', 'games_events', user_id => 'user_id', item_id => 'item_id', at => 'at')")
    return [Asked(row["user_id"], row["query"], {int(row["target_item_id"])}) for row in rows(folder, "games/queries.csv")]


def gifts(c, folder: Path, split: datetime) -> list[Asked]:
    """Orders up to `split`; negative quantities are returns. Queries are the words of each known customer's first invoice after it."""
    titles = {row["code"]: row["title"] for row in rows(folder, "gifts/products.csv")}
    c.execute("CREATE TABLE gifts (code text PRIMARY KEY, title text, price numeric)")
    copy(c, "gifts", ["code", "title", "price"], ((r["code"], r["title"], r["price"]) for r in rows(folder, "gifts/products.csv")))
    c.execute("""CREATE TABLE gifts_orders (invoice text, customer_id bigint, code text, quantity int, unit_price numeric,
        at timestamptz, country text, kind text)""")
    columns = ["invoice", "customer_id", "code", "quantity", "unit_price", "at", "country"]
    before, first = [], {}
    for row in rows(folder, "gifts/orders.csv.gz"):
        at = datetime.fromisoformat(row["at"]).replace(tzinfo=timezone.utc)
        row["at"] = at
        if at < split:
            before.append([row[name] for name in columns] + ["purchase" if int(row["quantity"]) > 0 else "return"])
        elif row["customer_id"] and int(row["quantity"]) > 0 and row["code"] in titles:
            known = first.get(row["customer_id"])
            if known is None or at < known[0]:
                first[row["customer_id"]] = (at, row["invoice"], {row["code"]}, row["country"])
            elif row["invoice"] == known[1]:
                known[2].add(row["code"])
    copy(c, "gifts_orders", columns + ["kind"], before)
    c.execute("CREATE INDEX ON gifts_orders (customer_id, at)")
    c.execute("SELECT persona.create_catalog('gifts', title => 'title', price => 'price')")
    c.execute("""SELECT persona.add_events('gifts', 'gifts_orders', user_id => 'customer_id', item_id => 'code', at => 'at',
        kind => 'kind', session => 'invoice', context => '{country}')""")
    return invoices(titles, first, {row[1] for row in before})


def baskets(folder: Path, split: datetime) -> tuple[list[list[str]], list[list[str]]]:
    """The codes of each invoice before the split, and of each from it on; what was sent back is no purchase."""
    titles = {row["code"] for row in rows(folder, "gifts/products.csv")}
    before: dict[str, dict] = defaultdict(dict)
    after: dict[str, dict] = defaultdict(dict)
    for row in rows(folder, "gifts/orders.csv.gz"):
        if int(row["quantity"]) > 0 and row["code"] in titles:
            at = datetime.fromisoformat(row["at"]).replace(tzinfo=timezone.utc)
            (before if at < split else after)[row["invoice"]][row["code"]] = True
    return [list(codes) for codes in before.values()], [list(codes) for codes in after.values()]


def invoices(titles: dict[str, str], first: dict, known: set) -> list[Asked]:
    """Every word of an invoice's titles that stands in 10 to 400 titles, asked by its customer; customers with a past only.
    `first` holds an invoice of each: its moment, its name, its codes, its country."""
    words = {code: set(re.findall(r"[a-z0-9']+", title.lower())) for code, title in titles.items()}
    count: dict[str, int] = defaultdict(int)
    for found in words.values():
        for word in found:
            count[word] += 1
    asked = []
    for customer, (at, _, codes, country) in sorted(first.items()):
        if customer in known:
            context = {"at": at.isoformat(), "country": country}
            for word in sorted({word for code in codes for word in words[code] if 10 <= count[word] <= 400}):
                asked.append(Asked(customer, word, {code for code in codes if word in words[code]}, context))
    return asked
