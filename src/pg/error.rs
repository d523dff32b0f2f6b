//! Every error leaves here: its SQLSTATE and a hint with the cure, in one table.

use crate::error::{Error, Result};
use crate::fault;
use pgrx::prelude::*;

/// Runs the body of a SQL function; an `Err` becomes a Postgres ERROR.
pub fn door<T>(body: impl FnOnce() -> Result<T>) -> T {
    fault_point(fault::Place::Door);
    match body() {
        Ok(value) => value,
        Err(error) => raise(&error),
    }
}

/// Panics if the setting `persona.fault` names the place, in builds that tests make. On the main thread only.
pub fn fault_point(place: fault::Place) {
    #[cfg(feature = "fault")]
    fault::arm(&super::guc::text(&super::guc::FAULT).unwrap_or_default());
    fault::point(place);
}

/// Raises the error. Destructors of the frames above have run by then: only this one is left.
pub fn raise(error: &Error) -> ! {
    let (code, hint) = table(error);
    let message = error.to_string();
    let mut report = pg_sys::panic::ErrorReport::new(code, message, "persona");
    if !hint.is_empty() {
        report = report.set_hint(hint);
    }
    report.report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}

/// SQLSTATE and hint of an error.
fn table(error: &Error) -> (PgSqlErrorCode, String) {
    use PgSqlErrorCode::*;
    let none = String::new;
    match error {
        Error::UnknownBundle { .. } => (
            ERRCODE_UNDEFINED_OBJECT,
            "SELECT * FROM persona.models lists the bundles; put the bundle's folder into persona.model_dir.".into(),
        ),
        Error::BundleName { .. } => (
            ERRCODE_INVALID_NAME,
            "A bundle is named by its folder in persona.model_dir: letters, digits, dot, dash and underscore.".into(),
        ),
        Error::BundleFileMissing { .. } => (
            ERRCODE_UNDEFINED_FILE,
            "A bundle is a folder in Hugging Face layout: config.json, tokenizer.json and model.safetensors.".into(),
        ),
        Error::BundleFile { .. } => {
            (ERRCODE_DATA_CORRUPTED, "Copy the bundle's files into persona.model_dir again.".into())
        }
        Error::BundleUnsupported { .. } => (
            ERRCODE_FEATURE_NOT_SUPPORTED,
            "SELECT * FROM persona.models shows what can be loaded, and why not.".into(),
        ),
        Error::Encoding => {
            (ERRCODE_FEATURE_NOT_SUPPORTED, "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.".into())
        }
        Error::TextTooLong { .. } => (
            ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            "A model reads the first few hundred words: pass left(content, 10000).".into(),
        ),
        Error::VectorIdentity { .. } => (
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "Embed the rows anew: SELECT * FROM persona.refresh(items).".into(),
        ),
        Error::Device { reason, .. }
            if reason.to_lowercase().contains("out of memory") || reason.contains("OUT_OF_MEMORY") =>
        {
            (
                ERRCODE_OUT_OF_MEMORY,
                "Another backend or program holds the card's memory: SET persona.device = 'cpu'.".into(),
            )
        }
        Error::Device { .. } => (
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "SET persona.device = 'cpu' or 'auto'; for a GPU install its driver and the library that make gpu builds."
                .into(),
        ),
        Error::NotFinite { .. } => {
            (ERRCODE_INVALID_PARAMETER_VALUE, "NaN and infinity have no place in a ranking.".into())
        }
        Error::UnknownKey { known, .. } => {
            (ERRCODE_INVALID_PARAMETER_VALUE, format!("Known are: {}.", known.join(", ")))
        }
        Error::InvalidValue { .. } | Error::Options { .. } => {
            (ERRCODE_INVALID_PARAMETER_VALUE, "The README lists every key with its values.".into())
        }
        Error::NoCatalog { relation } => (
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("Make one: SELECT persona.create_catalog('{relation}', title => 'its title column')."),
        ),
        Error::NoRelation { .. } => (ERRCODE_UNDEFINED_TABLE, "Name the relation as text, such as 'products'.".into()),
        Error::Altered { .. } => (
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "Somebody altered a companion table: persona.drop_catalog, then persona.create_catalog, makes it anew."
                .into(),
        ),
        Error::NoKey { relation } => (
            ERRCODE_INVALID_TABLE_DEFINITION,
            format!(
                "ALTER TABLE {relation} ADD PRIMARY KEY (column), or name a unique column: options => '{{\"key\": \"column\"}}'."
            ),
        ),
        Error::NoColumn { relation, .. } => (
            ERRCODE_UNDEFINED_COLUMN,
            format!(
                "\\d {relation} lists the columns; after a rename call persona.create_catalog or persona.add_events again."
            ),
        ),
        Error::ColumnType { .. } => {
            (ERRCODE_DATATYPE_MISMATCH, "Name another column, or change the column's type with ALTER TABLE.".into())
        }
        Error::RelationKind { .. } => {
            (ERRCODE_WRONG_OBJECT_TYPE, "Name a table, a partitioned table, a view or a materialized view.".into())
        }
        Error::Leftover { all, .. } => (
            ERRCODE_DUPLICATE_TABLE,
            format!("Where they are left over from a dropped extension: DROP TABLE IF EXISTS {}.", all.join(", ")),
        ),
        Error::NotOwner { .. } => {
            (ERRCODE_INSUFFICIENT_PRIVILEGE, "Catalogs are managed by the owner of the item table.".into())
        }
        Error::NoRight { relation, columns } => (
            ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("The owner of {relation} can GRANT SELECT ({columns}) ON {relation} TO the caller."),
        ),
        Error::Anonymous { .. } => (
            ERRCODE_WRONG_OBJECT_TYPE,
            "Pass the row type of a catalogued table: NULL::products, or p in FROM products p.".into(),
        ),
        Error::NoEvents { items, .. } => (
            ERRCODE_UNDEFINED_OBJECT,
            format!("SELECT events FROM persona.catalogs WHERE items = '{items}'::regclass shows what was added."),
        ),
        Error::OutOfMemory { .. } => {
            (ERRCODE_OUT_OF_MEMORY, "Pass fewer or shorter texts at once, or raise the backend's limit.".into())
        }
        Error::NoRanker { relation, .. } => (
            ERRCODE_UNDEFINED_OBJECT,
            format!("SELECT * FROM persona.rankers WHERE items = '{relation}'::regclass lists them."),
        ),
        Error::RankerWeights { .. } => (
            ERRCODE_DATA_CORRUPTED,
            "Train again: SELECT * FROM persona.train(items); persona.deploy(items, NULL) ranks without it meanwhile."
                .into(),
        ),
        Error::TooLittle { .. } => (
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "Add behaviour tables with persona.add_events, refresh, and train once a few hundred shoppers came back."
                .into(),
        ),
        Error::AdapterExists { name } => (
            ERRCODE_DUPLICATE_OBJECT,
            format!("Choose another name, or first: SELECT persona.drop_adapter('{name}')."),
        ),
        Error::NameTaken { .. } => {
            (ERRCODE_DUPLICATE_OBJECT, "Choose a name that no folder in persona.model_dir has.".into())
        }
        Error::UnknownAdapter { .. } => {
            (ERRCODE_UNDEFINED_OBJECT, "SELECT name, task, base FROM persona.adapters lists them.".into())
        }
        Error::NotAdopted { .. } => (
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "It stays unused until it is better; options => '{\"adopt\": \"always\"}' of persona.fine_tune adopts it all the same."
                .into(),
        ),
        Error::AdapterInUse { .. } => (
            ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            "Give the catalog another model with persona.create_catalog, and run persona.refresh.".into(),
        ),
        Error::NotAdapterOwner { .. } => {
            (ERRCODE_INSUFFICIENT_PRIVILEGE, "An adapter is dropped by who made it, or by a superuser.".into())
        }
        Error::ModelTask { .. } => {
            (ERRCODE_WRONG_OBJECT_TYPE, "SELECT name, task FROM persona.adapters shows what each is for.".into())
        }
        Error::OtherBase { .. } => (
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "Put the bundle's former files back, or fine-tune again on the new ones.".into(),
        ),
        Error::Adapter { .. } => (ERRCODE_DATA_CORRUPTED, "Drop it and fine-tune again.".into()),
        Error::TooFewRows { .. } => {
            (ERRCODE_INVALID_PARAMETER_VALUE, "Give it more rows, or name other columns in options.".into())
        }
        Error::Diverged { .. } => {
            (ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "Lower options \"learning_rate\" or \"head_learning_rate\".".into())
        }
        Error::Cancelled => (ERRCODE_QUERY_CANCELED, none()),
        Error::Internal(_) => (ERRCODE_INTERNAL_ERROR, none()),
    }
}
