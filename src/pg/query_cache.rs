//! Query vectors that all backends share, where the library is preloaded.
//!
//! Shoppers of different connections ask the same things. A slot holds the vector of a key of 16 bytes (SHA-256 of
//! bundle, precision and text, cut), never the text: what depends on nothing else needs no dropping, and nobody can read
//! from it what others asked. Four slots form a set; a full set gives up the one that was used longest ago.

use crate::embed::Encoder;
use pgrx::lwlock::PgLwLock;
use pgrx::pg_shmem_init;
use pgrx::prelude::*;
use pgrx::shmem::PGRXSharedMemory;
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::sync::Arc;

/// Longest vector that is shared.
const WIDEST: usize = 768;
const WAYS: usize = 4;
/// With [`WAYS`], 512 vectors: 1.6 MB of shared memory, which the postmaster initialises from its stack.
const SETS: usize = 128;

type Key = [u8; 16];

#[derive(Clone, Copy)]
struct Slot {
    key: Key,
    dimension: u32,
    used: u32,
    vector: [f32; WIDEST],
}

#[derive(Clone, Copy)]
struct Table {
    clock: u32,
    slots: [[Slot; WAYS]; SETS],
}

impl Default for Table {
    fn default() -> Table {
        let empty = Slot { key: [0; 16], dimension: 0, used: 0, vector: [0.0; WIDEST] };
        Table { clock: 0, slots: [[empty; WAYS]; SETS] }
    }
}

// SAFETY: plain numbers without pointers.
unsafe impl PGRXSharedMemory for Table {}

// SAFETY: the name is unique to this extension.
static TABLE: PgLwLock<Table> = unsafe { PgLwLock::new(c"pg_persona queries") };

thread_local! {
    // Set in the postmaster before any fork, read by its children.
    static SHARED: Cell<bool> = const { Cell::new(false) };
}

/// Asks for the shared memory, in the postmaster only.
pub fn init() {
    if super::activity::preloading() {
        pg_shmem_init!(TABLE);
        SHARED.set(true);
    }
}

fn key(encoder: &Encoder, text: &str) -> Key {
    let info = encoder.info();
    let digest =
        Sha256::new().chain_update(&info.hash).chain_update([info.precision as u8]).chain_update(text).finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}

fn set(key: &Key) -> usize {
    usize::from(key[0]) % SETS
}

/// The vector that some backend's encoder of this bundle and precision made of a query.
pub fn get(encoder: &Encoder, text: &str) -> Option<Arc<[f32]>> {
    if !SHARED.get() {
        return None;
    }
    let key = key(encoder, text);
    let table = TABLE.share();
    let slot = table.slots[set(&key)].iter().find(|slot| slot.dimension > 0 && slot.key == key)?;
    slot.vector.get(..slot.dimension as usize).map(Arc::from)
}

/// Shares a vector.
pub fn put(encoder: &Encoder, text: &str, vector: &[f32]) {
    if !SHARED.get() || vector.len() > WIDEST {
        return;
    }
    let key = key(encoder, text);
    let mut table = TABLE.exclusive();
    table.clock = table.clock.wrapping_add(1);
    let now = table.clock;
    let ways = &mut table.slots[set(&key)];
    let place = ways.iter().position(|slot| slot.key == key);
    let oldest = || ways.iter().enumerate().max_by_key(|(_, slot)| now.wrapping_sub(slot.used)).map_or(0, |(at, _)| at);
    let slot = &mut ways[place.unwrap_or_else(oldest)];
    slot.key = key;
    slot.dimension = vector.len() as u32;
    slot.used = now;
    slot.vector[..vector.len()].copy_from_slice(vector);
}
