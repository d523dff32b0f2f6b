//! A linear layer in floats: `x Wᵀ + b`, the weights packed once into column panels.

use std::sync::Arc;

use super::buffer::Buffer;
use super::simd::{Kernels, Tile, UNIT, padded};

/// Columns of a panel: four AVX-512 registers, one for each of the 24 sums' columns of a tile of six rows.
const PANEL: usize = 4 * UNIT;
/// See [`ahead`].
const NEAR: usize = 16 << 10;

/// Weights `[out, in]` as panels `[out / 64][in][64]`, so that a tile reads them straight from end to end. The last panel
/// is as narrow as whole units of 16 allow.
///
/// A clone shares the panels. One whose weights were changed ([`Dense::changed`]) holds copies of the panels that differ,
/// so that a fine-tuned model costs a backend what it changed and no more.
#[derive(Clone)]
pub(crate) struct Dense {
    inputs: usize,
    /// Columns of the result, padding included.
    columns: usize,
    panels: Arc<Buffer<f32>>,
    bias: Arc<Buffer<f32>>,
    own: Option<Arc<Own>>,
}

/// Panels that stand in for those of the base.
struct Own {
    /// For each panel of the base, where its stand-in begins.
    places: Vec<Option<usize>>,
    panels: Buffer<f32>,
}

impl Dense {
    /// Packs `weight`, row-major `[out, inputs]`, and `bias`, `[out]` or empty.
    pub(crate) fn pack(weight: &[f32], bias: &[f32], inputs: usize) -> Self {
        let outputs = weight.len() / inputs.max(1);
        let columns = padded(outputs);
        let mut panels = Buffer::zeros(columns * inputs);
        for (o, row) in weight.chunks_exact(inputs).enumerate() {
            let first = o / PANEL * PANEL;
            let width = PANEL.min(columns - first);
            let panel = &mut panels[first * inputs..];
            for (i, w) in row.iter().enumerate() {
                panel[i * width + o - first] = *w;
            }
        }
        Self { inputs, columns, panels: Arc::new(panels), bias: Arc::new(Buffer::padded(bias, columns)), own: None }
    }

    /// The weights, row-major `[columns, inputs]`, and the bias.
    pub(crate) fn unpack(&self) -> (Vec<f32>, Vec<f32>) {
        let mut weight = vec![0.0; self.columns * self.inputs];
        for first in (0..self.columns).step_by(PANEL) {
            let width = PANEL.min(self.columns - first);
            for (i, row) in self.panel(first, width).chunks_exact(width).enumerate() {
                for (o, w) in row.iter().enumerate() {
                    weight[(first + o) * self.inputs + i] = *w;
                }
            }
        }
        (weight, self.bias.to_vec())
    }

    /// The same layer with other weights, `[columns, inputs]`, and another bias, `[columns]`: panels that are as before
    /// are shared.
    pub(crate) fn changed(&self, weight: &[f32], bias: &[f32]) -> Self {
        let new = Self::pack(weight, bias, self.inputs);
        let mut places = Vec::new();
        let mut kept = Vec::new();
        for first in (0..self.columns).step_by(PANEL) {
            let width = PANEL.min(self.columns - first);
            let panel = new.panel(first, width);
            // Against the base's own panels, which are the ones that are shared.
            let differs = panel != &self.panels[first * self.inputs..][..width * self.inputs];
            places.push(differs.then_some(kept.len()));
            if differs {
                kept.extend_from_slice(panel);
            }
        }
        let own = (!kept.is_empty()).then(|| Arc::new(Own { places, panels: Buffer::padded(&kept, 0) }));
        Self { inputs: self.inputs, columns: self.columns, panels: self.panels.clone(), bias: new.bias, own }
    }

    /// Numbers in a row that goes in.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// The panel whose first column is `first`.
    fn panel(&self, first: usize, width: usize) -> &[f32] {
        let size = width * self.inputs;
        match self.own.as_ref().and_then(|own| Some((own, (*own.places.get(first / PANEL)?)?))) {
            Some((own, at)) => &own.panels[at..at + size],
            None => &self.panels[first * self.inputs..][..size],
        }
    }

    /// Bytes that are this layer's alone, beyond its base's.
    pub(crate) fn own_bytes(&self) -> usize {
        self.own.as_ref().map_or(0, |own| own.panels.bytes() + self.bias.bytes())
    }

    /// Numbers in a row of the result.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn bytes(&self) -> usize {
        self.panels.bytes() + self.bias.bytes()
    }

    /// `rows` rows of `x`, `x_stride` apart, into rows of `out`, `self.columns()` apart. `after` is applied to each run of
    /// a result row's numbers while they are in the first-level cache.
    pub(crate) fn apply(
        &self,
        kernels: &Kernels,
        x: &[f32],
        x_stride: usize,
        rows: usize,
        out: &mut [f32],
        after: impl Fn(&mut [f32]),
    ) {
        if rows == 0 {
            return;
        }
        assert!(x_stride >= self.inputs && x.len() >= (rows - 1) * x_stride + self.inputs);
        let out = &mut out[..rows * self.columns];
        for first in (0..self.columns).step_by(PANEL) {
            let width = PANEL.min(self.columns - first);
            let panel = self.panel(first, width);
            let count = rows.div_ceil(kernels.rows);
            for (i, (row, height)) in blocks(rows, kernels.rows).enumerate() {
                let (next, next_step) = ahead(panel, self.inputs, i, count, NEAR);
                // SAFETY: x and out hold all rows (asserted and sliced above), the panel `inputs` rows of `width`, the
                // bias all columns.
                unsafe {
                    kernels.tile(&Tile {
                        rows: height,
                        units: width / UNIT,
                        depth: self.inputs,
                        a: x.as_ptr().add(row * x_stride),
                        a_stride: x_stride,
                        b: panel.as_ptr(),
                        b_stride: width,
                        next,
                        next_step,
                        start: self.bias.as_ptr().add(first),
                        c: out.as_mut_ptr().add(row * self.columns + first),
                        c_stride: self.columns,
                    });
                }
                for done in row..row + height {
                    after(&mut out[done * self.columns + first..][..width]);
                }
            }
        }
    }
}

/// `rows` rows as blocks of at most `most`, as even as can be: (first row, height).
pub(crate) fn blocks(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(most.max(1)).max(1);
    (0..count).map(move |i| {
        let first = i * rows / count;
        (first, (i + 1) * rows / count - first)
    })
}

/// What tile `i` of `count` over the same panel fetches from memory while it runs: from where, and bytes for each of
/// `rows` rows. Many tiles share the next panel among them. A few run as fast as memory gives, and ask for what they need
/// themselves a little later (`near` bytes; measured, 4 to 16 kB are alike).
pub(crate) fn ahead<T>(panel: &[T], rows: usize, i: usize, count: usize, near: usize) -> (*const T, usize) {
    let step = size_of_val(panel) / rows.max(1);
    if count < 4 {
        (panel.as_ptr().wrapping_byte_add(near), if near > 0 { step } else { 0 })
    } else {
        (panel.as_ptr().wrapping_add(panel.len() + i * panel.len() / count), step / count)
    }
}
