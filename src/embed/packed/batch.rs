//! The tokens of many texts, one behind the other.

use std::ops::Range;

/// A ragged batch: text `i` is the tokens from where text `i - 1` ended to its own end.
#[derive(Default)]
pub(crate) struct Batch {
    ids: Vec<u32>,
    /// Second text of a pair, by token; empty when no text is a pair.
    types: Vec<u32>,
    ends: Vec<usize>,
}

impl Batch {
    /// Forgets the texts, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.types.clear();
        self.ends.clear();
    }

    /// Adds a text. `types` is empty or as long as `ids`.
    pub(crate) fn push(&mut self, ids: &[u32], types: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.types.extend_from_slice(types);
        self.types.resize(self.ids.len(), 0);
        self.ends.push(self.ids.len());
    }

    /// Tokens of all texts together.
    pub(crate) fn rows(&self) -> usize {
        self.ids.len()
    }

    /// How many texts.
    pub(crate) fn texts(&self) -> usize {
        self.ends.len()
    }

    fn start(&self, text: usize) -> usize {
        text.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0)
    }

    /// Runs of whole texts of about `rows` tokens each, at least one text.
    pub(crate) fn waves(&self, rows: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = next;
            let start = self.start(first);
            while self.ends.get(next).is_some_and(|end| next == first || end - start <= rows) {
                next += 1;
            }
            (next > first).then_some(first..next)
        })
    }

    /// For each of `texts` the range of its rows, counted from the first text's first.
    pub(crate) fn spans(&self, texts: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
        let first = self.start(texts.start);
        texts.map(move |text| self.start(text) - first..self.start(text + 1) - first)
    }

    /// Token ids and types of `texts`.
    pub(crate) fn tokens(&self, texts: Range<usize>) -> (&[u32], &[u32]) {
        let range = self.start(texts.start)..self.start(texts.end);
        (self.ids.get(range.clone()).unwrap_or_default(), self.types.get(range).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::Batch;

    #[test]
    fn waves_hold_whole_texts() {
        let mut batch = Batch::default();
        for len in [3, 3, 10, 1, 1] {
            batch.push(&vec![7; len], &[]);
        }
        assert_eq!(batch.waves(6).collect::<Vec<_>>(), [0..2, 2..3, 3..5]);
        assert_eq!(batch.spans(3..5).collect::<Vec<_>>(), [0..1, 1..2]);
        assert_eq!(batch.tokens(2..4).0.len(), 11);
        batch.clear();
        assert_eq!(batch.waves(6).count(), 0);
    }
}
