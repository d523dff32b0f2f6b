//! What a run leaves: an adapter, as it is kept in a row, and as it is used.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};
use sha2::{Digest, Sha256};

use super::options::Task;
use crate::control::Control;
use crate::embed::gradient::{Method, Plan, Target};
use crate::embed::{Encoder, Place, Role, Scratch, export};
use crate::error::{Error, Result};
use crate::linear::dot;

/// The numbers that were trained, and what they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// What it does.
    pub task: Task,
    /// What of the encoder it changes.
    pub plan: Plan,
    /// The labels of the head's outputs, in order.
    pub labels: Vec<String>,
    /// The encoder's numbers, in the order of [`Net::entries`](crate::embed::gradient::Net::entries).
    pub values: Vec<f32>,
    /// The head: `[labels, dimension]` weights, then `[labels]` biases; empty where the task has none.
    pub head: Vec<f32>,
}

fn broken(reason: impl std::fmt::Display) -> Error {
    Error::Adapter { reason: reason.to_string() }
}

/// Arrays by name.
type Arrays = HashMap<String, Vec<f32>>;

/// Named arrays of floats and a few words, as one safetensors file. Same content, same bytes.
pub(super) fn write(words: &BTreeMap<String, String>, arrays: &[(&str, &[f32], bool)]) -> Result<Vec<u8>> {
    let bytes: Vec<(&str, Dtype, usize, Vec<u8>)> = arrays
        .iter()
        .map(|(name, values, half)| {
            let bytes = if *half {
                values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect()
            } else {
                values.iter().flat_map(|x| x.to_le_bytes()).collect()
            };
            (*name, if *half { Dtype::F16 } else { Dtype::F32 }, values.len(), bytes)
        })
        .collect();
    let mut views = Vec::new();
    for (name, kind, len, bytes) in &bytes {
        views.push((*name, TensorView::new(*kind, vec![*len], bytes).map_err(broken)?));
    }
    // One word holds all others, in order: the header's own map has none.
    let words = serde_json::to_string(words).map_err(broken)?;
    serialize(views, Some(HashMap::from([("pg_persona".to_owned(), words)]))).map_err(broken)
}

/// Words and arrays of a file that [`write`] made.
pub(super) fn read(bytes: &[u8]) -> Result<(BTreeMap<String, String>, Arrays)> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    let words =
        header.metadata().as_ref().and_then(|m| m.get("pg_persona")).ok_or_else(|| broken("it has no words"))?;
    let words = serde_json::from_str(words).map_err(broken)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(broken)?;
    let mut arrays = HashMap::new();
    for (name, view) in tensors.tensors() {
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F16 => data.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            other => return Err(broken(format!("\"{name}\" is of type {other:?}"))),
        };
        if !values.iter().all(|x| x.is_finite()) {
            return Err(broken(format!("\"{name}\" holds a number that is not finite")));
        }
        arrays.insert(name, values);
    }
    Ok((words, arrays))
}

impl Adapter {
    /// Whether its numbers are kept in 16 bits: a whole network's are many, and small beside what they are added to.
    fn half(&self) -> bool {
        self.plan.method == Method::Full
    }

    /// Rounds its numbers to what is kept, so that what is measured is what is used.
    pub(super) fn rounded(mut self) -> Adapter {
        if self.half() {
            self.values.iter_mut().for_each(|x| *x = half::f16::from_f32(*x).to_f32());
        }
        self
    }

