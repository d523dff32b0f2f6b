//! What a call understands by its query: the lexicon, the shop's synonyms, the vector that the search needs anyway.

use super::catalog::Catalog;
use super::identity::{self, Owner};
use super::interrupt::Backend;
use super::spi::{self, Arg, Mode};
use super::store::PgStore;
use super::store::wording::every;
use super::{adapter, lexicon, session};
use crate::catalog::options::SearchOptions;
use crate::embed::Encoder;
use crate::error::Result;
use crate::memory::{self, room_for};
use crate::retrieve::lexical::Bm25;
use crate::store::Store;
use crate::tune::Task;
use crate::understand::{self, Intent, Lexicon, Settings, Understanding, normalize};
use pgrx::pg_sys;
use std::cell::Cell;
use std::rc::Rc;
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
pub fn read(store: &PgStore, query: &str, correct: bool) -> Result<(Understanding, Rc<Lexicon>)> {
    let catalog = store.catalog();
    let lexicon = lexicon::of(catalog)?;
    let floor = floor(catalog, store.is_guarded());
    let settings = Settings { correct, floor, language: language(&catalog.text_search), keep: &[] };
    let understood = understand::read(&lexicon, query, &settings);
    // Items newer than the last refresh may have words of their own: what one of them says is no slip.
    let mut new = Vec::new();
    for word in understood.corrections.iter().flat_map(|c| c.from.split(' ')) {
        if lexicon.word(word).is_none() && store.is_new(word)? {
            new.push(word.to_owned());
        }
    }
    if new.is_empty() {
        return Ok((understood, lexicon));
    }
    Ok((understand::read(&lexicon, query, &Settings { keep: &new, ..settings }), lexicon))
}

/// Adds the intent: by the shop's own classifier where the catalog names one, else by the one that ships.
pub fn classify(store: &PgStore, lexicon: &Lexicon, understood: &mut Understanding, vector: &[f32]) -> Result<()> {
    let floor = floor(store.catalog(), store.is_guarded());
    let Some(name) = &store.catalog().intents else {
        understood.classify(lexicon, floor, Some(vector));
        return Ok(());
    };
    let own = adapter::need(name, &[Task::Classify])?;
    let shares = own.shares(&session::embed_query(&own.encoder, &understood.query)?);
    understood.set_intent(lexicon, floor, Intent::of_labels(&own.labels, &shares));
    Ok(())
}

/// Adds what the shop's own tagger finds, where the catalog names one.
pub fn tag(store: &PgStore, lexicon: &Lexicon, understood: &mut Understanding) -> Result<()> {
    let Some(name) = &store.catalog().tags else { return Ok(()) };
    let own = adapter::need(name, &[Task::Tag])?;
    let spans = session::with_scratch(|scratch| own.tag(&understood.corrected(), scratch, &Backend))?;
    understood.add_tags(lexicon, floor(store.catalog(), store.is_guarded()), spans);
    Ok(())
}

/// The words that have to go before some item that the caller may see holds all the others: what nothing holds, then what
/// tells least, the head last.
pub fn dropped(store: &PgStore, understood: &Understanding) -> Result<Vec<String>> {
    let answered = |words: &[Bm25]| every(words).map_or(Ok(true), |query| store.is_answered(&query));
    if answered(&[store.words(&understood.text)?])? {
        return Ok(Vec::new());
    }
    let (mut dropped, mut kept) = (Vec::new(), Vec::new());
    for at in understood.telling() {
        let (said, words) = (understood.said(at).to_owned(), store.words(understood.said(at))?);
        let head = understood.head == Some(at);
        let tells = words.total();
        if words.terms.is_empty() {
            continue;
        } else if answered(std::slice::from_ref(&words))? {
            kept.push((head, tells, said, words));
        } else {
            dropped.push(said);
        }
    }
    kept.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let (told, words): (Vec<String>, Vec<Bm25>) = kept.into_iter().map(|(_, _, said, words)| (said, words)).unzip();
    // The fewer words, the more items hold them all: the least that has to go is found by halving.
    let (mut least, mut most) = (0, told.len().saturating_sub(1));
    while least < most {
        let middle = (least + most) / 2;
        if answered(&words[middle..])? {
            most = middle;
        } else {
            least = middle + 1;
        }
    }
    dropped.extend(told.into_iter().take(least));
    Ok(dropped)
}

type Asked = (Option<Arc<Understanding>>, Option<Arc<[f32]>>);

/// What a query means and its vector; nothing of either for a query that says nothing.
pub fn ask(store: &PgStore, encoder: &Encoder, query: Option<&str>, options: &SearchOptions) -> Result<Asked> {
    // A search's own work is bounded; what grows with the query are a few copies of it.
    room_for(memory::CALL + query.map_or(0, str::len) * 16)?;
    let Some(query) = query.map(str::trim).filter(|q| !q.is_empty()) else { return Ok((None, None)) };
    if !options.understand {
        return Ok((None, Some(session::embed_query(encoder, query)?)));
    }
    let (mut understanding, lexicon) = read(store, query, options.correct)?;
    let vector = session::embed_query(encoder, &understanding.text)?;
    classify(store, &lexicon, &mut understanding, &vector)?;
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
