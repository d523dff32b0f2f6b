//! The ranker: a small network for each dimension, and gates that see the call.
//!
//! ```text
//! score(head) = Σ_d  softplus(w_{head,d} · call + b_{head,d}) · f_d(features_d)
//! f_d(x)      = v · x + Σ_h u_h (relu(W_h · x + c_h) − relu(c_h))          x: features over their spread
//! ```
//!
//! A search ranks by (1 − β) y + β r, where β is what the ranker learnt times the room that the query leaves (a broad one
//! much, an exact one little). As both heads share f_d, that is a mixture of their gates, and the parts are of the sum.
//!
//! So a dimension without evidence (all features 0) is worth exactly 0, the terms of the sum are the explanation, and
//! both heads share f_d. Weights lie packed in one slice, in the order in which the loops read them: training walks the
//! same slice, and a forward pass allocates nothing.

use super::feature::{self, CALL, Call, Features, ITEM};
use crate::error::{Error, Result};
use crate::parts::{DIMENSIONS, Dimension};
use crate::shopper::sequence::Encoder;
use serde::{Deserialize, Serialize};

/// Units of the hidden layer of each dimension.
pub const HIDDEN: usize = 16;

/// What a score is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Head {
    /// How well the item answers the query.
    Answer,
    /// How much the shopper would want it anyway.
    Want,
}

/// Both heads, in the order in which their gates lie.
pub const HEADS: [Head; 2] = [Head::Answer, Head::Want];

/// One dimension's place in features and weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The dimension.
    pub dimension: Dimension,
    /// Its first feature.
    pub first: usize,
    /// How many features it has.
    pub count: usize,
    /// Where its weights begin: v, then W by feature and hidden unit, c, u.
    pub at: usize,
}

impl Block {
    /// Weights of the network.
    pub fn len(&self) -> usize {
        self.count + (self.count + 2) * HIDDEN
    }

    /// Whether it has no weights.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The dimensions that have features, in order.
pub fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut at = 0;
    for dimension in DIMENSIONS {
        let count = ITEM.iter().filter(|(d, _)| *d == dimension).count();
        if let (Some(first), true) = (ITEM.iter().position(|(d, _)| *d == dimension), count > 0) {
            let block = Block { dimension, first, count, at };
            at += block.len();
            blocks.push(block);
        }
    }
    blocks
}

/// Weights of one gate: one for each feature of the call, and a constant.
pub const GATE: usize = CALL.len() + 1;

/// Where the gate of a head and of the dimension with a place among [`blocks`] begins.
pub fn gate_at(blocks: &[Block], head: Head, place: usize) -> usize {
    let networks: usize = blocks.iter().map(Block::len).sum();
    networks + (head as usize * blocks.len() + place) * GATE
}

/// How many weights there are.
pub fn size(blocks: &[Block]) -> usize {
    gate_at(blocks, Head::Answer, 0) + HEADS.len() * blocks.len() * GATE
}

/// ln(1 + eˣ).
pub fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// What the hidden units hold before relu: W · x + c.
pub fn hidden(block: &Block, weights: &[f32], features: &[f32]) -> [f32; HIDDEN] {
    let from = block.at + block.count;
    let (rows, rest) = weights[from..from + (block.count + 2) * HIDDEN].split_at(block.count * HIDDEN);
    let mut sums = [0.0; HIDDEN];
    sums.copy_from_slice(&rest[..HIDDEN]);
    for (row, x) in rows.chunks_exact(HIDDEN).zip(features) {
        for (sum, w) in sums.iter_mut().zip(row) {
            *sum += w * x;
        }
    }
    sums
}

/// What a network says of features that are over their spread.
pub fn forward(block: &Block, weights: &[f32], features: &[f32]) -> f32 {
    let linear: f32 = weights[block.at..block.at + block.count].iter().zip(features).map(|(w, x)| w * x).sum();
    let tail = block.at + block.count * (HIDDEN + 1);
    let (bias, out) = weights[tail..tail + 2 * HIDDEN].split_at(HIDDEN);
    let units = hidden(block, weights, features);
    let units = units.iter().zip(bias).zip(out);
    linear + units.map(|((unit, bias), out)| out * (unit.max(0.0) - bias.max(0.0))).sum::<f32>()
}

