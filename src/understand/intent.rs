//! Intent: what the shopper is about, with a confidence that means what it says.
//!
//! A softmax regression over the encoder's vector, the query's words (hashed) and what its surface shows: question
//! words, `vs`, model numbers, price words. It is trained at refresh for the catalog's own model, from the few examples
//! a class that ship with the extension (`examples.json`), always to the same weights; a second of work, kept in the
//! lexicon. Its confidence is calibrated by a temperature found on held-out folds of the same examples. Without a vector,
//! or for a language the model does not know, words and surface carry it alone.

use super::normalize::{Form, Token, normalize};
use super::surface::{SURFACE, surface};
use crate::control::Control;
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// What a shopper is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// One product, named.
    BuyExact,
    /// A kind of product with certain attributes.
    BuyAttribute,
    /// A department, an occasion, a whole kind.
    Browse,
    /// One thing against another.
    Compare,
    /// How, which, what for.
    Advise,
    /// An order, a return, a warranty, an account.
    Support,
    /// Nothing that a shop sells.
    Other,
}

/// Every class, in the order of [`Intent::confidence`].
pub const CLASSES: [Class; 7] =
    [Class::BuyExact, Class::BuyAttribute, Class::Browse, Class::Compare, Class::Advise, Class::Support, Class::Other];

impl Class {
    /// The name that `understand` shows.
    pub fn name(self) -> &'static str {
        match self {
            Class::BuyExact => "buy_exact",
            Class::BuyAttribute => "buy_attribute",
            Class::Browse => "browse",
            Class::Compare => "compare",
            Class::Advise => "advise",
            Class::Support => "support",
            Class::Other => "other",
        }
    }
}

/// Probabilities of [`CLASSES`], which sum to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Intent {
    /// By class, in the order of [`CLASSES`].
    pub confidence: [f64; CLASSES.len()],
}

impl Intent {
    /// The likeliest class and its probability.
    pub fn best(&self) -> (Class, f64) {
        let mut best = (Class::Other, f64::NEG_INFINITY);
        for (class, p) in CLASSES.into_iter().zip(self.confidence) {
            if p > best.1 {
                best = (class, p);
            }
        }
        best
    }

    /// The probabilities that a function gives.
    pub fn each(of: impl Fn(Class) -> f64) -> Intent {
        Intent { confidence: CLASSES.map(of) }
    }

    /// From the labels of another classifier; what is no class's name is `other`. `None` where no label is one.
    pub fn of_labels(labels: &[String], shares: &[f32]) -> Option<Intent> {
        let class = |label: &str| CLASSES.into_iter().find(|c| c.name() == label);
        labels.iter().find_map(|label| class(label))?;
        let mut intent = Intent::each(|_| 0.0);
        for (label, share) in labels.iter().zip(shares) {
            intent.confidence[class(label).unwrap_or(Class::Other) as usize] += f64::from(*share);
        }
        Some(intent)
    }

    /// The probability of a class.
    pub fn of(&self, class: Class) -> f64 {
        self.confidence[class as usize]
    }
}

/// Places for hashed words.
const HASHED: usize = 1024;
/// How much the three parts weigh before training.
const SCALES: [f32; 3] = [3.0, 2.0, 1.5];
/// Ridge on the weights.
const RIDGE: f32 = 0.001;
const STEPS: usize = 150;
const FOLDS: usize = 5;

/// A trained classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    /// The identity of the model and of the examples that it was trained for.
    pub identity: String,
    dimension: usize,
    temperature: f32,
    /// With a vector: `[classes, dimension + HASHED + SURFACE + 1]`.
    weights: Vec<f32>,
    /// Without one: `[classes, HASHED + SURFACE + 1]`.
    bare: Vec<f32>,
}

/// The examples that ship with the extension: text and class.
pub fn examples() -> Vec<(String, Class)> {
    // A file of this crate, read by a test: it cannot fail.
    let by_class: Vec<(Class, Vec<String>)> =
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(include_str!("examples.json"))
            .map(|map| {
                map.into_iter()
                    .filter_map(|(name, texts)| {
                        let class = CLASSES.into_iter().find(|c| c.name() == name)?;
                        Some((class, serde_json::from_value(texts).ok()?))
                    })
                    .collect()
            })
            .unwrap_or_default();
    by_class.into_iter().flat_map(|(class, texts)| texts.into_iter().map(move |t| (t, class))).collect()
}

/// A change of the examples or of the features makes another classifier.
pub fn identity(model: &str) -> String {
    let hash = include_str!("examples.json")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{model} {hash:016x} 1")
}

/// Sparse features: place and value.
type Sparse = Vec<(usize, f32)>;

