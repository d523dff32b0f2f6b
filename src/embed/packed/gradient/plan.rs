//! What of a network is trained, and where each number of it stands.

use super::super::Model;
use crate::embed::network::Architecture;

/// A matrix of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Makes the attention's queries.
    Query,
    /// Makes its keys.
    Key,
    /// Makes its values.
    Value,
    /// Stands behind the attention.
    Output,
    /// The first of the feed-forward part.
    Up,
    /// The second.
    Down,
}

impl Target {
    /// Every matrix, in the order in which a text meets them.
    pub const ALL: [Target; 6] = [Target::Query, Target::Key, Target::Value, Target::Output, Target::Up, Target::Down];

    /// Which of a layer's four products it is a part of.
    pub(in crate::embed) fn slot(self) -> usize {
        match self {
            Target::Query | Target::Key | Target::Value => 0,
            Target::Output => 1,
            Target::Up => 2,
            Target::Down => 3,
        }
    }
}

/// How a network is changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Nothing of it.
    Frozen,
    /// Every matrix, bias and norm of a layer.
    Full,
    /// Two narrow matrices beside each target: Hu et al. 2021, <https://arxiv.org/abs/2106.09685>.
    Lora {
        /// Width between the two.
        rank: usize,
        /// What they add is scaled by `alpha / rank`.
        alpha: f32,
        /// The matrices that get them.
        targets: Vec<Target>,
    },
    /// A bottleneck behind each feed-forward part: Pfeiffer et al. 2020, <https://arxiv.org/abs/2005.00247>.
    Bottleneck {
        /// Its width.
        size: usize,
    },
}

/// What is trained: a method, in the `layers` uppermost layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How.
    pub method: Method,
    /// In how many layers, counted from the last.
    pub layers: usize,
}

/// What a run of trained numbers is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub(in crate::embed) enum Part {
    /// `[rank, inputs]`.
    LowA(Target),
    /// `[outputs, rank]`.
    LowB(Target),
    /// `[outputs, inputs]`, what is added to the weight.
    Weight(Target),
    /// `[outputs]`.
    Bias(Target),
    /// Of norm 0 (before the attention), 1 (after it) or 2 (after the feed-forward part).
    Scale(usize),
    Shift(usize),
    DownWeight,
    DownBias,
    UpWeight,
    UpBias,
}

impl Part {
    /// Which of a layer's four products it changes.
    pub(in crate::embed) fn slot(self) -> Option<usize> {
        match self {
            Part::LowA(target) | Part::LowB(target) | Part::Weight(target) | Part::Bias(target) => Some(target.slot()),
            _ => None,
        }
    }
}

/// A run of trained numbers: a matrix, row-major.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Entry {
    /// The upstream name of the matrix that it changes, and what it is.
    pub name: String,
    /// Its shape.
    pub shape: [usize; 2],
    /// Where it begins among all trained numbers.
    pub at: usize,
    pub(in crate::embed) layer: usize,
    pub(in crate::embed) part: Part,
}

impl Entry {
    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The half-width of the range that its numbers start in; 0 where they start at 0, and the network as it was.
    pub fn start(&self) -> f32 {
        match self.part {
            Part::LowA(_) | Part::DownWeight => 1.0 / (self.shape[1].max(1) as f32).sqrt(),
            _ => 0.0,
        }
    }
}

/// The upstream name of a layer's matrix.
pub(super) fn name(architecture: Architecture, layer: usize, target: Target) -> String {
    use Target::*;
    let (prefix, inner) = match architecture {
        Architecture::DistilBert => (
            "transformer.layer",
            match target {
                Query => "attention.q_lin",
                Key => "attention.k_lin",
                Value => "attention.v_lin",
                Output => "attention.out_lin",
                Up => "ffn.lin1",
                Down => "ffn.lin2",
            },
        ),
        // Upstream the three are one matrix.
        Architecture::ModernBert => (
            "layers",
            match target {
                Query => "attn.Wqkv.query",
                Key => "attn.Wqkv.key",
                Value => "attn.Wqkv.value",
                Output => "attn.Wo",
                Up => "mlp.Wi",
                Down => "mlp.Wo",
            },
        ),
        _ => (
            "encoder.layer",
            match target {
                Query => "attention.self.query",
                Key => "attention.self.key",
                Value => "attention.self.value",
                Output => "attention.output.dense",
                Up => "intermediate.dense",
                Down => "output.dense",
            },
        ),
    };
    format!("{prefix}.{layer}.{inner}")
}