    /// As it is kept in a row.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut words = BTreeMap::from([
            ("task".to_owned(), self.task.name().to_owned()),
            ("layers".to_owned(), self.plan.layers.to_string()),
            ("labels".to_owned(), serde_json::to_string(&self.labels).map_err(broken)?),
        ]);
        let mut word = |key: &str, value: String| words.insert(key.to_owned(), value);
        match &self.plan.method {
            Method::Frozen => word("method", "head".into()),
            Method::Full => word("method", "full".into()),
            Method::Bottleneck { size } => {
                word("size", size.to_string());
                word("method", "adapter".into())
            }
            Method::Lora { rank, alpha, targets } => {
                word("rank", rank.to_string());
                word("alpha", alpha.to_string());
                word("targets", serde_json::to_string(targets).map_err(broken)?);
                word("method", "lora".into())
            }
        };
        write(&words, &[("values", &self.values, self.half()), ("head", &self.head, false)])
    }

    /// Reads what [`Adapter::to_bytes`] wrote.
    pub fn read(bytes: &[u8]) -> Result<Adapter> {
        let (words, mut arrays) = read(bytes)?;
        let word = |key: &str| words.get(key).ok_or_else(|| broken(format!("it has no \"{key}\"")));
        fn number<T: std::str::FromStr>(word: &str) -> Result<T> {
            word.parse().map_err(|_| broken(format!("\"{word}\" is no number")))
        }
        let method = match word("method")?.as_str() {
            "head" => Method::Frozen,
            "full" => Method::Full,
            "adapter" => Method::Bottleneck { size: number(word("size")?)? },
            "lora" => Method::Lora {
                rank: number(word("rank")?)?,
                alpha: number(word("alpha")?)?,
                targets: serde_json::from_str::<Vec<Target>>(word("targets")?).map_err(broken)?,
            },
            other => return Err(broken(format!("its method is \"{other}\""))),
        };
        Ok(Adapter {
            task: Task::parse(word("task")?)?,
            plan: Plan { method, layers: number(word("layers")?)? },
            labels: serde_json::from_str(word("labels")?).map_err(broken)?,
            values: arrays.remove("values").unwrap_or_default(),
            head: arrays.remove("head").unwrap_or_default(),
        })
    }

    /// What tells it from every other: SHA-256 of its bytes, in hex.
    pub fn hash(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Merges it into its base, which has to be in f32.
    pub fn load(self, base: &Encoder, name: &str, hash: &str) -> Result<Loaded> {
        let width = base.info().dimension;
        let outputs = self.outputs();
        if self.head.len() != outputs * (width + 1) {
            return Err(broken(format!("its head has {} numbers for {outputs} labels of {width}", self.head.len())));
        }
        let net = base.mergeable(self.plan.clone())?;
        if self.values.len() != net.len() {
            return Err(broken(format!("it has {} numbers, and its base takes {}", self.values.len(), net.len())));
        }
        let encoder = base.adapted(name, hash, &net, &self.values)?;
        Ok(Loaded { task: self.task, labels: self.labels, head: self.head, encoder: Arc::new(encoder) })
    }

    /// The encoder that [`Adapter::load`] made of it, on a device; `None` where the base has no place for it.
    pub fn encoder_on(
        &self,
        base: &Encoder,
        adapted: &Encoder,
        place: &Place,
        control: &dyn Control,
    ) -> Result<Option<Encoder>> {
        base.adapted_on(place, adapted, &base.mergeable(self.plan.clone())?, &self.values, control)
    }

    /// The adapter merged into its base, as the files of a sentence-transformers folder. The labels' head is a dense module
    /// at its end (`classify`), or a file of its own.
    pub fn export(
        &self,
        base: &Encoder,
        model_dir: &std::path::Path,
        control: &dyn Control,
    ) -> Result<Vec<(String, Vec<u8>)>> {
        let net = base.mergeable(self.plan.clone())?;
        if !net.has_place() {
            return Err(Error::InvalidValue {
                place: "argument".into(),
                key: "name".into(),
                reason: "a bottleneck has no place in the base's architecture; lora, full and head have".into(),
            });
        }
        let mut files = export(model_dir, &base.info().bundle, &net, &self.values, control)?;
        if self.head.is_empty() {
            return Ok(files);
        }
        let (width, outputs) = (base.info().dimension, self.outputs());
        let (weight, bias) = self.head.split_at(outputs * width);
        let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let (weight, bias) = (bytes(weight), bytes(bias));
        let head = serialize(
            vec![
                ("linear.weight", TensorView::new(Dtype::F32, vec![outputs, width], &weight).map_err(broken)?),
                ("linear.bias", TensorView::new(Dtype::F32, vec![outputs], &bias).map_err(broken)?),
            ],
            None,
        )
        .map_err(broken)?;
        let labels = serde_json::to_vec_pretty(&self.labels).map_err(broken)?;
        files.push(("labels.json".into(), labels));
        let modules = files.iter().position(|(path, _)| path == "modules.json");
        match (self.task, modules) {
            (Task::Classify, Some(at)) => {
                let mut list: Vec<serde_json::Value> = serde_json::from_slice(&files[at].1).map_err(broken)?;
                let place = list.len();
                list.push(
                    serde_json::json!({"idx": place, "name": place.to_string(), "path": format!("{place}_Dense"),
                    "type": "sentence_transformers.models.Dense"}),
                );
                files[at].1 = serde_json::to_vec_pretty(&list).map_err(broken)?;
                let config = serde_json::json!({"in_features": width, "out_features": outputs, "bias": true,
                    "activation_function": "torch.nn.modules.linear.Identity"});
                let config = serde_json::to_vec_pretty(&config).map_err(broken)?;
                files.push((format!("{place}_Dense/config.json"), config));
                files.push((format!("{place}_Dense/model.safetensors"), head));
            }
            _ => files.push(("head.safetensors".into(), head)),
        }
        Ok(files)
    }

    fn outputs(&self) -> usize {
        match self.task {
            Task::Embed => 0,
            Task::Rank => 1,
            _ => self.labels.len(),
        }
    }
}

