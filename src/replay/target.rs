//! What is replayed: the searches and visits that rows of behaviour make.

use crate::control::Control;
use crate::error::Result;
use crate::event::Kind;
use crate::random::Random;
use crate::store::Store;
use std::collections::HashMap;

/// A row of behaviour, as a replay reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// Who.
    pub shopper: String,
    /// The item's number.
    pub item: i64,
    /// Seconds since 1970-01-01 UTC.
    pub at: f64,
    /// What happened.
    pub kind: Kind,
    /// How much it says.
    pub weight: f64,
    /// The query it came from.
    pub query: Option<String>,
    /// Its session.
    pub session: Option<String>,
    /// The item's place in the list, from 1.
    pub place: Option<usize>,
    /// The chance with which the item stood there.
    pub propensity: Option<f64>,
    /// Values of context columns.
    pub context: Vec<(String, String)>,
}

/// An item that a search showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The item's number.
    pub item: i64,
    /// Its place, from 1.
    pub place: Option<usize>,
    /// The chance with which it stood there.
    pub propensity: Option<f64>,
}

/// A search, or a visit without one, that a shopper made: what is replayed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Target {
    /// Who.
    pub shopper: String,
    /// The query; `None` is a visit.
    pub query: Option<String>,
    /// Its first moment: what happened from then on is not known yet.
    pub at: f64,
    /// Its session.
    pub session: Option<String>,
    /// Values of context columns as it began.
    pub context: Vec<(String, String)>,
    /// What was taken in it, with the largest weight.
    pub taken: Vec<(i64, f64)>,
    /// What was shown, where that is logged.
    pub shown: Vec<Shown>,
}

/// A visit ends after so many seconds without an event.
const PAUSE: f64 = 1800.0;

/// The searches and visits of rows sorted by shopper and time: searches by query within a visit, and each visit by itself
/// with all that was taken in it.
pub fn targets(rows: &[Logged]) -> (Vec<Target>, Vec<Target>) {
    let (mut searches, mut visits) = (Vec::new(), Vec::new());
    let same = |a: &Logged, b: &Logged| {
        let sessions = a.session.is_none() || b.session.is_none() || a.session == b.session;
        a.shopper == b.shopper && b.at - a.at <= PAUSE && sessions
    };
    for visit in rows.chunk_by(same) {
        let mut by_query: Vec<(String, Target)> = Vec::new();
        let begin = |row: &Logged, query: Option<String>| Target {
            shopper: row.shopper.clone(),
            query,
            at: row.at,
            session: row.session.clone(),
            context: row.context.clone(),
            ..Target::default()
        };
        let mut whole = begin(&visit[0], None);
        for row in visit {
            take(&mut whole, row);
            let Some(query) = row.query.as_deref().map(str::trim).filter(|q| !q.is_empty()) else { continue };
            let key = query.to_lowercase();
            let place = by_query.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
                by_query.push((key, begin(row, Some(query.to_owned()))));
                by_query.len() - 1
            });
            let target = &mut by_query[place].1;
            take(target, row);
            let new = |shown: &Shown| shown.item != row.item && (row.place.is_none() || shown.place != row.place);
            if row.kind == Kind::Impression && target.shown.iter().all(new) {
                target.shown.push(Shown { item: row.item, place: row.place, propensity: row.propensity });
            }
        }
        searches.extend(
            by_query.into_iter().map(|(_, target)| target).filter(|t| !t.taken.is_empty() || !t.shown.is_empty()),
        );
        if !whole.taken.is_empty() {
            visits.push(whole);
        }
    }
    (searches, visits)
}

fn take(target: &mut Target, row: &Logged) {
    if row.kind == Kind::Return {
        target.taken.retain(|(item, _)| *item != row.item);
    } else if row.weight > 0.0 {
        match target.taken.iter_mut().find(|(item, _)| *item == row.item) {
            Some(known) => known.1 = known.1.max(row.weight),
            None => target.taken.push((row.item, row.weight)),
        }
    }
}

/// At most `each` targets of each shopper, drawn by the seed; in order.
pub fn sample(targets: Vec<Target>, each: usize, seed: u64) -> Vec<Target> {
    let mut kept = Vec::new();
    for of_shopper in targets.chunk_by(|a, b| a.shopper == b.shopper) {
        let mut places: Vec<usize> = (0..of_shopper.len()).collect();
        Random::named(seed, &of_shopper[0].shopper).shuffle(&mut places);
        places.truncate(each);
        places.sort_unstable();
        kept.extend(places.into_iter().map(|place| of_shopper[place].clone()));
    }
    kept
}

