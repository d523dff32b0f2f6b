#![no_main]
//! See `targets.rs`.
#[path = "../targets.rs"]
mod targets;

// libFuzzer's own hook ends the process at any panic. That of a library on a hostile file is caught where it is called, and
// only one that comes through is a find.
libfuzzer_sys::fuzz_target!(init: std::panic::set_hook(Box::new(|_| ())), |data: &[u8]| targets::bundle(data));
