//! One table of kernels for each instruction set, and the choice among them.

use super::bytes::{ByteTile, Sums, tile as byte_tile};
use super::tile::{Lanes, Tile, tile};
use super::{UNIT, map};

/// `x`, `y`, scale, shift, epsilon; see [`Kernels::norm`].
type RowNorm = unsafe fn(&mut [f32], &[f32], &[f32], &[f32], f32);

/// `x`, `out`, scale, shift, epsilon; see [`Kernels::norm_keep`].
type RowNormKeep = unsafe fn(&mut [f32], &mut [f32], &[f32], &[f32], f32) -> f32;
/// A gradient, and what it was taken at.
type Slope = unsafe fn(&mut [f32], &[f32]);

/// The kernels of one instruction set. Calling one on a CPU without it is undefined, hence `unsafe`; [`best`] gives out
/// only what the CPU has.
pub(crate) struct Kernels {
    /// As `persona.models` shows it.
    pub(crate) name: &'static str,
    /// Most rows of a tile.
    pub(crate) rows: usize,
    /// Whether its byte tiles are faster than its float tiles.
    pub(crate) fast_bytes: bool,
    tile: unsafe fn(&Tile),
    byte_tile: unsafe fn(&ByteTile),
    quantize: unsafe fn(&[f32], &mut [u8]) -> (f32, f32),
    gelu: unsafe fn(&mut [f32]),
    gelu_tanh: unsafe fn(&mut [f32]),
    relu: unsafe fn(&mut [f32]),
    multiply: unsafe fn(&mut [f32], &[f32]),
    softmax: unsafe fn(&mut [f32], usize),
    norm: RowNorm,
    gelu_slope: Slope,
    gelu_tanh_slope: Slope,
    relu_slope: Slope,
    norm_keep: RowNormKeep,
    norm_back: unsafe fn(&mut [f32], &[f32], &[f32], f32),
    softmax_back: Slope,
    add: Slope,
}

// A table is only handed out where the CPU has its instructions, so the slices are all that callers must get right.
impl Kernels {
    /// # Safety
    /// As [`tile`]: the pointers are good for the rows, columns and depth given.
    pub(crate) unsafe fn tile(&self, t: &Tile) {
        // SAFETY: the caller's promise, and the CPU has the instructions.
        unsafe { (self.tile)(t) }
    }

    /// # Safety
    /// As [`byte_tile`].
    pub(crate) unsafe fn byte_tile(&self, t: &ByteTile) {
        // SAFETY: the caller's promise, and the CPU has the instructions.
        unsafe { (self.byte_tile)(t) }
    }

    /// A row in bytes: (worth of a step, what zero stands for).
    pub(crate) fn quantize(&self, row: &[f32], to: &mut [u8]) -> (f32, f32) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.quantize)(row, to) }
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

/// What training needs beside.
impl Kernels {
    pub(crate) fn gelu_slope(&self, left: &mut [f32], right: &[f32]) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.gelu_slope)(left, right) }
    }

    pub(crate) fn gelu_tanh_slope(&self, left: &mut [f32], right: &[f32]) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.gelu_tanh_slope)(left, right) }
    }

    pub(crate) fn relu_slope(&self, left: &mut [f32], right: &[f32]) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.relu_slope)(left, right) }
    }

    pub(crate) fn softmax_back(&self, left: &mut [f32], right: &[f32]) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.softmax_back)(left, right) }
    }

    pub(crate) fn add(&self, left: &mut [f32], right: &[f32]) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.add)(left, right) }
    }

    /// A norm that keeps what its gradient needs: `x` becomes the normed row; returns what it was multiplied by.
    pub(crate) fn norm_keep(&self, x: &mut [f32], out: &mut [f32], scale: &[f32], shift: &[f32], eps: f32) -> f32 {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.norm_keep)(x, out, scale, shift, eps) }
    }

    /// The gradient of a norm's result becomes that of what was normed.
    pub(crate) fn norm_back(&self, grad: &mut [f32], hat: &[f32], scale: &[f32], by: f32) {
        // SAFETY: the CPU has the instructions.
        unsafe { (self.norm_back)(grad, hat, scale, by) }
    }
}

/// Runs `$one` for a tile that is `$rows` high, as a number the compiler knows. The one place where heights are told apart.
macro_rules! by_height {
    ($rows:expr, $function:ident, $kind:ty, $registers:literal, $tile:expr) => {
        match $rows {
            1 => $function::<$kind, 1, $registers>($tile),
            2 => $function::<$kind, 2, $registers>($tile),
            3 => $function::<$kind, 3, $registers>($tile),
            4 => $function::<$kind, 4, $registers>($tile),
            5 => $function::<$kind, 5, $registers>($tile),
            _ => $function::<$kind, 6, $registers>($tile),
        }
    };
}

/// A tile in registers of a whole unit: a panel's four units are one tile.
///
/// # Safety
/// As [`tile`], at most six rows, and the CPU has the instructions of `L`.
#[inline(always)]
unsafe fn wide<L: Lanes>(t: &Tile) {
    // SAFETY: passed on; M is the number of rows, V the number of units.
    unsafe {
        match t.units {
            1 => by_height!(t.rows, tile, L, 1, t),
            2 => by_height!(t.rows, tile, L, 2, t),
            3 => by_height!(t.rows, tile, L, 3, t),
            _ => by_height!(t.rows, tile, L, 4, t),
        }
    }
}

