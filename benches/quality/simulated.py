"""A simulated shop: the truth is known, so what was learnt from its logs can be held against it.

    shop = simulated.shop(c, seed=1, click_model="position")     tables, catalog, behaviour table, refreshed
    shop.truth(user, query, context)                             {item: how much this shopper wants it now, 0 to 1}
    shop.ndcg(user, query, context, ranked)                      of a ranked list of items, against that truth
    asked = shop.ask(rng)                                        the next search: user, query, context (for SQL), session
    clicks = shop.click(user, query, ranked, context, rng)       what the shopper does with a list
    shop.log(c, shop.rows(asked, ranked, clicks))                those events into the behaviour table

What a shopper wants is a sum: how well the item answers the query, the shopper's own taste (style, colour, brand, price),
the item's quality (in no column: only behaviour tells), the moment (hour and weekday of `at` in UTC, device, country) and
the mood of the session. A sigmoid of it is the chance of a click once the item is looked at; some shoppers click more than
others at the same things (`eager`), which is no part of the truth. What is looked at, the click
model says: "position" (the place alone decides: 1/rank), or "dependent" (top down, and after a click on with a chance that
falls with the rank; Guo, Liu and Wang, 2009), in which no propensity by position is right.

The log comes from three old rankers, one drawn for each search, and in `explore` of the searches from chance. None knows
quality, and one prefers the worse items, so that clicks counted by themselves mislead. With `shuffled` the same lists are
shown in an order of chance, so that clicks at all places are as fair to each item. Each impression carries its
propensity: the chance with which that item stood at that place. `new` items have no events yet.

Everything comes from the seed. Plain Python, no package needed:

    python3 benches/quality/simulated.py                         says what the two click models make of it
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import figures

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
SHOWN = 10
# what an item is called, and what some shoppers call it
CATEGORIES = {"lamp": "light", "rug": "carpet", "mug": "cup", "couch": "sofa", "jacket": "coat", "backpack": "rucksack",
              "chair": "seat", "blanket": "throw", "shirt": "top", "notebook": "journal", "pan": "skillet", "watch": "timepiece"}
BRANDS = ["Aldin", "Brevik", "Corvo", "Dalby", "Estrel", "Fjorn", "Garnet", "Hollis", "Ivera", "Jorund", "Kelmo", "Lunden"]
STYLES = ["plain", "cosy", "sporty", "festive", "vintage", "modern", "rustic", "elegant"]
COLORS = ["red", "blue", "green", "black", "white", "yellow", "grey", "purple"]
MATERIALS = ["wool", "linen", "cotton", "steel", "oak", "bamboo", "leather", "glass"]
COUNTRIES = {"NO": ("wool", "leather"), "ES": ("linen", "cotton"), "DE": ("steel", "oak"), "JP": ("bamboo", "glass")}
DEVICES = ["phone", "desktop"]
FACETS = ("style", "color", "material", "brand")
EVENTS = ["user_id", "item_id", "at", "kind", "query", "session", "position", "dwell_ms", "device", "country", "propensity"]


@dataclass
class Item:
    """One item: its columns, and what no column says."""

    id: int
    category: str
    brand: str
    style: str
    color: str
    material: str
    price: float
    dear: float  # the price as a z-score
    quality: float
    new: bool
    priors: tuple  # what each old ranker thinks of it

    @property
    def title(self) -> str:
        return f"{self.brand} {self.style} {self.color} {self.material} {self.category} {self.id}"


@dataclass
class Shopper:
    """What a shopper likes: weights by word, and of the price."""

    id: int
    likes: dict
    thrift: float
    activity: float
    country: str
    eager: float


@dataclass
class Asked:
    """One search: `context` is what SQL gets, with `at` and `session` in it."""

    user: int
    query: str
    context: dict
    session: str
    at: datetime


@dataclass
class Click:
    """What came of one item of a list."""

    position: int
    item: int
    dwell_ms: int
    cart: bool
    purchase: bool
    returned: bool


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


class Shop:
    """The shop with its truth. `table` is the item table's name, `events` the behaviour table's."""

    def __init__(self, seed: int = 1, click_model: str = "position", items: int = 2000, shoppers: int = 2000, new: float = 0.05,
                 days: int = 60, explore: float = 0.1, table: str = "simulated", shuffled: bool = False):
        if click_model not in ("position", "dependent"):
            raise ValueError(f'a click model is "position" or "dependent", not "{click_model}"')
        self.seed = seed
        self.rng = random.Random(f"shop {seed}")  # of the shop itself: the same for both click models
        self.log_rng = random.Random(f"log {seed} {click_model}")
        self.click_model, self.days, self.explore, self.shuffled = click_model, days, explore, shuffled
        self.table, self.events = table, f"{table}_events"
        self.items = {n: self._item(n, n > items * (1 - new)) for n in range(1, items + 1)}
        self.shoppers = {n: self._shopper(n) for n in range(1, shoppers + 1)}
        self.activity = list(self._running(s.activity for s in self.shoppers.values()))
        self.general = {word: self.rng.gauss(0, 0.4) for word in STYLES + COLORS + BRANDS}
        self.moods: dict[str, str] = {}
        self.facets: dict[str, dict] = {}
        self._answers: dict[str, dict[int, float]] = {}
        self._lists: dict[str, list[list[int]]] = {}
        self._session: list[Asked] = []
        self._sessions = 0

    # the truth

    def wants(self, user: int, item: Item, relevance: float, context: dict, eager: bool = False) -> float:
        """The chance that the shopper, looking at the item, takes it; with `eager`, as readily as this shopper clicks."""
        shopper = self.shoppers[user]
        value = eager * shopper.eager + 4 * relevance - 5.2 + item.quality - shopper.thrift * item.dear
        for word in (item.style, item.color, item.brand):
            value += self.general[word] + shopper.likes.get(word, 0)
        return sigmoid(value + self.moment(item, context))

    def moment(self, item: Item, context: dict) -> float:
        """What hour, weekday, device, country and the session's mood add to an item."""
        at, value = context.get("at"), 0.0
        if at:
            at = datetime.fromisoformat(at) if isinstance(at, str) else at
            value += 1.2 * (item.style == ("sporty" if 5 <= at.hour < 10 else "plain" if at.hour < 17 else "cosy"))
            value += 1.0 * (item.style == ("festive" if at.weekday() >= 5 else "elegant"))
        if context.get("device"):
            value += 0.5 * (item.dear if context["device"] == "desktop" else -item.dear)
        value += 1.0 * (item.material in COUNTRIES.get(context.get("country"), ()))
        return value + 1.0 * (self.moods.get(context.get("session")) == item.style)

    def answers(self, query: str) -> dict[int, float]:
        """The items that answer a query: 1 where every word of it holds, 0.4 where only the kind of thing does."""
        known = self._answers.get(query)
        if known is None:
            wanted = self.facets[query]
            known = {}
            for item in self.items.values():
                if item.category == wanted.get("category", item.category):
                    whole = all(getattr(item, name) == value for name, value in wanted.items())
                    if whole or "category" in wanted:
                        known[item.id] = 1.0 if whole else 0.4
            self._answers[query] = known
        return known

    def truth(self, user: int, query: str, context: dict | None = None) -> dict[int, float]:
        """How much the shopper wants each item that answers the query at all, from 0 to 1."""
        return {item: self.wants(user, self.items[item], relevance, context or {}) for item, relevance in self.answers(query).items()}

    def ndcg(self, user: int, query: str, context: dict | None, ranked: list[int], k: int = 10) -> float:
        """NDCG against the truth; what the shopper surely wants has gain 2^3 − 1."""
        return figures.ndcg(ranked, {item: 3 * want for item, want in self.truth(user, query, context).items()}, k)

    def good_new(self, share: float = 1 / 3) -> set[int]:
        """The new items that are worth finding: the best `share` of them by quality."""
        new = sorted((item for item in self.items.values() if item.new), key=lambda item: -item.quality)
        return {item.id for item in new[: round(len(new) * share)]}

    # what shoppers do

    def ask(self, rng: random.Random, at: datetime | None = None) -> Asked:
        """The next search. A session is some searches of one shopper, minutes apart; sessions fall anywhere within the days
        of the log, or after `at` where it is given."""
        if not self._session:
            self._session = self._new_session(rng, at)
        return self._session.pop(0)

    def click(self, user: int, query: str, ranked: list[int], context: dict, rng: random.Random) -> list[Click]:
        """What the shopper clicks in a list, top down, and what follows. Items that do not answer the query are looked at
        like others, and hardly ever taken."""
        answers, clicks = self.answers(query), []
        for position, number in enumerate(ranked, 1):
            item = self.items[number]
            want = self.wants(user, item, answers.get(number, 0.0), context, eager=True)
            looks = self.click_model == "dependent" or rng.random() < 1 / position
            if not looks or rng.random() >= want:
                continue
            bought = rng.random() < 0.5 * want
            dwell = int(1000 * rng.lognormvariate(1.5 + 2.5 * want, 0.6))
            returned = bought and rng.random() < 0.25 * sigmoid(-2 * item.quality)
            clicks.append(Click(position, number, dwell, bought or rng.random() < 0.3 * want, bought, returned))
            if self.click_model == "dependent" and rng.random() >= 0.7 * position**-0.3:
                break
        return clicks

    def expect(self, user: int, query: str, ranked: list[int], context: dict) -> tuple[float, float, float]:
        """What `click` gives of a list on average, without drawing: clicks, the chance of any, purchases."""
        answers, clicks, none, bought, reach = self.answers(query), 0.0, 1.0, 0.0, 1.0
        for position, number in enumerate(ranked, 1):
            want = self.wants(user, self.items[number], answers.get(number, 0.0), context, eager=True)
            looks = reach if self.click_model == "dependent" else 1 / position
            none *= 1 - (want if self.click_model == "dependent" else looks * want)
            clicks += looks * want
            bought += looks * want * 0.5 * want
            reach *= 1 - want * (1 - 0.7 * position**-0.3)
        return clicks, 1 - none, bought

    def rows(self, asked: Asked, ranked: list[int], clicks: list[Click], propensities: list[float] | None = None) -> list[tuple]:
        """One search as rows of the behaviour table, in the order of `EVENTS`; without a click, the search itself too."""
        device, country = asked.context.get("device"), asked.context.get("country")

        def row(item, seconds, kind, position=None, dwell=None, propensity=None):
            return (asked.user, item, asked.at + timedelta(seconds=seconds), kind, asked.query, asked.session, position, dwell,
                    device, country, propensity)

        made = [] if clicks else [row(None, 0, "search")]
        for position, item in enumerate(ranked, 1):
            made.append(row(item, 0, "impression", position, None, propensities[position - 1] if propensities else None))
        seconds = 1
        for click in clicks:
            seconds += 2
            made.append(row(click.item, seconds, "click", click.position, click.dwell_ms))
            made += [row(click.item, seconds + 1, "cart", click.position)] * click.cart
            made += [row(click.item, seconds + 2, "purchase", click.position)] * click.purchase
            made += [row(click.item, 3 * 86400, "return")] * click.returned
        return made

    def log(self, c, rows: list[tuple]) -> None:
        """Writes events."""
        with c.cursor().copy(f"COPY {self.events} ({', '.join(EVENTS)}) FROM STDIN") as into:
            for row in rows:
                into.write_row(row)

    def logged(self, searches: int):
        """The searches of the old days, with the list that was shown, its propensities, and the clicks."""
        for _ in range(searches):
            asked = self.ask(self.log_rng)
            ranked, propensities = self.old_list(asked.query, self.log_rng)
            yield asked, ranked, propensities, self.click(asked.user, asked.query, ranked, asked.context, self.log_rng)

    def old_list(self, query: str, rng: random.Random) -> tuple[list[int], list[float]]:
        """What the old rankers, or chance, show; with the chance of each item to stand where it stands."""
        lists = self._lists.get(query)
        if lists is None:
            answers = {item: how for item, how in self.answers(query).items() if not self.items[item].new}
            order = [sorted(answers, key=lambda i: (-2 * answers[i] - self.items[i].priors[n], i)) for n in range(3)]
            lists = self._lists[query] = [*(one[:SHOWN] for one in order), sorted(answers)]
        *old, pool = lists
        ranked = rng.sample(pool, min(SHOWN, len(pool))) if rng.random() < self.explore else rng.choice(old)
        by_chance = self.explore / max(1, len(pool))
        by_rank = (1 - self.explore) / len(old)
        if self.shuffled:
            rng.shuffle(ranked := list(ranked))
            shown = [by_chance * len(ranked) + by_rank * sum(item in one for one in old) for item in ranked]
            return ranked, [chance / len(ranked) for chance in shown]
        return ranked, [by_chance + by_rank * sum(one[place] == item for one in old) for place, item in enumerate(ranked)]

    # how it is made

    @staticmethod
    def _running(values):
        total = 0.0
        for value in values:
            total += value
            yield total

    def _item(self, number: int, new: bool) -> Item:
        rng = self.rng
        dear, quality = rng.gauss(0, 1), rng.gauss(0, 0.9)
        return Item(number, rng.choice(list(CATEGORIES)), rng.choice(BRANDS), rng.choice(STYLES), rng.choice(COLORS),
                    rng.choice(MATERIALS), round(math.exp(3.5 + 0.6 * dear), 2), dear, quality, new,
                    (-0.6 * quality + rng.gauss(0, 0.5), rng.gauss(0, 1), 0.8 * dear + rng.gauss(0, 0.5)))

    def _shopper(self, number: int) -> Shopper:
        rng = self.rng
        likes = {word: 1.5 for word in rng.sample(STYLES, 2)} | {word: 1.0 for word in rng.sample(COLORS, 2)}
        likes |= {word: 1.2 for word in rng.sample(BRANDS, 2)}
        likes |= {word: -1.0 for word in rng.sample(sorted(set(STYLES + COLORS) - set(likes)), 4)}
        return Shopper(number, likes, rng.gauss(0, 0.5), rng.paretovariate(1.3), rng.choice(list(COUNTRIES)),
                       random.Random(f"eager {self.seed} {number}").gauss(0, 1))

    def _query(self, rng: random.Random, shopper: Shopper) -> str:
        """A kind of thing, now and then by another word; alone, with one or two qualities (those that the shopper likes come
        to mind first), or a brand; and sometimes one item's own title."""
        draw = rng.random()
        if draw < 0.05:
            wanted = {"brand": rng.choice(BRANDS)}
            text = wanted["brand"].lower()
        elif draw < 0.1:
            item = self.items[rng.randint(1, len(self.items))]
            wanted = {"category": item.category, "id": item.id}
            text = item.title.lower()
        else:
            category = rng.choice(list(CATEGORIES))
            wanted, words = {"category": category}, []
            for name in rng.sample(FACETS, 0 if draw < 0.5 else 1 if draw < 0.85 else 2):
                among = {"style": STYLES, "color": COLORS, "material": MATERIALS, "brand": BRANDS}[name]
                liked = [word for word in among if shopper.likes.get(word, 0) > 0]
                wanted[name] = rng.choice(liked if liked and rng.random() < 0.5 else among)
                words.append(wanted[name].lower())
            text = " ".join([*words, CATEGORIES[category] if rng.random() < 0.15 else category])
        self.facets[text] = wanted
        return text

    def _new_session(self, rng: random.Random, at: datetime | None) -> list[Asked]:
        number = rng.choices(range(1, len(self.shoppers) + 1), cum_weights=self.activity)[0]
        shopper = self.shoppers[number]
        self._sessions += 1
        session = f"{self.click_model[0]}{self._sessions}"
        self.moods[session] = rng.choice(STYLES)
        hour = rng.choice([6, 7, 8, 9, 10, 12, 12, 13, 15, 16, 18, 19, 19, 20, 20, 21, 21, 22])
        begin = at or START + timedelta(days=rng.randrange(self.days), hours=hour, seconds=rng.randrange(3600))
        context = {"device": rng.choice(DEVICES), "country": shopper.country, "session": session}
        made = []
        for place in range(rng.choice([1, 1, 2, 3, 4])):
            moment = begin + timedelta(minutes=3 * place)
            made.append(Asked(number, self._query(rng, shopper), context | {"at": moment.isoformat()}, session, moment))
        return made


