//! What shoppers did after a query, and what that says of its intent.
//!
//! Shoppers who all take one item named it; those who each look at many browsed. Words say more than a few clicks do, so
//! what was done counts as far as many did it: a share of n / (n + 20), the mean of a Dirichlet prior of 20 shoppers who
//! did what the words say. Nothing is said by shoppers who took nothing: they may have been advised, helped or let down.

use super::intent::{Class, Intent};

/// How many shoppers the words count for.
const PRIOR: f64 = 20.0;
/// Distinct items a visit beyond the first, from which a visit is browsing.
const MANY: f64 = 4.0;
/// Steps of a quantity as the lexicon keeps it.
const STEPS: f64 = 15.0;

/// What followed a query.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Behaviour {
    /// The share of the visits that took something, 0 to 1.
    pub answered: f64,
    /// Of the shoppers who took something, the share that took the item most of them took, 0 to 1.
    pub focus: f64,
    /// Distinct items of a visit that took something, 1 or more.
    pub breadth: f64,
    /// Of what was taken, the share that neither holds a word of the query nor is of the category that it leads to, 0 to 1:
    /// what shoppers wanted besides.
    pub beside: f64,
}

impl Behaviour {
    /// Sixteen bits: the lexicon keeps one for each query.
    pub(super) fn pack(self) -> u64 {
        let step = |x: f64| (x.clamp(0.0, 1.0) * STEPS).round() as u64;
        step(self.beside) << 12 | step(self.answered) << 8 | step(self.focus) << 4 | step((self.breadth - 1.0) / MANY)
    }

    pub(super) fn unpack(bits: u64) -> Behaviour {
        let part = |shift: u32| f64::from((bits >> shift) as u32 & 15) / STEPS;
        Behaviour { beside: part(12), answered: part(8), focus: part(4), breadth: 1.0 + part(0) * MANY }
    }

    /// The intent of a query by its words, moved by what `shoppers` did.
    pub fn moves(&self, intent: &Intent, shoppers: u32) -> Intent {
        let many = ((self.breadth - 1.0) / MANY).clamp(0.0, 1.0);
        let one = self.focus.clamp(0.0, 1.0) * (1.0 - many);
        let browse = (1.0 - self.focus.clamp(0.0, 1.0)) * many;
        let said = |class: Class| match class {
            Class::BuyExact => one,
            Class::Browse => browse,
            Class::BuyAttribute => 1.0 - one - browse,
            _ => 0.0,
        };
        let n = f64::from(shoppers) * self.answered.clamp(0.0, 1.0);
        let share = n / (n + PRIOR);
        Intent::each(|class| (1.0 - share) * intent.of(class) + share * said(class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn even() -> Intent {
        Intent::each(|_| 1.0 / 7.0)
    }

    #[test]
    fn what_everybody_takes_was_named_and_what_each_looks_around_for_is_browsed() {
        let named = Behaviour { answered: 0.9, focus: 0.95, breadth: 1.1, beside: 0.0 };
        assert_eq!(named.moves(&even(), 200).best().0, Class::BuyExact);
        let around = Behaviour { answered: 0.8, focus: 0.1, breadth: 5.0, beside: 0.0 };
        assert_eq!(around.moves(&even(), 200).best().0, Class::Browse);
        let kinds = Behaviour { answered: 0.8, focus: 0.2, breadth: 1.2, beside: 0.0 };
        assert_eq!(kinds.moves(&even(), 200).best().0, Class::BuyAttribute);
    }

    #[test]
    fn few_shoppers_or_none_who_took_something_say_little() {
        let named = Behaviour { answered: 1.0, focus: 1.0, breadth: 1.0, beside: 0.0 };
        assert!(named.moves(&even(), 2).of(Class::BuyExact) < 0.25);
        let vain = Behaviour { answered: 0.0, ..named };
        assert_eq!(vain.moves(&even(), 1_000_000), even());
        let sum: f64 = named.moves(&even(), 50).confidence.iter().sum();
        assert!((sum - 1.0).abs() < 1e-9);
    }

    #[test]
    fn sixteen_bits_keep_it() {
        let kept = Behaviour { answered: 0.8, focus: 0.4, breadth: 3.0, beside: 0.2 };
        let read = Behaviour::unpack(kept.pack());
        assert!((read.answered - 0.8).abs() < 0.04 && (read.focus - 0.4).abs() < 0.04, "{read:?}");
        assert!((read.breadth - 3.0).abs() < 0.2 && (read.beside - 0.2).abs() < 0.04, "{read:?}");
        assert!(Behaviour { beside: 1.0, ..kept }.pack() < 1 << 16);
    }
}