/// An adapter merged into its base, ready to use.
pub struct Loaded {
    /// What it does.
    pub task: Task,
    /// The labels of the head's outputs.
    pub labels: Vec<String>,
    /// The head, as in [`Adapter::head`].
    pub head: Vec<f32>,
    /// The base with it merged in.
    pub encoder: Arc<Encoder>,
}

/// `W v + b` of a head over vectors of this width.
pub(super) fn logits(head: &[f32], vector: &[f32]) -> Vec<f32> {
    let outputs = head.len() / (vector.len() + 1);
    let (weights, biases) = head.split_at(outputs * vector.len());
    weights.chunks_exact(vector.len()).zip(biases).map(|(row, bias)| dot(row, vector) + bias).collect()
}

/// Logits to shares that add up to 1.
pub(super) fn shares(logits: &[f32]) -> Vec<f32> {
    let most = logits.iter().fold(f32::MIN, |a, b| a.max(*b));
    let parts: Vec<f32> = logits.iter().map(|l| (l - most).exp()).collect();
    let total: f32 = parts.iter().sum();
    parts.iter().map(|p| p / total).collect()
}

impl Loaded {
    /// The share of each label, for a text's vector.
    pub fn shares(&self, vector: &[f32]) -> Vec<f32> {
        shares(&logits(&self.head, vector))
    }

    /// For each text the share of each label, and the texts' vectors.
    pub fn judge(
        &self,
        texts: &[&str],
        scratch: &mut Scratch,
        control: &dyn Control,
    ) -> Result<(Vec<Vec<f32>>, Vec<f32>)> {
        let width = self.encoder.info().dimension;
        let vectors = self.encoder.embed(texts, Role::Query, scratch, control)?;
        let shares = vectors.chunks_exact(width).map(|vector| self.shares(vector)).collect();
        Ok((shares, vectors))
    }

    /// How well each document answers the query, 0 to 1, in input order.
    pub fn rerank(
        &self,
        query: &str,
        documents: &[&str],
        scratch: &mut Scratch,
        control: &dyn Control,
    ) -> Result<Vec<f32>> {
        let scores = self.scores(query, documents, scratch, control)?;
        Ok(scores.into_iter().map(|score| 1.0 / (1.0 + (-score).exp())).collect())
    }

    /// The same as bare scores: any number, larger is better.
    pub fn scores(
        &self,
        query: &str,
        documents: &[&str],
        scratch: &mut Scratch,
        control: &dyn Control,
    ) -> Result<Vec<f32>> {
        let vectors = self.encoder.embed_pairs(query, documents, scratch, control)?;
        let score = |vector: &[f32]| logits(&self.head, vector).first().copied().unwrap_or(0.0);
        Ok(vectors.chunks_exact(self.encoder.info().dimension).map(score).collect())
    }