def load(c, shop: Shop, searches: int, debias: bool = True) -> None:
    """Fills the tables, makes the catalog, and refreshes it; without `debias`, clicks count as they are."""
    c.execute(f"""CREATE TABLE {shop.table} (id bigint PRIMARY KEY, title text, category text, brand text, style text, color text,
        material text, price numeric, created timestamptz)""")
    c.execute(f"""CREATE TABLE {shop.events} (user_id bigint, item_id bigint, at timestamptz, kind text, query text, session text,
        "position" int, dwell_ms int, device text, country text, propensity double precision)""")
    columns = ["id", "title", "category", "brand", "style", "color", "material", "price"]
    with c.cursor().copy(f"COPY {shop.table} ({', '.join(columns)}, created) FROM STDIN") as into:
        for item in shop.items.values():
            created = START + timedelta(days=shop.days) if item.new else START - timedelta(days=30)
            into.write_row([*(getattr(item, name) for name in columns), created])
    shop.log(c, [row for one in shop.logged(searches) for row in shop.rows(one[0], one[1], one[3], one[2])])
    c.execute(f"CREATE INDEX ON {shop.events} (user_id, at)")
    c.execute(f"ANALYZE {shop.table}, {shop.events}")
    c.execute("""SELECT persona.create_catalog(%s::regclass, title => 'title', attributes => '{style,color,material}', brand => 'brand',
        category => 'category', price => 'price', options => '{"text_search": "persona.english"}')""", (shop.table,))
    c.execute("""SELECT persona.add_events(%s::regclass, %s::regclass, user_id => 'user_id', item_id => 'item_id', at => 'at', kind => 'kind',
        query => 'query', session => 'session', "position" => 'position', dwell_ms => 'dwell_ms', context => '{device,country}',
        options => %s)""", (shop.table, shop.events, json.dumps({"propensity": "propensity", "debias": debias})))
    c.execute("SELECT * FROM persona.refresh(%s::regclass)", (shop.table,))


