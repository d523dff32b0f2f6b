//! BM25 over fields: how well an item's words answer the query's.
//!
//! Robertson and Zaragoza, *The Probabilistic Relevance Framework: BM25 and Beyond* (2009), the simple field form: a
//! word counts in each field with the field's weight, and so does the field's length.

/// Term frequency saturation.
pub const K1: f64 = 1.2;
/// Length normalisation.
pub const B: f64 = 0.75;
/// Weights of the fields attributes, body, brand and category, title (labels D, C, B, A).
pub const FIELDS: [f64; 4] = [0.5, 1.0, 1.5, 3.0];

/// What a synonym counts of the word itself.
pub const SYNONYM: f64 = 0.9;

/// Words of a query that count, at most: the rarest.
pub const MOST_TERMS: usize = 48;

/// A word of the query with its rarity.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Term {
    /// The stemmed word.
    pub lexeme: String,
    /// ln(1 + (N − n + ½) / (n + ½)): positive however common the word is.
    pub idf: f64,
    /// What stands for it as well: words that all have to be there.
    pub also: Vec<Vec<String>>,
}

/// A query ready to score items.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bm25 {
    /// The query's distinct words.
    pub terms: Vec<Term>,
    /// The catalog's mean weighted length; 0 where no statistics are kept yet, and then length counts nothing.
    pub average: f64,
}

/// How an item's words answer a query.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Answer {
    /// BM25.
    pub score: f64,
    /// The idf of the query's words that the item holds.
    pub covered: f64,
}

/// Inverse document frequency of a word that stands in `documents` of `total` items.
pub fn idf(documents: f64, total: f64) -> f64 {
    let documents = documents.clamp(0.0, total.max(0.0));
    (1.0 + (total - documents + 0.5) / (documents + 0.5)).ln()
}

/// The weighted count of a word, or of all words, from its counts by field `[D, C, B, A]`.
pub fn weighted(counts: [u32; 4]) -> f64 {
    counts.iter().zip(FIELDS).map(|(count, weight)| f64::from(*count) * weight).sum()
}

impl Term {
    /// How often an item holds it, or else what stands for it, and what that counts.
    fn frequency(&self, find: &impl Fn(&str) -> Option<[u32; 4]>) -> Option<(f64, f64)> {
        if let Some(counts) = find(&self.lexeme) {
            return Some((weighted(counts), 1.0));
        }
        let phrase = |words: &Vec<String>| {
            let counts = words.iter().map(|word| find(word).map(weighted));
            counts.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::min)
        };
        self.also.iter().filter_map(phrase).reduce(f64::max).map(|frequency| (frequency, SYNONYM))
    }
}

impl Bm25 {
    /// How an item answers: `find` gives a word's counts by field, `length` is the weighted length.
    pub fn score(&self, find: impl Fn(&str) -> Option<[u32; 4]>, length: f64) -> Answer {
        let norm = if self.average > 0.0 { 1.0 - B + B * length / self.average } else { 1.0 };
        let mut answer = Answer::default();
        for term in &self.terms {
            let Some((frequency, share)) = term.frequency(&find) else { continue };
            answer.score += share * term.idf * frequency * (K1 + 1.0) / (frequency + K1 * norm);
            answer.covered += share * term.idf;
        }
        answer
    }

    /// The query's whole idf: what `covered` is a part of. No item's score reaches it times (K1 + 1).
    pub fn total(&self) -> f64 {
        self.terms.iter().map(|term| term.idf).sum()
    }