fn hashed(tokens: &[Token], out: &mut Sparse) {
    let words: Vec<String> = tokens
        .iter()
        .map(|t| match t.form {
            Form::Number => "<number>".to_owned(),
            Form::Model => "<model>".to_owned(),
            Form::Measure => "<measure>".to_owned(),
            Form::Word | Form::Mark => t.text.clone(),
        })
        .collect();
    let mut places: Vec<usize> = Vec::new();
    let hash = |text: &str| {
        let h = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        ((h ^ (h >> 29)) % HASHED as u64) as usize
    };
    for word in &words {
        places.push(hash(word));
    }
    for pair in words.windows(2) {
        places.push(hash(&format!("{} {}", pair[0], pair[1])));
    }
    let value = SCALES[1] / (places.len().max(1) as f32).sqrt();
    for place in places {
        match out.iter_mut().find(|(p, _)| *p == place) {
            Some((_, v)) => *v += value,
            None => out.push((place, value)),
        }
    }
}

fn features(text: &str, tokens: &[Token]) -> Sparse {
    let mut out = Vec::with_capacity(tokens.len() * 2 + 8);
    hashed(tokens, &mut out);
    out.extend(surface(text, tokens).map(|(at, value)| (HASHED + at, SCALES[2] * value)));
    out.push((HASHED + SURFACE, 1.0));
    out
}

struct Example {
    sparse: Sparse,
    vector: Vec<f32>,
    class: usize,
}

const BARE: usize = HASHED + SURFACE + 1;

impl Classifier {
    /// Trains for a model: `vectors` are its vectors of `examples()`, row-major, each of length 1.
    pub fn train(identity: &str, vectors: &[f32], dimension: usize, control: &dyn Control) -> Result<Classifier> {
        let texts = examples();
        let rows: Vec<Example> = texts
            .iter()
            .enumerate()
            .map(|(at, (text, class))| {
                let (clean, tokens) = normalize(text);
                let vector = vectors.get(at * dimension..(at + 1) * dimension).unwrap_or(&[]);
                Example {
                    sparse: features(&clean, &tokens),
                    vector: vector.iter().map(|x| x * SCALES[0]).collect(),
                    class: *class as usize,
                }
            })
            .collect();
        let all: Vec<usize> = (0..rows.len()).collect();
        let weights = fit(&rows, &all, dimension, control)?;
        let bare = fit(&rows, &all, 0, control)?;
        let mut held: Vec<([f32; CLASSES.len()], usize)> = Vec::with_capacity(rows.len());
        for fold in 0..FOLDS {
            let (out, within): (Vec<usize>, Vec<usize>) = all.iter().partition(|at| *at % FOLDS == fold);
            let weights = fit(&rows, &within, dimension, control)?;
            held.extend(
                out.iter()
                    .map(|at| (logits(&weights, &rows[*at].vector, &rows[*at].sparse, dimension), rows[*at].class)),
            );
        }
        // The temperature that makes the held-out examples likeliest.
        let loss =
            |t: f32| -> f64 { held.iter().map(|(z, class)| -f64::from(softmax(z, t)[*class].max(1e-9).ln())).sum() };
        let tried = (2..=60).map(|n| n as f32 * 0.05);
        let temperature =
            tried.fold((1.0f32, f64::INFINITY), |best, t| if loss(t) < best.1 { (t, loss(t)) } else { best }).0;
        Ok(Classifier { identity: identity.to_owned(), dimension, temperature, weights, bare })
    }

    /// The intent of a normalised query; `vector` is the query's, where there is one.
    pub fn intent(&self, text: &str, tokens: &[Token], vector: Option<&[f32]>) -> Intent {
        let sparse = features(text, tokens);
        let z = match vector.filter(|v| v.len() == self.dimension) {
            Some(vector) => {
                let scaled: Vec<f32> = vector.iter().map(|x| x * SCALES[0]).collect();
                logits(&self.weights, &scaled, &sparse, self.dimension)
            }
            None => logits(&self.bare, &[], &sparse, 0),
        };
        let p = softmax(&z, self.temperature);
        Intent { confidence: p.map(f64::from) }
    }

    /// As bytes, for the lexicon.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = (self.identity.len() as u32).to_le_bytes().to_vec();
        out.extend(self.identity.as_bytes());
        out.extend((self.dimension as u32).to_le_bytes());
        out.extend(self.temperature.to_le_bytes());
        self.weights.iter().chain(&self.bare).for_each(|w| out.extend(w.to_le_bytes()));
        out
    }

    /// What `to_bytes` wrote; `None` for anything else.
    pub fn read(bytes: &[u8]) -> Option<Classifier> {
        let (length, rest) = bytes.split_at_checked(4)?;
        let (identity, rest) = rest.split_at_checked(u32::from_le_bytes(length.try_into().ok()?) as usize)?;
        let (dimension, rest) = rest.split_at_checked(4)?;
        let (temperature, rest) = rest.split_at_checked(4)?;
        let dimension = u32::from_le_bytes(dimension.try_into().ok()?) as usize;
        let numbers: Vec<f32> =
            rest.chunks_exact(4).filter_map(|b| Some(f32::from_le_bytes(b.try_into().ok()?))).collect();
        let whole = CLASSES.len().checked_mul(dimension.checked_add(BARE)?)?;
        (numbers.len() == whole + CLASSES.len() * BARE).then(|| Classifier {
            identity: String::from_utf8_lossy(identity).into_owned(),
            dimension,
            temperature: temperature.try_into().map_or(1.0, f32::from_le_bytes),
            weights: numbers[..whole].to_vec(),
            bare: numbers[whole..].to_vec(),
        })
    }
}

