//! `persona.device`: what runs on a GPU, through the library that `make gpu` builds.
//!
//! CUDA is touched in a backend and never in the postmaster: a CUDA context does not survive fork. What a backend holds on
//! a card goes when its process ends, however it ends: the driver sees to that.
//!
//! Under `auto` a card takes what is embedded in bulk, and training. A single query stays on the CPU, where it takes a few milliseconds:
//! a context for each of a hundred idle connections would fill the card. `auto` speaks only where a GPU was to be
//! expected, that is where there is a driver or the library; a machine with neither hears nothing.

use super::guc;
use crate::device::Library;
use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::cell::{OnceCell, RefCell};
use std::path::PathBuf;

/// The setting's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// A GPU for bulk work where there is one.
    Auto,
    /// The CPU.
    Cpu,
    /// `cuda:N`, for everything.
    Cuda(String),
}

/// What `auto` means where no number is said.
pub const FIRST: &str = "cuda:0";
/// The file beside the extension's own.
const FILE: &str = "pg_persona_cuda.so";
/// What is there where a driver is: NVIDIA's own, and Windows' under WSL.
const DRIVERS: [&str; 3] = ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"];

thread_local! {
    static LIBRARY: OnceCell<Result<Library>> = const { OnceCell::new() };
    /// Why `auto` has given up in this backend.
    static GIVEN_UP: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What the setting says.
pub fn setting() -> Result<Device> {
    match guc::text(&guc::DEVICE).as_deref() {
        None | Some("auto") => Ok(Device::Auto),
        Some("cpu") => Ok(Device::Cpu),
        Some(name) if name.strip_prefix("cuda:").is_some_and(|n| n.parse::<u16>().is_ok()) => {
            Ok(Device::Cuda(name.to_owned()))
        }
        Some(other) => Err(Error::InvalidValue {
            place: "setting".into(),
            key: "persona.device".into(),
            reason: format!("it is \"{other}\"; known are auto, cpu, cuda:0, cuda:1, ..."),
        }),
    }
}

/// Where the library would lie.
fn path() -> PathBuf {
    // SAFETY: a string of the process's own, filled before any library loads.
    let folder = unsafe { std::ffi::CStr::from_ptr((&raw const pg_sys::pkglib_path).cast()) };
    PathBuf::from(folder.to_string_lossy().into_owned()).join(FILE)
}

/// The library, opened at the first call of this backend.
pub fn library() -> Result<Library> {
    LIBRARY.with(|library| library.get_or_init(|| Library::open(&path())).clone())
}

/// Whether `auto` should try a GPU: it has not failed here, and there is some sign of one.
pub fn worth_trying() -> bool {
    let driver = || DRIVERS.iter().any(|file| std::path::Path::new(file).exists());
    GIVEN_UP.with_borrow(Option::is_none) && (path().exists() || driver())
}

/// Does something on what training runs on, if not the CPU: the library, and the device's name. Under `auto` that is a GPU
/// where there is one, and what fails there (`lenient`) is done anew on the CPU.
pub fn train<T>(mut work: impl FnMut(Option<(Library, String)>, bool) -> Result<T>) -> Result<T> {
    let lost = match setting()? {
        Device::Cpu => return work(None, false),
        Device::Cuda(name) => return work(Some((library()?, name)), false),
        Device::Auto if !worth_trying() => return work(None, false),
        Device::Auto => match library().and_then(|library| work(Some((library, FIRST.to_owned())), true)) {
            Err(error @ Error::Device { .. }) => error,
            other => return other,
        },
    };
    give_up(&lost);
    work(None, false)
}

/// `auto` goes on with the CPU, in this backend, and says so once.
pub fn give_up(error: &Error) {
    let reason = error.to_string();
    pgrx::notice!("work goes on with the CPU: {reason}");
    GIVEN_UP.replace(Some(reason));
}
