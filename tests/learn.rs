//! Samples know nothing of the future: whatever comes from a slice on may be another, and no feature changes.
#![allow(clippy::unwrap_used)]

mod common;

use common::Shop;
use pg_persona::control::Free;
use pg_persona::error::Result;
use pg_persona::event::Kind;
use pg_persona::learn::encoder::{self, Training};
use pg_persona::learn::log::{Cleaned, Log, Logged};
use pg_persona::learn::plan::{self, Course, Cut, Drawn, Known, Plan};
use pg_persona::learn::sample::{Lists, Texts};
use pg_persona::learn::table::Table;
use pg_persona::measure::propensity::Propensity;
use pg_persona::random::Random;
use pg_persona::rank::network;
use pg_persona::store::Store;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

const DAY: f64 = 86_400.0;
const ITEMS: i64 = 60;

/// Items of five kinds; a title says the kind.
fn items() -> Shop {
    let mut shop = Shop::default();
    let mut random = Random::new(1);
    for id in 0..ITEMS {
        let vector: Vec<f32> = (0..6).map(|d| random.uniform() as f32 + f32::from(u8::from(d == id % 5))).collect();
        shop.add(&format!("kind{} thing no{id}", id % 5), &vector);
    }
    shop
}

/// Shoppers who buy each second day, on clocks that are shared or, all beginning at one moment, their own.
fn behaviour(own_clock: bool) -> Vec<Logged> {
    let mut random = Random::new(2);
    let mut rows = Vec::new();
    for shopper in 0..150u32 {
        let begin = if own_clock { 0.0 } else { f64::from(shopper) * 0.5 };
        let kind = random.below(5) as i64;
        for n in 0..6i64 {
            rows.push(Logged {
                shopper,
                item: kind + 5 * random.below(12) as i64 + 1,
                at: (begin + 2.0 * n as f64) * DAY,
                kind: Kind::Purchase,
                weight: 1.0,
                query: 0,
                session: 0,
                position: 0,
                dwell: 0.0,
                context: 0,
            });
        }
    }
    rows
}

struct Titles<'a>(&'a Shop);

impl Texts for Titles<'_> {
    fn titles(&self, items: &[i64]) -> Result<HashMap<i64, String>> {
        Ok(items.iter().map(|id| (*id, self.0.products[*id as usize - 1].title.clone())).collect())
    }

    fn embed(&self, query: &str) -> Result<Arc<[f32]>> {
        Ok((0..6).map(|d| f32::from(u8::from(query.contains(&format!("kind{d}"))))).collect::<Vec<f32>>().into())
    }
}

/// The shop with the statistics of some rows.
fn counted(rows: impl Iterator<Item = Logged>) -> Shop {
    let mut shop = items();
    for row in rows {
        shop.buy(&row.shopper.to_string(), row.item, row.at / DAY);
    }
    shop.refresh();
    shop
}

/// What is known before a slice, of all rows: what a right store says, or one that has seen the future.
fn store(rows: &[Logged], known: Known, leaks: bool, plan: &Plan) -> Shop {
    let visit = |row: &Logged| {
        let slice = &plan.slices[0];
        let mut held = slice.train.iter().chain(&slice.validation).chain(&slice.test);
        held.any(|b| rows[b.rows.start].shopper == row.shopper && row.at >= b.at)
    };
    let before = |row: &Logged| match known {
        Known::Before(at) => row.at < at,
        Known::LastVisit => !visit(row),
    };
    counted(rows.iter().filter(|row| leaks || before(row)).copied())
}

/// The lists of the first slice, drawn with what a store says.
fn lists(rows: &[Logged], leaks: bool) -> Lists {
    lists_without(rows, leaks, &HashSet::new())
}

