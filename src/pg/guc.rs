//! Settings, all under `persona.`.

use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_sys};
use std::ffi::CString;

/// Folder of model bundles.
pub static MODEL_DIR: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// Default bundle.
pub static MODEL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"all-MiniLM-L6-v2"));
/// Bundles that the postmaster lays out.
pub static PRELOAD: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
/// Newest events of a shopper that a call reads.
pub static HISTORY_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(200);
/// Memory that refresh and training keep to, in kilobytes.
pub static MAINTENANCE_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(256 * 1024);
/// Threads for bulk embedding.
pub static THREADS: GucSetting<i32> = GucSetting::<i32>::new(1);
/// Arithmetic of the encoder.
pub static PRECISION: GucSetting<Precision> = GucSetting::<Precision>::new(Precision::Auto);
/// Where the encoder runs.
pub static DEVICE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"auto"));
/// Whether background workers keep catalogs fresh.
pub static WORKER: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Time between two counts of a catalog's statistics by a background worker, in seconds.
pub static WORKER_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(300);
/// Databases that are worked on at once.
pub static WORKER_DATABASES: GucSetting<i32> = GucSetting::<i32>::new(2);

/// Where to panic, in builds that tests make.
#[cfg(feature = "fault")]
pub static FAULT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// Values of `persona.precision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum Precision {
    /// f32 until a catalog's vectors were measured with less.
    #[name = c"auto"]
    Auto,
    /// 32-bit floats.
    #[name = c"f32"]
    F32,
    /// 8-bit integers where the CPU has fast instructions for them.
    #[name = c"int8"]
    Int8,
}

/// Registers the settings and reserves the prefix.
pub fn define() {
    GucRegistry::define_string_guc(
        c"persona.model_dir",
        c"Sets the folder that holds the model bundles.",
        c"Each folder in it is a bundle in Hugging Face layout; SQL names bundles, never paths.",
        &MODEL_DIR,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"persona.model",
        c"Sets the model bundle that is used where none is named.",
        c"A catalog keeps the bundle it was created with.",
        &MODEL,
        GucContext::Userset,
        GucFlags::default(),
    );
    // SAFETY: a plain global of the backend.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        GucRegistry::define_string_guc(
            c"persona.preload",
            c"Lists the model bundles that the postmaster lays out for all backends, separated by commas.",
            c"A bundle that cannot be loaded is a WARNING in the server's log.",
            &PRELOAD,
            GucContext::Postmaster,
            GucFlags::default(),
        );
    }
    GucRegistry::define_int_guc(
        c"persona.history_limit",
        c"Sets how many of a shopper's newest events a search reads.",
        c"200 holds all of 99 % of real histories; more costs time at each search.",
        &HISTORY_LIMIT,
        0,
        10_000,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"persona.maintenance_memory",
        c"Sets the memory that a refresh may use for statistics.",
        c"Above it, rare pairs of items are forgotten first, and a NOTICE says so.",
        &MAINTENANCE_MEMORY,
        16 * 1024,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"persona.threads",
        c"Sets how many threads embed texts in bulk.",
        c"1 runs on the backend's own thread and starts none.",
        &THREADS,
        1,
        64,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"persona.precision",
        c"Sets the arithmetic of the encoder.",
        c"auto embeds queries in int8 where the CPU multiplies bytes, and documents in f32.",
        &PRECISION,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"persona.device",
        c"Sets where models run and are trained: auto, cpu, or cuda:N.",
        c"auto embeds in bulk and trains on a GPU where there is one, and embeds single queries on the CPU.",
        &DEVICE,
        GucContext::Userset,
        GucFlags::default(),
    );
    define_worker();
    #[cfg(feature = "fault")]
    GucRegistry::define_string_guc(
        c"persona.fault",
        c"Sets where to panic: door, pass, thread, query N, preload or round.",
        c"",
        &FAULT,
        GucContext::Suset,
        GucFlags::default(),
    );
    // SAFETY: called once, after the settings above exist; the string is static.
    #[cfg(not(feature = "pg14"))]
    unsafe {
        pg_sys::MarkGUCPrefixReserved(c"persona".as_ptr())
    };
}

/// Those of the background workers.
fn define_worker() {
    GucRegistry::define_bool_guc(
        c"persona.worker",
        c"Keeps catalogs fresh in the background, where the library is preloaded.",
        c"In each database that has the extension; the option worker of a catalog leaves it out.",
        &WORKER,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"persona.worker_interval",
        c"Sets how long a background worker waits between two counts of a catalog's statistics.",
        c"It waits longer where counting takes more than a tenth of that; vectors of changed items wait for nothing.",
        &WORKER_INTERVAL,
        1,
        7 * 86_400,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"persona.worker_databases",
        c"Sets how many databases background workers are at once in.",
        c"Each takes one of max_worker_processes while there is work; others wait for their turn.",
        &WORKER_DATABASES,
        1,
        64,
        GucContext::Sighup,
        GucFlags::default(),
    );
}

/// A string setting as Rust text; empty counts as unset.
pub fn text(setting: &GucSetting<Option<CString>>) -> Option<String> {
    setting.get().and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty())
}
