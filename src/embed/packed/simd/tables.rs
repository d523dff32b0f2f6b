//! One table of kernels for each instruction set, and the choice among them.

use super::bytes::{ByteTile, Sums, tile as byte_tile};
use super::tile::{Lanes, Tile, tile};
use super::{UNIT, map};

/// `x`, `y`, scale, shift, epsilon; see [`Kernels::norm`].
type RowNorm = unsafe fn(&mut [f32], &[f32], &[f32], &[f32], f32);

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
                bias: t.bias.add(at),
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
fn all() -> Vec<&'static Kernels> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that are the same in every run (a linear congruence).
    fn numbers(seed: u32, count: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn product(kernels: &Kernels, rows: usize, units: usize, depth: usize) -> Vec<f32> {
        let (a, b) = (numbers(1, rows * depth), numbers(2, depth * units * UNIT));
        let start = numbers(3, units * UNIT);
        let mut c = vec![7.0; rows * units * UNIT];
        for row in (0..rows).step_by(kernels.rows) {
            // SAFETY: the sizes are those of the vectors above.
            unsafe {
                kernels.tile(&Tile {
                    rows: kernels.rows.min(rows - row),
                    units,
                    depth,
                    a: a.as_ptr().add(row * depth),
                    a_stride: depth,
                    b: b.as_ptr(),
                    b_stride: units * UNIT,
                    next: std::ptr::null(),
                    next_step: 0,
                    start: start.as_ptr(),
                    c: c.as_mut_ptr().add(row * units * UNIT),
                    c_stride: units * UNIT,
                });
            }
        }
        c
    }

    fn byte_product(kernels: &Kernels, rows: usize, units: usize, quads: usize) -> Vec<f32> {
        let columns = units * UNIT;
        // The ends of both ranges are among the numbers: where 16-bit sums would overflow.
        let a: Vec<u8> =
            numbers(1, rows * quads * 4).iter().map(|x| if *x > 0.5 { 255 } else { (x * 99.0) as u8 }).collect();
        let b: Vec<i8> = numbers(2, quads * columns * 4)
            .iter()
            .map(|x| if x.abs() > 0.5 { (127.0 * x.signum()) as i8 } else { (x * 99.0) as i8 })
            .collect();
        let (step, zero) = (numbers(3, rows), numbers(4, rows));
        let (scale, sum, bias) = (numbers(5, columns), numbers(6, columns), numbers(7, columns));
        let mut c = vec![7.0; rows * columns];
        for row in (0..rows).step_by(kernels.rows) {
            // SAFETY: the sizes are those of the vectors above.
            unsafe {
                kernels.byte_tile(&ByteTile {
                    rows: kernels.rows.min(rows - row),
                    units,
                    quads,
                    a: a.as_ptr().add(row * quads * 4),
                    a_stride: quads * 4,
                    b: b.as_ptr(),
                    b_stride: columns * 4,
                    next: std::ptr::null(),
                    next_step: 0,
                    step: step.as_ptr().add(row),
                    zero: zero.as_ptr().add(row),
                    scale: scale.as_ptr(),
                    sum: sum.as_ptr(),
                    bias: bias.as_ptr(),
                    c: c.as_mut_ptr().add(row * columns),
                    c_stride: columns,
                });
            }
        }
        c
    }

    fn near(left: &[f32], right: &[f32], what: &str) {
        assert_eq!(left.len(), right.len());
        for (l, r) in left.iter().zip(right) {
            assert!((l - r).abs() <= 2e-6 * (1.0 + l.abs()), "{what}: {l} {r}");
        }
    }

    #[test]
    fn every_table_agrees_with_the_portable_one() {
        for kernels in all() {
            eprintln!("{}", kernels.name);
            for (rows, units, depth) in
                [(1, 1, 1), (2, 2, 3), (3, 3, 5), (4, 4, 8), (5, 1, 40), (6, 4, 33), (13, 4, 64)]
            {
                let what = format!("{} {rows} {units} {depth}", kernels.name);
                near(&product(kernels, rows, units, depth), &product(&portable::TABLE, rows, units, depth), &what);
                let (got, want) =
                    (byte_product(kernels, rows, units, depth), byte_product(&portable::TABLE, rows, units, depth));
                // The sums are exact; one rounding less is all that fused multiply-add may change.
                for (g, w) in got.iter().zip(&want) {
                    assert!((g - w).abs() <= 1e-6 * w.abs().max(1000.0), "{what}: {g} {w}");
                }
            }
            for len in [1, 15, 16, 17, 40, 384] {
                let what = format!("{} of {len}", kernels.name);
                let (x, y, scale, shift) = (numbers(1, len), numbers(2, len), numbers(3, len), numbers(4, len));
                let both = |f: &dyn Fn(&Kernels, &mut Vec<f32>)| {
                    let (mut left, mut right) = (x.clone(), x.clone());
                    f(kernels, &mut left);
                    f(&portable::TABLE, &mut right);
                    near(&left, &right, &what);
                };
                both(&|k, x| k.gelu(x));
                both(&|k, x| k.gelu_tanh(x));
                both(&|k, x| k.relu(x));
                both(&|k, x| k.multiply(x, &y));
                both(&|k, x| k.norm(x, &y, &scale, &shift, 0.1));
                both(&|k, x| k.norm(x, &[], &scale, &[], 0.1));
                both(&|k, x| {
                    x.resize(super::super::padded(len), 9.0);
                    k.softmax(x, len);
                    x.truncate(len);
                    assert!((x.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                });
                both(&|k, x| {
                    let mut bytes = vec![0; len];
                    let (step, least) = k.quantize(x, &mut bytes);
                    for (x, b) in x.iter_mut().zip(bytes) {
                        let back = step * f32::from(b) + least;
                        assert!((*x - back).abs() <= step * 0.501, "{what}: {x} {back}");
                        *x = back;
                    }
                });
            }
            let mut flat = [0u8; 3];
            assert_eq!(kernels.quantize(&[0.25; 3], &mut flat), (0.0, 0.25));
        }
    }

    #[test]
    fn a_row_has_the_same_bits_in_a_tile_of_any_height() {
        for kernels in all() {
            let tall = product(kernels, kernels.rows, 4, 96);
            let flat = product(kernels, 1, 4, 96);
            assert!(flat.iter().zip(&tall).all(|(f, t)| f.to_bits() == t.to_bits()), "{}", kernels.name);
        }
    }

    #[test]
    fn tables_with_fused_multiply_add_make_the_same_bits() {
        let tables: Vec<_> = all().into_iter().filter(|k| k.name != "portable").collect();
        for pair in tables.windows(2) {
            assert_eq!(product(pair[0], 5, 4, 50), product(pair[1], 5, 4, 50));
            assert_eq!(byte_product(pair[0], 5, 4, 50), byte_product(pair[1], 5, 4, 50));
        }
    }
}
