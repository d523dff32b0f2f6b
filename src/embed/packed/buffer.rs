//! Numbers on cache-line boundaries.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Types of which any bit pattern, all zeros too, is a value.
pub(crate) trait Plain: Copy + Send + Sync + 'static {}
impl Plain for f32 {}
impl Plain for i32 {}
impl Plain for i8 {}
impl Plain for u8 {}

/// A heap slice that starts on a cache line, so that a kernel's loads never straddle two. Large ones start on a huge
/// page and ask for such pages: the weights are read from end to end for every query, and would otherwise miss the
/// address cache every 4 kB.
pub(crate) struct Buffer<T: Plain> {
    start: NonNull<T>,
    len: usize,
    owns: PhantomData<T>,
}

// SAFETY: it owns its memory like a Vec, and T is plain data.
unsafe impl<T: Plain> Send for Buffer<T> {}
// SAFETY: as above; there is no interior mutability.
unsafe impl<T: Plain> Sync for Buffer<T> {}

const LINE: usize = 64;
const HUGE: usize = 2 << 20;

impl<T: Plain> Buffer<T> {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let Some(layout) = Self::layout(len) else {
            return Self { start: NonNull::dangling(), len: 0, owns: PhantomData };
        };
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start.cast::<T>()) else { handle_alloc_error(layout) };
        #[cfg(target_os = "linux")]
        if layout.size() >= HUGE {
            // SAFETY: whole pages of our own; the advice may be refused, which costs only speed.
            unsafe {
                libc::madvise(start.as_ptr().cast(), layout.size() / HUGE * HUGE, libc::MADV_HUGEPAGE);
            }
        }
        Self { start, len, owns: PhantomData }
    }

    fn layout(len: usize) -> Option<Layout> {
        let size = len.checked_mul(size_of::<T>()).filter(|size| *size > 0)?;
        Layout::from_size_align(size, if size >= HUGE { HUGE } else { LINE }).ok()
    }

    /// A copy of `values`, then zeros up to `len`.
    pub(crate) fn padded(values: &[T], len: usize) -> Self {
        let mut buffer = Self::zeros(len.max(values.len()));
        buffer[..values.len()].copy_from_slice(values);
        buffer
    }

    /// Makes room for `len` numbers. What was there is lost when it grows, and is zero then.
    pub(crate) fn room(&mut self, len: usize) {
        if self.len < len {
            *self = Self::zeros(len);
        }
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<T: Plain> Default for Buffer<T> {
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` numbers from `start` are ours and initialised.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.len) {
            // SAFETY: allocated with this very layout.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) }
        }
    }
}
