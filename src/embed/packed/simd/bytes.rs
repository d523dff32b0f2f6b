//! Tiles of whole numbers: unsigned bytes times signed bytes, four products to each 32-bit sum.
//!
//! The sums are exact on every instruction set (255 · 127 · 4 · depth stays far below 2^31), and the step back to floats
//! is the same few operations everywhere, so all tables with fused multiply-add make the same bits.

/// Where a byte tile reads and writes. Strides are in numbers.
#[derive(Clone, Copy)]
pub(crate) struct ByteTile {
    /// Rows of A and C, at most the table's `rows`.
    pub(crate) rows: usize,
    /// Units of 16 columns of B and C, 1 to 4.
    pub(crate) units: usize,
    /// Columns of A and rows of B in fours.
    pub(crate) quads: usize,
    pub(crate) a: *const u8,
    pub(crate) a_stride: usize,
    /// Four rows at a time, column by column: `[quads][columns][4]`.
    pub(crate) b: *const i8,
    /// Bytes between two quads of B.
    pub(crate) b_stride: usize,
    /// Where the next panel of B begins, and the bytes of it to fetch for each quad, as in `Tile`.
    pub(crate) next: *const i8,
    pub(crate) next_step: usize,
    /// For each row of A: what a step of its numbers is worth, and what zero stands for.
    pub(crate) step: *const f32,
    pub(crate) zero: *const f32,
    /// For each column of B: what a step is worth, and that times the sum of its numbers.
    pub(crate) scale: *const f32,
    pub(crate) sum: *const f32,
    /// What the result is added to: a bias (stride 0), or the result so far.
    pub(crate) start: *const f32,
    pub(crate) start_stride: usize,
    pub(crate) c: *mut f32,
    pub(crate) c_stride: usize,
}

/// One vector register of 32-bit sums.
pub(super) trait Sums: Copy {
    /// Sums in a register; divides 16.
    const WIDTH: usize;
    /// # Safety
    /// The CPU has the instruction set; pointers are good for a register, `splat`'s for four bytes. This holds for every
    /// function here.
    unsafe fn zeros() -> Self;
    /// The four bytes, for each sum.
    unsafe fn splat(from: *const u8) -> Self;
    /// Four bytes for each sum.
    unsafe fn load(from: *const i8) -> Self;
    /// `self + a · b`, a unsigned, b signed.
    unsafe fn dot(self, a: Self, b: Self) -> Self;
    /// Asks for the line at `at`, which need not exist.
    unsafe fn ahead(at: *const u8);
    /// `self · step · scale + zero · sum + start`, stored; `at` is the first column.
    unsafe fn finish(self, t: &ByteTile, row: usize, at: usize);
}

/// A tile of exactly `M` rows and `V` registers of columns.
///
/// # Safety
/// The pointers of `t` are good for `M` rows of `quads` fours, `V` registers of columns.
#[inline(always)]
pub(super) unsafe fn tile<S: Sums, const M: usize, const V: usize>(t: &ByteTile) {
    // SAFETY: every access stays within what the caller vouches for.
    unsafe {
        let mut acc = [[S::zeros(); V]; M];
        let (mut a, mut b, mut next) = (t.a, t.b, t.next.cast::<u8>());
        for _ in 0..t.quads {
            let mut columns = [S::zeros(); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = S::load(b.add(v * S::WIDTH * 4));
                S::ahead(next.wrapping_add(v * t.next_step / V));
            }
            next = next.wrapping_add(t.next_step);
            for (m, row) in acc.iter_mut().enumerate() {
                let x = S::splat(a.add(m * t.a_stride));
                for (sum, column) in row.iter_mut().zip(columns) {
                    *sum = sum.dot(x, column);
                }
            }
            a = a.add(4);
            b = b.add(t.b_stride);
        }
        for (m, row) in acc.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                sum.finish(t, m, v * S::WIDTH);
            }
        }
    }
}

/// The oracle: plain arrays.
#[derive(Clone, Copy)]
pub(super) struct Plain([i32; 8]);

impl Sums for Plain {
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn zeros() -> Self {
        Self([0; 8])
    }

