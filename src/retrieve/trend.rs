//! Trends: what is taken more than its own past, and its category's, would have it.
//!
//! An item's events are kept by age in buckets that double: the last hour, the two before, the four before those. So
//! any window is read off a few numbers. What came within the window, newer counting more, is held against what the
//! item's own rate before it promised, scaled by how its whole category went: toys before Christmas are no trend. Both
//! are smoothed, so that three shoppers are no storm.

/// Buckets: together they reach back seven years.
pub const BUCKETS: i16 = 16;
/// Added to what came and to what was expected, in shoppers.
const SMOOTHING: f64 = 3.0;
/// The past reaches back so many windows before the window.
const PAST: f64 = 8.0;
/// A category that went up or down by more than this has no past to speak of.
const GROWTH: (f64, f64) = (0.2, 5.0);

/// Weighted events by bucket; those that are missing had none.
pub type Buckets = Vec<(i16, f32)>;

/// What a window saw.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Seen {
    /// Within it, newer counting more.
    recent: f64,
    /// An hour, before it.
    rate: f64,
}

/// Bucket b spans the ages from 2^b − 1 to 2^(b + 1) − 1 hours.
fn span(bucket: i16) -> (f64, f64) {
    let lower = f64::from(bucket).exp2();
    (lower - 1.0, 2.0 * lower - 1.0)
}

fn see(buckets: &[(i16, f32)], window: f64) -> Seen {
    let end = window * (1.0 + PAST);
    let mut seen = Seen::default();
    for (bucket, count) in buckets {
        let (from, to) = span(*bucket);
        let share = |low: f64, high: f64| ((high.min(to) - low.max(from)) / (to - from)).max(0.0);
        let middle = (from + to.min(window)) / 2.0;
        seen.recent += f64::from(*count) * share(0.0, window) * (-middle / window).exp2();
        seen.rate += f64::from(*count) * share(window, end) / (end - window);
    }
    seen
}

/// The logarithm of how many times more often an item is taken than expected, in a window of so many hours; `kin` are the
/// events of its whole category.
pub fn lift(own: &[(i16, f32)], kin: &[(i16, f32)], window: f64) -> f64 {
    let (own, kin) = (see(own, window), see(kin, window));
    // An event of steady rate counts so much, as newer ones count more.
    let steady = window / (2.0 * std::f64::consts::LN_2);
    let growth = if kin.rate > 0.0 { (kin.recent / (kin.rate * steady)).clamp(GROWTH.0, GROWTH.1) } else { 1.0 };
    let expected = own.rate * steady * growth;
    ((own.recent + SMOOTHING) / (expected + SMOOTHING)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events at a rate an hour by age.
    fn rate(per_hour: impl Fn(f64) -> f64) -> Buckets {
        (0..BUCKETS)
            .map(|b| {
                let (from, to) = span(b);
                (b, ((to - from) * per_hour((from + to) / 2.0)) as f32)
            })
            .collect()
    }

    #[test]
    fn a_steady_item_is_no_trend_and_a_rising_one_is() {
        let steady = rate(|_| 1.0);
        assert!(lift(&steady, &steady, 100.0).abs() < 0.15, "{}", lift(&steady, &steady, 100.0));
        let rising = rate(|age| if age < 100.0 { 4.0 } else { 1.0 });
        assert!(lift(&rising, &steady, 100.0) > 0.7);
        let falling = rate(|age| if age < 100.0 { 0.2 } else { 1.0 });
        assert!(lift(&falling, &steady, 100.0) < -0.7);
    }

    #[test]
    fn what_the_whole_category_does_is_no_trend() {
        let christmas = rate(|age| if age < 100.0 { 4.0 } else { 1.0 });
        assert!(lift(&christmas, &christmas, 100.0).abs() < 0.2);
    }

    #[test]
    fn few_are_no_storm() {
        let few = vec![(0, 2.0)];
        let many = rate(|age| if age < 100.0 { 2.0 } else { 0.5 });
        let kin = rate(|_| 50.0);
        assert!(lift(&few, &kin, 100.0) < lift(&many, &kin, 100.0));
        assert_eq!(lift(&[], &[], 100.0), 0.0);
    }
}