    /// The spans of a text that bear a label: bytes, label, share.
    pub fn tag(
        &self,
        text: &str,
        scratch: &mut Scratch,
        control: &dyn Control,
    ) -> Result<Vec<(Range<usize>, String, f32)>> {
        let (pieces, hidden) = self.encoder.pieces(text, scratch, control)?;
        let width = self.encoder.info().dimension;
        let mut given = Vec::new();
        for (piece, row) in pieces.iter().zip(hidden.chunks_exact(width)) {
            if piece.bytes.is_empty() {
                continue;
            }
            let shares = shares(&logits(&self.head, row));
            let best = (0..shares.len()).max_by(|a, b| shares[*a].total_cmp(&shares[*b])).unwrap_or(0);
            given.push((piece.bytes.clone(), best, shares.get(best).copied().unwrap_or(0.0)));
        }
        Ok(spans(&self.labels, &given))
    }
}

/// Pieces with labels `O`, `B-x`, `I-x` to spans of `x`; a span's share is that of its least certain piece.
pub(super) fn spans(labels: &[String], pieces: &[(Range<usize>, usize, f32)]) -> Vec<(Range<usize>, String, f32)> {
    let mut spans: Vec<(Range<usize>, String, f32)> = Vec::new();
    let mut open = false;
    for (bytes, label, share) in pieces {
        let label = labels.get(*label).map_or("O", String::as_str);
        let Some((mark, name)) = label.split_once('-') else {
            open = false;
            continue;
        };
        match spans.last_mut() {
            Some(last) if open && mark == "I" && last.1 == name => {
                last.0.end = bytes.end;
                last.2 = last.2.min(*share);
            }
            // A piece of a word that has begun, even if it claims to begin another.
            Some(last) if open && last.1 == name && last.0.end == bytes.start => last.0.end = bytes.end,
            _ => spans.push((bytes.clone(), name.to_owned(), *share)),
        }
        open = true;
    }
    spans
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_row_holds_all_of_it() {
        let method = Method::Lora { rank: 2, alpha: 4.0, targets: vec![Target::Query, Target::Down] };
        let mut adapter = Adapter {
            task: Task::Classify,
            plan: Plan { method, layers: usize::MAX },
            labels: vec!["a \"b\"".into(), "ç".into()],
            values: vec![0.1, -3.25e-7, 1e10],
            head: vec![1.0; 6],
        };
        let bytes = adapter.to_bytes().unwrap();
        assert_eq!(bytes, adapter.to_bytes().unwrap());
        assert_eq!(Adapter::read(&bytes).unwrap(), adapter);
        adapter.plan.method = Method::Full;
        adapter.values = vec![0.1, 0.25];
        let rounded = adapter.clone().rounded();
        assert_eq!(Adapter::read(&adapter.to_bytes().unwrap()).unwrap(), rounded);
        assert_eq!(rounded.values[1], 0.25);
        assert!(Adapter::read(&bytes[..bytes.len() - 1]).is_err());
        assert!(Adapter::read(b"nothing").is_err());
    }

    #[test]
    fn pieces_become_spans() {
        let labels: Vec<String> = ["O", "B-brand", "I-brand", "B-color", "I-color"].map(String::from).to_vec();
        let pieces =
            [(0..3, 1, 0.9), (3..6, 2, 0.8), (7..10, 3, 0.7), (11..12, 0, 1.0), (13..15, 1, 0.6), (16..18, 1, 0.5)];
        let got = spans(&labels, &pieces);
        let shown: Vec<(Range<usize>, &str)> = got.iter().map(|(r, l, _)| (r.clone(), l.as_str())).collect();
        assert_eq!(shown, [(0..6, "brand"), (7..10, "color"), (13..15, "brand"), (16..18, "brand")]);
    }
}
