//! What a padded batch must not see, and where its tokens stand.

use candle_core::{Device, Result, Tensor};

use crate::embed::network::Network;

/// What is added to scores, and the angles of rotary positions; the same for all layers of a pass.
pub(super) struct Masks {
    /// `[texts, 1, 1, across]`.
    pub(super) padding: Tensor,
    /// `[across, across]`, where some layers see their neighbourhood only.
    pub(super) window: Option<Tensor>,
    /// Cosines and sines, `[across, size / 2]`: of layers that see all, and of those that do not.
    turns: Option<[(Tensor, Tensor); 2]>,
}

/// What keeps a token unseen: far below any score, and far from overflow.
const UNSEEN: f32 = -1e30;

impl Masks {
    pub(super) fn new(lengths: &[usize], across: usize, shape: &Network, device: &Device) -> Result<Self> {
        let mut padding = vec![0.0f32; lengths.len() * across];
        for (row, &len) in lengths.iter().enumerate() {
            padding[row * across + len..(row + 1) * across].fill(UNSEEN);
        }
        let padding = Tensor::from_vec(padding, (lengths.len(), 1, 1, across), device)?;
        let Some(rotary) = &shape.rotary else { return Ok(Self { padding, window: None, turns: None }) };
        let window = match rotary.windows.iter().flatten().next() {
            None => None,
            Some(&side) => {
                let far = |i: usize| if (i / across).abs_diff(i % across) > side { UNSEEN } else { 0.0 };
                Some(Tensor::from_vec((0..across * across).map(far).collect(), (across, across), device)?)
            }
        };
        let half = shape.hidden / shape.heads / 2;
        let turn = |theta: f64| -> Result<(Tensor, Tensor)> {
            let angles: Vec<f64> = (0..across * half)
                .map(|at| {
                    let speed = (1.0 / theta.powf((at % half) as f64 / half as f64)) as f32;
                    f64::from((at / half) as f32 * speed)
                })
                .collect();
            let of = |f: fn(f64) -> f64| {
                let values: Vec<f32> = angles.iter().map(|a| f(*a) as f32).collect();
                Tensor::from_vec(values, (across, half), device)
            };
            Ok((of(f64::cos)?, of(f64::sin)?))
        };
        Ok(Self { padding, window, turns: Some([turn(rotary.global_theta)?, turn(rotary.local_theta)?]) })
    }

    pub(super) fn turn(&self, window: Option<usize>) -> Option<(&Tensor, &Tensor)> {
        let [global, local] = self.turns.as_ref()?;
        let (cos, sin) = if window.is_some() { local } else { global };
        Some((cos, sin))
    }
}