/// The same with items that cannot be bought.
fn lists_without(rows: &[Logged], leaks: bool, out_of_stock: &HashSet<i64>) -> Lists {
    let log = Log::new(rows.to_vec(), Vec::new(), Cleaned::default());
    let plan = plan::plan(&log, f64::NEG_INFINITY, 3);
    let slice = &plan.slices[0];
    let known = store(&log.events, slice.known, leaks, &plan);
    let shop = items();
    let titles = Titles(&shop);
    let told = known.products.iter().zip(1i64..).map(|(p, id)| (id, p.vector.clone(), p.title.clone()));
    let table = Table::new(told.collect(), &known.whole().unwrap().mean);
    let mut training = Training::new(&table, encoder::Settings { batch: 64, drawn: 20, ..Default::default() }, &log, 1);
    training.pass(&log, &plan.history, (1.0, 0.5), &Free).unwrap();
    let course = Course { table: &table, training, least: 1, rehearsal: 1.0 };
    let shop = plan::Shop { log: &log, store: &known, texts: &titles, items: ITEMS as f64, out_of_stock, before: None };
    let drawn = Drawn { samples: 400, others: 30, history: 50, seed: 5 };
    let mut cut = Cut::default();
    shop.draw((&plan, slice), Some(&course), drawn, &Free, &mut cut).unwrap();
    cut.train
}

/// The same behaviour with another future: what comes after each list's own moment is bought as often, but other items.
fn other_future(rows: &[Logged], own_clock: bool) -> Vec<Logged> {
    let log = Log::new(rows.to_vec(), Vec::new(), Cleaned::default());
    let plan = plan::plan(&log, f64::NEG_INFINITY, 3);
    let Slices { lists, held } = Slices::of(&plan, &log);
    let mut rows = log.events.clone();
    for (n, row) in rows.iter_mut().enumerate() {
        if held.contains(&n) && !lists.contains(&n) {
            row.item = row.item % ITEMS + 1;
        }
    }
    assert!(own_clock == log.own_clock);
    rows
}

/// Rows that a slice's training lists end with, and rows that are not known before it.
struct Slices {
    lists: BTreeSet<usize>,
    held: BTreeSet<usize>,
}

impl Slices {
    fn of(plan: &Plan, log: &Log) -> Slices {
        let slice = &plan.slices[0];
        let lists: BTreeSet<usize> = slice.train.iter().flat_map(|b| b.rows.clone()).collect();
        let last = plan.slices.iter().flat_map(|s| s.train.iter().chain(&s.validation).chain(&s.test));
        let held: BTreeSet<usize> = last.flat_map(|b| b.rows.clone()).collect();
        assert!(held.len() > lists.len() && held.len() < log.events.len());
        Slices { lists, held }
    }
}

/// The features that are not the same in both.
fn changed(one: &Lists, other: &Lists) -> BTreeSet<String> {
    assert!(one.lists.len() > 40 && one.items.len() > 1000, "{} {}", one.lists.len(), one.items.len());
    assert_eq!(one.lists.len(), other.lists.len());
    let mut names = BTreeSet::new();
    let of = |lists: &Lists| -> HashMap<(usize, i64), usize> {
        let each = |(n, list): (usize, &pg_persona::learn::sample::List)| {
            list.range.clone().map(move |at| (n, at)).collect::<Vec<_>>()
        };
        lists.lists.iter().enumerate().flat_map(each).map(|(n, at)| ((n, lists.items[at]), at)).collect()
    };
    let known = of(other);
    for (key, at) in of(one) {
        let Some(there) = known.get(&key) else {
            names.insert("candidates".to_owned());
            continue;
        };
        for ((name, a), b) in network::names().iter().zip(one.features[at]).zip(other.features[*there]) {
            if a != b {
                names.insert(name.clone());
            }
        }
    }
    names
}

#[test]
fn no_feature_knows_the_future_and_a_planted_one_is_caught() {
    for own_clock in [false, true] {
        let rows = behaviour(own_clock);
        let other = other_future(&rows, own_clock);
        assert_ne!(rows, other);
        let found = changed(&lists(&rows, false), &lists(&other, false));
        assert!(found.is_empty(), "own clock {own_clock}: these know the future: {found:?}");
        // The same with statistics of everything: features that know the future, and the comparison tells which.
        let found = changed(&lists(&rows, true), &lists(&other, true));
        assert!(found.contains("popularity.popularity") && found.contains("together.together"), "{found:?}");
    }
}

