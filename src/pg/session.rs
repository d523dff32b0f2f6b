//! Models in this backend: loaded on first use, kept, or inherited from the postmaster.

use super::device::{self, Device};
use super::error::fault_point;
use super::interrupt::Backend;
use super::{adapter, guc, query_cache};
use crate::control::{Control, Free};
use crate::embed::{Cache, Encoder, Listed, Precision, Reranker, Role, Scratch, bundles};
use crate::error::{Error, Result};
use crate::fault::Place;
use crate::tune::{CrossEncoder, Task};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A loaded encoder: the postmaster's, or this backend's own.
#[derive(Clone)]
struct Loaded {
    folder: PathBuf,
    encoder: Arc<Encoder>,
    inherited: bool,
}

struct Session {
    loaded: Vec<Loaded>,
    scratch: Scratch,
    queries: Cache,
    rerankers: Vec<Kept>,
}

/// A cross-encoder bundle that this backend has loaded.
struct Kept {
    folder: PathBuf,
    bundle: String,
    precision: Precision,
    reranker: Arc<Reranker>,
}

thread_local! {
    // The postmaster's only thread is every backend's main thread after fork, so what `preload` leaves here is what a
    // backend finds, in pages shared copy-on-write.
    static SESSION: RefCell<Session> = RefCell::new(Session {
        loaded: Vec::new(),
        scratch: Scratch::default(),
        queries: Cache::new(QUERIES_KEPT),
        rerankers: Vec::new(),
    });
}

/// Bundles that one backend keeps of its own, beyond the preloaded ones.
const OWN_BUNDLES: usize = 4;
/// Texts in one call that are worth a GPU under `auto`.
const BULK: usize = 16;
/// Query vectors that a backend keeps: some 2 MB.
const QUERIES_KEPT: usize = 1024;

fn model_dir() -> Result<PathBuf> {
    guc::text(&guc::MODEL_DIR).map(PathBuf::from).ok_or_else(|| Error::InvalidValue {
        place: "setting".into(),
        key: "persona.model_dir".into(),
        reason: "it is not set; a superuser sets it to the folder that holds the model bundles".into(),
    })
}

/// The folder of the bundles.
pub fn folder() -> Result<PathBuf> {
    model_dir()
}

/// The bundle that is meant where none is named.
pub fn default_model() -> Result<String> {
    guc::text(&guc::MODEL).ok_or_else(|| Error::InvalidValue {
        place: "setting".into(),
        key: "persona.model".into(),
        reason: "it is empty".into(),
    })
}

/// The arithmetic for texts of a role. One query waits for every weight to come from memory, so `auto` has a quarter of the
/// bytes come where the CPU multiplies them; items are embedded once, in bulk, and at full precision.
pub fn precision(role: Role) -> Precision {
    match (guc::PRECISION.get(), role) {
        (guc::Precision::Int8, _) => Precision::Int8,
        (guc::Precision::Auto, Role::Query) => Precision::auto(),
        (guc::Precision::Auto, Role::Document) | (guc::Precision::F32, _) => Precision::F32,
    }
}

/// Refuses a database whose texts are not UTF-8: a model reads nothing else.
fn need_utf8() -> Result<()> {
    // SAFETY: plain backend state.
    if unsafe { pg_sys::GetDatabaseEncoding() } == pg_sys::pg_enc::PG_UTF8 as i32 {
        Ok(())
    } else {
        Err(Error::Encoding)
    }
}

/// Refuses what no model can run on: a device that is not there, texts that are not UTF-8.
pub fn usable() -> Result<()> {
    device::setting()?;
    need_utf8()
}

/// Whether `persona.model_dir` holds a bundle of this name.
pub fn is_bundle(name: &str) -> Result<bool> {
    let plain = !name.is_empty() && !name.contains(['/', '\\', '\0']) && !name.starts_with('.');
    Ok(plain && model_dir()?.join(name).is_dir())
}