fn logits(weights: &[f32], vector: &[f32], sparse: &Sparse, dimension: usize) -> [f32; CLASSES.len()] {
    let width = dimension + BARE;
    let mut z = [0.0; CLASSES.len()];
    for (class, z) in z.iter_mut().enumerate() {
        let row = &weights[class * width..(class + 1) * width];
        *z = crate::linear::dot(&row[..dimension], &vector[..dimension.min(vector.len())]);
        *z += sparse.iter().map(|(at, value)| row[dimension + at] * value).sum::<f32>();
    }
    z
}

fn softmax(z: &[f32; CLASSES.len()], temperature: f32) -> [f32; CLASSES.len()] {
    let most = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e = z.map(|z| ((z - most) / temperature).exp());
    let sum: f32 = e.iter().sum();
    e.map(|e| e / sum)
}

/// Softmax regression by Nesterov's accelerated descent from nothing: the loss has one minimum.
fn fit(rows: &[Example], within: &[usize], dimension: usize, control: &dyn Control) -> Result<Vec<f32>> {
    let width = dimension + BARE;
    let mut weights = vec![0.0f32; CLASSES.len() * width];
    let mut before = weights.clone();
    let scale = 1.0 / within.len().max(1) as f32;
    // A bound on the curvature: half of the longest example's square (Böhning, 1992), and the ridge.
    let square = |e: &Example| {
        e.vector.iter().take(dimension).map(|x| x * x).sum::<f32>() + e.sparse.iter().map(|(_, v)| v * v).sum::<f32>()
    };
    let longest = within.iter().map(|at| square(&rows[*at])).fold(1.0, f32::max);
    let rate = 1.0 / (0.5 * longest + RIDGE);
    for step in 0..STEPS {
        if step % 4 == 0 {
            control.check()?;
        }
        let momentum = step as f32 / (step as f32 + 3.0);
        let ahead: Vec<f32> = weights.iter().zip(&before).map(|(w, b)| w + momentum * (w - b)).collect();
        let mut gradient: Vec<f32> = ahead.iter().map(|w| w * RIDGE).collect();
        for at in within {
            let row = &rows[*at];
            let vector = if dimension > 0 { row.vector.as_slice() } else { &[] };
            let mut p = softmax(&logits(&ahead, vector, &row.sparse, dimension), 1.0);
            p[row.class] -= 1.0;
            for (class, p) in p.iter().enumerate() {
                let slope = p * scale;
                let line = &mut gradient[class * width..(class + 1) * width];
                for (g, x) in line[..dimension].iter_mut().zip(vector) {
                    *g += slope * x;
                }
                for (at, value) in &row.sparse {
                    line[dimension + at] += slope * value;
                }
            }
        }
        before = std::mem::replace(&mut weights, ahead.iter().zip(&gradient).map(|(w, g)| w - rate * g).collect());
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::Free;

    #[test]
    fn every_class_has_examples_in_both_languages() {
        let all = examples();
        for class in CLASSES {
            let chinese = |t: &str| t.chars().any(|c| crate::understand::segment::script(c).is_some());
            let (zh, en): (Vec<_>, Vec<_>) = all.iter().filter(|(_, c)| *c == class).partition(|(t, _)| chinese(t));
            assert!(en.len() >= 40 && zh.len() >= 15, "{class:?}: {} and {}", en.len(), zh.len());
        }
    }

    #[test]
    fn the_test_set_is_no_part_of_the_examples() {
        let test = include_str!("../../tests/data/intents.csv");
        let queries: Vec<&str> = test.lines().skip(1).filter_map(|line| line.rsplitn(3, ',').nth(2)).collect();
        assert!(queries.len() >= 300);
        for (text, _) in examples() {
            assert!(!queries.contains(&text.as_str()), "{text} is in both");
        }
    }

    #[test]
    fn words_and_surface_alone_tell_the_plain_cases() {
        let classifier = Classifier::train("none", &[], 0, &Free).unwrap();
        assert_eq!(classifier, Classifier::train("none", &[], 0, &Free).unwrap());
        assert_eq!(Classifier::read(&classifier.to_bytes()), Some(classifier.clone()));
        assert_eq!(Classifier::read(&classifier.to_bytes()[..50]), None);
        for (text, wanted) in [
            ("where is my refund", Class::Support),
            ("oled vs qled", Class::Compare),
            ("how to choose a bike", Class::Advise),
            ("黑色皮鞋 42码", Class::BuyAttribute),
            ("怎么退货", Class::Support),
            ("索尼和佳能哪个好", Class::Compare),
            ("xps9340-7741", Class::BuyExact),
        ] {
            let (clean, tokens) = normalize(text);
            let intent = classifier.intent(&clean, &tokens, None);
            assert!((intent.confidence.iter().sum::<f64>() - 1.0).abs() < 1e-5);
            assert_eq!(intent.best().0, wanted, "{text}: {intent:?}");
        }
    }
}
