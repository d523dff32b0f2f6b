//! Opens the library that runs on a GPU, and calls it.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::abi::{Call, Fill, Run, SYMBOL, Said, Table, VERSION};
use super::failed;
use crate::embed::threads::signals::Blocked;
use crate::error::{Error, Result};

/// Gives a tensor by name and shape.
type Tensors<'a> = &'a dyn Fn(&str, &[usize]) -> Result<Vec<f32>>;

/// An open library.
#[derive(Clone)]
pub struct Library {
    table: &'static Table,
    /// Where it was found; empty where it is this one.
    pub path: PathBuf,
}

impl Library {
    /// Opens the library at `path`. It stays open as long as the process lives: a driver that has started threads cannot
    /// be unloaded. Threads that it starts block every signal, as those of [`threads`](crate::embed).
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

    /// The functions of a table of this process.
    pub(crate) fn of(table: &'static Table) -> Self {
        Self { table, path: PathBuf::new() }
    }

    /// Loads something of a kind onto a device, its tensors asked for one by one.
    pub(crate) fn load(
        &self,
        device: &str,
        kind: &str,
        spec: &impl serde::Serialize,
        give: Tensors<'_>,
    ) -> Result<Remote> {
        let spec = serde_json::to_vec(spec).map_err(|e| Error::Internal(e.to_string()))?;
        let mut giver = Giver { give, error: None, unwound: None };
        let (mut step, mut said) = (0, Said::nothing());
        let quiet = Blocked::new();
        // SAFETY: all pointers are to values that live until the call returns; `tensor` gets its own context back.
        let handle = unsafe {
            (self.table.load)(
                Run::of(device.as_bytes()),
                Run::of(kind.as_bytes()),
                Run::of(&spec),
                tensor,
                std::ptr::from_mut(&mut giver).cast(),
                &mut step,
                &mut said,
            )
        };
        drop(quiet);
        let remote = (!handle.is_null()).then(|| Remote {
            table: self.table,
            handle: Mutex::new(Handle(handle)),
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
unsafe extern "C" fn tensor(context: *mut c_void, name: Run<u8>, shape: Run<usize>, values: *mut f32) -> i32 {
    // SAFETY: as promised; the `Giver` is used by nobody else during the call.
    let (giver, name, shape) =
        unsafe { (&mut *context.cast::<Giver<'_>>(), String::from_utf8_lossy(name.get()), shape.get()) };
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

struct Handle(*mut c_void);

// SAFETY: what is served is `Send`, and one caller at a time has the handle.
unsafe impl Send for Handle {}

/// Something in the library's hands.
pub struct Remote {
    table: &'static Table,
    handle: Mutex<Handle>,
    /// How much of its work one call should take.
    pub(crate) step: usize,
    device: Arc<str>,
}

impl Remote {
    /// Has it do something.
    pub(crate) fn call(&self, name: &str, call: Call<'_>) -> Result<()> {
        let words: Vec<Run<u32>> = call.words.iter().map(|run| Run::of(run)).collect();
        let numbers: Vec<Run<f32>> = call.numbers.iter().map(|run| Run::of(run)).collect();
        let mut out = call.out;
        let out: Vec<Fill> = out.iter_mut().map(|run| Fill::of(run)).collect();
        let mut said = Said::nothing();
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = Blocked::new();
        // SAFETY: all runs live until the call returns, and the lock keeps other calls away.
        let code = unsafe {
            (self.table.call)(
                handle.0,
                Run::of(name.as_bytes()),
                Run::of(&words),
                Run::of(&numbers),
                Run::of(&out),
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
        let handle = self.handle.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the handle came from `load` and goes with this.
        unsafe { (self.table.close)(handle.0) };
    }
}
