//! AdamW: Adam with decay of the weights beside the gradient (Loshchilov and Hutter, *Decoupled Weight Decay
//! Regularization*, 2019), after a clip of the gradient's length.

use serde::{Deserialize, Serialize};

/// The optimiser's state for one slice of weights.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Adam {
    /// Running means of the gradient.
    pub first: Vec<f32>,
    /// Running means of its square.
    pub second: Vec<f32>,
    /// Steps taken.
    pub steps: u32,
}

const BETA: (f32, f32) = (0.9, 0.999);

impl Adam {
    /// For so many weights.
    pub fn new(size: usize) -> Adam {
        Adam { first: vec![0.0; size], second: vec![0.0; size], steps: 0 }
    }

    /// One step: `decay` of the rate is taken off each weight.
    pub fn step(&mut self, weights: &mut [f32], gradient: &[f32], rate: f32, decay: f32) {
        self.steps += 1;
        let steps = self.steps.min(100_000) as i32;
        let (one, two) = (1.0 - BETA.0.powi(steps), 1.0 - BETA.1.powi(steps));
        let state = self.first.iter_mut().zip(&mut self.second);
        for ((weight, gradient), (first, second)) in weights.iter_mut().zip(gradient).zip(state) {
            *first = BETA.0 * *first + (1.0 - BETA.0) * gradient;
            *second = BETA.1 * *second + (1.0 - BETA.1) * gradient * gradient;
            *weight -= rate * (*first / one / ((*second / two).sqrt() + 1e-8) + decay * *weight);
        }
    }
}

/// Shortens a gradient that is longer than `most`.
pub fn clip(gradient: &mut [f32], most: f32) {
    let length = gradient.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>().sqrt() as f32;
    if length > most {
        gradient.iter_mut().for_each(|g| *g *= most / length);
    }
}

/// The rate at a step: up over the first `warm` steps, then down to a fiftieth along half a cosine.
pub fn rate(most: f32, step: usize, warm: usize, steps: usize) -> f32 {
    if step < warm {
        return most * (step + 1) as f32 / warm as f32;
    }
    let done = (step - warm) as f32 / steps.saturating_sub(warm).max(1) as f32;
    most * (0.02 + 0.98 * 0.5 * (1.0 + (std::f32::consts::PI * done.min(1.0)).cos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_foot_of_a_bowl() {
        let mut weights = vec![5.0, -3.0];
        let mut adam = Adam::new(2);
        for step in 0..2000 {
            let gradient: Vec<f32> = weights.iter().zip([1.0, 2.0]).map(|(w, foot)| 2.0 * (w - foot)).collect();
            adam.step(&mut weights, &gradient, rate(0.05, step, 10, 2000), 0.0);
        }
        assert!((weights[0] - 1.0).abs() < 1e-3 && (weights[1] - 2.0).abs() < 1e-3, "{weights:?}");
    }

    #[test]
    fn a_clip_keeps_the_direction() {
        let mut gradient = vec![3.0, 4.0];
        clip(&mut gradient, 1.0);
        assert!((gradient[0] - 0.6).abs() < 1e-6 && (gradient[1] - 0.8).abs() < 1e-6);
    }
}