/// What the gate of a head and a dimension gives before softplus.
pub fn gate(blocks: &[Block], weights: &[f32], head: Head, place: usize, call: &Call) -> f32 {
    let at = gate_at(blocks, head, place);
    let (into, rest) = weights[at..at + GATE].split_at(CALL.len());
    into.iter().zip(call).map(|(w, x)| w * x).sum::<f32>() + rest[0]
}

/// A ranker, ready to score.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranker {
    /// One over the spread of each feature.
    pub scale: Features,
    /// Packed weights.
    pub weights: Vec<f32>,
    /// What a sum of parts lacks to be the logarithm of odds, by head.
    pub bias: [f32; HEADS.len()],
    /// How much of r a search takes where its query leaves all the room, 0 to 1: what was better on behaviour held out.
    pub blend: f32,
    /// The shopper encoder that its features were made with.
    pub encoder: Option<Encoder>,
    /// Its number among the rankers; 0 until it has one.
    pub number: i64,
    blocks: Vec<Block>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    features: Vec<String>,
    call: Vec<String>,
    hidden: usize,
    bias: Vec<f32>,
    #[serde(default)]
    blend: f32,
    /// Bytes of the encoder behind the weights.
    encoder: usize,
}

impl Header {
    fn own(bias: &[f32], blend: f32, encoder: usize) -> Header {
        Header {
            encoder,
            blend,
            features: names(),
            call: CALL.iter().map(|name| (*name).to_owned()).collect(),
            hidden: HIDDEN,
            bias: bias.to_vec(),
        }
    }
}

/// The names of the features of an item, each under its dimension.
pub fn names() -> Vec<String> {
    ITEM.iter().map(|(dimension, name)| format!("{}.{name}", dimension.name())).collect()
}

impl Ranker {
    /// A ranker of such weights; of as many as [`size`] says.
    pub fn new(scale: Features, weights: Vec<f32>, bias: [f32; HEADS.len()]) -> Ranker {
        Ranker { scale, weights, bias, blend: 0.0, encoder: None, number: 0, blocks: blocks() }
    }

    /// The gates of a head for a call, by dimension.
    pub fn gates(&self, head: Head, call: &Call) -> [f32; DIMENSIONS.len()] {
        let mut gates = [0.0; DIMENSIONS.len()];
        for (place, block) in self.blocks.iter().enumerate() {
            gates[block.dimension as usize] = softplus(gate(&self.blocks, &self.weights, head, place, call));
        }
        gates
    }

    /// The gates of a search for a call, by dimension: (1 − β) of y and β of r, which knows no query and no relevance.
    pub fn blended(&self, call: &Call, share: f32) -> [f32; DIMENSIONS.len()] {
        let mut gates = self.gates(Head::Answer, call);
        let share = share.clamp(0.0, 1.0);
        if share > 0.0 {
            let mut want = self.gates(Head::Want, &feature::unasked(call));
            want[Dimension::Relevance as usize] = 0.0;
            gates.iter_mut().zip(want).for_each(|(gate, want)| *gate += share * (want - *gate));
        }
        gates
    }

    /// Features over their spread. What is far beyond it counts as at its edge: a network says nothing sensible of what it
    /// never saw, and a shop's numbers drift.
    pub fn scaled(&self, features: &Features) -> Features {
        const EDGE: f32 = 4.0;
        let mut scaled = *features;
        scaled.iter_mut().zip(&self.scale).for_each(|(x, s)| *x = (*x * s).clamp(-EDGE, EDGE));
        scaled
    }

    /// f_d of an item for every dimension.
    pub fn values(&self, features: &Features) -> [f32; DIMENSIONS.len()] {
        let scaled = self.scaled(features);
        let mut values = [0.0; DIMENSIONS.len()];
        for block in &self.blocks {
            values[block.dimension as usize] =
                forward(block, &self.weights, &scaled[block.first..block.first + block.count]);
        }
        values
    }

