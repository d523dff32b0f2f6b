//! The C functions between the extension and the library that runs on a GPU.
//!
//! Both sides are this crate, built twice, so the table is versioned and otherwise plain: pointers, lengths, and a text for
//! what went wrong. Something is loaded by its kind and a specification in JSON, asks for its tensors, and is then called
//! by the names of what it does, with runs of numbers to read and to fill. No panic and no unwinding crosses; an interrupt
//! that unwinds in a callback is held back until the call has returned.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Raised with every change of this file, or of what a kind of [`Served`] expects.
pub const VERSION: u32 = 2;
/// The name of the one function that the library exports.
pub const SYMBOL: &std::ffi::CStr = c"pg_persona_device";

/// Asks for a tensor by name and shape.
pub type Ask<'a> = &'a dyn Fn(&str, &[usize]) -> Result<Vec<f32>, String>;

/// What the library holds for a caller.
pub trait Served: Send {
    /// How much of its work one call should take: what runs on a device cannot be interrupted.
    fn step(&self) -> usize;

    /// Does something.
    fn call(&mut self, name: &str, call: &mut Call<'_>) -> Result<(), String>;
}

/// What a call reads and fills.
#[derive(Default)]
pub struct Call<'a> {
    /// Runs of whole numbers.
    pub words: Vec<&'a [u32]>,
    /// Runs of numbers.
    pub numbers: Vec<&'a [f32]>,
    /// What is filled.
    pub out: Vec<&'a mut [f32]>,
}

impl<'a> Call<'a> {
    /// Its runs of whole numbers, `N` of them.
    pub fn words<const N: usize>(&self) -> Result<[&'a [u32]; N], String> {
        self.words.as_slice().try_into().map_err(|_| format!("{} runs of words, {N} wanted", self.words.len()))
    }

    /// Its runs of numbers, `N` of them.
    pub fn numbers<const N: usize>(&self) -> Result<[&'a [f32]; N], String> {
        self.numbers.as_slice().try_into().map_err(|_| format!("{} runs of numbers, {N} wanted", self.numbers.len()))
    }

    /// Fills the first run, or the `n`-th.
    pub fn fill(&mut self, n: usize, values: &[f32]) -> Result<(), String> {
        let out = self.out.get_mut(n).ok_or("a run to fill is missing")?;
        if out.len() != values.len() {
            return Err(format!("{} numbers for a run of {}", values.len(), out.len()));
        }
        out.copy_from_slice(values);
        Ok(())
    }
}

/// Makes what the library serves: `(device, kind, specification, tensors)`.
pub trait Make {
    /// One of a kind, on a device.
    fn make(device: &str, kind: &str, spec: &[u8], ask: Ask<'_>) -> Result<Box<dyn Served>, String>;
}

/// A text that the callee fills: what went wrong.
#[repr(C)]
pub struct Said {
    len: usize,
    text: [u8; 512],
}

impl Said {
    pub(super) fn nothing() -> Self {
        Self { len: 0, text: [0; 512] }
    }

    fn say(&mut self, what: &str) {
        let cut = what.floor_char_boundary(self.text.len());
        self.text[..cut].copy_from_slice(&what.as_bytes()[..cut]);
        self.len = cut;
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.text[..self.len.min(self.text.len())]).into_owned()
    }
}

/// Bytes, `u32` or `f32` that the callee reads.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Run<T> {
    at: *const T,
    len: usize,
}

impl<T> Run<T> {
    pub(super) fn of(values: &[T]) -> Self {
        Self { at: values.as_ptr(), len: values.len() }
    }

    /// # Safety
    /// The caller's values live as long as the call.
    pub(super) unsafe fn get<'a>(self) -> &'a [T] {
        // SAFETY: as promised.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }
}

/// Numbers that the callee fills.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Fill {
    at: *mut f32,
    len: usize,
}

impl Fill {
    pub(super) fn of(values: &mut [f32]) -> Self {
        Self { at: values.as_mut_ptr(), len: values.len() }
    }
}

