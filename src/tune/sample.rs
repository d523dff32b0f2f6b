//! Rows as training sees them: split, tokenised, drawn for a step, with the loss of what was drawn.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use super::data::{Data, Item, Pair, Tagged, asked, shown};
use super::drawn::{Drawn, head_loss};
use super::options::{MethodName, Options};
use super::run::embed_all;
use super::teacher::{CrossEncoder, Lists};
use crate::control::Control;
use crate::embed::{Batch, Encoder, Role};
use crate::error::{Error, Result};
use crate::linear::dot;
use crate::random::Random;

/// Rows held out at most: enough for an interval, and soon judged.
const HELD: usize = 1000;
/// How far a head's first logits stand apart: the inverse of the softness that suits vectors of length 1.
const SHARPNESS: f32 = 16.0;
/// Rows of an item table that are drawn for an epoch, unless told otherwise.
const DRAWN: usize = 4096;

/// What the rows are, once read.
pub(super) enum Kind {
    Labelled { tokens: Vec<Vec<u32>>, label_of: Vec<usize>, frozen: Vec<f32> },
    Pairs { pairs: Vec<Pair>, near: Vec<Vec<usize>> },
    Items { items: Vec<Item>, near: Vec<Vec<usize>> },
    Taught(Lists),
    Graded { pairs: Vec<Pair> },
    Tagged { tokens: Vec<Vec<u32>>, label_of: Vec<Vec<usize>> },
}

/// The rows of a run.
pub(super) struct Samples {
    pub(super) kind: Kind,
    pub(super) train: Vec<usize>,
    pub(super) held: Vec<usize>,
    pub(super) labels: Vec<String>,
    pub(super) drawn: Option<usize>,
    /// What is asked of the items held out: query, item, and the words that excuse another item.
    pub(super) held_pairs: Vec<Pair>,
    /// What is said of the items held out.
    pub(super) held_said: Vec<String>,
    held_batch: Batch,
    pub(super) width: usize,
}

/// A label that counts nothing: of a token that belongs to no word.
pub(super) const NO_LABEL: usize = usize::MAX;

fn too_few(what: &str) -> Error {
    Error::TooFewRows { what: what.to_owned() }
}

/// Splits `rows` by the group that each belongs to: whole groups are held out, so that nothing of them was seen.
fn split<T: Ord>(rows: &[T], share: f32, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut groups: Vec<&T> = rows.iter().collect::<BTreeSet<_>>().into_iter().collect();
    Random::named(seed, "split").shuffle(&mut groups);
    let count = ((groups.len() as f32 * share).round() as usize).min(HELD).min(groups.len().saturating_sub(1));
    let out: BTreeSet<&T> = groups.into_iter().take(count).collect();
    (0..rows.len()).partition(|i| !out.contains(&rows[*i]))
}

