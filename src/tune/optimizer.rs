//! AdamW with a rate that rises and falls: Loshchilov and Hutter 2019, <https://arxiv.org/abs/1711.05101>.

/// Means of the gradients and of their squares, and how many steps were taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moments {
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
    pub(super) steps: u64,
}

/// The rates of one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Of the numbers before `border`.
    pub(super) rate: f32,
    /// Of the others.
    pub(super) head_rate: f32,
    pub(super) border: usize,
    /// Pull towards 0, which is the base model; the head's numbers are not pulled.
    pub(super) pull: f32,
    /// Longest gradient; 0 is any.
    pub(super) clip: f32,
}

/// The share of the largest rate at a step of `total`: up in the first `warmup` of them, then down to 0, both straight.
pub(super) fn schedule(step: u64, total: u64, warmup: f32) -> f32 {
    let (at, rise) = (step as f32 + 1.0, (total as f32 * warmup).max(1.0));
    if at < rise { at / rise } else { ((total as f32 + 1.0 - at) / (total as f32 + 1.0 - rise)).clamp(0.0, 1.0) }
}

impl Moments {
    /// Takes one step down the gradient.
    pub(super) fn step(&mut self, values: &mut [f32], gradient: &mut [f32], step: &Step) {
        const BETAS: (f32, f32) = (0.9, 0.999);
        self.first.resize(values.len(), 0.0);
        self.second.resize(values.len(), 0.0);
        self.steps += 1;
        if step.clip > 0.0 {
            let length = gradient.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>().sqrt() as f32;
            if length > step.clip {
                gradient.iter_mut().for_each(|g| *g *= step.clip / length);
            }
        }
        let correct = (1.0 - BETAS.0.powi(self.steps as i32), 1.0 - BETAS.1.powi(self.steps.min(1 << 20) as i32));
        let moments = self.first.iter_mut().zip(&mut self.second);
        for (i, ((x, g), (m, v))) in values.iter_mut().zip(gradient.iter()).zip(moments).enumerate() {
            let (rate, pull) = if i < step.border { (step.rate, step.pull) } else { (step.head_rate, 0.0) };
            *m = BETAS.0 * *m + (1.0 - BETAS.0) * g;
            *v = BETAS.1 * *v + (1.0 - BETAS.1) * g * g;
            *x -= rate * (*m / correct.0 / ((*v / correct.1).sqrt() + 1e-8) + pull * *x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_pytorchs() {
        // import torch; x = torch.tensor([1., -2., .5], requires_grad=True); o = torch.optim.AdamW([x], lr=.1, weight_decay=.01)
        // for g in [[.1, -.2, .3], [.3, .1, -.4]]: x.grad = torch.tensor(g); o.step()
        let mut values = [1.0, -2.0, 0.5];
        let mut moments = Moments::default();
        let step = Step { rate: 0.1, head_rate: 0.0, border: 3, pull: 0.01, clip: 0.0 };
        for mut gradient in [[0.1, -0.2, 0.3], [0.3, 0.1, -0.4]] {
            moments.step(&mut values, &mut gradient, &step);
        }
        // x.tolist()
        let want: [f32; 3] = [0.806_322_9, -1.869_468_3, 0.418_451_55];
        for (got, want) in values.iter().zip(want) {
            assert!((got - want).abs() < 1e-5, "{values:?}");
        }
    }

    #[test]
    fn the_rate_rises_and_falls() {
        assert!(schedule(0, 100, 0.1) < 0.2);
        assert!((schedule(9, 100, 0.1) - 1.0).abs() < 1e-6);
        assert!(schedule(99, 100, 0.1) < 0.02 && schedule(99, 100, 0.1) > 0.0);
    }
}
