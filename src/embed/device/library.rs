//! Opens the library that runs on a GPU, and calls it.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::abi::{SYMBOL, Said, TABLE, Table, VERSION};
use super::failed;
use crate::embed::network::Network;
use crate::embed::threads::signals::Blocked;
use crate::error::{Error, Result};

/// Gives a tensor by name and shape.
type Tensors<'a> = &'a dyn Fn(&str, &[usize]) -> Result<Vec<f32>>;

/// An open library, or this one.
#[derive(Clone)]
pub struct Library {
    table: &'static Table,
    /// Where it was found; empty for this one.
    pub path: PathBuf,
}

impl Library {
    /// Opens the library at `path`. It stays open as long as the process lives: a driver that has started threads cannot
    /// be unloaded. Threads that it starts block every signal, as those of [`threads`](crate::embed::threads).
    pub fn open(path: &Path) -> Result<Self> {
        let wrong = |reason: String| failed("cuda", format!("{}: {reason}", path.display()));
        if !path.exists() {
            return Err(wrong("there is no such file".to_owned()));
        }
        let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(|e| wrong(e.to_string()))?;
        let _quiet = Blocked::new();
        // SAFETY: the path is the installation's own library folder's; what loads from there is as trusted as this.
        let entry = unsafe {
            let handle = libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            if handle.is_null() {
                return Err(wrong(last_error()));
            }
            libc::dlsym(handle, SYMBOL.as_ptr())
        };
        if entry.is_null() {
            return Err(wrong("it is another library".to_owned()));
        }
        // SAFETY: the symbol is this crate's `pg_persona_device`.
        let entry: extern "C" fn(u32) -> *const Table = unsafe { std::mem::transmute(entry) };
        // SAFETY: a table of this version, which lives as long as the library, which is never closed.
        let table = unsafe { entry(VERSION).as_ref() };
        let table = table.ok_or_else(|| wrong("it is of another version than the extension".to_owned()))?;
        Ok(Self { table, path: path.to_owned() })
    }

    /// The same functions without a second library, on candle's CPU device: the stand-in that tests run.
    pub fn own() -> Self {
        Self { table: &TABLE, path: PathBuf::new() }
    }

    /// Loads a network onto a device, its tensors asked for one by one.
    pub(super) fn load(&self, device: &str, network: &Network, give: Tensors<'_>) -> Result<Remote> {
        let shape = serde_json::to_vec(network).map_err(|e| Error::Internal(e.to_string()))?;
        let mut giver = Giver { give, error: None, unwound: None };
        let (mut step, mut said) = (0, Said::nothing());
        let quiet = Blocked::new();
        // SAFETY: all pointers are to values that live until the call returns; `tensor` gets its own context back.
        let handle = unsafe {
            (self.table.load)(
                device.as_ptr(),
                device.len(),
                shape.as_ptr(),
                shape.len(),
                tensor,
                std::ptr::from_mut(&mut giver).cast(),
                &mut step,
                &mut said,
            )
        };
        drop(quiet);
        let remote = (!handle.is_null()).then(|| Remote {
            table: self.table,
            handle,
            step: step.max(1),
            device: Arc::from(device),
        });
        if let Some(payload) = giver.unwound {
            resume_unwind(payload);
        }
        if let Some(error) = giver.error {
            return Err(error);
        }
        remote.ok_or_else(|| failed(device, said.text()))
    }
}

fn last_error() -> String {
    // SAFETY: the text is copied at once.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            "it cannot be loaded".to_owned()
        } else {
            std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}

/// Whom the callback serves, and what became of it.
struct Giver<'a> {
    give: Tensors<'a>,
    error: Option<Error>,
    unwound: Option<Box<dyn std::any::Any + Send>>,
}

/// # Safety
/// `context` is a `Giver`, the name and the shape are the callee's, `values` has as many numbers as the shape says.
unsafe extern "C" fn tensor(
    context: *mut c_void,
    name: *const u8,
    name_len: usize,
    shape: *const usize,
    rank: usize,
    values: *mut f32,
) -> i32 {
    // SAFETY: as promised; the `Giver` is used by nobody else during the call.
    let (giver, name, shape) = unsafe {
        (
            &mut *context.cast::<Giver<'_>>(),
            String::from_utf8_lossy(std::slice::from_raw_parts(name, name_len)),
            std::slice::from_raw_parts(shape, rank),
        )
    };
    // An interrupt of the server unwinds out of `give`, and must not unwind through the library.
    match catch_unwind(AssertUnwindSafe(|| (giver.give)(&name, shape))) {
        Ok(Ok(found)) => {
            let count: usize = shape.iter().product();
            let count = count.min(found.len());
            // SAFETY: as promised.
            unsafe { std::ptr::copy_nonoverlapping(found.as_ptr(), values, count) };
            0
        }
        Ok(Err(error)) => {
            giver.error = Some(error);
            1
        }
        Err(payload) => {
            giver.unwound = Some(payload);
            1
        }
    }
}

/// A network in the library's hands.
pub(in crate::embed) struct Remote {
    table: &'static Table,
    handle: *mut c_void,
    pub(super) step: usize,
    device: Arc<str>,
}

// SAFETY: the handle is a candle network, which is never written after loading.
unsafe impl Send for Remote {}
// SAFETY: as above.
unsafe impl Sync for Remote {}

impl Remote {
    pub(super) fn forward(&self, ids: &[u32], types: &[u32], ends: &[u32], out: &mut [f32]) -> Result<()> {
        let fits = ends.last().copied().unwrap_or(0) as usize;
        if ids.len() != fits || types.len() != fits {
            return Err(Error::Internal(format!("{} tokens and {} types, {fits} wanted", ids.len(), types.len())));
        }
        let mut said = Said::nothing();
        let quiet = Blocked::new();
        // SAFETY: lengths are checked above and by the callee.
        let code = unsafe {
            (self.table.forward)(
                self.handle,
                ids.as_ptr(),
                types.as_ptr(),
                ends.as_ptr(),
                ends.len(),
                out.as_mut_ptr(),
                out.len(),
                &mut said,
            )
        };
        drop(quiet);
        if code == 0 { Ok(()) } else { Err(failed(&self.device, said.text())) }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _quiet = Blocked::new();
        // SAFETY: the handle came from `load` and goes with this.
        unsafe { (self.table.close)(self.handle) };
    }
}
