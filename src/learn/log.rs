//! Behaviour as read from the tables, cleaned and put in order.

use crate::event::{Event, Kind};
use crate::measure::propensity::{DEEPEST, Shown};
use crate::shopper::sequence::{self, Moment};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// One row of behaviour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logged {
    /// Whose it is, by a number that only this log knows.
    pub shopper: u32,
    /// The item's number in the catalog.
    pub item: i64,
    /// Seconds since 1970-01-01 UTC.
    pub at: f64,
    /// What happened.
    pub kind: Kind,
    /// How much it says.
    pub weight: f32,
    /// The query, by its place in [`Log::queries`] plus one; 0 is none.
    pub query: u32,
    /// The session, by a number that only this log knows; 0 is none.
    pub session: u32,
    /// Where the item stood in the list, from 1; 0 is unknown.
    pub position: u16,
    /// How long the item was looked at, in seconds.
    pub dwell: f32,
    /// The values of its context columns, by their place in [`Log::contexts`] plus one; 0 is none.
    pub context: u32,
}

/// What cleaning took out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleaned {
    /// Rows read.
    pub read: u64,
    /// Rows of items that the catalog does not know.
    pub orphans: u64,
    /// Rows that say the same as another.
    pub duplicates: u64,
    /// Rows of shoppers that no hand can be: [`ROBOT`] looks within ten minutes.
    pub robots: u64,
    /// Rows left out to stay within the memory.
    pub sampled: u64,
}

/// Rows of a shopper further apart than so many seconds are two baskets, where no session says.
const APART: f64 = 1800.0;

/// Looks (views, clicks, searches) within ten minutes that no hand makes.
pub const ROBOT: usize = 600;

/// Behaviour, by shopper and then by time.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// The rows.
    pub events: Vec<Logged>,
    /// The queries that rows name.
    pub queries: Vec<String>,
    /// Values of context columns that rows bear, each by its place in [`Log::values`].
    pub contexts: Vec<Vec<u16>>,
    /// The values that enough shoppers bear, as `sequence::value_name` writes them.
    pub values: Vec<String>,
    /// Which vectors of the moment can be learnt: parts of the day where rows have more than one, days of the week after
    /// eight weeks, months after a year. Less would teach the log's own course.
    pub seasons: [bool; 3],
    /// Seconds that the shop's clock is ahead of UTC, each from a moment on; none is UTC.
    pub offsets: Vec<(f64, f64)>,
    /// What cleaning took out.
    pub cleaned: Cleaned,
    /// Whether times count each shopper's own steps: more than half of the shoppers begin at the very same moment. Such
    /// times tell nothing of who came before whom.
    pub own_clock: bool,
    /// The newest row that says something, in seconds since 1970.
    pub newest: f64,
}

/// What one shopper took at one go: one session, or rows no more than half an hour apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Basket {
    /// The rows of the shopper.
    pub shopper: Range<usize>,
    /// The rows of the basket.
    pub rows: Range<usize>,
    /// When it began.
    pub at: f64,
}

impl Basket {
    /// The rows of the shopper that came before, newest first, as a history; at most `limit`.
    pub fn history(&self, log: &Log, limit: usize) -> Vec<Event> {
        let session = log.events.get(self.rows.start).map_or(0, |e| e.session);
        let before = log.events[self.shopper.start..self.rows.start].iter().rev();
        let telling = before.filter(|e| e.at < self.at && (e.weight > 0.0 || e.kind == Kind::Return));
        telling.take(limit).map(|e| event(e, session)).collect()
    }
}

/// A row as the engine's event; in the session that is being served where that is `session`, and known.
pub fn event(row: &Logged, session: u32) -> Event {
    let in_session = session != 0 && row.session == session;
    Event { item: row.item, at: row.at, kind: row.kind, weight: f64::from(row.weight), in_session }
}

