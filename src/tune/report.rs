//! How good: precision, recall and F1 by label, their means, and whether one list of scores beats another.

use serde_json::{Value, json};

use crate::random::Random;

/// One label's part of a classification report.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The label; `macro` and `weighted` are the means of all.
    pub label: String,
    /// Of the texts given this label, the share that bear it.
    pub precision: f64,
    /// Of the texts that bear it, the share that were given it.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
    /// Texts that bear it.
    pub support: usize,
}

/// Precision, recall and F1 of each label that occurs, then their means. `truth` and `given` are indices into `labels`.
pub fn classification(labels: &[String], truth: &[usize], given: &[usize]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (i, label) in labels.iter().enumerate() {
        let right = truth.iter().zip(given).filter(|(t, g)| **t == i && **g == i).count();
        let (support, said) = (truth.iter().filter(|t| **t == i).count(), given.iter().filter(|g| **g == i).count());
        if support + said > 0 {
            lines.push(line(label, right, said, support));
        }
    }
    means(&mut lines);
    lines
}

/// A line from counts: right ones, all that were given, all that should have been.
pub fn line(label: &str, right: usize, said: usize, support: usize) -> Line {
    let share = |of: usize| if of == 0 { 0.0 } else { right as f64 / of as f64 };
    let (precision, recall) = (share(said), share(support));
    let f1 = if right == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
    Line { label: label.to_owned(), precision, recall, f1, support }
}

/// Adds the plain mean over labels and the one weighted by support.
pub fn means(lines: &mut Vec<Line>) {
    let support: usize = lines.iter().map(|l| l.support).sum();
    let mean = |of: fn(&Line) -> f64, weight: &dyn Fn(&Line) -> f64| {
        let total: f64 = lines.iter().map(weight).sum();
        if total == 0.0 { 0.0 } else { lines.iter().map(|l| of(l) * weight(l)).sum::<f64>() / total }
    };
    let both: Vec<Line> =
        [("macro", &(|_: &Line| 1.0) as &dyn Fn(&Line) -> f64), ("weighted", &|l: &Line| l.support as f64)]
            .into_iter()
            .map(|(name, weight)| Line {
                label: name.into(),
                precision: mean(|l| l.precision, weight),
                recall: mean(|l| l.recall, weight),
                f1: mean(|l| l.f1, weight),
                support,
            })
            .collect();
    lines.extend(both);
}

/// Lines as they are kept.
pub fn to_json(lines: &[Line]) -> Value {
    let round = |x: f64| (x * 1e4).round() / 1e4;
    let one = |l: &Line| {
        json!({"label": l.label, "precision": round(l.precision), "recall": round(l.recall), "f1": round(l.f1),
            "support": l.support})
    };
    Value::Array(lines.iter().map(one).collect())
}

/// The mean of `new - old` with its 95 % bootstrap interval, pair by pair.
pub fn gain(new: &[f32], old: &[f32], seed: u64) -> (f64, f64, f64) {
    const DRAWS: usize = 1000;
    let gains: Vec<f64> = new.iter().zip(old).map(|(n, o)| f64::from(*n) - f64::from(*o)).collect();
    if gains.is_empty() {
        return (0.0, 0.0, 0.0);
    }
    let count = gains.len() as f64;
    let mut random = Random::named(seed, "bootstrap");
    let mut means: Vec<f64> =
        (0..DRAWS).map(|_| (0..gains.len()).map(|_| gains[random.below(gains.len())]).sum::<f64>() / count).collect();
    means.sort_by(f64::total_cmp);
    (gains.iter().sum::<f64>() / count, means[DRAWS / 40], means[DRAWS - 1 - DRAWS / 40])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_scikit_learns() {
        // from sklearn.metrics import classification_report
        // classification_report([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2], output_dict=True)
        let labels: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
        let lines = classification(&labels, &[0, 0, 0, 1, 1, 2], &[0, 0, 1, 1, 2, 2]);
        let shown: Vec<(&str, f64, usize)> = lines.iter().map(|l| (l.label.as_str(), l.f1, l.support)).collect();
        let want =
            [("a", 0.8, 3), ("b", 0.5, 2), ("c", 2.0 / 3.0, 1), ("macro", 0.655_555, 6), ("weighted", 0.677_777, 6)];
        for (got, want) in shown.iter().zip(want) {
            assert!(got.0 == want.0 && (got.1 - want.1).abs() < 1e-5 && got.2 == want.2, "{shown:?}");
        }
        assert_eq!(shown.len(), want.len());
    }

    #[test]
    fn a_gain_has_an_interval() {
        let old = vec![0.5; 200];
        let better: Vec<f32> = (0..200).map(|i| if i % 3 == 0 { 0.4 } else { 0.9 }).collect();
        let (mean, low, high) = gain(&better, &old, 1);
        assert!(low > 0.0 && low < mean && mean < high);
        let (mean, low, high) = gain(&old, &old, 1);
        assert_eq!((mean, low, high), (0.0, 0.0, 0.0));
    }
}