/// The upstream name of a layer's norm.
fn norm_name(architecture: Architecture, layer: usize, norm: usize) -> String {
    match (architecture, norm) {
        (Architecture::DistilBert, 1) => format!("transformer.layer.{layer}.sa_layer_norm"),
        (Architecture::DistilBert, _) => format!("transformer.layer.{layer}.output_layer_norm"),
        (Architecture::ModernBert, 0) => format!("layers.{layer}.attn_norm"),
        (Architecture::ModernBert, _) => format!("layers.{layer}.mlp_norm"),
        (_, 1) => format!("encoder.layer.{layer}.attention.output.LayerNorm"),
        _ => format!("encoder.layer.{layer}.output.LayerNorm"),
    }
}

impl Plan {
    /// Every run of numbers that is trained.
    pub(super) fn entries(&self, architecture: Architecture, model: &Model) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut at = 0;
        let mut add = |name: String, shape: [usize; 2], layer: usize, part: Part| {
            entries.push(Entry { name, shape, at, layer, part });
            at += shape[0] * shape[1];
        };
        for layer in self.first(model)..model.layers.len() {
            match &self.method {
                Method::Frozen => {}
                Method::Lora { rank, targets, .. } => {
                    for target in Target::ALL.into_iter().filter(|t| targets.contains(t)) {
                        let (outputs, inputs) = model.shape(target);
                        let name = name(architecture, layer, target);
                        add(format!("{name}.lora_A.weight"), [*rank, inputs], layer, Part::LowA(target));
                        add(format!("{name}.lora_B.weight"), [outputs, *rank], layer, Part::LowB(target));
                    }
                }
                Method::Full => {
                    for target in Target::ALL {
                        let (outputs, inputs) = model.shape(target);
                        let name = name(architecture, layer, target);
                        add(format!("{name}.weight"), [outputs, inputs], layer, Part::Weight(target));
                        if model.has_bias(architecture) {
                            add(format!("{name}.bias"), [1, outputs], layer, Part::Bias(target));
                        }
                    }
                    let at = &model.layers[layer];
                    for (i, norm) in [at.before.as_ref(), Some(&at.middle), at.after.as_ref()].into_iter().enumerate() {
                        let Some(norm) = norm else { continue };
                        let name = norm_name(architecture, layer, i);
                        add(format!("{name}.weight"), [1, model.hidden], layer, Part::Scale(i));
                        if !norm.shift.is_empty() {
                            add(format!("{name}.bias"), [1, model.hidden], layer, Part::Shift(i));
                        }
                    }
                }
                Method::Bottleneck { size } => {
                    let name = format!("{}.adapter", name(architecture, layer, Target::Down));
                    add(format!("{name}.down.weight"), [*size, model.hidden], layer, Part::DownWeight);
                    add(format!("{name}.down.bias"), [1, *size], layer, Part::DownBias);
                    add(format!("{name}.up.weight"), [model.hidden, *size], layer, Part::UpWeight);
                    add(format!("{name}.up.bias"), [1, model.hidden], layer, Part::UpBias);
                }
            }
        }
        entries
    }

    /// The lowest layer that is trained; the number of layers where none is.
    pub(super) fn first(&self, model: &Model) -> usize {
        if self.method == Method::Frozen { model.layers.len() } else { model.layers.len().saturating_sub(self.layers) }
    }
}

/// Where upstream's rows and columns stand in the packed matrices: heads are padded, queries scaled.
impl Model {
    /// Outputs and inputs of a matrix, as upstream has it.
    pub(super) fn shape(&self, target: Target) -> (usize, usize) {
        let wide = self.intermediate;
        match target {
            Target::Query | Target::Key | Target::Value | Target::Output => (self.hidden, self.hidden),
            Target::Up => (if self.gated() { 2 * wide } else { wide }, self.hidden),
            Target::Down => (self.hidden, wide),
        }
    }

    pub(super) fn gated(&self) -> bool {
        self.layers.first().is_some_and(|l| l.up.columns() > super::super::simd::padded(self.intermediate))
    }

    /// Whether upstream's linear layers have biases; where ModernBERT has some, they stay as they are.
    fn has_bias(&self, architecture: Architecture) -> bool {
        architecture != Architecture::ModernBert
    }

    fn place(&self, i: usize) -> usize {
        i / self.head_size * self.heads.size + i % self.head_size
    }

    /// The packed row of upstream's output `o`.
    pub(super) fn row(&self, target: Target, o: usize) -> usize {
        match target {
            Target::Query => self.place(o),
            Target::Key => self.heads.columns() + self.place(o),
            Target::Value => 2 * self.heads.columns() + self.place(o),
            _ => o,
        }
    }

    /// The packed column of upstream's input `i`.
    pub(super) fn column(&self, target: Target, i: usize) -> usize {
        if target == Target::Output { self.place(i) } else { i }
    }

    /// What a packed weight is of upstream's.
    pub(super) fn factor(&self, target: Target) -> f32 {
        if target == Target::Query { 1.0 / (self.head_size as f32).sqrt() } else { 1.0 }
    }
}