impl Samples {
    pub(super) fn new(
        data: &Data,
        options: &Options,
        encoder: &Encoder,
        teacher: Option<&CrossEncoder>,
        control: &dyn Control,
    ) -> Result<Samples> {
        let (share, seed) = (options.validation, options.seed);
        let length = options.length(data.task());
        let cut = |mut ids: Vec<u32>| {
            ids.truncate(length);
            ids
        };
        let (mut labels, mut drawn, mut held_pairs) = (Vec::new(), options.rows, Vec::new());
        let mut held_said: Vec<String> = Vec::new();
        let (kind, train, held) = match data {
            Data::Labelled(rows) => {
                labels = rows.iter().map(|(_, label)| label.clone()).collect::<BTreeSet<_>>().into_iter().collect();
                if labels.len() < 2 {
                    return Err(too_few("classify needs at least two labels"));
                }
                let place: BTreeMap<&String, usize> = labels.iter().enumerate().map(|(i, l)| (l, i)).collect();
                let label_of: Vec<usize> = rows.iter().filter_map(|(_, l)| place.get(l).copied()).collect();
                let mut tokens = Vec::new();
                for (text, _) in rows {
                    control.check()?;
                    tokens.push(cut(encoder.tokens(text, Role::Query)?));
                }
                // The same share of each label, of one with many rows at least one.
                let (mut train, mut held) = (Vec::new(), Vec::new());
                let mut random = Random::named(seed, "split");
                for label in 0..labels.len() {
                    let mut mine: Vec<usize> = (0..rows.len()).filter(|i| label_of[*i] == label).collect();
                    random.shuffle(&mut mine);
                    let out = ((mine.len() as f32 * share).round() as usize).min(mine.len().saturating_sub(1));
                    held.extend(&mine[..out]);
                    train.extend(&mine[out..]);
                }
                let mut frozen = Vec::new();
                if options.method == MethodName::Head {
                    let texts: Vec<&str> = rows.iter().map(|(text, _)| text.as_str()).collect();
                    frozen = embed_all(encoder, &texts, Role::Query, control)?;
                }
                (Kind::Labelled { tokens, label_of, frozen }, train, held)
            }
            Data::Pairs(pairs) => {
                let queries: Vec<&String> = pairs.iter().map(|pair| &pair.query).collect();
                let (mut train, mut held) = split(&queries, share, seed);
                held_pairs = held.iter().map(|i| pairs[*i].clone()).collect();
                let texts: Vec<&str> = pairs.iter().map(|pair| pair.item.as_str()).collect();
                let kind = if let Some(teacher) = teacher {
                    few(&mut train, drawn.take(), seed);
                    let some = train.iter().chain(&held).map(|i| pairs[*i].clone()).collect();
                    (train, held) = renumbered(&train, &held);
                    let parts = (train.as_slice(), held.as_slice());
                    Kind::Taught(Lists::new((some, false), parts, &texts, teacher, options, encoder, control)?)
                } else {
                    let near = near(&texts, options.negatives(), encoder, control)?;
                    Kind::Pairs { pairs: pairs.clone(), near }
                };
                (kind, train, held)
            }
            Data::Items(items) => {
                let (mut train, mut held) = split(&(0..items.len()).collect::<Vec<_>>(), share, seed);
                let mut random = Random::named(seed, "held");
                held_pairs = held
                    .iter()
                    .map(|i| Pair { query: asked(&items[*i], &mut random), item: items[*i].text.clone(), grade: 1.0 })
                    .collect();
                held_said = held.iter().map(|i| items[*i].said()).collect();
                let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
                drawn = Some(drawn.unwrap_or(DRAWN));
                let kind = if let Some(teacher) = teacher {
                    few(&mut train, drawn.take(), seed);
                    let mut some = Vec::new();
                    for i in &train {
                        let item = &items[*i];
                        some.push(Pair { query: asked(item, &mut random), item: item.text.clone(), grade: 1.0 });
                    }
                    some.extend(held_pairs.iter().cloned());
                    (train, held) = renumbered(&train, &held);
                    let parts = (train.as_slice(), held.as_slice());
                    Kind::Taught(Lists::new((some, true), parts, &texts, teacher, options, encoder, control)?)
                } else {
                    let near = near(&texts, options.negatives(), encoder, control)?;
                    Kind::Items { items: items.clone(), near }
                };
                (kind, train, held)
            }
            Data::Graded(pairs) => {
                let (low, high) =
                    pairs.iter().fold((f32::MAX, f32::MIN), |(low, high), p| (low.min(p.grade), high.max(p.grade)));
                if high <= low {
                    return Err(too_few("rank needs at least two different grades"));
                }
                let scaled = |p: &Pair| Pair { grade: (p.grade - low) / (high - low), ..p.clone() };
                let pairs: Vec<Pair> = pairs.iter().map(scaled).collect();
                let queries: Vec<&String> = pairs.iter().map(|pair| &pair.query).collect();
                let (train, held) = split(&queries, share, seed);
                held_pairs = held.iter().map(|i| pairs[*i].clone()).collect();
                (Kind::Graded { pairs }, train, held)
            }
            Data::Tagged(rows) => {
                labels = tag_labels(rows);
                let (mut tokens, mut label_of) = (Vec::new(), Vec::new());
                for row in rows {
                    control.check()?;
                    let pieces = encoder.cut(&row.text)?;
                    let mut ids: Vec<u32> = pieces.iter().map(|p| p.id).collect();
                    let bytes: Vec<Range<usize>> = pieces.into_iter().map(|p| p.bytes).collect();
                    let mut of = piece_labels(&labels, row, &bytes);
                    ids.truncate(length);
                    of.truncate(length);
                    tokens.push(ids);
                    label_of.push(of);
                }
                let texts: Vec<&String> = rows.iter().map(|row| &row.text).collect();
                let (train, held) = split(&texts, share, seed);
                (Kind::Tagged { tokens, label_of }, train, held)
            }
        };
        if train.len() < 2 {
            return Err(too_few("there are fewer than two rows to learn from"));
        }
        let width = encoder.info().dimension;
        let mut samples =
            Samples { kind, train, held, labels, drawn, held_pairs, held_said, held_batch: Batch::default(), width };
        samples.held_batch = samples.make_held(encoder, length)?;
        Ok(samples)
    }

    fn make_held(&self, encoder: &Encoder, length: usize) -> Result<Batch> {
        let mut batch = Batch::default();
        match &self.kind {
            Kind::Labelled { tokens, .. } | Kind::Tagged { tokens, .. } => {
                self.held.iter().for_each(|i| batch.push(&tokens[*i], &[]));
            }
            Kind::Pairs { .. } | Kind::Items { .. } | Kind::Taught(_) => {
                for pair in &self.held_pairs {
                    push(encoder, &pair.query, Role::Query, length, &mut batch)?;
                }
                for pair in &self.held_pairs {
                    push(encoder, &pair.item, Role::Document, length, &mut batch)?;
                }
            }
            Kind::Graded { .. } => {
                for pair in &self.held_pairs {
                    encoder.push_pair(&pair.query, &pair.item, length, &mut batch)?;
                }
            }
        }
        Ok(batch)
    }