/// A word stands for a query if it is in this share of the items: rarer, it names one item; more common, it says nothing.
const WORD_SHARE: (f64, f64) = (0.002, 0.1);

/// Makes searches of visits where a shop logs no queries: one word, drawn by the seed, of the title of one thing that was
/// taken; what else was taken on the visit and has the word in its title answers it too.
pub fn pseudo_queries(
    store: &dyn Store,
    visits: &[Target],
    titles: &HashMap<i64, String>,
    seed: u64,
    control: &dyn Control,
) -> Result<Vec<Target>> {
    let mut shares: HashMap<String, f64> = HashMap::new();
    let mut made = Vec::new();
    for visit in visits {
        control.check()?;
        let mut random = Random::named(seed, &format!("{} {}", visit.shopper, visit.at));
        let words_of = |item: i64| titles.get(&item).map_or(Vec::new(), |title| words(title));
        let (item, _) = visit.taken[random.below(visit.taken.len())];
        let mut fit = Vec::new();
        for word in words_of(item) {
            if !shares.contains_key(&word) {
                // Of an idf the share of the items that hold the word: ln((N + 1) / (n + ½)), turned round.
                let known = store.words(&word)?.terms;
                let share = known.first().filter(|_| known.len() == 1).map_or(0.0, |term| (-term.idf).exp());
                shares.insert(word.clone(), share);
            }
            if (WORD_SHARE.0..=WORD_SHARE.1).contains(&shares[&word]) {
                fit.push(word);
            }
        }
        if fit.is_empty() {
            continue;
        }
        let word = fit.swap_remove(random.below(fit.len()));
        let taken: Vec<(i64, f64)> =
            visit.taken.iter().copied().filter(|(item, _)| words_of(*item).contains(&word)).collect();
        made.push(Target { query: Some(word), taken, ..visit.clone() });
    }
    Ok(made)
}

fn words(title: &str) -> Vec<String> {
    let mut words: Vec<String> = title
        .to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| word.chars().count() > 1)
        .map(str::to_owned)
        .collect();
    words.sort_unstable();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(shopper: &str, item: i64, at: f64, kind: Kind, query: Option<&str>) -> Logged {
        Logged {
            shopper: shopper.into(),
            item,
            at,
            kind,
            weight: kind.weight(),
            query: query.map(str::to_owned),
            session: None,
            place: (kind == Kind::Impression).then_some(item as usize),
            propensity: None,
            context: Vec::new(),
        }
    }

    #[test]
    fn rows_become_searches_and_visits() {
        let rows = [
            row("1", 1, 0.0, Kind::Impression, Some("Red lamp")),
            row("1", 2, 0.0, Kind::Impression, Some("red lamp ")),
            row("1", 2, 5.0, Kind::Click, Some("red lamp")),
            row("1", 2, 9.0, Kind::Purchase, Some("red lamp")),
            row("1", 7, 60.0, Kind::View, None),
            row("1", 3, 5000.0, Kind::Purchase, None),
            row("1", 3, 5100.0, Kind::Return, None),
            row("2", 3, 5100.0, Kind::Impression, Some("mug")),
        ];
        let (searches, visits) = targets(&rows);
        assert_eq!(searches.len(), 2);
        assert_eq!(searches[0].query.as_deref(), Some("Red lamp"));
        assert_eq!((searches[0].at, &searches[0].taken), (0.0, &vec![(2, 1.0)]));
        assert_eq!(searches[0].shown.len(), 2);
        assert!(searches[1].taken.is_empty(), "a search that led nowhere still counts for what was shown");
        assert_eq!(visits.len(), 1, "what was sent back is no visit's aim: {visits:?}");
        assert_eq!(visits[0].taken, [(2, 1.0), (7, 0.25)]);
    }

    #[test]
    fn a_sample_is_the_seeds() {
        let targets: Vec<Target> =
            (0..40).map(|n| Target { shopper: (n / 20).to_string(), at: f64::from(n), ..Target::default() }).collect();
        let one = sample(targets.clone(), 3, 1);
        assert_eq!(one.len(), 6);
        assert_eq!(one, sample(targets.clone(), 3, 1));
        assert_ne!(one, sample(targets, 3, 2));
    }
}