/// The encoder of a model for texts of a role: of a bundle, or of a bundle with an adapter merged in. A bundle's name comes
/// first; no adapter can be made that has it.
pub fn encoder(model: &str, role: Role) -> Result<Arc<Encoder>> {
    usable()?;
    let precision = precision(role);
    let setting = device::setting()?;
    if !is_bundle(model)? {
        if let Device::Cuda(name) = &setting
            && let Some(twin) = adapter::on_device(model, name)?
        {
            return Ok(twin);
        }
        if let Some(loaded) = adapter::find(model, precision)? {
            return Ok(loaded.encoder.clone());
        }
    }
    match setting {
        Device::Cuda(name) => on_device(model_dir()?, model, &name),
        Device::Auto | Device::Cpu => bundle(model, precision),
    }
}

/// The encoder of a bundle in some arithmetic on the CPU, loaded if need be.
pub fn bundle(bundle: &str, precision: Precision) -> Result<Arc<Encoder>> {
    usable()?;
    held(model_dir()?, bundle, "cpu", Some(precision), |folder| {
        // What is there in f32 is not read again.
        match known(folder, bundle, "cpu", Some(Precision::F32)) {
            Some(twin) if precision == Precision::Int8 => twin.in_bytes(None),
            _ => Encoder::load(folder, bundle, precision, &Backend),
        }
    })
}

fn on_device(folder: PathBuf, bundle: &str, name: &str) -> Result<Arc<Encoder>> {
    held(folder, bundle, name, None, |folder| Encoder::load_on(&device::library()?, name, folder, bundle, &Backend))
}

/// What this backend holds already.
fn known(folder: &Path, bundle: &str, device: &str, precision: Option<Precision>) -> Option<Arc<Encoder>> {
    SESSION.with_borrow(|session| {
        let same = |l: &&Loaded| {
            let info = l.encoder.info();
            l.folder == folder
                && info.bundle == bundle
                && info.device == device
                && precision.is_none_or(|precision| info.precision == precision)
        };
        session.loaded.iter().find(same).map(|l| l.encoder.clone())
    })
}

/// What this backend holds already, or what `load` makes, kept.
fn held(
    folder: PathBuf,
    bundle: &str,
    device: &str,
    precision: Option<Precision>,
    load: impl FnOnce(&Path) -> Result<Encoder>,
) -> Result<Arc<Encoder>> {
    if let Some(found) = known(&folder, bundle, device, precision) {
        return Ok(found);
    }
    let encoder = Arc::new(load(&folder)?);
    SESSION.with_borrow_mut(|session| {
        let own = session.loaded.iter().filter(|l| !l.inherited).count();
        if own >= OWN_BUNDLES
            && let Some(oldest) = session.loaded.iter().position(|l| !l.inherited)
        {
            session.loaded.remove(oldest);
        }
        session.loaded.push(Loaded { folder, encoder: encoder.clone(), inherited: false });
    });
    Ok(encoder)
}

/// Embeds texts in input order, `[texts, dimension]` row-major; in bulk on a GPU, where the setting and the machine allow.
pub fn embed(encoder: &Encoder, texts: &[&str], role: Role, control: &dyn Control) -> Result<Vec<f32>> {
    if let Some(twin) = bulk_twin(encoder, texts.len()) {
        match run(&twin, texts, role, control) {
            Err(error @ Error::Device { .. }) => device::give_up(&error),
            other => return other,
        }
    }
    run(encoder, texts, role, control)
}

/// The same model on a GPU, where `auto` finds one for this much work.
fn bulk_twin(encoder: &Encoder, texts: usize) -> Option<Arc<Encoder>> {
    let info = encoder.info();
    let bulk = texts >= BULK && info.device == "cpu" && info.precision == Precision::F32;
    if !bulk || device::setting() != Ok(Device::Auto) || !device::worth_trying() {
        return None;
    }
    let folder = model_dir().ok()?;
    let twin = match is_bundle(&info.bundle).ok()? {
        true => on_device(folder, &info.bundle, device::FIRST).map(Some),
        false => adapter::on_device(&info.bundle, device::FIRST),
    };
    match twin {
        // Files, or an adapter, that changed since would make other vectors.
        Ok(twin) => twin.filter(|twin| twin.info().hash == info.hash),
        Err(error @ Error::Device { .. }) => {
            device::give_up(&error);
            None
        }
        Err(_) => None,
    }
}

