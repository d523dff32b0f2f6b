//! A trained network as the files of a Hugging Face folder: the base's files, with what was trained added to its weights.

use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};

use super::bundle::Bundle;
use super::config;
use super::packed::gradient::Net;
use super::weights::Weights;
use crate::control::Control;
use crate::error::Result;

/// Files that a folder may have beside those that decide vectors.
const OTHERS: [&str; 4] = ["vocab.txt", "special_tokens_map.json", "vocab.json", "merges.txt"];

/// The files of `model_dir/bundle` with the trained numbers merged into its weights: (path, content).
pub fn export(
    model_dir: &Path,
    bundle: &str,
    net: &Net,
    values: &[f32],
    control: &dyn Control,
) -> Result<Vec<(String, Vec<u8>)>> {
    let source = Bundle::open(model_dir, bundle)?;
    let mut files = Vec::new();
    for file in config::FILES.iter().chain(&OTHERS) {
        if let Some(bytes) = source.small(file, control)? {
            files.push(((*file).to_owned(), bytes));
        }
    }
    files.push(("tokenizer.json".to_owned(), source.tokenizer()?));
    let weights = Weights::read(&source, control)?;
    let broken = |e: safetensors::SafeTensorError| source.broken("model.safetensors", e);
    let tensors = SafeTensors::deserialize(weights.bytes()).map_err(broken)?;
    let named = weights.tensors()?;
    let mut changed: HashMap<String, (Vec<usize>, Vec<f32>)> = HashMap::new();
    for change in net.changes(values) {
        control.check()?;
        let prefix = named.prefix(&["", "bert.", "roberta.", "distilbert.", "model."], &change.tensor);
        let name = format!("{prefix}{}", change.tensor);
        let shape = tensors.tensor(&name).map_err(broken)?.shape().to_vec();
        if !changed.contains_key(&name) {
            changed.insert(name.clone(), (shape.clone(), named.get(&name, &shape)?));
        }
        if let Some((_, values)) = changed.get_mut(&name) {
            change.add_to(&shape, values);
        }
    }
    let bytes: HashMap<&String, Vec<u8>> = changed
        .iter()
        .map(|(name, (_, values))| (name, values.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let mut views = Vec::new();
    for (name, view) in tensors.tensors() {
        control.check()?;
        let view = match (changed.get(&name), bytes.get(&name)) {
            (Some((shape, _)), Some(bytes)) => TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(broken)?,
            _ => view,
        };
        views.push((name, view));
    }
    let about = Some(HashMap::from([("format".to_owned(), "pt".to_owned())]));
    files.push(("model.safetensors".to_owned(), serialize(views, about).map_err(broken)?));
    Ok(files)
}
