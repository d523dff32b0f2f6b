//! One table of kernels for each instruction set, and the choice among them.

use super::tile::{Lanes, Tile, tile};
use super::{UNIT, map};

/// The kernels of one instruction set. Calling one on a CPU without it is undefined, hence `unsafe`; [`best`] gives out
/// only what the CPU has.
pub(crate) struct Kernels {
    /// As `persona.models` shows it.
    pub(crate) name: &'static str,
    /// Most rows of a tile.
    pub(crate) rows: usize,
    tile: unsafe fn(&Tile),
    gelu: unsafe fn(&mut [f32]),
    gelu_tanh: unsafe fn(&mut [f32]),
    relu: unsafe fn(&mut [f32]),
    multiply: unsafe fn(&mut [f32], &[f32]),
    softmax: unsafe fn(&mut [f32], usize),
    norm: unsafe fn(&mut [f32], &[f32], &[f32], &[f32], f32),
}

// A table is only handed out where the CPU has its instructions, so the slices are all that callers must get right.
impl Kernels {
    /// # Safety
    /// As [`tile`]: the pointers are good for the rows, columns and depth given.
    pub(crate) unsafe fn tile(&self, t: &Tile) {
        // SAFETY: the caller's promise, and the CPU has the instructions.
        unsafe { (self.tile)(t) }
    }

    pub(crate) fn gelu(&self, row: &mut [f32]) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.gelu)(row) }
    }

    pub(crate) fn gelu_tanh(&self, row: &mut [f32]) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.gelu_tanh)(row) }
    }

    pub(crate) fn relu(&self, row: &mut [f32]) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.relu)(row) }
    }

    pub(crate) fn multiply(&self, left: &mut [f32], right: &[f32]) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.multiply)(left, right) }
    }

    /// Weights from scores; the numbers behind `len` are padding.
    pub(crate) fn softmax(&self, row: &mut [f32], len: usize) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.softmax)(row, len) }
    }

    /// `x = norm(x + y) * scale + shift`; an empty `y` or `shift` is none.
    pub(crate) fn norm(&self, x: &mut [f32], y: &[f32], scale: &[f32], shift: &[f32], eps: f32) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.norm)(x, y, scale, shift, eps) }
    }
}

/// Picks the tile of the right height; `WIDE` registers make the four units of a panel. Narrower ones go unit by unit.
///
/// # Safety
/// As [`tile`], and the CPU has the instructions of `L`.
#[inline(always)]
unsafe fn wide<L: Lanes>(t: &Tile) {
    // SAFETY: passed on; M is the number of rows, V the number of registers.
    unsafe {
        match (t.rows, t.units) {
            (1, 4) => tile::<L, 1, 4>(t),
            (2, 4) => tile::<L, 2, 4>(t),
            (3, 4) => tile::<L, 3, 4>(t),
            (4, 4) => tile::<L, 4, 4>(t),
            (5, 4) => tile::<L, 5, 4>(t),
            (6, 4) => tile::<L, 6, 4>(t),
            (rows, 2) => match rows {
                1 => tile::<L, 1, 2>(t),
                2 => tile::<L, 2, 2>(t),
                3 => tile::<L, 3, 2>(t),
                4 => tile::<L, 4, 2>(t),
                5 => tile::<L, 5, 2>(t),
                _ => tile::<L, 6, 2>(t),
            },
            (rows, units) => {
                for unit in 0..units {
                    let one = Tile {
                        b: t.b.add(unit * UNIT),
                        c: t.c.add(unit * UNIT),
                        start: if t.start.is_null() { t.start } else { t.start.add(unit * UNIT) },
                        ..*t
                    };
                    match rows {
                        1 => tile::<L, 1, 1>(&one),
                        2 => tile::<L, 2, 1>(&one),
                        3 => tile::<L, 3, 1>(&one),
                        4 => tile::<L, 4, 1>(&one),
                        5 => tile::<L, 5, 1>(&one),
                        _ => tile::<L, 6, 1>(&one),
                    }
                }
            }
        }
    }
}

/// The same for registers of half a unit.
///
/// # Safety
/// As [`wide`].
#[inline(always)]
unsafe fn narrow<L: Lanes>(t: &Tile) {
    for unit in 0..t.units {
        // SAFETY: passed on, one unit at a time.
        unsafe {
            let one = Tile {
                b: t.b.add(unit * UNIT),
                c: t.c.add(unit * UNIT),
                start: if t.start.is_null() { t.start } else { t.start.add(unit * UNIT) },
                ..*t
            };
            match t.rows {
                1 => tile::<L, 1, 2>(&one),
                2 => tile::<L, 2, 2>(&one),
                3 => tile::<L, 3, 2>(&one),
                4 => tile::<L, 4, 2>(&one),
                5 => tile::<L, 5, 2>(&one),
                _ => tile::<L, 6, 2>(&one),
            }
        }
    }
}

/// A module with one table. A macro, since `target_feature` is an attribute and no function can carry it as a value.
macro_rules! table {
    ($module:ident, $name:literal, $rows:literal, $tile:ident, $lanes:ty, $arith:ty, $(#[$attribute:meta])*) => {
        mod $module {
            use super::*;

            // SAFETY of all below: called only where the CPU has the instructions; the bodies are safe or pass the
            // caller's promise on.
            $(#[$attribute])*
            unsafe fn tile(t: &Tile) {
                // SAFETY: see above.
                unsafe { $tile::<$lanes>(t) }
            }
            $(#[$attribute])*
            unsafe fn gelu(row: &mut [f32]) {
                map::gelu::<$arith>(row)
            }
            $(#[$attribute])*
            unsafe fn gelu_tanh(row: &mut [f32]) {
                map::gelu_tanh::<$arith>(row)
            }
            $(#[$attribute])*
            unsafe fn relu(row: &mut [f32]) {
                map::relu(row)
            }
            $(#[$attribute])*
            unsafe fn multiply(left: &mut [f32], right: &[f32]) {
                map::multiply(left, right)
            }
            $(#[$attribute])*
            unsafe fn softmax(row: &mut [f32], len: usize) {
                map::softmax::<$arith>(row, len)
            }
            $(#[$attribute])*
            unsafe fn norm(x: &mut [f32], y: &[f32], scale: &[f32], shift: &[f32], eps: f32) {
                map::norm::<$arith>(x, y, scale, shift, eps)
            }

            pub(super) static TABLE: Kernels =
                Kernels { name: $name, rows: $rows, tile, gelu, gelu_tanh, relu, multiply, softmax, norm };
        }
    };
}

table!(portable, "portable", 2, narrow, super::super::tile::Plain, map::Baseline,);

#[cfg(target_arch = "x86_64")]
table!(avx2, "avx2", 6, narrow, super::super::tile::Avx2, map::Fused, #[target_feature(enable = "avx2,fma")]);

#[cfg(target_arch = "x86_64")]
table!(avx512, "avx512", 6, wide, super::super::tile::Avx512, map::Fused,
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]);

/// Every table that this CPU can run, the best first.
pub(crate) fn all() -> Vec<&'static Kernels> {
    let mut tables = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        if avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
        {
            tables.push(&avx512::TABLE);
        }
        if avx2 {
            tables.push(&avx2::TABLE);
        }
    }
    tables.push(&portable::TABLE);
    tables
}

/// The best table for this CPU.
pub(crate) fn best() -> &'static Kernels {
    all().first().copied().unwrap_or(&portable::TABLE)
}
