//! Models in this backend: loaded on first use, kept, or inherited from the postmaster.

use super::guc;
use super::interrupt::Backend;
use crate::control::{Control, Free};
use crate::embed::{Encoder, Precision, Role, Scratch, bundles};
use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// A loaded encoder: the postmaster's, or this backend's own.
#[derive(Clone)]
struct Loaded {
    folder: PathBuf,
    encoder: Arc<Encoder>,
    inherited: bool,
}

#[derive(Default)]
struct Session {
    loaded: Vec<Loaded>,
    scratch: Scratch,
    queries: HashMap<(String, Precision, String), Rc<[f32]>>,
}

thread_local! {
    // The postmaster's only thread is every backend's main thread after fork, so what `preload` leaves here is what a
    // backend finds, in pages shared copy-on-write.
    static SESSION: RefCell<Session> = RefCell::new(Session::default());
}

/// Bundles that one backend keeps of its own, beyond the preloaded ones.
const OWN_BUNDLES: usize = 4;
/// Query vectors that a backend keeps: some 2 MB.
const QUERIES_KEPT: usize = 1024;

fn model_dir() -> Result<PathBuf> {
    guc::text(&guc::MODEL_DIR).map(PathBuf::from).ok_or_else(|| Error::InvalidValue {
        place: "setting".into(),
        key: "persona.model_dir".into(),
        reason: "it is not set; a superuser sets it to the folder that holds the model bundles".into(),
    })
}

/// The bundle that is meant where none is named.
pub fn default_model() -> Result<String> {
    guc::text(&guc::MODEL).ok_or_else(|| Error::InvalidValue {
        place: "setting".into(),
        key: "persona.model".into(),
        reason: "it is empty".into(),
    })
}

fn precision() -> Precision {
    match guc::PRECISION.get() {
        guc::Precision::Int8 => Precision::Int8,
        guc::Precision::Auto | guc::Precision::F32 => Precision::F32,
    }
}

/// Refuses a device that this build does not have.
fn need_cpu() -> Result<()> {
    match guc::text(&guc::DEVICE).as_deref() {
        None | Some("auto" | "cpu") => Ok(()),
        Some(other) => Err(Error::InvalidValue {
            place: "setting".into(),
            key: "persona.device".into(),
            reason: format!("this build runs on the CPU, and it is \"{other}\"; known are auto, cpu"),
        }),
    }
}

/// The encoder of a bundle, loaded if need be.
pub fn encoder(bundle: &str) -> Result<Arc<Encoder>> {
    let folder = model_dir()?;
    let precision = precision();
    need_cpu()?;
    let found = SESSION.with_borrow(|session| {
        session
            .loaded
            .iter()
            .find(|l| l.folder == folder && l.encoder.info().bundle == bundle && l.encoder.info().precision == precision)
            .cloned()
    });
    if let Some(found) = found {
        return Ok(found.encoder);
    }
    let encoder = Arc::new(Encoder::load(&folder, bundle, precision, &Backend)?);
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

/// Embeds texts in input order, `[texts, dimension]` row-major.
pub fn embed(encoder: &Encoder, texts: &[&str], role: Role, control: &dyn Control) -> Result<Vec<f32>> {
    // The scratch is taken out while it is used: a cancel must not leave it borrowed.
    let mut scratch = SESSION.with_borrow_mut(|session| std::mem::take(&mut session.scratch));
    scratch.set_threads(guc::THREADS.get().max(1) as usize);
    let result = encoder.embed(texts, role, &mut scratch, control);
    SESSION.with_borrow_mut(|session| session.scratch = scratch);
    result
}

/// Embeds a query; asked again in this backend, it comes from the cache.
pub fn embed_query(encoder: &Encoder, text: &str) -> Result<Rc<[f32]>> {
    let key = (encoder.info().hash.clone(), encoder.info().precision, text.to_owned());
    if let Some(known) = SESSION.with_borrow(|s| s.queries.get(&key).cloned()) {
        return Ok(known);
    }
    let vector: Rc<[f32]> = embed(encoder, &[text], Role::Query, &Backend)?.into();
    SESSION.with_borrow_mut(|s| {
        if s.queries.len() >= QUERIES_KEPT {
            s.queries.clear();
        }
        s.queries.insert(key, vector.clone());
    });
    Ok(vector)
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
    pub hash: Option<String>,
    pub loaded: bool,
    pub bytes: Option<usize>,
    pub error: Option<String>,
}

/// Every bundle in the model folder; what cannot be used says why.
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
            hash: Some(encoder.info().hash.clone()),
            loaded: true,
            bytes: Some(encoder.info().bytes),
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
        let outcome = model_dir().and_then(|folder| {
            let encoder = Encoder::load(&folder, bundle, precision(), &Free)?;
            SESSION.with_borrow_mut(|session| {
                session.loaded.push(Loaded { folder, encoder: Arc::new(encoder), inherited: true });
            });
            Ok(())
        });
        if let Err(error) = outcome {
            pgrx::warning!("persona.preload: {error}");
        }
    }
}
