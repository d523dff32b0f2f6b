//! How much of r, what the shopper would want anyway, a search's score takes.

use super::sample::{List, Lists};
use super::train;
use crate::measure::interval;
use crate::rank::network::{Head, Ranker};

/// Shares that are tried, where a query leaves all the room.
const TRIED: [f32; 6] = [0.05, 0.1, 0.2, 0.35, 0.5, 0.75];

/// The share that is best by NDCG@10 of held-out searches; none unless it is surely better than none (95 %, over shoppers).
pub fn choose(ranker: &Ranker, lists: &Lists, seed: u64) -> f32 {
    let asked: Vec<&List> = lists.lists.iter().filter(|list| list.head == Head::Answer).collect();
    let shoppers: Vec<u32> = asked.iter().map(|list| list.shopper).collect();
    let quality = |blend: f32| -> Vec<f64> {
        let mut ranker = ranker.clone();
        ranker.blend = blend;
        let of = |list: &List| train::ndcg(lists, list, &train::scores(&ranker, list, lists));
        asked.iter().map(|list| f64::from(list.weight) * of(list)).collect()
    };
    let none = quality(0.0);
    let mut best = (0.0, 0.0);
    for share in TRIED {
        let gains: Vec<f64> = quality(share).iter().zip(&none).map(|(now, before)| now - before).collect();
        if let Some(gain) = interval::mean(&gains, &shoppers, seed)
            && gain.low > 0.0
            && gain.value > best.1
        {
            best = (share, gain.value);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::rank::feature::{CALL, ITEM};
    use crate::rank::network;

    /// Searches whose best item is the one of the most `popularity`, or anything.
    fn lists(by_popularity: bool) -> Lists {
        let mut random = Random::new(4);
        let mut lists = Lists::default();
        for n in 0..300 {
            let first = lists.features.len();
            let place = random.below(20);
            for item in 0..20 {
                let mut row = [0.0; ITEM.len()];
                row[18] = if by_popularity && item == place { 1.0 } else { random.uniform() as f32 * 0.9 };
                lists.features.push(row);
                lists.items.push(item as i64);
                lists.before.push(0.0);
                lists.counts.push(1.0);
                lists.labels.push(f32::from(u8::from(item == place)));
            }
            let mut call = [0.0; CALL.len()];
            (call[0], call[1]) = (1.0, 1.0);
            let range = first..lists.features.len();
            lists.lists.push(List { head: Head::Answer, call, range, shopper: n, weight: 1.0 });
        }
        lists
    }

    #[test]
    fn what_is_surely_better_is_taken_and_nothing_else() {
        let mut ranker = train::start(&lists(true), 1);
        // y does not look at popularity at all (e⁻²⁰⁰ is no number of 32 bits), r does.
        let blocks = network::blocks();
        let place = blocks.iter().position(|b| b.first <= 18 && 18 < b.first + b.count).unwrap_or_default();
        let at = |head| network::gate_at(&blocks, head, place);
        ranker.weights[at(Head::Answer)..at(Head::Answer) + CALL.len()].fill(0.0);
        ranker.weights[at(Head::Answer) + CALL.len()] = -200.0;
        assert!(choose(&ranker, &lists(true), 1) > 0.0);
        assert_eq!(choose(&ranker, &lists(false), 1), 0.0);
    }
}