fn run(encoder: &Encoder, texts: &[&str], role: Role, control: &dyn Control) -> Result<Vec<f32>> {
    with_scratch(|scratch| encoder.embed(texts, role, scratch, control))
}

/// Lends the backend's work space.
pub fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> Result<T>) -> Result<T> {
    // It is taken out while it is used: a cancel must not leave it borrowed.
    let mut scratch = SESSION.with_borrow_mut(|session| std::mem::take(&mut session.scratch));
    scratch.set_threads(guc::THREADS.get().max(1) as usize);
    let result = work(&mut scratch);
    SESSION.with_borrow_mut(|session| session.scratch = scratch);
    result
}

/// Embeds a query; asked again, here or in another backend, it comes from a cache.
pub fn embed_query(encoder: &Encoder, text: &str) -> Result<Arc<[f32]>> {
    if let Some(known) = SESSION.with_borrow_mut(|s| s.queries.get(encoder, Role::Query, text)) {
        return Ok(known);
    }
    let vector = match query_cache::get(encoder, text) {
        Some(shared) => shared,
        None => {
            let made: Arc<[f32]> = embed(encoder, &[text], Role::Query, &Backend)?.into();
            query_cache::put(encoder, text, &made);
            made
        }
    };
    SESSION.with_borrow_mut(|s| s.queries.put(encoder, Role::Query, text, vector.clone()));
    Ok(vector)
}

/// Scores documents for a query with a cross-encoder; without a name, with the only one there is.
pub fn rerank(model: Option<&str>, query: &str, documents: &[&str]) -> Result<Vec<f32>> {
    let model = match model {
        Some(name) => name.to_owned(),
        None => only_reranker(&model_dir()?)?,
    };
    let model = cross_encoder(&model, precision(Role::Document))?;
    with_scratch(|scratch| model.rerank(query, documents, scratch, &Backend))
}

/// A cross-encoder by its name: a bundle, or an adapter of the task `rank`.
pub fn cross_encoder(name: &str, precision: Precision) -> Result<CrossEncoder> {
    usable()?;
    if !is_bundle(name)?
        && let Some(loaded) = adapter::find(name, precision)?
    {
        return adapter::of_task(name, loaded, &[Task::Rank]).map(CrossEncoder::Adapter);
    }
    let folder = model_dir()?;
    let same = |r: &&Kept| r.folder == folder && r.bundle == name && r.precision == precision;
    let known = SESSION.with_borrow(|s| s.rerankers.iter().find(same).map(|r| r.reranker.clone()));
    if let Some(known) = known {
        return Ok(CrossEncoder::Bundle(known));
    }
    let reranker = Arc::new(Reranker::load(&folder, name, precision, &Backend)?);
    SESSION.with_borrow_mut(|s| {
        s.rerankers.truncate(OWN_BUNDLES - 1);
        s.rerankers.insert(0, Kept { folder, bundle: name.to_owned(), precision, reranker: reranker.clone() });
    });
    Ok(CrossEncoder::Bundle(reranker))
}

fn only_reranker(folder: &Path) -> Result<String> {
    let is_reranker = |l: &Listed| l.description.as_ref().is_ok_and(|d| d.reranker);
    let found: Vec<String> = bundles(folder)?.into_iter().filter(is_reranker).map(|l| l.name).collect();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(Error::InvalidValue {
            place: "argument".into(),
            key: "model".into(),
            reason: format!("name a cross-encoder bundle; there are {} in persona.model_dir", found.len()),
        }),
    }
}

/// The identity that vectors of an encoder bear: bundle and content. Precision and device may mix.
pub fn identity(encoder: &Encoder) -> String {
    let info = encoder.info();
    format!("{}@{}", info.bundle, info.hash.get(..12).unwrap_or(&info.hash))
}