impl Log {
    /// Cleans rows and puts them in order.
    pub fn new(mut events: Vec<Logged>, queries: Vec<String>, mut cleaned: Cleaned) -> Log {
        events.sort_by(|a, b| {
            a.shopper
                .cmp(&b.shopper)
                .then(a.at.total_cmp(&b.at))
                .then(a.item.cmp(&b.item))
                .then(a.kind.cmp_name(b.kind))
        });
        let before = events.len();
        events.dedup_by(|b, a| {
            a.shopper == b.shopper && a.at == b.at && a.item == b.item && a.kind == b.kind && a.query == b.query
        });
        cleaned.duplicates += (before - events.len()) as u64;
        let robots = robots(&events);
        let before = events.len();
        events.retain(|e| !robots.contains(&e.shopper));
        cleaned.robots += (before - events.len()) as u64;
        let mut log = Log { events, queries, cleaned, ..Log::default() };
        log.read_clock();
        log.count_seasons();
        log
    }

    fn read_clock(&mut self) {
        let telling = |e: &&Logged| e.weight > 0.0;
        self.newest = self.events.iter().filter(telling).map(|e| e.at).fold(f64::NEG_INFINITY, f64::max);
        let first = |rows: Range<usize>| self.events[rows].iter().find(telling).map(|e| e.at);
        let mut begins: Vec<f64> = self.shoppers().into_iter().filter_map(first).collect();
        begins.sort_unstable_by(f64::total_cmp);
        let most = begins.chunk_by(|a, b| a == b).map(<[f64]>::len).max().unwrap_or(0);
        self.own_clock = most >= 20 && most * 2 > begins.len();
    }

    /// The moment from which a shopper's past is looked at, for something that happened at `at`: where every shopper has a
    /// clock of their own, a search that comes now sees all of it from the log's end.
    pub fn asked(&self, at: f64) -> f64 {
        if self.own_clock { self.newest.max(at) } else { at }
    }

    /// The last basket of each shopper, by the rule of `heldout::Split::LastVisit`: it begins with the last row that says
    /// something and comes more than half an hour after the one before.
    pub fn last_visits(&self) -> Vec<Basket> {
        let mut visits = Vec::new();
        for shopper in self.shoppers() {
            let telling: Vec<usize> = shopper.clone().filter(|n| self.events[*n].weight > 0.0).collect();
            let apart = |w: &[usize]| self.events[w[1]].at - self.events[w[0]].at > APART;
            let begin = telling.windows(2).rev().find(|w| apart(w)).map(|w| w[1]).or(telling.first().copied());
            if let Some(begin) = begin {
                visits.push(Basket { shopper: shopper.clone(), at: self.events[begin].at, rows: begin..shopper.end });
            }
        }
        visits
    }

    /// The values of a row's context columns, by column.
    pub fn context_of(&self, row: &Logged) -> Vec<(String, String)> {
        let places = self.contexts.get((row.context as usize).wrapping_sub(1));
        let names = places.into_iter().flatten().filter_map(|place| self.values.get(usize::from(*place)));
        names.filter_map(|name| name.split_once('=')).map(|(c, v)| (c.to_owned(), v.to_owned())).collect()
    }

    /// The moment of a row.
    pub fn moment_of(&self, row: &Logged) -> Moment {
        let values = self.contexts.get((row.context as usize).wrapping_sub(1)).cloned().unwrap_or_default();
        Moment { at: self.local(row.at), values }
    }

