//! What the words of a query ask beyond themselves: what stands for them, and what must not be there.

use super::super::spi::{self, Arg, Mode};
use super::super::{companion, understand};
use super::PgStore;
use crate::error::Result;
use crate::retrieve::lexical::{Bm25, Term};
use crate::store::Scope;
use std::collections::HashSet;

/// A lexeme as a tsquery has it.
pub fn quoted(lexeme: &str) -> String {
    format!("'{}'", lexeme.replace('\\', "\\\\").replace('\'', "''"))
}

/// A tsquery of words that all have to be there.
fn all_of(lexemes: &[String]) -> String {
    format!("({})", lexemes.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" & "))
}

/// A tsquery of a word, or of what stands for it.
pub fn term(term: &Term) -> String {
    let also = term.also.iter().map(|words| all_of(words));
    std::iter::once(quoted(&term.lexeme)).chain(also).collect::<Vec<_>>().join(" | ")
}

/// A tsquery of every word, or of what stands for it; `None` of nothing.
pub fn every(words: &[Bm25]) -> Option<String> {
    let terms: Vec<String> = words.iter().flat_map(|w| &w.terms).map(|word| format!("({})", term(word))).collect();
    (!terms.is_empty()).then(|| terms.join(" & "))
}

/// A number and its unit apart, where a word is both.
fn split_measure(lexeme: &str) -> Option<(String, String)> {
    crate::understand::normalize::measure(lexeme)?;
    let (number, unit) = lexeme.split_at(lexeme.find(|c: char| !c.is_ascii_digit() && c != '.')?);
    Some((number.to_owned(), unit.to_owned()))
}

impl PgStore<'_> {
    /// Leaves out of every source what bears one of the phrases in its title, brand, category or attributes. A body may
    /// well say of an item what it is not. Gives the tsquery of what is not wanted.
    pub fn exclude(&mut self, phrases: &[String]) -> Result<Option<String>> {
        let mut queries = Vec::new();
        for phrase in phrases {
            let words = self.lexemes(phrase, &self.catalog.text_search)?;
            let words: Vec<String> = words.into_iter().map(|word| format!("{}:ABD", quoted(&word))).collect();
            if !words.is_empty() {
                queries.push(format!("({})", words.join(" & ")));
            }
        }
        self.unwanted = (!queries.is_empty()).then(|| queries.join(" | "));
        Ok(self.unwanted.clone())
    }

    /// The lexemes of a text, as a configuration makes them.
    fn lexemes(&self, text: &str, config: &str) -> Result<Vec<String>> {
        let _owner = self.owner();
        let sql = format!(
            "SELECT q.lexeme FROM unnest(to_tsvector($1::regconfig, {})) q(lexeme)",
            companion::plain("persona._segment(left($2, 10000))")
        );
        spi::query(Mode::Read, &sql, &[Arg::of(config), Arg::of(text)], |row| row.need(1))
    }

    /// Whether a word stands in an item that the caller may see, and in none that the last refresh counted.
    pub fn is_new(&self, word: &str) -> Result<bool> {
        let lexemes = self.lexemes(word, &self.catalog.text_search)?;
        let counted = {
            let _owner = self.owner();
            let sql = format!("SELECT count(*) FROM {} t WHERE t.lexeme = ANY ($1)", self.catalog.terms);
            spi::first(Mode::Read, &sql, &[Arg::of(lexemes.clone())], |row| row.need::<i64>(1))?.unwrap_or(0)
        };
        Ok((counted as usize) < lexemes.len() && self.is_answered(&all_of(&lexemes))?)
    }

    /// Whether some item that the caller may see matches a tsquery.
    pub fn is_answered(&self, query: &str) -> Result<bool> {
        let scope = if self.guarded { self.scope_of(&("true".to_owned(), Vec::new()))? } else { Scope::All };
        let (condition, limits) = self.limits(&scope, 3);
        let sql = format!(
            "SELECT c.id FROM {} c WHERE c.lexemes @@ $2::tsquery AND {condition} LIMIT $1",
            self.catalog.companion
        );
        let found = self.filtered(1, &scope, |m| {
            let owner = self.owner();
            // As in `lexical`: matching a tsvector costs more than the planner thinks.
            owner.set(c"enable_seqscan", "off");
            let mut args = vec![Arg::of(m as i64), Arg::of(query)];
            args.extend(&limits);
            spi::query(Mode::ReadCustom, &sql, &args, |row| row.need(1))
        })?;
        Ok(!found.is_empty())
    }

    /// Conditions on `c`, and what they bind from `$place` on: the items that the scope names, what is not wanted.
    pub(super) fn limits(&self, scope: &Scope, place: usize) -> (String, Vec<Arg>) {
        let (mut condition, mut args) = ("true".to_owned(), Vec::new());
        if let Scope::Only(ids) = scope {
            condition = format!("c.id = ANY (${place})");
            args.push(Arg::of(ids.clone()));
        }
        if let Some(unwanted) = &self.unwanted {
            condition += &format!(" AND NOT c.lexemes @@ ${}::tsquery", place + args.len());
            args.push(Arg::of(unwanted.as_str()));
        }
        (condition, args)
    }

    /// Those of the items that bear nothing unwanted.
    pub fn without_unwanted(&self, items: Vec<i64>) -> Result<Vec<i64>> {
        let Some(unwanted) = &self.unwanted else { return Ok(items) };
        let _owner = self.owner();
        let sql =
            format!("SELECT c.id FROM {} c WHERE c.id = ANY ($1) AND c.lexemes @@ $2::tsquery", self.catalog.companion);
        let args = [Arg::of(items.clone()), Arg::of(unwanted.as_str())];
        let out: HashSet<i64> = spi::query(Mode::Read, &sql, &args, |row| row.need(1))?.into_iter().collect();
        Ok(items.into_iter().filter(|id| !out.contains(id)).collect())
    }

    /// Adds to a query's words what stands for them: the shop's own synonyms, and `4 gb` for `4gb`.
    pub(super) fn synonyms(&self, query: &str, terms: &mut [Term]) -> Result<()> {
        for term in terms.iter_mut() {
            if let Some((number, unit)) = split_measure(&term.lexeme) {
                term.also.push(vec![number, unit]);
            }
        }
        for (term, synonym) in understand::synonyms(self.catalog, query)? {
            let (from, to) =
                (self.lexemes(&term, &self.catalog.text_search)?, self.lexemes(&synonym, &self.catalog.text_search)?);
            if to.is_empty() {
                continue;
            }
            for term in terms.iter_mut().filter(|t| from.contains(&t.lexeme)) {
                term.also.push(to.clone());
            }
        }
        Ok(())
    }
}
