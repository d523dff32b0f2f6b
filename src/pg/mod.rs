//! The door to Postgres, and the only folder that knows it.
//!
//! A call comes in through `api`, which parses, calls the engine and maps the answer. The engine asks its questions
//! through the port `crate::store::Store`; `store` answers them over SPI. Three rules hold everywhere here:
//!
//! * what is the shop's (items, events) is read under the caller's id; what is ours (companion tables) under their
//!   owner's id, with a pinned search path (`identity`);
//! * what only reads is read with the caller's snapshot, so that one call sees one state of the database (`spi`);
//! * every error leaves with a SQLSTATE and a hint (`error`), every loop asks for interrupts (`interrupt`).

mod activity;
mod adapter;
mod api;
mod catalog;
mod companion;
mod device;
mod error;
mod evaluate;
mod examination;
mod filter;
mod guc;
mod heldout;
mod history;
mod identity;
mod interrupt;
mod json;
mod learned;
mod lexicon;
mod log;
mod queries;
mod query_cache;
mod ranker;
mod refresh;
mod schedule;
mod session;
mod spi;
mod steps;
mod store;
mod training;
mod tsvector;
mod tune;
mod understand;
mod vector;
mod worker;
mod zone;

use pgrx::prelude::*;

pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../../sql/tables.sql", name = "tables", bootstrap);
pgrx::extension_sql_file!(
    "../../sql/understand.sql",
    name = "understand",
    requires =
        [api::understand::segment, api::understand::understand, api::understand::suggest, api::understand::unanswered]
);
pgrx::extension_sql_file!(
    "../../sql/learn.sql",
    name = "learn",
    requires = [api::train::train, api::rankers::deploy, api::forget::forget]
);
pgrx::extension_sql_file!(
    "../../sql/tune.sql",
    name = "tune",
    requires = [
        api::tune::fine_tune,
        api::tune::classify,
        api::tune::tag,
        api::tune::label_next,
        api::tune::drop_adapter,
        api::tune::export_adapter
    ]
);
pgrx::extension_sql_file!(
    "../../sql/arrange.sql",
    name = "arrange",
    requires = [
        api::similar::similar_rows,
        api::similar::similar_json,
        api::similar::together_rows,
        api::similar::together_json,
        api::rules::check_rule,
        api::trending::trending_rows,
        api::trending::trending_json
    ]
);
pgrx::extension_sql_file!(
    "../../sql/compare.sql",
    name = "compare",
    requires = [
        api::compare::draft,
        api::compare::credit,
        api::compare::result,
        api::search::search_rows,
        api::search::search_json
    ]
);
pgrx::extension_sql_file!("../../sql/evaluate.sql", name = "evaluate", requires = [api::evaluate::evaluate]);
pgrx::extension_sql_file!("../../sql/functions.sql", name = "functions", finalize);

/// An ERROR that passes through Rust gets a backtrace into its DETAIL where RUST_BACKTRACE is set in the server's
/// environment, and DETAIL goes to the client: that is for us, not for a shop's logs.
fn quiet_backtraces() {
    if std::env::var_os("RUST_LIB_BACKTRACE").is_none() {
        // SAFETY: `_PG_init` runs on the process's only thread.
        unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    }
}

#[allow(non_snake_case)]
#[pg_guard]
extern "C-unwind" fn _PG_init() {
    quiet_backtraces();
    guc::define();
    activity::init();
    query_cache::init();
    worker::init();
    session::preload();
}