    /// The first and the last moment of a row, in seconds since 1970.
    pub fn span(&self) -> (f64, f64) {
        self.events.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), e| (a.min(e.at), b.max(e.at)))
    }

    /// A moment as the shop's clock shows it.
    fn local(&self, at: f64) -> f64 {
        let next = self.offsets.partition_point(|(from, _)| *from <= at);
        at + self.offsets.get(next.saturating_sub(1)).map_or(0.0, |(_, offset)| *offset)
    }

    /// Values of context columns take the places that they had before; new ones come after them.
    pub fn keep_values(&mut self, known: &[String]) {
        let mut values = known.to_vec();
        values.extend(self.values.iter().filter(|value| !known.contains(value)).cloned());
        let place = |old: &u16| {
            let value = self.values.get(usize::from(*old))?;
            values.iter().position(|known| known == value).map(|place| place as u16)
        };
        let contexts = self.contexts.iter().map(|places| places.iter().filter_map(place).collect()).collect();
        (self.contexts, self.values) = (contexts, values);
    }

    /// Hours and days are those of a clock that is so far ahead of UTC.
    pub fn set_clock(&mut self, offsets: Vec<(f64, f64)>) {
        self.offsets = offsets;
        self.count_seasons();
    }

    fn count_seasons(&mut self) {
        let telling = || self.events.iter().filter(|e| e.weight > 0.0);
        let (from, to) = telling().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), e| (a.min(e.at), b.max(e.at)));
        let days = (to - from) / 86_400.0;
        let parts: HashSet<usize> = telling().map(|e| sequence::moments(self.local(e.at))[0]).collect();
        let shared = !self.own_clock;
        self.seasons = [shared && parts.len() > 1, shared && days >= 56.0, shared && days >= 365.0];
    }

    /// The rows of each shopper.
    pub fn shoppers(&self) -> Vec<Range<usize>> {
        let mut shoppers = Vec::new();
        let mut first = 0;
        for group in self.events.chunk_by(|a, b| a.shopper == b.shopper) {
            shoppers.push(first..first + group.len());
            first += group.len();
        }
        shoppers
    }

    /// How often each item, in one query's results, was shown and clicked at each place; a shop that logs no clicks logs what
    /// came of them.
    pub fn shown(&self) -> Vec<Shown> {
        let lower: Vec<String> = self.queries.iter().map(|query| query.to_lowercase()).collect();
        let mut cells: BTreeMap<(&str, i64, usize), (f64, f64, f64)> = BTreeMap::new();
        for row in self.events.iter().filter(|r| r.query != 0 && r.position > 0 && r.item != 0) {
            let place = usize::from(row.position);
            let Some(query) = lower.get(row.query as usize - 1).filter(|_| place <= DEEPEST) else { continue };
            let cell = cells.entry((query.as_str(), row.item, place)).or_default();
            cell.0 += f64::from(u8::from(row.kind == Kind::Impression));
            cell.1 += f64::from(u8::from(row.kind == Kind::Click));
            cell.2 += f64::from(u8::from(row.weight > 0.0));
        }
        let clicked = cells.values().any(|cell| cell.1 > 0.0);
        let (mut what, mut before) = (0, None);
        let rows = cells.into_iter().map(|((query, item, place), (shown, clicks, taken))| {
            what += i64::from(before.replace((query, item)) != Some((query, item)));
            Shown { what, place, shown, taken: if clicked { clicks } else { taken } }
        });
        rows.collect()
    }

    /// What was taken at one go, by shopper and time; a basket holds a row that says something.
    pub fn baskets(&self) -> Vec<Basket> {
        let mut baskets = Vec::new();
        for shopper in self.shoppers() {
            let mut first = shopper.start;
            let same = |a: &Logged, b: &Logged| {
                if a.session != 0 && b.session != 0 { a.session == b.session } else { b.at - a.at <= APART }
            };
            for rows in self.events[shopper.clone()].chunk_by(same) {
                let range = first..first + rows.len();
                first = range.end;
                if rows.iter().any(|e| e.weight > 0.0) {
                    baskets.push(Basket { shopper: shopper.clone(), at: rows[0].at, rows: range });
                }
            }
        }
        baskets
    }

    /// How many shoppers took each item in some baskets, which come by shopper.
    pub fn shoppers_of_items<'b>(&self, baskets: impl IntoIterator<Item = &'b Basket>) -> HashMap<i64, u32> {
        let mut shoppers: HashMap<i64, (u32, u32)> = HashMap::new();
        for basket in baskets {
            for event in self.events[basket.rows.clone()].iter().filter(|e| e.weight > 0.0) {
                let (count, last) = shoppers.entry(event.item).or_insert((0, u32::MAX));
                *count += u32::from(*last != event.shopper);
                *last = event.shopper;
            }
        }
        shoppers.into_iter().map(|(item, (count, _))| (item, count)).collect()
    }

    /// The moment before which so large a share of the telling rows lies.
    pub fn moment(&self, share: f64) -> f64 {
        let mut times: Vec<f64> = self.events.iter().filter(|e| e.weight > 0.0).map(|e| e.at).collect();
        if times.is_empty() {
            return 0.0;
        }
        let place = ((times.len() as f64 * share) as usize).min(times.len() - 1);
        *times.select_nth_unstable_by(place, f64::total_cmp).1
    }

    /// The share of the telling rows that lies up to a moment.
    pub fn share_until(&self, at: f64) -> f64 {
        let telling = || self.events.iter().filter(|e| e.weight > 0.0);
        telling().filter(|e| e.at <= at).count() as f64 / telling().count().max(1) as f64
    }
}