    /// The tokens of the rows held out; give it back.
    pub(super) fn held_batch(&mut self) -> Batch {
        std::mem::take(&mut self.held_batch)
    }

    pub(super) fn put_back(&mut self, batch: Batch) {
        self.held_batch = batch;
    }

    /// Whether the queries were made of the items.
    pub(super) fn made(&self) -> bool {
        match &self.kind {
            Kind::Items { .. } => true,
            Kind::Taught(lists) => lists.made,
            _ => false,
        }
    }

    /// Whether all vectors were made beforehand.
    pub(super) fn frozen(&self) -> bool {
        matches!(&self.kind, Kind::Labelled { frozen, .. } if !frozen.is_empty())
    }

    /// The vectors of the rows held out, where they were made beforehand.
    pub(super) fn frozen_held(&self) -> Option<Vec<f32>> {
        match &self.kind {
            Kind::Labelled { frozen, .. } if !frozen.is_empty() => {
                Some(self.held.iter().flat_map(|i| frozen[i * self.width..][..self.width].iter().copied()).collect())
            }
            _ => None,
        }
    }

    /// The head before the first step: for labels the means of their texts' vectors, which is a classifier already; for
    /// a score nothing, for tags small numbers.
    pub(super) fn first_head(&self, encoder: &Encoder, control: &dyn Control) -> Result<Vec<f32>> {
        let width = self.width;
        match &self.kind {
            Kind::Pairs { .. } | Kind::Items { .. } | Kind::Taught(_) => Ok(Vec::new()),
            Kind::Graded { .. } => Ok(vec![0.0; width + 1]),
            Kind::Tagged { .. } => Ok(vec![0.0; self.labels.len() * (width + 1)]),
            Kind::Labelled { tokens, label_of, frozen } => {
                let mut head = vec![0.0; self.labels.len() * (width + 1)];
                let mut add = |i: usize, vector: &[f32]| {
                    let row = &mut head[label_of[i] * width..][..width];
                    row.iter_mut().zip(vector).for_each(|(x, v)| *x += v);
                };
                if frozen.is_empty() {
                    for chunk in self.train.chunks(64) {
                        let mut batch = Batch::default();
                        chunk.iter().for_each(|i| batch.push(&tokens[*i], &[]));
                        let vectors = encoder.embed_batch(&batch, control)?;
                        chunk.iter().zip(vectors.chunks_exact(width)).for_each(|(i, v)| add(*i, v));
                    }
                } else {
                    self.train.iter().for_each(|i| add(*i, &frozen[i * width..][..width]));
                }
                for row in head[..self.labels.len() * width].chunks_exact_mut(width) {
                    let length = dot(row, row).sqrt().max(1e-12);
                    row.iter_mut().for_each(|x| *x *= SHARPNESS / length);
                }
                Ok(head)
            }
        }
    }

    /// Loss of a step over vectors made beforehand.
    pub(super) fn frozen_loss(&self, rows: &[usize], head: &[f32], of_head: &mut [f32], smoothing: f32) -> Result<f64> {
        let Kind::Labelled { label_of, frozen, .. } = &self.kind else {
            return Err(Error::Internal("only labelled rows have vectors beforehand".into()));
        };
        let by = 1.0 / rows.len().max(1) as f32;
        let mut total = 0.0;
        for i in rows {
            let vector = &frozen[i * self.width..][..self.width];
            total += head_loss(vector, label_of[*i], head, of_head, None, smoothing, by);
        }
        Ok(total / rows.len().max(1) as f64)
    }