    /// As bytes, to travel through SQL as one bound value.
    pub fn to_bytes(&self) -> Vec<u8> {
        fn text(bytes: &mut Vec<u8>, text: &str) {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        let mut bytes = self.average.to_le_bytes().to_vec();
        for term in &self.terms {
            bytes.extend(term.idf.to_le_bytes());
            text(&mut bytes, &term.lexeme);
            bytes.extend((term.also.len() as u32).to_le_bytes());
            for phrase in &term.also {
                bytes.extend((phrase.len() as u32).to_le_bytes());
                phrase.iter().for_each(|word| text(&mut bytes, word));
            }
        }
        bytes
    }

    /// What `to_bytes` wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Bm25> {
        fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
            let (head, tail) = rest.split_at_checked(N)?;
            *rest = tail;
            head.try_into().ok()
        }
        fn number(rest: &mut &[u8]) -> Option<usize> {
            Some(u32::from_le_bytes(take(rest)?) as usize)
        }
        fn text(rest: &mut &[u8]) -> Option<String> {
            let length = number(rest)?;
            let (text, tail) = rest.split_at_checked(length)?;
            *rest = tail;
            Some(std::str::from_utf8(text).ok()?.to_owned())
        }
        let mut rest = bytes;
        let average = f64::from_le_bytes(take(&mut rest)?);
        let mut terms = Vec::new();
        while !rest.is_empty() {
            let idf = f64::from_le_bytes(take(&mut rest)?);
            let lexeme = text(&mut rest)?;
            let mut also = Vec::new();
            for _ in 0..number(&mut rest)? {
                let words = number(&mut rest)?;
                also.push((0..words).map(|_| text(&mut rest)).collect::<Option<Vec<String>>>()?);
            }
            terms.push(Term { lexeme, idf, also });
        }
        Some(Bm25 { terms, average })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query(words: &[(&str, f64)], average: f64) -> Bm25 {
        Bm25 {
            terms: words
                .iter()
                .map(|(w, idf)| Term {
                    lexeme: (*w).into(),
                    idf: *idf,
                    also: vec![vec![format!("{w}2"), format!("{w}3")]],
                })
                .collect(),
            average,
        }
    }

    #[test]
    fn one_word_once_in_the_title_of_an_average_item() {
        // idf 2, tf' = 3 (title weight), norm 1: 2 · 3 · 2.2 / (3 + 1.2)
        let answer = query(&[("hp", 2.0)], 10.0).score(|_| Some([0, 0, 0, 1]), 10.0);
        assert!((answer.score - 13.2 / 4.2).abs() < 1e-12, "{answer:?}");
        assert_eq!(answer.covered, 2.0);
    }

    #[test]
    fn a_synonym_counts_less_and_needs_all_its_words() {
        let query = query(&[("tv", 2.0)], 10.0);
        let held = |words: &'static [&'static str]| move |w: &str| words.contains(&w).then_some([0, 0, 0, 1]);
        let (own, other) = (query.score(held(&["tv"]), 10.0), query.score(held(&["tv2", "tv3"]), 10.0));
        assert!((other.score - SYNONYM * own.score).abs() < 1e-12);
        assert_eq!(query.score(held(&["tv2"]), 10.0), Answer::default());
    }

    #[test]
    fn idf_is_never_negative() {
        assert!(idf(10.0, 10.0) > 0.0);
        assert!(idf(0.0, 0.0) > 0.0);
        assert!(idf(20.0, 10.0) > 0.0);
    }

    proptest! {
        #[test]
        fn bytes_come_back(words in proptest::collection::vec(("[a-zäß]{1,12}", 0.0f64..20.0), 0..6), average in 0.0f64..500.0) {
            let words: Vec<(&str, f64)> = words.iter().map(|(w, i)| (w.as_str(), *i)).collect();
            let before = query(&words, average);
            prop_assert_eq!(Bm25::from_bytes(&before.to_bytes()), Some(before));
        }

        #[test]
        fn the_bound_bounds(counts in proptest::array::uniform4(0u32..1000), length in 0.0f64..1e5, idf in 0.0f64..20.0) {
            let query = query(&[("a", idf)], 50.0);
            prop_assert!(query.score(|_| Some(counts), length).score <= query.total() * (K1 + 1.0) + 1e-9);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Bm25::from_bytes(&bytes);
        }
    }
}