/// A bundle as `persona.models` shows it.
#[derive(Clone)]
pub struct Model {
    pub bundle: String,
    pub architecture: Option<String>,
    pub dimension: Option<usize>,
    pub max_length: Option<usize>,
    pub precision: Option<String>,
    pub device: Option<String>,
    pub hash: Option<String>,
    pub loaded: bool,
    pub bytes: Option<usize>,
    pub error: Option<String>,
}

/// Every bundle in the model folder, and every adapter; what cannot be used says why.
pub fn models() -> Result<Vec<Model>> {
    let folder = model_dir()?;
    let mut models = Vec::new();
    for listed in bundles(&folder)? {
        let held: Vec<Arc<Encoder>> = SESSION.with_borrow(|session| {
            let mine = |l: &&Loaded| l.folder == folder && l.encoder.info().bundle == listed.name;
            session.loaded.iter().filter(mine).map(|l| l.encoder.clone()).collect()
        });
        let known = listed.description.as_ref().ok();
        let shown = Model {
            bundle: listed.name,
            architecture: known.map(|d| d.architecture.name().to_owned()),
            dimension: known.map(|d| d.dimension),
            max_length: known.map(|d| d.max_length),
            precision: None,
            device: None,
            hash: None,
            loaded: false,
            bytes: known.map(|d| d.bytes as usize),
            error: listed.description.as_ref().err().map(ToString::to_string),
        };
        if held.is_empty() {
            models.push(shown);
            continue;
        }
        models.extend(held.iter().map(|encoder| Model {
            precision: Some(encoder.info().precision.name().to_owned()),
            device: Some(encoder.info().device.clone()),
            hash: Some(encoder.info().hash.clone()),
            loaded: true,
            bytes: Some(encoder.info().bytes),
            ..shown.clone()
        }));
    }
    for listed in adapter::list()? {
        let base = models.iter().find(|m| m.bundle == listed.base).cloned();
        let shown = Model {
            architecture: base.as_ref().and_then(|m| m.architecture.clone()),
            dimension: base.as_ref().and_then(|m| m.dimension),
            max_length: base.as_ref().and_then(|m| m.max_length),
            precision: None,
            device: None,
            hash: Some(listed.hash),
            loaded: false,
            bytes: Some(listed.bytes as usize),
            error: listed
                .refused
                .or_else(|| base.is_none().then(|| format!("its base \"{}\" is not there", listed.base))),
            bundle: listed.name,
        };
        if listed.devices.is_empty() {
            models.push(shown);
            continue;
        }
        models.extend(listed.devices.into_iter().map(|device| Model {
            precision: Some(if device == "cpu" { precision(Role::Document) } else { Precision::F32 }.name().to_owned()),
            device: Some(device),
            loaded: true,
            ..shown.clone()
        }));
    }
    Ok(models)
}

/// In the postmaster: lays out the bundles of `persona.preload`. What fails is a WARNING, never a server that is down.
pub fn preload() {
    // SAFETY: a plain global of the postmaster.
    if !unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        return;
    }
    let Some(list) = guc::text(&guc::PRELOAD) else { return };
    for bundle in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let load = || {
            fault_point(Place::Preload);
            let folder = model_dir()?;
            let encoder = Encoder::load(&folder, bundle, precision(Role::Document), &Free)?;
            let twin =
                (encoder.info().precision != precision(Role::Query)).then(|| encoder.in_bytes(None)).transpose()?;
            for encoder in std::iter::once(encoder).chain(twin) {
                let loaded = Loaded { folder: folder.clone(), encoder: Arc::new(encoder), inherited: true };
                SESSION.with_borrow_mut(|session| session.loaded.push(loaded));
            }
            Ok(())
        };
        // A panic here would be a server that does not start.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(load))
            .unwrap_or_else(|_| Err(Error::Internal(format!("model bundle \"{bundle}\" could not be loaded"))));
        if let Err(error) = outcome {
            pgrx::warning!("persona.preload: {error}");
        }
    }
}