    /// As bytes: the length of a header, the header as JSON, the spreads, the weights, the encoder; numbers
    /// little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let encoder = self.encoder.as_ref().map(Encoder::to_bytes).unwrap_or_default();
        let header = serde_json::to_vec(&Header::own(&self.bias, self.blend, encoder.len())).unwrap_or_default();
        let mut bytes = (header.len() as u32).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(self.scale.iter().chain(&self.weights).flat_map(|w| w.to_le_bytes()));
        bytes.extend(encoder);
        bytes
    }

    /// What `to_bytes` wrote; bytes of other features, or that were cut or hold what is no number, are refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Ranker> {
        let bad = |reason: &str| Error::RankerWeights { reason: reason.to_owned() };
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| bad("they are cut"))?;
        let (header, rest) =
            rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(|| bad("they are cut"))?;
        let header: Header = serde_json::from_slice(header).map_err(|_| bad("their header cannot be read"))?;
        let own = Header::own(&header.bias, header.blend, 0);
        if header.features != own.features || header.call != own.call || header.hidden != own.hidden {
            return Err(bad("they were trained for features of another release"));
        }
        let bias = header.bias.as_slice().try_into().map_err(|_| bad("their header cannot be read"))?;
        let blocks = blocks();
        let (rest, encoder) =
            rest.split_at_checked((ITEM.len() + size(&blocks)) * 4).ok_or_else(|| bad("they are cut"))?;
        if encoder.len() != header.encoder {
            return Err(bad("they are cut"));
        }
        let encoder = if encoder.is_empty() { None } else { Some(Encoder::from_bytes(encoder)?) };
        let mut numbers = rest.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let mut scale = [0.0; ITEM.len()];
        scale.iter_mut().zip(numbers.by_ref()).for_each(|(to, from)| *to = from);
        let weights: Vec<f32> = numbers.collect();
        if !scale.iter().chain(&weights).chain(&bias).chain([&header.blend]).all(|w: &f32| w.is_finite()) {
            return Err(bad("they hold what is no number"));
        }
        Ok(Ranker { scale, weights, bias, blend: header.blend, encoder, number: 0, blocks })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ranker() -> Ranker {
        let weights = (0..size(&blocks())).map(|n| ((n * 37 % 101) as f32 - 50.0) / 100.0).collect();
        Ranker::new([2.0; ITEM.len()], weights, [0.5, -0.5])
    }

    #[test]
    fn bytes_come_back_and_cut_or_foreign_ones_are_refused() {
        let ranker = Ranker { blend: 0.3, ..ranker() };
        let bytes = ranker.to_bytes();
        assert_eq!(Ranker::from_bytes(&bytes).unwrap(), ranker);
        for cut in [0, 3, 20, bytes.len() - 1] {
            assert!(Ranker::from_bytes(&bytes[..cut]).is_err());
        }
        let foreign = String::from_utf8_lossy(&bytes[4..40]).replace("lexical", "LEXICAL");
        let mut other = bytes.clone();
        other[4..40].copy_from_slice(foreign.as_bytes());
        assert!(Ranker::from_bytes(&other).unwrap_err().to_string().contains("another release"));
        let mut nan = bytes.clone();
        let end = nan.len();
        nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(Ranker::from_bytes(&nan).is_err());
    }

    #[test]
    fn a_search_mixes_the_gates_of_both_heads() {
        let ranker = ranker();
        let call = [1.0, 0.7, 0.4, 0.5, 0.0, 0.2, 0.6];
        assert_eq!(ranker.blended(&call, 0.0), ranker.gates(Head::Answer, &call));
        // Another query, the same wish.
        let other = [1.0, 0.5, 0.1, 0.5, 0.0, 0.2, 0.1];
        let all = ranker.blended(&call, 1.0);
        assert!(all.iter().zip(ranker.blended(&other, 1.0)).all(|(one, other)| (one - other).abs() < 1e-5));
        assert_eq!(all[Dimension::Relevance as usize], 0.0);
        let half = ranker.blended(&call, 0.5);
        for ((half, one), other) in half.iter().zip(all).zip(ranker.gates(Head::Answer, &call)) {
            assert!((half - (one + other) / 2.0).abs() < 1e-6);
        }
    }

    #[test]
    fn a_dimension_without_evidence_is_worth_nothing() {
        let ranker = ranker();
        let mut features = [0.0; ITEM.len()];
        assert_eq!(ranker.values(&features), [0.0; DIMENSIONS.len()]);
        features[0] = 1.0;
        let values = ranker.values(&features);
        assert!(values[Dimension::Relevance as usize] != 0.0);
        assert_eq!(values[1..], [0.0; DIMENSIONS.len() - 1]);
    }
}
