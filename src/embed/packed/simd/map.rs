//! What happens to each number, or each row, between the products: plain loops, instantiated once for each instruction
//! set (`tables`), where the compiler makes vector code of them.
//!
//! Sums over a row go through 16 accumulators whatever the register width, and multiply-add is always the fused one
//! where the hardware has it, so that the AVX2 and AVX-512 tables make the same bits.

use super::UNIT;

/// Fused multiply-add on hardware that has it. The portable table on x86 has not, and a call into libm for each number
/// would be a hundred times slower than the two roundings.
#[inline(always)]
pub(super) fn fma(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}

/// How multiply-adds are made within a table.
pub(super) trait Arith {
    fn fma(a: f32, b: f32, c: f32) -> f32;
}

/// With the instruction, which the table's `target_feature` grants.
#[allow(dead_code)] // x86 alone has tables that need it
pub(super) struct Fused;

impl Arith for Fused {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// With what the build's baseline has.
pub(super) struct Baseline;

impl Arith for Baseline {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        fma(a, b, c)
    }
}

/// `e^x` to 2 units in the last place for x in [-87, 88]; x is brought into that range.
#[inline(always)]
fn exp<A: Arith>(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to a whole number, in the low bits
    let x = x.clamp(-87.0, 88.0);
    let shifted = A::fma(x, std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    // ln 2 in two parts, so that x - n ln 2 keeps its low bits.
    let r = A::fma(n, -0.693_359_4, x);
    let r = A::fma(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    p = A::fma(p, r, 1.398_2e-3);
    p = A::fma(p, r, 8.333_452e-3);
    p = A::fma(p, r, 4.166_579_6e-2);
    p = A::fma(p, r, 0.166_666_65);
    p = A::fma(p, r, 0.5);
    let y = A::fma(p, r * r, r + 1.0);
    let exponent = shifted.to_bits().wrapping_sub(MAGIC.to_bits()) << 23;
    f32::from_bits(y.to_bits().wrapping_add(exponent))
}

/// The error function as a quotient of polynomials, to 4e-7; |x| > 3.9 is ±1 to within that.
#[inline(always)]
fn erf<A: Arith>(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let mut p = -2.726_142_4e-10;
    p = A::fma(p, s, 2.770_681_4e-8);
    p = A::fma(p, s, -2.101_024e-6);
    p = A::fma(p, s, -5.692_506_5e-5);
    p = A::fma(p, s, -7.349_906_3e-4);
    p = A::fma(p, s, -2.954_6e-3);
    p = A::fma(p, s, -1.609_603_3e-2);
    let mut q = -1.456_607_2e-5;
    q = A::fma(q, s, -2.133_740_6e-4);
    q = A::fma(q, s, -1.682_827e-3);
    q = A::fma(q, s, -7.373_329_3e-3);
    q = A::fma(q, s, -1.426_473_9e-2);
    x * p / q
}

/// `x Φ(x)`, Φ through erf.
#[inline(always)]
pub(super) fn gelu<A: Arith>(row: &mut [f32]) {
    for x in row {
        let half = 0.5 * *x;
        *x = A::fma(half, erf::<A>(*x * std::f32::consts::FRAC_1_SQRT_2), half);
    }
}

/// The approximation through tanh, by `tanh z = 1 - 2 / (e^2z + 1)`.
#[inline(always)]
pub(super) fn gelu_tanh<A: Arith>(row: &mut [f32]) {
    for x in row {
        let v = *x;
        let z = 0.797_884_6 * A::fma(0.044_715 * v * v, v, v);
        *x = v - v / (exp::<A>(2.0 * z) + 1.0);
    }
}

/// Negative numbers become 0.
#[inline(always)]
pub(super) fn relu(row: &mut [f32]) {
    for x in row {
        *x = x.max(0.0);
    }
}

/// `left *= right`.
#[inline(always)]
pub(super) fn multiply(left: &mut [f32], right: &[f32]) {
    for (x, y) in left.iter_mut().zip(right) {
        *x *= y;
    }
}

/// Adds 16 accumulators in a fixed tree.
#[inline(always)]
fn total(lanes: [f32; UNIT]) -> f32 {
    let mut lanes = lanes;
    let mut width = UNIT / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Turns scores into weights that add up to 1. `row` is whole units; what lies behind `len` counts as minus infinity.
#[inline(always)]
pub(super) fn softmax<A: Arith>(row: &mut [f32], len: usize) {
    if let Some(behind) = row.get_mut(len..) {
        behind.fill(-1e30);
    }
    let (units, _) = row.as_chunks_mut::<UNIT>();
    let mut largest = [-1e30f32; UNIT];
    for unit in units.iter() {
        for i in 0..UNIT {
            largest[i] = if unit[i] > largest[i] { unit[i] } else { largest[i] };
        }
    }
    let largest = largest.iter().fold(-1e30f32, |a, b| a.max(*b));
    let mut sums = [0.0f32; UNIT];
    for unit in units.iter_mut() {
        for i in 0..UNIT {
            unit[i] = exp::<A>(unit[i] - largest);
            sums[i] += unit[i];
        }
    }
    let by = 1.0 / total(sums);
    for unit in units.iter_mut() {
        for x in unit.iter_mut() {
            *x *= by;
        }
    }
}

/// A row's mean, and one over its standard deviation.
#[inline(always)]
fn spread<A: Arith>(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len();
    let (units, rest) = x.as_chunks::<UNIT>();
    let mut sums = [0.0f32; UNIT];
    for unit in units {
        for i in 0..UNIT {
            sums[i] += unit[i];
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += x;
    }
    let mean = total(sums) / n as f32;
    let mut sums = [0.0f32; UNIT];
    for unit in units {
        for i in 0..UNIT {
            let d = unit[i] - mean;
            sums[i] = A::fma(d, d, sums[i]);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        let d = x - mean;
        *sum = A::fma(d, d, *sum);
    }
    let by = 1.0 / (total(sums) / n as f32 + eps).sqrt();
    (mean, by)
}

/// `x = norm(x + y) * scale + shift`; `y` and `shift` may be empty and count as zeros then.
#[inline(always)]
pub(super) fn norm<A: Arith>(x: &mut [f32], y: &[f32], scale: &[f32], shift: &[f32], eps: f32) {
    let n = x.len();
    if y.len() >= n {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }
    let (mean, by) = spread::<A>(x, eps);
    if shift.len() >= n {
        for ((x, scale), shift) in x.iter_mut().zip(scale).zip(shift) {
            *x = A::fma((*x - mean) * by, *scale, *shift);
        }
    } else {
        for (x, scale) in x.iter_mut().zip(scale) {
            *x = (*x - mean) * by * scale;
        }
    }
}

/// `grad *= gelu'(x)`: `Φ(x) + x φ(x)`.
#[inline(always)]
pub(super) fn gelu_slope<A: Arith>(grad: &mut [f32], x: &[f32]) {
    for (g, x) in grad.iter_mut().zip(x) {
        let below = A::fma(0.5, erf::<A>(*x * std::f32::consts::FRAC_1_SQRT_2), 0.5);
        let bell = 0.398_942_3 * exp::<A>(-0.5 * *x * *x);
        *g *= A::fma(*x, bell, below);
    }
}

/// The same of the approximation through tanh.
#[inline(always)]
pub(super) fn gelu_tanh_slope<A: Arith>(grad: &mut [f32], x: &[f32]) {
    for (g, x) in grad.iter_mut().zip(x) {
        let v = *x;
        let z = 0.797_884_6 * A::fma(0.044_715 * v * v, v, v);
        let tanh = 1.0 - 2.0 / (exp::<A>(2.0 * z) + 1.0);
        let inner = 0.797_884_6 * A::fma(0.134_145 * v, v, 1.0);
        *g *= 0.5 * (1.0 + tanh) + 0.5 * v * (1.0 - tanh * tanh) * inner;
    }
}

/// The same of the function that cuts negative numbers off.
#[inline(always)]
pub(super) fn relu_slope(grad: &mut [f32], x: &[f32]) {
    for (g, x) in grad.iter_mut().zip(x) {
        *g = if *x > 0.0 { *g } else { 0.0 };
    }
}

/// [`norm`] that keeps what its gradient needs: `x` becomes the normed row, `out` that times scale plus shift. Returns
/// what the row was multiplied by.
#[inline(always)]
pub(super) fn norm_keep<A: Arith>(x: &mut [f32], out: &mut [f32], scale: &[f32], shift: &[f32], eps: f32) -> f32 {
    let (mean, by) = spread::<A>(x, eps);
    for x in x.iter_mut() {
        *x = (*x - mean) * by;
    }
    for ((out, x), scale) in out.iter_mut().zip(x.iter()).zip(scale) {
        *out = x * scale;
    }
    for (out, shift) in out.iter_mut().zip(shift) {
        *out += shift;
    }
    by
}

/// The gradient of a norm's result becomes that of what was normed; `hat` and `by` are those of [`norm_keep`].
#[inline(always)]
pub(super) fn norm_back<A: Arith>(grad: &mut [f32], hat: &[f32], scale: &[f32], by: f32) {
    let n = grad.len() as f32;
    for (g, scale) in grad.iter_mut().zip(scale) {
        *g *= scale;
    }
    let (mut sums, mut along) = ([0.0f32; UNIT], [0.0f32; UNIT]);
    let (units, rest) = grad.as_chunks::<UNIT>();
    let (hats, hat_rest) = hat.as_chunks::<UNIT>();
    for (unit, hat) in units.iter().zip(hats) {
        for i in 0..UNIT {
            sums[i] += unit[i];
            along[i] = A::fma(unit[i], hat[i], along[i]);
        }
    }
    for (i, (g, hat)) in rest.iter().zip(hat_rest).enumerate() {
        sums[i] += g;
        along[i] = A::fma(*g, *hat, along[i]);
    }
    let (mean, along) = (total(sums) / n, total(along) / n);
    for (g, hat) in grad.iter_mut().zip(hat) {
        *g = by * (*g - mean - hat * along);
    }
}

/// The gradient of weights becomes that of the scores they were made of.
#[inline(always)]
pub(super) fn softmax_back<A: Arith>(grad: &mut [f32], weights: &[f32]) {
    let mut sums = [0.0f32; UNIT];
    for (g, w) in grad.as_chunks::<UNIT>().0.iter().zip(weights.as_chunks::<UNIT>().0) {
        for i in 0..UNIT {
            sums[i] = A::fma(g[i], w[i], sums[i]);
        }
    }
    let along = total(sums);
    for (g, w) in grad.iter_mut().zip(weights) {
        *g = w * (*g - along);
    }
}

/// `left += right`.
#[inline(always)]
pub(super) fn add(left: &mut [f32], right: &[f32]) {
    for (l, r) in left.iter_mut().zip(right) {
        *l += r;
    }
}

/// A row in bytes over its own range: `x ≈ step · byte + least`. Returns (step, least).
#[inline(always)]
pub(super) fn quantize<A: Arith>(row: &[f32], to: &mut [u8]) -> (f32, f32) {
    const MAGIC: f32 = 12_582_912.0; // as in `exp`: rounds to a whole number, in the low bits
    let (units, rest) = row.as_chunks::<UNIT>();
    let (mut least, mut most) = ([f32::MAX; UNIT], [f32::MIN; UNIT]);
    for unit in units {
        for i in 0..UNIT {
            least[i] = if unit[i] < least[i] { unit[i] } else { least[i] };
            most[i] = if unit[i] > most[i] { unit[i] } else { most[i] };
        }
    }
    let least = rest.iter().chain(&least).fold(f32::MAX, |a, b| a.min(*b));
    let most = rest.iter().chain(&most).fold(f32::MIN, |a, b| a.max(*b));
    let step = (most - least) / 255.0;
    let inverse = 1.0 / step;
    // All alike (or so close that a step has no inverse): every number is the offset.
    if !(step > 0.0 && inverse < f32::MAX && step < f32::MAX) {
        to.fill(0);
        return (0.0, least);
    }
    for (to, x) in to.iter_mut().zip(row) {
        *to = A::fma(*x - least, inverse, MAGIC).to_bits() as u8;
    }
    (step, least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_good_to_two_units() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            let error = ((f64::from(exp::<Fused>(x)) - exact) / exact).abs();
            assert!(error < 2.4e-7, "{x}: {error}");
        }
    }

    #[test]
    fn gelu_is_good_to_a_millionth() {
        // erf by its series in f64, and 1 - erfc's bound beyond.
        let exact = |x: f64| -> f64 {
            let (mut sum, mut term) = (x, x);
            for n in 1..200 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        };
        for i in -800..=800 {
            let x = f64::from(i) / 160.0;
            let mut row = [x as f32];
            gelu::<Fused>(&mut row);
            let want = 0.5 * x * (1.0 + exact(x / 2f64.sqrt()));
            assert!((f64::from(row[0]) - want).abs() < 1e-6, "{x}: {} {want}", row[0]);
            let mut row = [x as f32];
            gelu_tanh::<Fused>(&mut row);
            let want = 0.5 * x * (1.0 + (0.797_884_560_8 * (x + 0.044715 * x * x * x)).tanh());
            assert!((f64::from(row[0]) - want).abs() < 1e-6, "{x}: {} {want}", row[0]);
        }
    }
}
