//! When two items are one product in two colours.
//!
//! A catalog that keeps variants as rows names them alike: the titles differ in words that are values of the items' own
//! attributes (a colour, a size). Where nothing of that kind is declared, only near-identical vectors tell.

use std::collections::BTreeSet;

/// Two vectors of a cosine above this say the same.
pub const SAME: f64 = 0.98;

/// An item's own words, as the catalog keeps them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Naming {
    /// Words of the title.
    pub title: BTreeSet<String>,
    /// Words of the attributes.
    pub attributes: BTreeSet<String>,
}

impl Naming {
    /// Whether the other is the same product in another colour: most of the title is shared, and each word that is not
    /// is a value of that item's attributes.
    pub fn is_variant_of(&self, other: &Naming) -> bool {
        let shared = self.title.intersection(&other.title).count();
        let told =
            |one: &Naming, two: &Naming| one.title.difference(&two.title).all(|word| one.attributes.contains(word));
        shared > 0 && 2 * shared >= self.title.len().max(other.title.len()) && told(self, other) && told(other, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(title: &str, attributes: &str) -> Naming {
        let set = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Naming { title: set(title), attributes: set(attributes) }
    }

    #[test]
    fn another_colour_is_a_variant_and_another_thing_is_not() {
        let red = naming("kettle tall red", "red steel");
        assert!(red.is_variant_of(&naming("kettle tall blue", "blue steel")));
        assert!(red.is_variant_of(&naming("kettle tall", "blue")));
        assert!(!red.is_variant_of(&naming("kettle small blue", "blue")), "small is no attribute");
        assert!(!red.is_variant_of(&naming("toaster red", "red")));
    }

    #[test]
    fn what_shares_little_of_its_name_is_no_variant() {
        assert!(
            !naming("red running shoes 4", "red running shoes")
                .is_variant_of(&naming("blue leather boots 4", "blue leather boots"))
        );
        assert!(!Naming::default().is_variant_of(&Naming::default()));
    }
}
