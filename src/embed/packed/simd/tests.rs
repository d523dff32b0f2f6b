//! Every table against the portable one, and against itself in tiles of another height.
#![allow(clippy::unwrap_used)]

use super::UNIT;
use super::bytes::ByteTile;
use super::tables::{Kernels, all};
use super::tile::Tile;

/// The table every CPU can run; the last.
fn portable() -> &'static Kernels {
    all().pop().unwrap()
}

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
                start: bias.as_ptr(),
                start_stride: 0,
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
        for (rows, units, depth) in [(1, 1, 1), (2, 2, 3), (3, 3, 5), (4, 4, 8), (5, 1, 40), (6, 4, 33), (13, 4, 64)] {
            let what = format!("{} {rows} {units} {depth}", kernels.name);
            near(&product(kernels, rows, units, depth), &product(portable(), rows, units, depth), &what);
            let (got, want) = (byte_product(kernels, rows, units, depth), byte_product(portable(), rows, units, depth));
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
                f(portable(), &mut right);
                near(&left, &right, &what);
            };
            both(&|k, x| k.gelu(x));
            both(&|k, x| k.gelu_tanh(x));
            both(&|k, x| k.relu(x));
            both(&|k, x| k.multiply(x, &y));
            both(&|k, x| k.norm(x, &y, &scale, &shift, 0.1));
            both(&|k, x| k.norm(x, &[], &scale, &[], 0.1));
            both(&|k, x| {
                x.resize(super::padded(len), 9.0);
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