/// Shoppers whose looks come at an impossible rate.
fn robots(events: &[Logged]) -> HashSet<u32> {
    let look = |e: &&Logged| matches!(e.kind, Kind::View | Kind::Click | Kind::Search);
    let mut found = HashSet::new();
    let mut looks: HashMap<u32, Vec<f64>> = HashMap::new();
    for event in events.iter().filter(look) {
        looks.entry(event.shopper).or_default().push(event.at);
    }
    for (shopper, times) in looks {
        if times.windows(ROBOT).any(|w| w[ROBOT - 1] - w[0] < 600.0) {
            found.insert(shopper);
        }
    }
    found
}

impl Kind {
    /// The order of kinds by their place in [`Kind::ALL`].
    fn cmp_name(self, other: Kind) -> std::cmp::Ordering {
        (self as u8).cmp(&(other as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::propensity::Propensity;
    use crate::random::Random;

    fn row(shopper: u32, item: i64, at: f64, kind: Kind) -> Logged {
        let weight = kind.weight() as f32;
        Logged { shopper, item, at, kind, weight, query: 0, session: 0, position: 0, dwell: 0.0, context: 0 }
    }

    #[test]
    fn duplicates_and_robots_are_taken_out_and_counted() {
        let mut rows = vec![row(1, 5, 10.0, Kind::Purchase); 3];
        rows.push(row(1, 6, 10.0, Kind::Purchase));
        rows.extend((0..700).map(|n| row(2, n, n as f64 / 2.0, Kind::Click)));
        // A large order is no robot.
        rows.extend((0..700).map(|n| row(3, n, 7.0, Kind::Purchase)));
        let log = Log::new(rows, Vec::new(), Cleaned::default());
        assert_eq!(log.cleaned.duplicates, 2);
        assert_eq!(log.cleaned.robots, 700);
        assert_eq!(log.events.len(), 702);
    }

    #[test]
    fn shoppers_who_all_begin_at_one_moment_have_clocks_of_their_own() {
        let day = 86_400.0;
        let shop = |begin: fn(u32) -> f64| {
            let rows = |s: u32| (0..5i64).map(move |n| row(s, n, (begin(s) + n as f64) * 86_400.0, Kind::Purchase));
            Log::new((0..100).flat_map(rows).collect(), Vec::new(), Cleaned::default())
        };
        let own = shop(|_| 0.0);
        assert!(own.own_clock);
        assert_eq!(own.asked(day), 4.0 * day);
        assert_eq!(own.last_visits().iter().map(|v| v.rows.clone()).take(2).collect::<Vec<_>>(), [4..5, 9..10]);
        let shared = shop(f64::from);
        assert!(!shared.own_clock);
        assert_eq!(shared.asked(day), day);
    }

    #[test]
    fn values_keep_the_places_that_they_had() {
        let mut log = Log::new(vec![row(1, 1, 0.0, Kind::Purchase)], Vec::new(), Cleaned::default());
        log.values = ["country=NO", "country=FR"].map(str::to_owned).to_vec();
        log.contexts = vec![vec![0], vec![1]];
        log.keep_values(&["country=FR".to_owned(), "country=ES".to_owned()]);
        assert_eq!(log.values, ["country=FR", "country=ES", "country=NO"]);
        assert_eq!(log.contexts, [vec![2], vec![0]]);
    }

    #[test]
    fn the_clock_of_the_shop_tells_the_hour() {
        // 2011-03-27 is the day on which Berlin goes from one hour ahead to two, at 01:00 UTC.
        let change = 1_301_187_600.0;
        let rows = [-1.0, 1.0].map(|hour| row(1, hour as i64 + 5, change + hour * 3600.0 * 12.0, Kind::Purchase));
        let mut log = Log::new(rows.to_vec(), Vec::new(), Cleaned::default());
        assert_eq!(log.moment_of(&log.events[0]).at, rows[0].at);
        log.set_clock(vec![(change - 86_400.0, 3600.0), (change, 7200.0)]);
        assert_eq!(log.moment_of(&log.events[0]).at, rows[0].at + 3600.0);
        assert_eq!(log.moment_of(&log.events[1]).at, rows[1].at + 7200.0);
        // 13:00 UTC on the day before, 14:00 there; 13:00 and 15:00 on the day itself.
        assert_eq!(sequence::moments(log.moment_of(&log.events[0]).at), [4, 8 + 5, 15 + 2]);
        assert_eq!(sequence::moments(log.moment_of(&log.events[1]).at), [5, 8 + 6, 15 + 2]);
    }

    #[test]
    fn a_basket_knows_only_what_came_before_it() {
        let hour = 3600.0;
        let rows = vec![
            row(1, 1, 0.0, Kind::Purchase),
            row(1, 2, hour, Kind::Purchase),
            row(1, 3, hour + 60.0, Kind::Purchase),
            row(1, 4, 3.0 * hour, Kind::Impression),
            row(2, 9, 0.0, Kind::Purchase),
        ];
        let log = Log::new(rows, Vec::new(), Cleaned::default());
        let baskets = log.baskets();
        assert_eq!(baskets.iter().map(|b| b.rows.clone()).collect::<Vec<_>>(), [0..1, 1..3, 4..5]);
        let history: Vec<i64> = baskets[1].history(&log, 10).iter().map(|e| e.item).collect();
        assert_eq!(history, [1]);
    }

    #[test]
    fn the_chances_that_made_the_clicks_are_found() {
        let mut random = Random::new(3);
        let mut rows = Vec::new();
        for list in 0..20_000u32 {
            let mut items: Vec<i64> = (1..=6).collect();
            random.shuffle(&mut items);
            for (place, item) in items.into_iter().enumerate() {
                let position = place as u16 + 1;
                let row = |kind| Logged {
                    shopper: list,
                    item,
                    at: 0.0,
                    kind,
                    weight: 0.0,
                    query: 1,
                    session: 0,
                    position,
                    dwell: 0.0,
                    context: 0,
                };
                rows.push(row(Kind::Impression));
                if random.uniform() < 1.0 / f64::from(position) && random.uniform() < item as f64 / 8.0 {
                    rows.push(row(Kind::Click));
                }
            }
        }
        let log = Log::new(rows, vec!["lamp".into()], Cleaned::default());
        let found = Propensity::estimate(log.shown());
        for position in 1..=6u16 {
            let weight = found.weight(position);
            assert!((weight - f32::from(position)).abs() < 0.12 * f32::from(position), "{position}: {weight}");
        }
        // The same from purchases, where no click is logged.
        let mut bought = log.clone();
        bought.events.iter_mut().filter(|row| row.kind == Kind::Click).for_each(|row| {
            (row.kind, row.weight) = (Kind::Purchase, 1.0);
        });
        assert_eq!(Propensity::estimate(bought.shown()), found);
    }
}
