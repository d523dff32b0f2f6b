//! `persona.deploy`: which ranker ranks.

use super::super::error::door;
use super::super::{catalog, identity, ranker};
use pgrx::prelude::*;

/// Deploys a ranker, or with NULL the fixed weights; returns what ranked before.
#[pg_extern(name = "_deploy", volatile)]
pub fn deploy(items: Option<pg_sys::Oid>, number: Option<i64>) -> Option<i64> {
    door(|| {
        let catalog = catalog::need(catalog::given(items)?)?;
        identity::need_owner(catalog.owner(), &catalog.name)?;
        ranker::deploy(&catalog, number)
    })
}