/// Asks the extension for a tensor: fills `values` (as many as `shape` says) and returns 0, or returns anything else.
pub type Give = unsafe extern "C" fn(context: *mut c_void, name: Run<u8>, shape: Run<usize>, values: *mut f32) -> i32;

/// Everything that can be asked of the library.
#[repr(C)]
pub struct Table {
    /// Loads something of a kind, its specification in JSON, onto `device`. Returns null and says why, or a handle. Fills
    /// in how much of its work one call should take.
    pub(super) load: unsafe extern "C" fn(
        device: Run<u8>,
        kind: Run<u8>,
        spec: Run<u8>,
        give: Give,
        context: *mut c_void,
        step: *mut usize,
        said: *mut Said,
    ) -> *mut c_void,
    /// Has it do something. Returns 0, or says why not.
    pub(super) call: unsafe extern "C" fn(
        handle: *mut c_void,
        name: Run<u8>,
        words: Run<Run<u32>>,
        numbers: Run<Run<f32>>,
        out: Run<Fill>,
        said: *mut Said,
    ) -> i32,
    /// Frees it.
    pub(super) close: unsafe extern "C" fn(handle: *mut c_void),
}

impl Table {
    /// The table of a maker.
    pub const fn of<M: Make>() -> Table {
        Table { load: load::<M>, call, close }
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|e| e.to_string())
}

/// # Safety
/// Pointers and lengths are those of the caller's live values; `said` and `step` may be written.
unsafe extern "C" fn load<M: Make>(
    device: Run<u8>,
    kind: Run<u8>,
    spec: Run<u8>,
    give: Give,
    context: *mut c_void,
    step: *mut usize,
    said: *mut Said,
) -> *mut c_void {
    let made = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the caller's bytes.
        let (device, kind, spec) = unsafe { (text(device.get())?, text(kind.get())?, spec.get()) };
        let ask = |name: &str, shape: &[usize]| -> Result<Vec<f32>, String> {
            let mut values = vec![0.0; shape.iter().product()];
            // SAFETY: the callback fills what the shape says, and does not unwind.
            let got = unsafe { give(context, Run::of(name.as_bytes()), Run::of(shape), values.as_mut_ptr()) };
            if got == 0 { Ok(values) } else { Err(format!("the weights end at \"{name}\"")) }
        };
        M::make(device, kind, spec, &ask)
    }));
    let reason = match made {
        Ok(Ok(served)) => {
            // SAFETY: the caller's number.
            unsafe { *step = served.step() };
            return Box::into_raw(Box::new(served)).cast();
        }
        Ok(Err(reason)) => reason,
        Err(_) => "it failed while loading".to_owned(),
    };
    // SAFETY: the caller's text.
    unsafe { (*said).say(&reason) };
    std::ptr::null_mut()
}

/// # Safety
/// `handle` came from `load` and is used by this call alone; the runs are the caller's live values, those to fill apart from
/// each other.
unsafe extern "C" fn call(
    handle: *mut c_void,
    name: Run<u8>,
    words: Run<Run<u32>>,
    numbers: Run<Run<f32>>,
    out: Run<Fill>,
    said: *mut Said,
) -> i32 {
    let done = catch_unwind(AssertUnwindSafe(|| -> Result<(), String> {
        // SAFETY: as the caller promises.
        unsafe {
            let mut call = Call {
                words: words.get().iter().map(|run| run.get()).collect(),
                numbers: numbers.get().iter().map(|run| run.get()).collect(),
                out: out.get().iter().map(|run| std::slice::from_raw_parts_mut(run.at, run.len)).collect(),
            };
            (*handle.cast::<Box<dyn Served>>()).call(text(name.get())?, &mut call)
        }
    }));
    let reason = match done {
        Ok(Ok(())) => return 0,
        Ok(Err(reason)) => reason,
        Err(_) => "it failed while running".to_owned(),
    };
    // SAFETY: the caller's text.
    unsafe { (*said).say(&reason) };
    1
}

/// # Safety
/// `handle` came from `load` and is not used again.
unsafe extern "C" fn close(handle: *mut c_void) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: as the caller promises.
        drop(unsafe { Box::from_raw(handle.cast::<Box<dyn Served>>()) });
    }));
}