    #[inline(always)]
    unsafe fn splat(from: *const u8) -> Self {
        // SAFETY: four bytes.
        Self([i32::from_le_bytes(unsafe { from.cast::<[u8; 4]>().read_unaligned() }); 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const i8) -> Self {
        // SAFETY: 32 bytes.
        let bytes = unsafe { from.cast::<[[u8; 4]; 8]>().read_unaligned() };
        Self(bytes.map(i32::from_le_bytes))
    }

    #[inline(always)]
    unsafe fn dot(mut self, a: Self, b: Self) -> Self {
        for i in 0..8 {
            let (a, b) = (a.0[i].to_le_bytes(), b.0[i].to_le_bytes());
            for j in 0..4 {
                self.0[i] += i32::from(a[j]) * i32::from(b[j] as i8);
            }
        }
        self
    }

    #[inline(always)]
    unsafe fn ahead(_: *const u8) {}

    #[inline(always)]
    unsafe fn finish(self, t: &ByteTile, row: usize, at: usize) {
        // SAFETY: columns `at..at + 8` of row `row` are the caller's.
        unsafe {
            let (step, zero) = (*t.step.add(row), *t.zero.add(row));
            for i in 0..8 {
                let start = super::map::fma(zero, *t.sum.add(at + i), *t.start.add(row * t.start_stride + at + i));
                let y = super::map::fma(self.0[i] as f32 * step, *t.scale.add(at + i), start);
                *t.c.add(row * t.c_stride + at + i) = y;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{ByteTile, Sums};
    use std::arch::x86_64::*;

    /// AVX-512 with its dot products of bytes.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Vnni512(__m512i);

    // SAFETY of all below: intrinsics under the trait's contract.
    impl Sums for Vnni512 {
        const WIDTH: usize = 16;

        #[inline(always)]
        unsafe fn zeros() -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_setzero_si512() })
        }

        #[inline(always)]
        unsafe fn splat(from: *const u8) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) })
        }

        #[inline(always)]
        unsafe fn load(from: *const i8) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_loadu_si512(from.cast()) })
        }

        #[inline(always)]
        unsafe fn dot(self, a: Self, b: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_dpbusd_epi32(self.0, a.0, b.0) })
        }

        #[inline(always)]
        unsafe fn ahead(at: *const u8) {
            // SAFETY: a prefetch never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        }

        #[inline(always)]
        unsafe fn finish(self, t: &ByteTile, row: usize, at: usize) {
            // SAFETY: see above.
            unsafe {
                let zero = _mm512_set1_ps(*t.zero.add(row));
                let start = _mm512_loadu_ps(t.start.add(row * t.start_stride + at));
                let start = _mm512_fmadd_ps(zero, _mm512_loadu_ps(t.sum.add(at)), start);
                let y = _mm512_mul_ps(_mm512_cvtepi32_ps(self.0), _mm512_set1_ps(*t.step.add(row)));
                let y = _mm512_fmadd_ps(y, _mm512_loadu_ps(t.scale.add(at)), start);
                _mm512_storeu_ps(t.c.add(row * t.c_stride + at), y);
            }
        }
    }

    /// The part of `finish` that the two 256-bit kinds share.
    #[inline(always)]
    unsafe fn finish(sums: __m256i, t: &ByteTile, row: usize, at: usize) {
        // SAFETY: see above.
        unsafe {
            let zero = _mm256_set1_ps(*t.zero.add(row));
            let start = _mm256_loadu_ps(t.start.add(row * t.start_stride + at));
            let start = _mm256_fmadd_ps(zero, _mm256_loadu_ps(t.sum.add(at)), start);
            let y = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(*t.step.add(row)));
            let y = _mm256_fmadd_ps(y, _mm256_loadu_ps(t.scale.add(at)), start);
            _mm256_storeu_ps(t.c.add(row * t.c_stride + at), y);
        }
    }

    /// AVX-VNNI: the same instruction on half the width, on CPUs without AVX-512.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Vnni256(__m256i);

    impl Sums for Vnni256 {
        const WIDTH: usize = 8;

        #[inline(always)]
        unsafe fn zeros() -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_setzero_si256() })
        }

        #[inline(always)]
        unsafe fn splat(from: *const u8) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) })
        }

        #[inline(always)]
        unsafe fn load(from: *const i8) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_loadu_si256(from.cast()) })
        }

        #[inline(always)]
        unsafe fn dot(self, a: Self, b: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_dpbusd_avx_epi32(self.0, a.0, b.0) })
        }

        #[inline(always)]
        unsafe fn ahead(at: *const u8) {
            // SAFETY: a prefetch never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        }

        #[inline(always)]
        unsafe fn finish(self, t: &ByteTile, row: usize, at: usize) {
            // SAFETY: see above.
            unsafe { finish(self.0, t, row, at) }
        }
    }

    /// AVX2: `vpmaddubsw` adds two products in 16 bits and saturates. With every second byte of A masked out there is
    /// one product to a sum, at most 255 · 127, which fits.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256i);

    impl Sums for Avx2 {
        const WIDTH: usize = 8;

        #[inline(always)]
        unsafe fn zeros() -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_setzero_si256() })
        }

        #[inline(always)]
        unsafe fn splat(from: *const u8) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) })
        }

        #[inline(always)]
        unsafe fn load(from: *const i8) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_loadu_si256(from.cast()) })
        }

        #[inline(always)]
        unsafe fn dot(self, a: Self, b: Self) -> Self {
            // SAFETY: see above.
            unsafe {
                let even = _mm256_set1_epi16(0x00ff);
                let ones = _mm256_set1_epi16(1);
                let low = _mm256_maddubs_epi16(_mm256_and_si256(a.0, even), b.0);
                let high = _mm256_maddubs_epi16(_mm256_andnot_si256(even, a.0), b.0);
                let both = _mm256_add_epi32(_mm256_madd_epi16(low, ones), _mm256_madd_epi16(high, ones));
                Self(_mm256_add_epi32(self.0, both))
            }
        }

        #[inline(always)]
        unsafe fn ahead(at: *const u8) {
            // SAFETY: a prefetch never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        }

        #[inline(always)]
        unsafe fn finish(self, t: &ByteTile, row: usize, at: usize) {
            // SAFETY: see above.
            unsafe { finish(self.0, t, row, at) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Vnni256, Vnni512};