#[test]
fn what_is_out_of_stock_is_no_negative_and_is_counted() {
    let rows = behaviour(false);
    let gone: HashSet<i64> = (1..=ITEMS).filter(|id| id % 3 == 0).collect();
    let (all, some) = (lists(&rows, false), lists_without(&rows, false, &gone));
    let passed_over = |lists: &Lists| {
        let of = |(item, label): (&i64, &f32)| gone.contains(item) && *label <= 0.0;
        lists.items.iter().zip(&lists.labels).filter(|both| of(*both)).count() as u64
    };
    assert!(passed_over(&all) > 100 && all.out_of_stock == 0);
    assert!(passed_over(&some) == 0 && some.out_of_stock > 100);
    // What was taken could be bought then.
    assert!(some.items.iter().zip(&some.labels).any(|(item, label)| gone.contains(item) && *label > 0.0));
}

/// Searches of one shop: two things stand in every list, and either is clicked where it is looked at, the better one at
/// each of three looks of four and the other at one of four. The worse one stands first, and the other is hardly seen.
fn clicked() -> Vec<Logged> {
    let mut random = Random::new(6);
    let mut rows = Vec::new();
    for list in 0..12_000u32 {
        // Now and then they change places, and so the log tells how often each place is looked at.
        let order = if random.uniform() < 0.1 { [2, 1] } else { [1, 2] };
        for (place, item) in order.into_iter().enumerate() {
            let row = |kind: Kind| Logged {
                shopper: list,
                item,
                at: f64::from(list) * 600.0,
                kind,
                weight: kind.weight() as f32,
                query: 1,
                session: 1,
                position: place as u16 + 1,
                dwell: 0.0,
                context: 0,
            };
            rows.push(row(Kind::Impression));
            let (looked, wanted) = ([1.0, 0.15][place], if item == 2 { 0.75 } else { 0.25 });
            if random.uniform() < looked && random.uniform() < wanted {
                rows.push(row(Kind::Click));
            }
        }
    }
    rows
}

#[test]
fn a_click_counts_as_much_as_its_place_is_overlooked() {
    let log = Log::new(clicked(), vec!["kind1 thing".into()], Cleaned::default());
    let found = Propensity::estimate(log.shown());
    assert!((found.weight(2) - 1.0 / 0.15).abs() < 1.5, "{}", found.weight(2));
    let plan = plan::plan(&log, f64::NEG_INFINITY, 3);
    let shop = items();
    let titles = Titles(&shop);
    let weighs = |propensity: Propensity| -> (f32, f32) {
        let known = counted(log.events.iter().copied().filter(|row| row.weight > 0.0));
        let out_of_stock = HashSet::new();
        let shop = plan::Shop {
            log: &log,
            store: &known,
            texts: &titles,
            items: ITEMS as f64,
            out_of_stock: &out_of_stock,
            before: None,
        };
        let drawn = Drawn { samples: 1000, others: 30, history: 50, seed: 5 };
        let mut cut = Cut { propensity, ..Cut::default() };
        shop.draw((&plan, &plan.slices[0]), None, drawn, &Free, &mut cut).unwrap();
        // What the listwise loss adds up for each of the two, whatever else is in the lists.
        let mut sums = (0.0, 0.0);
        for list in cut.train.lists.iter().filter(|list| list.head == network::Head::Answer) {
            let labels = &cut.train.labels[list.range.clone()];
            for (label, item) in labels.iter().zip(&cut.train.items[list.range.clone()]) {
                let share = list.weight * label / labels.iter().sum::<f32>();
                *(if *item == 1 { &mut sums.0 } else { &mut sums.1 }) += share;
            }
        }
        sums
    };
    let (worse, better) = weighs(Propensity::default());
    assert!(worse > better, "clicks as they are: {worse} {better}");
    let (worse, better) = weighs(found);
    assert!((better / worse - 3.0).abs() < 0.9, "clicks over their chance: {worse} {better}");
}
