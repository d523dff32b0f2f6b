//! The one error type, told from the user's side. `pg/error.rs` gives each its SQLSTATE and hint.

/// What can go wrong. Messages are lower-case, without a stop, and name the two things that disagree.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // each variant's message says what it is
pub enum Error {
    // models
    #[error("model bundle \"{name}\" does not exist")]
    UnknownBundle { name: String },
    #[error("invalid model bundle name \"{name}\"")]
    BundleName { name: String },
    #[error("model bundle \"{bundle}\" has no file \"{file}\"")]
    BundleFileMissing { bundle: String, file: String },
    #[error("cannot read \"{file}\" of model bundle \"{bundle}\": {reason}")]
    BundleFile { bundle: String, file: String, reason: String },
    #[error("model bundle \"{bundle}\" is not supported: {reason}")]
    BundleUnsupported { bundle: String, reason: String },
    #[error("models read UTF-8, and the database's encoding is another one")]
    Encoding,
    #[error("text of {bytes} bytes is longer than the limit of {limit} bytes")]
    TextTooLong { bytes: usize, limit: usize },
    #[error("vectors of {left} cannot be compared with vectors of {right}")]
    VectorIdentity { left: String, right: String },
    #[error("cannot use device \"{device}\": {reason}")]
    Device { device: String, reason: String },
    #[error("{what} is not a finite number")]
    NotFinite { what: String },

    // arguments
    #[error("unknown {place} key \"{key}\"")]
    UnknownKey { place: String, key: String, known: Vec<String> },
    #[error("invalid value for {place} \"{key}\": {reason}")]
    InvalidValue { place: String, key: String, reason: String },

    #[error("invalid {place}: {reason}")]
    Options { place: String, reason: String },

    // the shop's tables
    #[error("{relation} has no catalog")]
    NoCatalog { relation: String },
    #[error("relation with oid {oid} does not exist")]
    NoRelation { oid: u32 },
    #[error("{what} is of another type than it was made with")]
    Altered { what: String },
    #[error("{relation} has no one-column primary key")]
    NoKey { relation: String },
    #[error("column \"{column}\" of {relation} does not exist")]
    NoColumn { relation: String, column: String },
    #[error("column \"{column}\" of {relation} is of type {found}, but {wanted}")]
    ColumnType { relation: String, column: String, found: String, wanted: String },
    #[error("{relation} is {found}, which cannot be {wanted}")]
    RelationKind { relation: String, found: String, wanted: String },
    #[error("companion table {table} exists already, and belongs to no catalog")]
    Leftover { table: String, all: Vec<String> },
    #[error("must be owner of {relation}")]
    NotOwner { relation: String },
    #[error("permission denied for {relation}")]
    NoRight { relation: String, columns: String },
    #[error("{what} is not a row of a table")]
    Anonymous { what: String },
    #[error("{relation} is not a behaviour table of {items}")]
    NoEvents { relation: String, items: String },

    // learning
    #[error("ranker {ranker} of {relation} does not exist")]
    NoRanker { ranker: i64, relation: String },
    #[error("the weights of a ranker cannot be read: {reason}")]
    RankerWeights { reason: String },
    #[error("{relation} has too little behaviour to learn from: {found}")]
    TooLittle { relation: String, found: String },
    // fine-tuning
    #[error("adapter \"{name}\" exists already")]
    AdapterExists { name: String },
    #[error("\"{name}\" is a model bundle already")]
    NameTaken { name: String },
    #[error("adapter \"{name}\" does not exist")]
    UnknownAdapter { name: String },
    #[error("adapter \"{name}\" was not adopted: {reason}")]
    NotAdopted { name: String, reason: String },
    #[error("adapter \"{name}\" is in use by {by}")]
    AdapterInUse { name: String, by: String },
    #[error("must be owner of adapter \"{name}\"")]
    NotAdapterOwner { name: String },
    #[error("model \"{name}\" is for {found}, not for {wanted}")]
    ModelTask { name: String, found: String, wanted: String },
    #[error("adapter \"{name}\" was made from other files than model bundle \"{base}\" has now")]
    OtherBase { name: String, base: String },
    #[error("an adapter cannot be read: {reason}")]
    Adapter { reason: String },
    #[error("nothing to learn: {what}")]
    TooFewRows { what: String },
    #[error("the loss was no number after {step} steps")]
    Diverged { step: u64 },

    // running
    #[error("out of memory: {bytes} bytes are needed")]
    OutOfMemory { bytes: usize },
    #[error("canceling statement due to user request")]
    Cancelled,
    #[error("{0}")]
    Internal(String),
}

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;
