//! What the library that runs on a GPU serves: networks that embed, networks and shopper encoders in training. See
//! [`device`](crate::device).

use std::ffi::c_void;

use crate::device::Library;
use crate::device::abi::{Ask, Make, Served, Table, VERSION};
use crate::embed;
use crate::learn;

struct Maker;

impl Make for Maker {
    fn make(device: &str, kind: &str, spec: &[u8], ask: Ask<'_>) -> Result<Box<dyn Served>, String> {
        match kind {
            embed::device::NETWORK => embed::device::network(device, spec, ask),
            embed::device::TRAINING => embed::device::training(device, spec, ask),
            learn::encoder::device::SHOPPERS => learn::encoder::device::shoppers(device, spec, ask),
            _ => Err(format!("nothing here is a \"{kind}\"")),
        }
    }
}

static TABLE: Table = Table::of::<Maker>();

/// The library's one symbol: its table if it speaks this version, else null. Every build has it, so that tests can open a
/// copy of the extension itself.
// SAFETY: no other symbol bears this name.
#[unsafe(no_mangle)]
extern "C" fn pg_persona_device(version: u32) -> *const c_void {
    if version == VERSION { std::ptr::from_ref(&TABLE).cast() } else { std::ptr::null() }
}

/// The same functions without a second library, on candle's CPU device: the stand-in that tests run.
pub fn own() -> Library {
    Library::of(&TABLE)
}
