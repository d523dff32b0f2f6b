//! The items that an encoder learns: text vectors, words, and what is learnt of each.

use crate::event::Event;
use crate::linear::dot;
use crate::rank::feature::Learnt;
use crate::rank::trained::learnt;
use crate::shopper::sequence::{self, Encoder, Moment, Own, Reading, WIDTH, Wide};
use crate::store::Item;
use std::collections::{BTreeMap, HashMap};

use super::sample::Encode;

/// Items with what is learnt of them, by row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Their numbers in the catalog.
    pub ids: Vec<i64>,
    rows: HashMap<i64, u32>,
    /// Numbers in a text vector.
    pub text: usize,
    /// Text vectors from the catalog's mean, `[items, text]`.
    pub vectors: Vec<f32>,
    /// Words of each title that a query could be.
    pub words: Vec<Vec<u32>>,
    /// The rows that hold each word.
    pub holders: Vec<Vec<u32>>,
    mean: Vec<f32>,
}

impl Table {
    /// Bytes that an item takes while it is learnt: its text, its weights and their gradients and moments.
    pub fn bytes(text: usize) -> usize {
        4 * (text + 4 * (2 * WIDTH + 1)) + 200
    }

    /// Of items with text vector and title; `mean` is the catalog's.
    pub fn new(items: Vec<(i64, Vec<f32>, String)>, mean: &[f32]) -> Table {
        let text = items.iter().map(|(_, vector, _)| vector.len()).max().unwrap_or(0);
        let mut table = Table { text, mean: mean.to_vec(), ..Table::default() };
        let mut holders: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (id, vector, title) in items {
            let row = table.ids.len() as u32;
            table.rows.insert(id, row);
            table.ids.push(id);
            let mut centred = if vector.is_empty() { Vec::new() } else { sequence::centred(&vector, mean) };
            centred.resize(text, 0.0);
            table.vectors.extend(centred);
            let title = title.to_lowercase();
            let mut words: Vec<&str> = title.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
            words.sort_unstable();
            words.dedup();
            for word in words {
                holders.entry(word.to_owned()).or_default().push(row);
            }
        }
        table.words = vec![Vec::new(); table.ids.len()];
        // A word that stands in few titles or in every other one is no query.
        let most = (table.ids.len() / 8).max(10);
        for held in holders.into_values().filter(|held| (10..=most).contains(&held.len())) {
            for row in &held {
                table.words[*row as usize].push(table.holders.len() as u32);
            }
            table.holders.push(held);
        }
        table
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// An item's row.
    pub fn row(&self, id: i64) -> Option<usize> {
        self.rows.get(&id).map(|row| *row as usize)
    }
}

/// A trained encoder with what it learnt of each item of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Taught {
    /// The weights that all share.
    pub encoder: Encoder,
    /// x of each row, `[items, WIDTH]`.
    pub into: Vec<f32>,
    /// o of each row, `[items, WIDTH]`.
    pub out: Vec<f32>,
    /// b of each row.
    pub bias: Vec<f32>,
}

fn wide(all: &[f32], row: usize) -> Wide {
    let mut wide = [0.0; WIDTH];
    wide.copy_from_slice(&all[row * WIDTH..(row + 1) * WIDTH]);
    wide
}

impl Taught {
    /// What is learnt of a row.
    pub fn own(&self, row: usize) -> Own {
        Own { into: wide(&self.into, row), out: wide(&self.out, row), bias: self.bias[row] }
    }
}

/// An encoder beside its table, for samples.
pub struct Teacher<'a> {
    /// The items.
    pub table: &'a Table,
    /// What was learnt of them.
    pub taught: &'a Taught,
    /// Whether what was learnt of a row is told: where too few shoppers took it, a search knows it by its text alone, and
    /// so does a sample. (That nobody took an item is learnt, too; a search that is not told would take it for a good one.)
    pub told: Vec<bool>,
}

impl Teacher<'_> {
    /// The row of an item of which is told what was learnt.
    fn told(&self, item: i64) -> Option<usize> {
        self.table.row(item).filter(|row| self.told[*row])
    }

    fn read(&self, history: &[Event], at: f64, moment: &Moment) -> Reading {
        let own = |item: i64| self.told(item).map(|row| self.taught.own(row));
        self.taught.encoder.read(&sequence::steps(history, at), own, moment)
    }
}

impl Encode for Teacher<'_> {
    fn learnt(&self, history: &[Event], at: f64, moment: &Moment, items: &[Item]) -> Vec<Learnt> {
        let reading = self.read(history, at, moment);
        let own = |item: &Item| match (self.told(item.id), &item.vector) {
            (Some(row), _) => Some(self.taught.own(row)),
            (None, Some(vector)) => Some(self.taught.encoder.by_text(vector, &self.table.mean)),
            (None, None) => None,
        };
        items.iter().map(|item| own(item).map(|own| learnt(&reading, &own)).unwrap_or_default()).collect()
    }

    fn nearest(&self, history: &[Event], at: f64, moment: &Moment, n: usize) -> Vec<i64> {
        let reading = self.read(history, at, moment);
        let Some(shopper) = reading.shopper else { return Vec::new() };
        let mut scored: Vec<(f32, i64)> = self
            .taught
            .out
            .chunks_exact(WIDTH)
            .zip(&self.taught.bias)
            .zip(self.table.ids.iter().zip(&self.told))
            .filter(|(_, (_, told))| **told)
            .map(|((out, bias), (id, _))| (dot(out, shopper.as_slice()) + bias, *id))
            .collect();
        let n = n.min(scored.len());
        if n == 0 {
            return Vec::new();
        }
        let order = |a: &(f32, i64), b: &(f32, i64)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        scored.select_nth_unstable_by(n - 1, order);
        scored.truncate(n);
        scored.sort_unstable_by(order);
        scored.into_iter().map(|(_, id)| id).collect()
    }
}
