//! The fuzz targets over their corpus and seeded mutations of it: the short form of `cargo fuzz`, on any toolchain.
#![allow(clippy::unwrap_used)]

#[path = "fuzz/targets.rs"]
mod targets;

use std::path::Path;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

/// A seed with some of it replaced, repeated, left out, or exchanged for a part of another seed.
fn mutated(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        let end = (at + dice.below(12)).min(bytes.len());
        match dice.below(5) {
            0 => bytes.insert(at, dice.below(256) as u8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let again = bytes[at..end].repeat(1 + dice.below(40));
                bytes.splice(at..at, again);
            }
            3 => {
                let other = &seeds[dice.below(seeds.len())];
                let from = dice.below(other.len() + 1);
                let part = other[from..(from + dice.below(30)).min(other.len())].to_vec();
                bytes.splice(at..end, part);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
        }
    }
    bytes
}

#[test]
fn no_input_makes_a_target_panic() {
    // `PERSONA_FUZZ` says how many mutations of each corpus are tried; make soak says more.
    let count = std::env::var("PERSONA_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(3000);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, target) in targets::ALL {
        let mut files: Vec<_> = std::fs::read_dir(corpus.join(name)).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        let mut seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
        if name == "bytes" {
            seeds.push(targets::packed());
        }
        assert!(seeds.len() > 1, "{name} has no corpus");
        let mut dice = Dice(2026);
        // A bundle is read from a folder: of it tests/embed_files.rs tries more.
        let count = if name == "bundle" { count / 10 } else { count };
        for turn in 0..seeds.len() + count {
            let bytes = seeds.get(turn).cloned().unwrap_or_else(|| mutated(&seeds, &mut dice));
            let tried = std::panic::catch_unwind(|| target(&bytes));
            assert!(tried.is_ok(), "{name}, turn {turn}: a panic on {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}
