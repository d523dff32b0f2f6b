//! `C = start + A · B` for a few rows of A and at most four units of columns, all of C in registers.

/// Where a tile reads and writes. Strides are in numbers.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Rows of A and C, at most the table's `rows`.
    pub(crate) rows: usize,
    /// Units of 16 columns of B and C, 1 to 4.
    pub(crate) units: usize,
    /// Columns of A, rows of B.
    pub(crate) depth: usize,
    pub(crate) a: *const f32,
    pub(crate) a_stride: usize,
    pub(crate) b: *const f32,
    pub(crate) b_stride: usize,
    /// Where the next panel of B begins, to be fetched meanwhile, and the bytes of it to fetch for each row of B.
    pub(crate) next: *const f32,
    pub(crate) next_step: usize,
    /// What each row of C starts from (a bias), or null for zero.
    pub(crate) start: *const f32,
    pub(crate) c: *mut f32,
    pub(crate) c_stride: usize,
}

/// One vector register of floats.
pub(super) trait Lanes: Copy {
    /// Numbers in a register; divides 16.
    const WIDTH: usize;
    /// # Safety
    /// The CPU has the instruction set; pointers are good for `WIDTH` numbers. This holds for every function here.
    unsafe fn zero() -> Self;
    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self;
    /// Unaligned load.
    unsafe fn load(from: *const f32) -> Self;
    /// Unaligned store.
    unsafe fn store(self, to: *mut f32);
    /// `self * b + c`.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// Asks for the line at `at`, which need not exist.
    unsafe fn ahead(at: *const u8);
}

/// A tile of exactly `M` rows and `V` registers of columns.
///
/// # Safety
/// `t.a` is good for `M` rows of `depth`, `t.b` for `depth` rows and `t.c` for `M` rows of `V` registers, `t.start` for
/// one such row or null; nothing else writes there.
#[inline(always)]
pub(super) unsafe fn tile<L: Lanes, const M: usize, const V: usize>(t: &Tile) {
    // SAFETY: every access stays within what the caller vouches for.
    unsafe {
        let mut acc = [[L::zero(); V]; M];
        if !t.start.is_null() {
            for v in 0..V {
                let start = L::load(t.start.add(v * L::WIDTH));
                for row in &mut acc {
                    row[v] = start;
                }
            }
        }
        let (mut a, mut b, mut next) = (t.a, t.b, t.next.cast::<u8>());
        for _ in 0..t.depth {
            let mut columns = [L::zero(); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = L::load(b.add(v * L::WIDTH));
                // Weights come from memory once for a whole batch of rows. Each tile fetches its share of the next panel
                // while it computes on this one, since the hardware's prefetcher stops at each page and at each tile.
                L::ahead(next.wrapping_add(v * t.next_step / V));
            }
            next = next.wrapping_add(t.next_step);
            for (m, row) in acc.iter_mut().enumerate() {
                let x = L::splat(*a.add(m * t.a_stride));
                for (sum, column) in row.iter_mut().zip(columns) {
                    *sum = x.fma(column, *sum);
                }
            }
            a = a.add(1);
            b = b.add(t.b_stride);
        }
        for (m, row) in acc.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                sum.store(t.c.add(m * t.c_stride + v * L::WIDTH));
            }
        }
    }
}

/// Registers that hold plain arrays: what the compiler makes of them is up to it.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 8]);

impl Lanes for Plain {
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 8])
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for 8 numbers.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for 8 numbers.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, mut c: Self) -> Self {
        for i in 0..8 {
            c.0[i] = super::map::fma(self.0[i], b.0[i], c.0[i]);
        }
        c
    }

    #[inline(always)]
    unsafe fn ahead(_: *const u8) {}
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    // SAFETY of all below: one intrinsic each, under the trait's contract.
    impl Lanes for Avx512 {
        const WIDTH: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_setzero_ps() })
        }

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_set1_ps(x) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see above.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn fma(self, b: Self, c: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }

        #[inline(always)]
        unsafe fn ahead(at: *const u8) {
            // SAFETY: a prefetch never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
    }

    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256);

    impl Lanes for Avx2 {
        const WIDTH: usize = 8;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_setzero_ps() })
        }

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_set1_ps(x) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see above.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn fma(self, b: Self, c: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
        }

        #[inline(always)]
        unsafe fn ahead(at: *const u8) {
            // SAFETY: a prefetch never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};
