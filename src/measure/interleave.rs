//! Two rankings in one list: team draft (Radlinski, Kurup and Joachims, *How does clickthrough data reflect retrieval
//! quality?*, 2008).
//!
//! As two captains choose players: a coin says who picks first in each round, each picks the best of its list that is still
//! there. A click speaks for the team of what was clicked, and since every shopper sees both rankings, far fewer searches
//! tell two apart than where each shopper sees one. Where both captains want the same item at the start of a round, it
//! plays for both: a click on it says nothing of their difference, and crediting the winner of the toss would be noise.

use crate::random::Random;
use std::collections::HashSet;
use std::hash::Hash;

/// Whose pick an item was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Team {
    /// The first list's.
    A,
    /// The second list's.
    B,
    /// Both lists had it next.
    Both,
}

impl Team {
    /// The team's name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Team::A => "a",
            Team::B => "b",
            Team::Both => "both",
        }
    }

    /// The team of a name.
    pub fn parse(name: &str) -> Option<Team> {
        [Team::A, Team::B, Team::Both].into_iter().find(|team| team.name() == name)
    }
}

/// At most `k` picks: the place (from 0) in the list of the team, the first list's where it is both's.
pub fn draft<T: Eq + Hash>(a: &[T], b: &[T], seed: u64, k: usize) -> Vec<(usize, Team)> {
    let mut coin = Random::named(seed, "interleave");
    let mut taken: HashSet<&T> = HashSet::new();
    let mut picks = Vec::new();
    let (mut of_a, mut of_b) = (0, 0);
    while picks.len() < k {
        let next = |list: &[T]| list.iter().position(|item| !taken.contains(item));
        let pick = match (next(a), next(b)) {
            (None, None) => break,
            (Some(at), None) => (at, Team::A),
            (None, Some(at)) => (at, Team::B),
            (Some(at), Some(other)) if of_a == of_b && a[at] == b[other] => (at, Team::Both),
            (Some(at), Some(other)) => {
                let a_picks = if of_a == of_b { coin.coin() } else { of_a < of_b };
                if a_picks { (at, Team::A) } else { (other, Team::B) }
            }
        };
        match pick.1 {
            Team::A => of_a += 1,
            Team::B => of_b += 1,
            Team::Both => {}
        }
        taken.insert(if pick.1 == Team::B { &b[pick.0] } else { &a[pick.0] });
        picks.push(pick);
    }
    picks
}

/// Whom one search speaks for, by the teams of what was taken: 1 for the first, −1 for the second, 0 for neither.
pub fn credit(taken: impl IntoIterator<Item = Team>) -> i32 {
    let sum: i32 = taken
        .into_iter()
        .map(|team| match team {
            Team::A => 1,
            Team::B => -1,
            Team::Both => 0,
        })
        .sum();
    sum.signum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drafted(a: &[i32], b: &[i32], seed: u64, k: usize) -> Vec<(i32, Team)> {
        draft(a, b, seed, k).into_iter().map(|(at, team)| (if team == Team::B { b[at] } else { a[at] }, team)).collect()
    }

    #[test]
    fn as_by_hand() {
        // 1 is first in both; then the coin decides between 2 and 3, and the other picks.
        let one = drafted(&[1, 2, 3, 4], &[1, 3, 5], 0, 3);
        assert_eq!(one[0], (1, Team::Both));
        let mut teams: Vec<(i32, Team)> = one[1..].to_vec();
        teams.sort_by_key(|pick| pick.0);
        assert_eq!(teams, [(2, Team::A), (3, Team::B)]);
        let firsts: HashSet<i32> = (0..50).map(|seed| drafted(&[1, 2], &[1, 3], seed, 2)[1].0).collect();
        assert_eq!(firsts.len(), 2, "the seed is the coin");
    }

    #[test]
    fn a_list_that_ends_leaves_the_rest_to_the_other() {
        assert_eq!(drafted(&[], &[7, 8], 1, 5), [(7, Team::B), (8, Team::B)]);
        assert_eq!(drafted(&[], &[], 1, 5), []);
    }

    #[test]
    fn a_search_speaks_for_one_team_or_for_none() {
        assert_eq!(credit([Team::A, Team::Both, Team::A, Team::B]), 1);
        assert_eq!(credit([Team::B]), -1);
        assert_eq!(credit([Team::A, Team::B]), 0);
        assert_eq!(credit([]), 0);
    }

    #[test]
    fn who_clicks_at_random_speaks_for_nobody() {
        // Two unlike lists, a click on any place with the same chance: over many seeds the credits cancel out.
        let (a, b) = ([1, 2, 3, 4, 5, 6], [6, 2, 9, 1, 8, 3]);
        let mut clicks = Random::new(5);
        let total: i32 = (0..20_000)
            .map(|seed| {
                let list = drafted(&a, &b, seed, 6);
                credit([list[clicks.below(list.len())].1])
            })
            .sum();
        assert!(total.abs() < 500, "{total}"); // more than three deviations of √20,000
    }

    proptest! {
        #[test]
        fn a_draft_holds_each_item_once_and_is_fair(a in proptest::collection::vec(0i32..20, 0..12),
            b in proptest::collection::vec(0i32..20, 0..12), seed: u64, k in 0usize..15) {
            let list = drafted(&a, &b, seed, k);
            let items: HashSet<i32> = list.iter().map(|(item, _)| *item).collect();
            prop_assert_eq!(items.len(), list.len());
            let all: HashSet<i32> = a.iter().chain(&b).copied().collect();
            prop_assert_eq!(list.len(), all.len().min(k));
            // In each beginning of the list in which both could still pick, neither has more than one pick more.
            let (mut of_a, mut of_b) = (0i32, 0i32);
            let mut left: (HashSet<i32>, HashSet<i32>) = (a.iter().copied().collect(), b.iter().copied().collect());
            for (item, team) in list {
                if left.0.is_empty() || left.1.is_empty() { break; }
                match team { Team::A => of_a += 1, Team::B => of_b += 1, Team::Both => {} }
                prop_assert!((of_a - of_b).abs() <= 1);
                left.0.remove(&item);
                left.1.remove(&item);
            }
        }
    }
}
