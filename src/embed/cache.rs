//! Query vectors that were made before.
//!
//! Shoppers ask the same things; a vector that is kept costs a look-up instead of a forward pass. One cache belongs to one
//! backend. What a vector depends on is its key: identity of the weights, precision, role and text, so nothing ever has
//! to be dropped because it is no longer true.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Encoder, Precision, Role};

/// Longest text that is kept, in bytes: queries are short, and what is longer is unlikely to come again.
pub const MAX_CACHED_TEXT: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    hash: Arc<str>,
    precision: Precision,
    role: Role,
    text: Box<str>,
}

#[derive(Debug)]
struct Slot {
    key: Key,
    vector: Arc<[f32]>,
    /// When it was used last, by the cache's own count.
    used: u64,
}

/// At most `capacity` vectors, those used last.
///
/// A full cache drops the oldest eighth at once, found by sorting the times of use: a list kept in order costs more, on
/// each hit, than this does now and then.
#[derive(Debug)]
pub struct Cache {
    slots: Vec<Slot>,
    places: HashMap<Key, usize>,
    hash: Arc<str>,
    capacity: usize,
    clock: u64,
    hits: u64,
    misses: u64,
}

impl Cache {
    /// An empty cache of at most `capacity` vectors; 0 keeps none.
    pub fn new(capacity: usize) -> Self {
        Self { slots: Vec::new(), places: HashMap::new(), hash: Arc::from(""), capacity, clock: 0, hits: 0, misses: 0 }
    }

    /// Vectors kept.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How often a vector was found, and how often not.
    pub fn counts(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }

    fn key(&mut self, encoder: &Encoder, role: Role, text: &str) -> Key {
        let info = encoder.info();
        // One shared copy of the hash: nearly always the same bundle asks again.
        if *self.hash != *info.hash {
            self.hash = Arc::from(info.hash.as_str());
        }
        Key { hash: Arc::clone(&self.hash), precision: info.precision, role, text: text.into() }
    }

    /// The vector that `encoder` made of `text` before.
    pub fn get(&mut self, encoder: &Encoder, role: Role, text: &str) -> Option<Arc<[f32]>> {
        if self.capacity == 0 || text.len() > MAX_CACHED_TEXT {
            return None;
        }
        let key = self.key(encoder, role, text);
        let Some(slot) = self.places.get(&key).and_then(|place| self.slots.get_mut(*place)) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        self.clock += 1;
        slot.used = self.clock;
        Some(Arc::clone(&slot.vector))
    }

    /// Keeps the vector that `encoder` made of `text`.
    pub fn put(&mut self, encoder: &Encoder, role: Role, text: &str, vector: Arc<[f32]>) {
        if self.capacity == 0 || text.len() > MAX_CACHED_TEXT {
            return;
        }
        let key = self.key(encoder, role, text);
        self.clock += 1;
        if let Some(slot) = self.places.get(&key).and_then(|place| self.slots.get_mut(*place)) {
            slot.vector = vector;
            slot.used = self.clock;
            return;
        }
        if self.slots.len() >= self.capacity {
            self.drop_oldest();
        }
        self.places.insert(key.clone(), self.slots.len());
        self.slots.push(Slot { key, vector, used: self.clock });
    }

    fn drop_oldest(&mut self) {
        self.slots.sort_unstable_by_key(|slot| std::cmp::Reverse(slot.used));
        self.slots.truncate(self.capacity - self.capacity.div_ceil(8));
        self.places.clear();
        self.places.extend(self.slots.iter().enumerate().map(|(place, slot)| (slot.key.clone(), place)));
    }
}