    /// Draws the texts of a step.
    pub(super) fn draw(
        &self,
        rows: &[usize],
        encoder: &Encoder,
        random: &mut Random,
        length: usize,
        control: &dyn Control,
    ) -> Result<Drawn> {
        control.check()?;
        let mut batch = Batch::default();
        let mut drawn = Drawn {
            batch: Batch::default(),
            queries: Vec::new(),
            items: Vec::new(),
            labels: Vec::new(),
            grades: Vec::new(),
            base: Vec::new(),
        };
        match &self.kind {
            Kind::Labelled { tokens, label_of, .. } => {
                for i in rows {
                    batch.push(&tokens[*i], &[]);
                    drawn.labels.push(label_of[*i]);
                }
            }
            Kind::Tagged { tokens, label_of } => {
                for i in rows {
                    batch.push(&tokens[*i], &[]);
                    drawn.labels.extend(&label_of[*i]);
                }
            }
            Kind::Graded { pairs } => {
                for i in rows {
                    encoder.push_pair(&pairs[*i].query, &pairs[*i].item, length, &mut batch)?;
                    drawn.grades.push(pairs[*i].grade);
                }
            }
            Kind::Taught(lists) => lists.draw(rows, encoder, length, &mut drawn, &mut batch)?,
            Kind::Pairs { pairs, near } => {
                let texts =
                    rows.iter().map(|i| (pairs[*i].query.clone(), pairs[*i].item.as_str(), pairs[*i].item.clone(), *i));
                let more = |i: usize, random: &mut Random| {
                    pick(near, i, random).map(|j| (pairs[j].item.as_str(), pairs[j].item.clone()))
                };
                drawn.contrast(texts, more, encoder, random, length, &mut batch)?;
            }
            Kind::Items { items, near } => {
                let asked: Vec<(String, &str)> =
                    rows.iter().map(|i| (asked(&items[*i], random), shown(&items[*i], random))).collect();
                let texts = rows.iter().zip(asked).map(|(i, (query, text))| (query, text, items[*i].said(), *i));
                let more = |i: usize, random: &mut Random| {
                    pick(near, i, random).map(|j| (items[j].text.as_str(), items[j].said()))
                };
                drawn.contrast(texts, more, encoder, random, length, &mut batch)?;
            }
        }
        drawn.batch = batch;
        Ok(drawn)
    }
}

/// Leaves so many of the rows, drawn once; 0 leaves all.
fn few(rows: &mut Vec<usize>, most: Option<usize>, seed: u64) {
    if let Some(most) = most.filter(|most| *most > 0 && *most < rows.len()) {
        Random::named(seed, "rows").shuffle(rows);
        rows.truncate(most);
    }
}

/// The places of rows that are put one behind the other.
fn renumbered(train: &[usize], held: &[usize]) -> (Vec<usize>, Vec<usize>) {
    ((0..train.len()).collect(), (train.len()..train.len() + held.len()).collect())
}

fn pick(near: &[Vec<usize>], i: usize, random: &mut Random) -> Option<usize> {
    let near = near.get(i).filter(|near| !near.is_empty())?;
    near.get(random.below(near.len())).copied()
}

pub(super) fn push(encoder: &Encoder, text: &str, role: Role, length: usize, batch: &mut Batch) -> Result<()> {
    let mut ids = encoder.tokens(text, role)?;
    ids.truncate(length);
    batch.push(&ids, &[]);
    Ok(())
}

/// For each text the places of those that are nearest to the base model, other texts only.
fn near(texts: &[&str], count: usize, encoder: &Encoder, control: &dyn Control) -> Result<Vec<Vec<usize>>> {
    // Compared with so many at most: the nearest of a sample are hard enough.
    const AMONG: usize = 2000;
    if count == 0 {
        return Ok(Vec::new());
    }
    let width = encoder.info().dimension;
    let vectors = embed_all(encoder, texts, Role::Document, control)?;
    let every = texts.len().div_ceil(AMONG).max(1);
    let mut all = Vec::with_capacity(texts.len());
    for (i, vector) in vectors.chunks_exact(width).enumerate() {
        control.check()?;
        let others = (i % every..texts.len()).step_by(every).filter(|j| texts[*j] != texts[i]);
        let mut scored: Vec<(f32, usize)> = others.map(|j| (dot(vector, &vectors[j * width..][..width]), j)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        all.push(scored.into_iter().take(4 * count).map(|(_, j)| j).collect());
    }
    Ok(all)
}

/// Labels of tagged texts: `O`, then for each name its beginning and its inside.
fn tag_labels(rows: &[Tagged]) -> Vec<String> {
    let names: BTreeSet<&String> = rows.iter().flat_map(|row| row.spans.iter().map(|(_, label)| label)).collect();
    let both = names.into_iter().flat_map(|name| [format!("B-{name}"), format!("I-{name}")]);
    std::iter::once("O".to_owned()).chain(both).collect()
}

/// The label of each piece: of a span, its first piece begins and the others continue.
fn piece_labels(labels: &[String], row: &Tagged, pieces: &[Range<usize>]) -> Vec<usize> {
    let mut begun: HashSet<usize> = HashSet::new();
    pieces
        .iter()
        .map(|bytes| {
            if bytes.is_empty() {
                return NO_LABEL;
            }
            let span = row.spans.iter().position(|(at, _)| bytes.start < at.end && at.start < bytes.end);
            let Some(span) = span else { return 0 };
            let mark = if begun.insert(span) { "B" } else { "I" };
            labels.iter().position(|l| *l == format!("{mark}-{}", row.spans[span].1)).unwrap_or(0)
        })
        .collect()
}
