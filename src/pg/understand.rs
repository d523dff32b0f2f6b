//! What a call understands by its query: the lexicon, the shop's synonyms, the vector that the search needs anyway.

use super::catalog::Catalog;
use super::identity::{self, Owner};
use super::spi::{self, Arg, Mode};
use super::{lexicon, session};
use crate::catalog::options::SearchOptions;
use crate::error::Result;
use crate::understand::{self, Settings, Understanding, normalize};
use pgrx::pg_sys;
use std::cell::Cell;
use std::sync::Arc;

/// Least count of items, and of shoppers, of what may show where rows are hidden from the caller.
pub fn floor(catalog: &Catalog, guarded: bool) -> u32 {
    if guarded { catalog.min_shoppers.unwrap_or(5) } else { 1 }
}

/// The language of a text search configuration, where its name says it.
fn language(config: &str) -> &'static str {
    const NAMES: [(&str, &str); 16] = [
        ("german", "de"),
        ("french", "fr"),
        ("spanish", "es"),
        ("italian", "it"),
        ("portuguese", "pt"),
        ("dutch", "nl"),
        ("swedish", "sv"),
        ("danish", "da"),
        ("norwegian", "no"),
        ("finnish", "fi"),
        ("russian", "ru"),
        ("turkish", "tr"),
        ("hungarian", "hu"),
        ("romanian", "ro"),
        ("greek", "el"),
        ("arabic", "ar"),
    ];
    NAMES.iter().find(|(name, _)| config.ends_with(name)).map_or("en", |(_, code)| code)
}

/// Reads a query without its vector.
pub fn read(
    catalog: &Catalog,
    query: &str,
    correct: bool,
    guarded: bool,
) -> Result<(Understanding, std::rc::Rc<understand::Lexicon>)> {
    let lexicon = lexicon::of(catalog)?;
    let settings = Settings { correct, floor: floor(catalog, guarded), language: language(&catalog.text_search) };
    Ok((understand::read(&lexicon, query, &settings), lexicon))
}

type Asked = (Option<Arc<Understanding>>, Option<Arc<[f32]>>);

/// What a query means and its vector; nothing of either for a query that says nothing.
pub fn ask(catalog: &Catalog, query: Option<&str>, options: &SearchOptions, guarded: bool) -> Result<Asked> {
    let encoder = session::encoder(&catalog.model)?;
    let Some(query) = query.map(str::trim).filter(|q| !q.is_empty()) else { return Ok((None, None)) };
    // A pasted page is words to look for, and no question to be understood.
    if !options.understand || query.len() > 4 * normalize::LONGEST {
        return Ok((None, Some(session::embed_query(&encoder, query)?)));
    }
    let (mut understanding, lexicon) = read(catalog, query, options.correct, guarded)?;
    let vector = session::embed_query(&encoder, &understanding.text)?;
    understanding.classify(&lexicon, Some(&vector));
    Ok((Some(Arc::new(understanding)), Some(vector)))
}

thread_local! {
    // The extension's owner: it does not change in a session that anybody searches in.
    static OWNER: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) };
}

/// Words of a synonym, at most.
const LONGEST: usize = 4;

/// What the shop says stands for a part of the query, now: the part, and what stands for it.
pub fn synonyms(catalog: &Catalog, query: &str) -> Result<Vec<(String, String)>> {
    let tokens = normalize::texts(query);
    if tokens.len() > normalize::MOST_TOKENS {
        return Ok(Vec::new());
    }
    let mut parts: Vec<String> = Vec::new();
    for from in 0..tokens.len() {
        for to in from + 1..=tokens.len().min(from + LONGEST) {
            parts.push(tokens[from..to].join(" "));
        }
    }
    let owner = match OWNER.get() {
        Some(owner) => owner,
        None => {
            let owner = identity::extension_owner()?;
            OWNER.set(Some(owner));
            owner
        }
    };
    let _owner = Owner::of(owner);
    let sql = "SELECT s.term, s.synonym FROM persona.synonyms s
        WHERE s.items OPERATOR(pg_catalog.=) $1 AND pg_catalog.lower(s.term) OPERATOR(pg_catalog.=) ANY ($2)
            AND s.status OPERATOR(pg_catalog.=) 'active' AND s.valid OPERATOR(pg_catalog.@>) pg_catalog.now()
        UNION SELECT s.synonym, s.term FROM persona.synonyms s
        WHERE s.items OPERATOR(pg_catalog.=) $1 AND pg_catalog.lower(s.synonym) OPERATOR(pg_catalog.=) ANY ($2) AND s.two_way
            AND s.status OPERATOR(pg_catalog.=) 'active' AND s.valid OPERATOR(pg_catalog.@>) pg_catalog.now()
        ORDER BY 1, 2 LIMIT 32";
    let args = [Arg::of(pg_sys::Oid::from(catalog.items)), Arg::of(parts)];
    spi::query(Mode::Read, sql, &args, |row| Ok((row.need(1)?, row.need(2)?)))
}