def shop(c, seed: int = 1, click_model: str = "position", searches: int = 20_000, debias: bool = True, **how) -> Shop:
    """A shop with so many logged searches, in a database with the extension; `debias` is what `load` takes, `how` what `Shop`
    takes."""
    made = Shop(seed, click_model, **how)
    load(c, made, searches, debias)
    return made


def main() -> None:
    for model in ("position", "dependent"):
        made = Shop(click_model=model)
        clicks, shown, quality = [0] * SHOWN, [0] * SHOWN, []
        bought, old, best, expected = 0, [], [], 0.0
        for number, (asked, ranked, _, clicked) in enumerate(made.logged(10_000)):
            for place in range(len(ranked)):
                shown[place] += 1
            for click in clicked:
                clicks[click.position - 1] += 1
                bought += click.purchase
                quality.append(made.items[click.item].quality)
            expected += made.expect(asked.user, asked.query, ranked, asked.context)[0]
            if number % 50 == 0:
                wanted = made.truth(asked.user, asked.query, asked.context)
                plain = made.truth(asked.user, asked.query)
                old.append(made.ndcg(asked.user, asked.query, asked.context, ranked))
                best.append(made.ndcg(asked.user, asked.query, asked.context, sorted(plain, key=lambda item: -plain[item])))
                assert made.ndcg(asked.user, asked.query, asked.context, sorted(wanted, key=lambda item: -wanted[item])) > 0.999
        assert abs(sum(clicks) - expected) < 4 * expected**0.5, (sum(clicks), expected)
        rates = " ".join(f"{c / s:.3f}" for c, s in zip(clicks, shown))
        print(f"{model}: clicks by position {rates}; bought {bought}; mean quality of clicked items {figures.mean(quality):.2f}")
        print(f"  true NDCG@10: the old lists {figures.mean(old):.3f}, everything known but the moment {figures.mean(best):.3f}, the best 1")


if __name__ == "__main__":
    main()
