//! What the shop lays down by hand. Where rules disagree, this order decides:
//!
//! 1. *block* beats everything;
//! 2. *pin* takes its slot; of two pins, the one of higher priority, then the older, and the other moves to the next free slot;
//! 3. *sponsor* takes the free slots from its own on, up to its budget of positions, with the best of what was found anyway;
//! 4. *boost* and *bury* of all rules add up in the part `rules` of the score;
//! 5. everything else (blend, exploration, caps, diversity) fills what is left, and moves nothing that a rule has placed.
//!
//! Priority and age put rules of one kind into order; a rule never lifts what the caller's filter or rights leave out.

use crate::catalog::rule::{Action, Rule};
use crate::error::Result;
use crate::parts::Dimension;
use crate::search::{Question, Ranked, by_score};
use crate::store::{Scope, Store};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Items that a pin looks at, at most, to find the best of them.
const PIN_LOOKS: usize = 100;

/// What rules add to the scores of items, by item.
pub fn added(store: &dyn Store, rules: &[Rule], ids: &[i64]) -> Result<HashMap<i64, f64>> {
    let mut added: HashMap<i64, f64> = HashMap::new();
    for rule in rules.iter().filter(|rule| rule.adds() != 0.0) {
        for id in store.passing(&rule.filter, ids)? {
            *added.entry(id).or_default() += rule.adds();
        }
    }
    Ok(added)
}

/// The ranking with what rules add, without what they block.
pub fn apply(store: &dyn Store, rules: &[Rule], factor: f64, mut ranked: Vec<Ranked>) -> Result<Vec<Ranked>> {
    if rules.is_empty() {
        return Ok(ranked);
    }
    let ids: Vec<i64> = ranked.iter().map(|r| r.id).collect();
    let blocked = blocked(store, rules, &ids)?;
    ranked.retain(|r| !blocked.contains(&r.id));
    let added = added(store, rules, &ids)?;
    for item in &mut ranked {
        if let Some(more) = added.get(&item.id) {
            item.parts.set(Dimension::Rules, more * factor);
        }
    }
    by_score(&mut ranked);
    Ok(ranked)
}

fn blocked(store: &dyn Store, rules: &[Rule], ids: &[i64]) -> Result<HashSet<i64>> {
    let mut blocked = HashSet::new();
    for rule in rules.iter().filter(|rule| rule.action == Action::Block) {
        blocked.extend(store.passing(&rule.filter, ids)?);
    }
    Ok(blocked)
}

/// Items with a place of their own, by place from 1. They are taken out of the ranking.
pub fn placed(
    store: &dyn Store,
    question: &Question,
    rules: &[Rule],
    scope: &Scope,
    ranked: &mut Vec<Ranked>,
) -> Result<BTreeMap<usize, Ranked>> {
    let mut placed: BTreeMap<usize, Ranked> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| rule.action == Action::Pin) {
        let matching = store.matching(&rule.filter, PIN_LOOKS, scope)?;
        let blocked = blocked(store, rules, &matching)?;
        let free: Vec<i64> = matching
            .into_iter()
            .filter(|id| !blocked.contains(id) && !placed.values().any(|item| item.id == *id))
            .collect();
        let found = ranked.iter().map(|r| r.id).filter(|id| free.contains(id));
        let mut wanted: Vec<i64> = found.collect();
        wanted.extend(free.iter().filter(|id| !ranked.iter().any(|r| r.id == **id)));
        wanted.truncate(rule.positions);
        for id in wanted {
            if let Some(item) = take(store, question, ranked, id)? {
                put(&mut placed, rule.slot, item, "pinned");
            }
        }
    }
    for rule in rules.iter().filter(|rule| rule.action == Action::Sponsor) {
        let ids: Vec<i64> = ranked.iter().map(|r| r.id).collect();
        let paying: HashSet<i64> = store.passing(&rule.filter, &ids)?.into_iter().collect();
        for id in ids.into_iter().filter(|id| paying.contains(id)).take(rule.positions) {
            if let Some(item) = take(store, question, ranked, id)? {
                put(&mut placed, rule.slot, item, "sponsored");
            }
        }
    }
    Ok(placed)
}

/// Takes an item out of the ranking, or ranks it by itself where no source has brought it.
fn take(store: &dyn Store, question: &Question, ranked: &mut Vec<Ranked>, id: i64) -> Result<Option<Ranked>> {
    if let Some(place) = ranked.iter().position(|r| r.id == id) {
        return Ok(Some(ranked.remove(place)));
    }
    let item = store.items(&[id], question.words())?.pop();
    Ok(item.map(|item| Ranked { id, parts: question.parts(&item), source: String::new() }))
}

/// Puts an item on the first free place from `slot` on.
fn put(placed: &mut BTreeMap<usize, Ranked>, slot: usize, mut item: Ranked, label: &str) {
    item.mark(label);
    let mut place = slot;
    while placed.contains_key(&place) {
        place += 1;
    }
    placed.insert(place, item);
}
