//! The C functions between the extension and the library that runs on a GPU.
//!
//! Both sides are this crate, built twice, so the table is versioned and otherwise plain: pointers, lengths, and a text for
//! what went wrong. No panic and no unwinding crosses it. An interrupt that unwinds in a callback is held back until the
//! call has returned.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::network::Net;
use crate::embed::network::Network;

/// Raised with every change of this file or of [`Network`].
pub(super) const VERSION: u32 = 1;
/// The name of the one function that the library exports.
pub(super) const SYMBOL: &std::ffi::CStr = c"pg_persona_device";

/// A text that the callee fills: what went wrong.
#[repr(C)]
pub(super) struct Said {
    len: usize,
    text: [u8; 512],
}

impl Said {
    pub(super) fn nothing() -> Self {
        Self { len: 0, text: [0; 512] }
    }

    fn say(&mut self, what: &str) {
        let cut = what.floor_char_boundary(self.text.len());
        self.text[..cut].copy_from_slice(&what.as_bytes()[..cut]);
        self.len = cut;
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.text[..self.len.min(self.text.len())]).into_owned()
    }
}

/// Asks the extension for a tensor: fills `values` (as many as `shape` says) and returns 0, or returns anything else.
pub(super) type Give = unsafe extern "C" fn(
    context: *mut c_void,
    name: *const u8,
    name_len: usize,
    shape: *const usize,
    rank: usize,
    values: *mut f32,
) -> i32;

/// Everything that can be asked of the library.
#[repr(C)]
pub(super) struct Table {
    /// Loads a network, its shape in JSON, onto `device`. Returns null and says why, or a handle. Fills in how many tokens
    /// one call of `forward` should take.
    pub(super) load: unsafe extern "C" fn(
        device: *const u8,
        device_len: usize,
        network: *const u8,
        network_len: usize,
        give: Give,
        context: *mut c_void,
        step: *mut usize,
        said: *mut Said,
    ) -> *mut c_void,
    /// Token vectors of texts that end at `ends`, into `out`, `[ids, hidden]`. Returns 0, or says why not.
    pub(super) forward: unsafe extern "C" fn(
        handle: *mut c_void,
        ids: *const u32,
        types: *const u32,
        ends: *const u32,
        texts: usize,
        out: *mut f32,
        out_len: usize,
        said: *mut Said,
    ) -> i32,
    /// Frees a network.
    pub(super) close: unsafe extern "C" fn(handle: *mut c_void),
}

/// This crate's own table.
pub(super) static TABLE: Table = Table { load, forward, close };

/// The library's one symbol: its table if it speaks this version, else null. Every build has it, so that tests can open a
/// copy of the extension itself.
// SAFETY: no other symbol bears this name.
#[unsafe(no_mangle)]
extern "C" fn pg_persona_device(version: u32) -> *const c_void {
    if version == VERSION { std::ptr::from_ref(&TABLE).cast() } else { std::ptr::null() }
}

/// # Safety
/// Pointers and lengths are those of the caller's live values; `said` and `step` may be written.
#[allow(clippy::too_many_arguments)] // a C function's operands
unsafe extern "C" fn load(
    device: *const u8,
    device_len: usize,
    network: *const u8,
    network_len: usize,
    give: Give,
    context: *mut c_void,
    step: *mut usize,
    said: *mut Said,
) -> *mut c_void {
    let made = catch_unwind(AssertUnwindSafe(|| -> Result<Box<Net>, String> {
        // SAFETY: the caller's bytes.
        let (device, network) = unsafe {
            (std::slice::from_raw_parts(device, device_len), std::slice::from_raw_parts(network, network_len))
        };
        let device = std::str::from_utf8(device).map_err(|e| e.to_string())?;
        let network: Network = serde_json::from_slice(network).map_err(|e| e.to_string())?;
        let ask = |name: &str, shape: &[usize]| -> Result<Vec<f32>, String> {
            let mut values = vec![0.0; shape.iter().product()];
            // SAFETY: the callback fills what the shape says, and does not unwind.
            let got =
                unsafe { give(context, name.as_ptr(), name.len(), shape.as_ptr(), shape.len(), values.as_mut_ptr()) };
            if got == 0 { Ok(values) } else { Err(format!("the weights end at \"{name}\"")) }
        };
        Net::load(device, network, &ask).map(Box::new)
    }));
    let reason = match made {
        Ok(Ok(net)) => {
            // SAFETY: the caller's number.
            unsafe { *step = net.step() };
            return Box::into_raw(net).cast();
        }
        Ok(Err(reason)) => reason,
        Err(_) => "it failed while loading".to_owned(),
    };
    // SAFETY: the caller's text.
    unsafe { (*said).say(&reason) };
    std::ptr::null_mut()
}

/// # Safety
/// `handle` came from `load`; `ids` and `types` reach to the last of the `texts` ends, `out` has `out_len` numbers.
#[allow(clippy::too_many_arguments)] // a C function's operands
unsafe extern "C" fn forward(
    handle: *mut c_void,
    ids: *const u32,
    types: *const u32,
    ends: *const u32,
    texts: usize,
    out: *mut f32,
    out_len: usize,
    said: *mut Said,
) -> i32 {
    let done = catch_unwind(AssertUnwindSafe(|| -> Result<(), String> {
        // SAFETY: as the caller promises.
        let (net, ends, out) = unsafe {
            (
                &*handle.cast::<Net>(),
                std::slice::from_raw_parts(ends, texts),
                std::slice::from_raw_parts_mut(out, out_len),
            )
        };
        let tokens = ends.last().copied().unwrap_or(0) as usize;
        // SAFETY: as the caller promises.
        let (ids, types) =
            unsafe { (std::slice::from_raw_parts(ids, tokens), std::slice::from_raw_parts(types, tokens)) };
        net.forward(ids, types, ends, out)
    }));
    let reason = match done {
        Ok(Ok(())) => return 0,
        Ok(Err(reason)) => reason,
        Err(_) => "it failed while running".to_owned(),
    };
    // SAFETY: the caller's text.
    unsafe { (*said).say(&reason) };
    1
}

/// # Safety
/// `handle` came from `load` and is not used again.
unsafe extern "C" fn close(handle: *mut c_void) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: as the caller promises.
        drop(unsafe { Box::from_raw(handle.cast::<Net>()) });
    }));
}
