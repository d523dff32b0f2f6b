//! The trainer against finite differences, and a shop whose next item is known.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::control::Free;
use crate::device::Library;
use crate::device::abi::{self, Ask, Call, Make, Served};
use crate::event::Kind;
use crate::learn::log::{Cleaned, Logged};
use crate::learn::sample::Encode;
use crate::learn::table::Teacher;

/// Forty items in four kinds of ten; shoppers take the one after the other, in a ring within a kind.
fn shop() -> (Table, Log) {
    let mut random = Random::new(3);
    let items = (0..40i64).map(|id| {
        let vector: Vec<f32> = (0..8).map(|d| (random.uniform() + f64::from(u8::from(d == id / 10))) as f32).collect();
        (id + 1, vector, format!("thing kind{} no{id}", id / 10))
    });
    let table = Table::new(items.collect(), &[0.5; 8]);
    let mut events = Vec::new();
    for shopper in 0..300u32 {
        let (kind, first) = (random.below(4) as i64, random.below(10) as i64);
        for n in 0..6i64 {
            let item = kind * 10 + (first + n) % 10 + 1;
            events.push(Logged {
                shopper,
                item,
                at: n as f64 * 90_000.0,
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
    let mut log = Log::new(events, Vec::new(), Cleaned::default());
    log.seasons = [true; 3];
    (table, log)
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    let (table, log) = shop();
    let mut training = Training::new(&table, Settings { drawn: 5, ..Settings::default() }, &log, 1);
    let mut random = Random::new(8);
    for group in training.shared.groups_mut() {
        group.iter_mut().for_each(|w| *w += (random.uniform() - 0.5) as f32 * 0.3);
    }
    training.own.into.iter_mut().chain(&mut training.own.out).for_each(|w| *w = (random.uniform() - 0.5) as f32 * 0.5);
    let mut examples = Vec::new();
    for basket in log.baskets().iter().take(9) {
        training.examples(&log, basket, &mut examples);
    }
    examples.iter_mut().enumerate().for_each(|(n, example)| example.weight = 1.0 + (n % 3) as f32);
    let candidates = training.candidates(&examples);
    let words: Vec<Option<usize>> = examples.iter().map(|e| Some(table.words[e.target][0] as usize)).collect();
    let (loss, gradient) = training.back(&examples, &candidates, &words).unwrap();
    let mut checked = 0;
    let mut check = |slope: f32, change: &dyn Fn(&mut Training, f32)| {
        let loss = |by: f32| {
            let mut moved = Training::with(
                &table,
                training.settings,
                training.shared.clone(),
                training.own.clone(),
                Random::new(1),
            );
            change(&mut moved, by);
            f64::from(moved.back(&examples, &candidates, &words).unwrap().0)
        };
        let measured = (loss(5e-3) - loss(-5e-3)) / 1e-2;
        assert!((measured - f64::from(slope)).abs() < 2e-3 + 0.03 * measured.abs(), "{measured} {slope}");
        checked += 1;
    };
    for group in 0..7 {
        let size = gradient.shared.groups()[group].len();
        for n in (0..size).step_by((size / 12).max(1)) {
            check(gradient.shared.groups()[group][n], &|t, by| t.shared.groups_mut()[group][n] += by);
        }
    }
    for n in (0..gradient.own.into.len()).step_by(197) {
        check(gradient.own.into[n], &|t, by| t.own.into[n] += by);
        check(gradient.own.out[n], &|t, by| t.own.out[n] += by);
    }
    check(gradient.own.bias[candidates[0]], &|t, by| t.own.bias[candidates[0]] += by);
    assert!(checked > 80, "{checked}");

    // The same by candle.
    let near = |a: &[f32], b: &[f32]| {
        let scale = a.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4 * scale)
    };
    let mut there = training.clone();
    there.on(&crate::served::own(), "cuda:0", false, &Free).unwrap();
    let (by_candle, other) = there.back(&examples, &candidates, &words).unwrap();
    assert!((loss - by_candle).abs() < 1e-4, "{loss} {by_candle}");
    for (ours, theirs) in gradient.shared.groups().into_iter().zip(other.shared.groups()) {
        assert!(near(ours, theirs) && ours.iter().any(|g| *g != 0.0));
    }
    assert!(near(&gradient.own.into, &other.own.into) && near(&gradient.own.out, &other.own.out));
    assert!(near(&gradient.own.bias, &other.own.bias));
    // A word of none, and a step by it.
    let words: Vec<Option<usize>> = words.iter().enumerate().map(|(n, w)| w.filter(|_| n % 2 == 0)).collect();
    let both = [&training, &there].map(|training| training.back(&examples, &candidates, &words).unwrap().0);
    assert!((both[0] - both[1]).abs() < 1e-4 && both[0] < loss, "{both:?}");
}

/// A device whose memory is always full.
struct Full;

impl Served for Full {
    fn step(&self) -> usize {
        1
    }

    fn call(&mut self, _: &str, _: &mut Call<'_>) -> std::result::Result<(), String> {
        Err("out of memory".to_owned())
    }
}

impl Make for Full {
    fn make(_: &str, _: &str, _: &[u8], _: Ask<'_>) -> std::result::Result<Box<dyn Served>, String> {
        Ok(Box::new(Full))
    }
}

#[test]
fn where_a_device_fails_it_goes_on_here_or_says_so() {
    static TABLE: abi::Table = abi::Table::of::<Full>();
    let library = Library::of(&TABLE);
    let (table, log) = shop();
    let training = || Training::new(&table, Settings::of(&log), &log, 1);
    let pass = |training: &mut Training| training.pass(&log, &log.baskets(), (1.0, 0.5), &Free);
    let mut here = training();
    let loss = pass(&mut here).unwrap();
    let mut lenient = training();
    lenient.on(&library, "cuda:0", true, &Free).unwrap();
    assert_eq!(pass(&mut lenient).unwrap(), loss);
    assert!(lenient.taught() == here.taught() && lenient.remote.is_none());
    assert!(lenient.lost().is_some_and(|error| error.to_string().contains("out of memory")));
    assert_eq!(lenient.lost(), None);
    let mut strict = training();
    strict.on(&library, "cuda:0", false, &Free).unwrap();
    let strict = pass(&mut strict);
    assert!(matches!(strict, Err(Error::Device { .. })), "{strict:?}");
}

#[test]
fn what_is_taken_far_down_counts_more() {
    let (table, mut log) = shop();
    log.events.iter_mut().enumerate().for_each(|(n, event)| event.position = n as u16 % 3);
    let training = Training::new(&table, Settings::default(), &log, 1);
    let weights = |propensity: Propensity| {
        let mut training = training.clone().weighted(propensity);
        let mut examples = Vec::new();
        log.baskets()[..6].iter().for_each(|basket| training.examples(&log, basket, &mut examples));
        examples.iter().map(|e| e.weight).collect::<Vec<f32>>()
    };
    // The first of a shopper has no history. What was taken without a list counts as one that was looked at.
    assert_eq!(weights(Propensity::of(&[1.0, 0.25])), [1.0, 4.0, 1.0, 1.0, 4.0]);
    assert_eq!(weights(Propensity::default()), [1.0; 5]);
}

#[test]
fn a_small_log_is_learnt_in_small_steps() {
    let (_, log) = shop();
    // 300 shoppers with six events each, a day apart.
    assert_eq!(Settings::of(&log).batch, 64);
    let mut large = log.clone();
    large.events =
        (0..100).flat_map(|n| log.events.iter().map(move |e| Logged { shopper: e.shopper + n * 300, ..*e })).collect();
    assert_eq!(Settings::of(&large).batch, 1024);
    assert_eq!(Settings::of(&Log { events: large.events[..38_400].to_vec(), ..large }).batch, 300);
}

#[test]
fn the_next_item_is_learnt_and_the_seed_decides_every_number() {
    let (table, log) = shop();
    let baskets = log.baskets();
    let run = || {
        let settings = Settings { batch: 128, drawn: 20, ..Settings::default() };
        let mut training = Training::new(&table, settings, &log, 5);
        for _ in 0..12 {
            training.pass(&log, &baskets, (1.0, 0.3), &Free).unwrap();
        }
        training.taught()
    };
    let taught = run();
    let teacher = Teacher { table: &table, taught: &taught, told: vec![true; table.len()] };
    let mut hits = 0;
    for basket in baskets.iter().filter(|b| b.rows.start - b.shopper.start == 4) {
        let next = log.events[basket.rows.start].item;
        let moment = log.moment_of(&log.events[basket.rows.start]);
        hits += usize::from(teacher.nearest(&basket.history(&log, 10), log.asked(basket.at), &moment, 1) == [next]);
    }
    assert!(hits > 200, "{hits} of 300");
    assert_eq!(run(), taught);
}

#[test]
fn a_training_goes_on_from_its_bytes_as_if_it_had_never_stopped() {
    let (table, log) = shop();
    let baskets = log.baskets();
    let settings = Settings { batch: 128, drawn: 20, ..Settings::default() };
    let mut whole = Training::new(&table, settings, &log, 5);
    let mut first = Training::new(&table, settings, &log, 5);
    first.pass(&log, &baskets, (1.0, 0.6), &Free).unwrap();
    whole.pass(&log, &baskets, (1.0, 0.6), &Free).unwrap();
    let bytes = first.to_bytes();
    let mut second = Training::read(&table, settings, &bytes).unwrap().unwrap();
    second.pass(&log, &baskets, (0.6, 0.3), &Free).unwrap();
    whole.pass(&log, &baskets, (0.6, 0.3), &Free).unwrap();
    assert_eq!(second.taught(), whole.taught());
    assert_eq!(second.to_bytes(), whole.to_bytes());
    for cut in [0, 3, 40, bytes.len() - 1] {
        assert!(Training::read(&table, settings, &bytes[..cut]).is_err());
    }
    // An item that is gone and one that is new.
    let others = table.ids[1..].iter().enumerate().map(|(n, id)| {
        (
            *id + i64::from(n == 38) * 100,
            table.vectors[(n + 1) * table.text..(n + 2) * table.text].to_vec(),
            String::new(),
        )
    });
    let other = Table::new(others.collect(), &[0.0; 8]);
    let moved = Training::read(&other, settings, &bytes).unwrap().unwrap();
    assert_eq!(moved.own.bias[..38], first.own.bias[1..39]);
    assert_eq!(moved.own.bias[38], 0.0);
}

#[test]
fn the_fast_exponential_is_one() {
    for n in 0..2000 {
        let x = -(n as f32) / 40.0;
        assert!((exp(x) - x.exp()).abs() <= 2e-5 * x.exp() + 1e-12, "{x}");
    }
}
