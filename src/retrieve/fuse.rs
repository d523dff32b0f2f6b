//! Candidates of several sources as one list: each once, with the names of all that brought it.

use std::collections::HashMap;

/// Candidates in the order in which they came.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Candidates {
    found: Vec<(i64, String)>,
    place: HashMap<i64, usize>,
}

impl Candidates {
    /// Adds what a source brought.
    pub fn add(&mut self, source: &str, ids: impl IntoIterator<Item = i64>) {
        for id in ids {
            match self.place.get(&id) {
                Some(at) => {
                    let sources = &mut self.found[*at].1;
                    if !sources.split('+').any(|s| s == source) {
                        sources.push('+');
                        sources.push_str(source);
                    }
                }
                None => {
                    self.place.insert(id, self.found.len());
                    self.found.push((id, source.to_owned()));
                }
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The items, in the order in which they came.
    pub fn ids(&self) -> Vec<i64> {
        self.found.iter().map(|(id, _)| *id).collect()
    }

    /// The sources that brought an item, joined by `+`; empty where none did.
    pub fn source(&self, id: i64) -> &str {
        self.place.get(&id).map_or("", |at| &self.found[*at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_once_with_all_its_sources() {
        let mut candidates = Candidates::default();
        candidates.add("lexical", [3, 1]);
        candidates.add("dense", [1, 2, 1]);
        assert_eq!(candidates.ids(), [3, 1, 2]);
        assert_eq!(candidates.source(1), "lexical+dense");
        assert_eq!(candidates.source(9), "");
    }
}