/// The same in registers of half a unit, unit by unit.
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
            by_height!(t.rows, tile, L, 2, &one);
        }
    }
}

/// As [`wide`], in bytes.
///
/// # Safety
/// As [`wide`].
#[inline(always)]
unsafe fn wide_bytes<S: Sums>(t: &ByteTile) {
    // SAFETY: passed on; M is the number of rows, V the number of units.
    unsafe {
        match t.units {
            1 => by_height!(t.rows, byte_tile, S, 1, t),
            2 => by_height!(t.rows, byte_tile, S, 2, t),
            3 => by_height!(t.rows, byte_tile, S, 3, t),
            _ => by_height!(t.rows, byte_tile, S, 4, t),
        }
    }
}

/// As [`narrow`], in bytes.
///
/// # Safety
/// As [`wide`].
#[inline(always)]
unsafe fn narrow_bytes<S: Sums>(t: &ByteTile) {
    for unit in 0..t.units {
        // SAFETY: passed on, one unit at a time.
        unsafe {
            let at = unit * UNIT;
            let one = ByteTile {
                b: t.b.add(at * 4),
                scale: t.scale.add(at),
                sum: t.sum.add(at),
                start: t.start.add(at),
                c: t.c.add(at),
                ..*t
            };
            by_height!(t.rows, byte_tile, S, 2, &one);
        }
    }
}

/// A module with one table. A macro, since `target_feature` is an attribute and no function can carry it as a value.
macro_rules! table {
    (
        $module:ident, $name:literal, $rows:literal, $fast:literal,
        $tile:ident $lanes:ty, $bytes:ident $sums:ty, $arith:ty, $(#[$attribute:meta])*
    ) => {
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
            unsafe fn byte_tile(t: &ByteTile) {
                // SAFETY: see above.
                unsafe { $bytes::<$sums>(t) }
            }
            $(#[$attribute])*
            unsafe fn quantize(row: &[f32], to: &mut [u8]) -> (f32, f32) {
                map::quantize::<$arith>(row, to)
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
            $(#[$attribute])*
            unsafe fn gelu_slope(left: &mut [f32], right: &[f32]) {
                map::gelu_slope::<$arith>(left, right)
            }
            $(#[$attribute])*
            unsafe fn gelu_tanh_slope(left: &mut [f32], right: &[f32]) {
                map::gelu_tanh_slope::<$arith>(left, right)
            }
            $(#[$attribute])*
            unsafe fn relu_slope(left: &mut [f32], right: &[f32]) {
                map::relu_slope(left, right)
            }
            $(#[$attribute])*
            unsafe fn softmax_back(left: &mut [f32], right: &[f32]) {
                map::softmax_back::<$arith>(left, right)
            }
            $(#[$attribute])*
            unsafe fn add(left: &mut [f32], right: &[f32]) {
                map::add(left, right)
            }
            $(#[$attribute])*
            unsafe fn norm_keep(x: &mut [f32], out: &mut [f32], scale: &[f32], shift: &[f32], eps: f32) -> f32 {
                map::norm_keep::<$arith>(x, out, scale, shift, eps)
            }
            $(#[$attribute])*
            unsafe fn norm_back(grad: &mut [f32], hat: &[f32], scale: &[f32], by: f32) {
                map::norm_back::<$arith>(grad, hat, scale, by)
            }

            pub(super) static TABLE: Kernels = Kernels {
                name: $name,
                rows: $rows,
                fast_bytes: $fast,
                tile,
                byte_tile,
                quantize,
                gelu,
                gelu_tanh,
                relu,
                multiply,
                softmax,
                norm,
                gelu_slope,
                gelu_tanh_slope,
                relu_slope,
                norm_keep,
                norm_back,
                softmax_back,
                add,
            };
        }
    };
}

use super::{bytes, tile as float};

table!(portable, "portable", 2, false, narrow float::Plain, narrow_bytes bytes::Plain, map::Baseline,);

#[cfg(target_arch = "x86_64")]
table!(avx2, "avx2", 6, true, narrow float::Avx2, narrow_bytes bytes::Avx2, map::Fused,
    #[target_feature(enable = "avx2,fma")]);

#[cfg(target_arch = "x86_64")]
table!(avx_vnni, "avx-vnni", 6, true, narrow float::Avx2, narrow_bytes bytes::Vnni256, map::Fused,
    #[target_feature(enable = "avx2,fma,avxvnni")]);

#[cfg(target_arch = "x86_64")]
table!(avx512, "avx512", 6, true, wide float::Avx512, narrow_bytes bytes::Avx2, map::Fused,
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]);

#[cfg(target_arch = "x86_64")]
table!(avx512_vnni, "avx512-vnni", 6, true, wide float::Avx512, wide_bytes bytes::Vnni512, map::Fused,
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]);

/// Every table that this CPU can run, the best first.
pub(super) fn all() -> Vec<&'static Kernels> {
    let mut tables = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq");
        if avx512 && is_x86_feature_detected!("avx512vnni") {
            tables.push(&avx512_vnni::TABLE);
        }
        if avx512 {
            tables.push(&avx512::TABLE);
        }
        if avx2 && is_x86_feature_detected!("avxvnni") {
            tables.push(&avx_vnni::TABLE);
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
