//! The joint loss of a list, and its gradient by score.
//!
//! A listwise softmax orders the candidates of one list; binary cross-entropy of each candidate's own label, soft and
//! weighted, keeps scores comparable from list to list, so that score plus bias is the logarithm of the odds.

use crate::measure::metric;

/// What binary cross-entropy counts beside the listwise term.
pub const POINTWISE: f32 = 0.2;

/// The losses of a list.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// −Σ y log softmax(score), y over their sum.
    pub listwise: f32,
    /// The mean binary cross-entropy.
    pub pointwise: f32,
}

impl Loss {
    /// The two together.
    pub fn joint(self) -> f32 {
        self.listwise + POINTWISE * self.pointwise
    }
}

/// The loss of scores for labels, where each candidate stands for so many and their order counts `order`; adds `weight`
/// times its gradient to `gradient`, and returns that by the bias.
pub fn list(
    scores: &[f32],
    labels: &[f32],
    counts: &[f32],
    bias: f32,
    order: f32,
    weight: f32,
    gradient: &mut [f32],
) -> (Loss, f32) {
    let total: f32 = labels.iter().sum();
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = scores.iter().zip(counts).map(|(s, count)| count * (s - most).exp()).sum();
    let all: f32 = counts.iter().sum();
    let mut loss = Loss::default();
    let mut by_bias = 0.0;
    for (((score, label), count), gradient) in scores.iter().zip(labels).zip(counts).zip(gradient) {
        let share = count * (score - most).exp() / sum;
        if total > 0.0 {
            loss.listwise -= order * label / total * (score - most - sum.ln());
            *gradient += weight * order * (share - label / total);
        }
        // Labels over a propensity may exceed 1: they weigh the positive term.
        let logit = score + bias;
        let chance = 1.0 / (1.0 + (-logit).exp());
        let soft = label.min(1.0);
        let heavy = label.max(1.0);
        let log = if logit > 0.0 { (-logit).exp().ln_1p() } else { -logit + logit.exp().ln_1p() };
        let part = count / all.max(1.0);
        loss.pointwise += part * (heavy * soft * log + (1.0 - soft) * (log + logit));
        let slope = part * (heavy * soft * (chance - 1.0) + (1.0 - soft) * chance);
        *gradient += weight * POINTWISE * slope;
        by_bias += weight * POINTWISE * slope;
    }
    (loss, by_bias)
}

/// NDCG at ten of a list: gain by label, ties by place, after so many as stand above.
pub fn ndcg(scores: &[f32], labels: &[f32], counts: &[f32], ids: &[i64]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(ids[*a].cmp(&ids[*b])));
    let discount = |above: f64| if above < 10.0 { 1.0 / (above + 2.0).log2() } else { 0.0 };
    let (mut above, mut found) = (0.0, 0.0);
    for n in order {
        found += f64::from(labels[n]) * discount(above);
        above += f64::from(counts[n]);
    }
    let ideal = metric::ideal(&labels.iter().copied().map(f64::from).collect::<Vec<_>>(), 10);
    if ideal > 0.0 { found / ideal } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (scores, labels) = ([0.3f32, -1.2, 2.0, 0.1], [0.0f32, 1.0, 0.5, 3.0]);
        let bias = -0.7;
        let mut gradient = [0.0; 4];
        let counts = [1.0f32, 7.0, 1.0, 2.5];
        let (_, by_bias) = list(&scores, &labels, &counts, bias, 1.7, 1.0, &mut gradient);
        let at =
            |scores: &[f32], bias| f64::from(list(scores, &labels, &counts, bias, 1.7, 1.0, &mut [0.0; 4]).0.joint());
        for n in 0..4 {
            let (mut up, mut down) = (scores, scores);
            up[n] += 1e-2;
            down[n] -= 1e-2;
            let slope = (at(&up, bias) - at(&down, bias)) / 2e-2;
            assert!((slope - f64::from(gradient[n])).abs() < 1e-3, "{n}: {slope} {gradient:?}");
        }
        let slope = (at(&scores, bias + 1e-2) - at(&scores, bias - 1e-2)) / 2e-2;
        assert!((slope - f64::from(by_bias)).abs() < 1e-3);
    }

    #[test]
    fn the_best_order_has_ndcg_one() {
        let each = [1.0; 3];
        assert_eq!(ndcg(&[3.0, 2.0, 1.0], &[1.0, 0.5, 0.0], &each, &[1, 2, 3]), 1.0);
        assert!(ndcg(&[1.0, 2.0, 3.0], &[1.0, 0.5, 0.0], &each, &[1, 2, 3]) < 1.0);
        // One that stands for nine others leaves the tenth place, one that stands for ten leaves none.
        assert!((ndcg(&[2.0, 1.0], &[0.0, 1.0], &[9.0, 1.0], &[1, 2]) - 1.0 / 11.0f64.log2()).abs() < 1e-12);
        assert_eq!(ndcg(&[2.0, 1.0], &[0.0, 1.0], &[10.0, 1.0], &[1, 2]), 0.0);
    }
}
