//! The shopper encoder: a history as one vector, by attention over its items.
//!
//! ```text
//! x_i = W_in v_i + e_i      o_i = W_out v_i + f_i       v: the text vector from the catalog's mean; e, f, b: learnt for each item
//! a_j = softmax_j(place_j + gap_j + kind_j + x_1' A x_j / √d)         j: the history, newest first
//! u   = Σ_j a_j x_j         score of an item = (u + m) · o_i + b_i     m: the moment's vector
//! ```
//!
//! One block of self-attention (Kang and McAuley, *Self-Attentive Sequential Recommendation*, 2018) whose values are the
//! item vectors themselves: with 5 to 50 events a shopper, deeper ones learnt the training set by heart. Items never seen
//! in training still have their text: e, f and b are 0 for them.

use crate::error::{Error, Result};
use crate::event::{Event, Kind};
use crate::linear::dot;
use std::collections::HashSet;

/// Numbers in a learnt vector.
pub const WIDTH: usize = 64;
/// Items of a history that are attended to.
pub const LONGEST: usize = 50;
/// Classes of time gaps: under a day, then each twice as long.
pub const GAPS: usize = 12;
/// Vectors of the moment: eight parts of the day, seven days of the week, twelve months.
pub const MOMENTS: usize = 8 + 7 + 12;

/// A learnt vector.
pub type Wide = [f32; WIDTH];

/// What is learnt of one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Own {
    /// x: as part of a history.
    pub into: Wide,
    /// o: as a candidate.
    pub out: Wide,
    /// b: what it is worth to anybody.
    pub bias: f32,
}

/// One item of a history, as the encoder sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The item's number.
    pub item: i64,
    /// The class of the time from its event to the moment.
    pub gap: usize,
    /// The kind of its event.
    pub kind: usize,
}

/// The distinct items of a history that counts, newest first; at most [`LONGEST`].
pub fn steps(history: &[Event], at: f64) -> Vec<Step> {
    let mut known = HashSet::new();
    let mut steps = Vec::new();
    for event in history {
        if event.weight > 0.0 && event.kind != Kind::Return && known.insert(event.item) {
            steps.push(Step { item: event.item, gap: gap(at - event.at), kind: event.kind as usize });
            if steps.len() == LONGEST {
                break;
            }
        }
    }
    steps
}

fn gap(seconds: f64) -> usize {
    let days = seconds.max(0.0) / 86_400.0;
    ((days + 1.0).log2() as usize).min(GAPS - 1)
}

/// A moment that a list is for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Moment {
    /// Seconds since 1970 by the shop's own clock.
    pub at: f64,
    /// Values of context columns, by their places among [`Encoder::values`].
    pub values: Vec<u16>,
}

/// A context column's value, as [`Encoder::values`] names it.
pub fn value_name(column: &str, value: &str) -> String {
    format!("{column}={value}")
}

/// The vectors of a moment: part of the day, day of the week, month, by the clock that it is told of.
pub fn moments(at: f64) -> [usize; 3] {
    let days = (at / 86_400.0).floor();
    let part = ((at - days * 86_400.0) / 10_800.0) as usize;
    // 1970-01-01 was a Thursday. The month is that of the civil calendar (Hinnant, *chrono-Compatible Low-Level Date Algorithms*).
    let weekday = (days as i64 + 3).rem_euclid(7) as usize;
    let shifted = days as i64 + 719_468;
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day = of_era - (365 * year + year / 4 - year / 100);
    let month = ((5 * day + 2) / 153 + 2).rem_euclid(12) as usize;
    [part.min(7), 8 + weekday, 15 + month]
}

/// The weights that all items share.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoder {
    /// Numbers in a text vector.
    pub text: usize,
    /// W_in, `[text, WIDTH]`.
    pub into: Vec<f32>,
    /// W_out, `[text, WIDTH]`.
    pub out: Vec<f32>,
    /// What each place of the history counts.
    pub place: [f32; LONGEST],
    /// What each gap counts.
    pub gap: [f32; GAPS],
    /// What each kind of event counts.
    pub kind: [f32; Kind::ALL.len()],
    /// A, `[WIDTH, WIDTH]`.
    pub attend: Vec<f32>,
    /// The moments' vectors, then the values', `[MOMENTS + values, WIDTH]`.
    pub moments: Vec<f32>,
    /// The values of context columns that have a vector.
    pub values: Vec<String>,
}

/// What attention makes of a history.
#[derive(Debug, Clone, PartialEq)]
pub struct Pooled {
    /// a, by step.
    pub shares: Vec<f32>,
    /// x₁' A.
    pub asks: Wide,
    /// u.
    pub vector: Wide,
}

/// What an encoder makes of a call.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// u; `None` where nothing is known of the shopper.
    pub shopper: Option<Box<Wide>>,
    /// m.
    pub moment: Option<Box<Wide>>,
    /// The history's x, newest first, with the logarithm of its share.
    pub taken: Vec<(Box<Wide>, f32)>,
}

impl Encoder {
    /// Weights of each kind, in one order.
    pub fn groups(&self) -> [&[f32]; 7] {
        [&self.into, &self.out, &self.place, &self.gap, &self.kind, &self.attend, &self.moments]
    }

    /// The same to change.
    pub fn groups_mut(&mut self) -> [&mut [f32]; 7] {
        [
            &mut self.into,
            &mut self.out,
            &mut self.place,
            &mut self.gap,
            &mut self.kind,
            &mut self.attend,
            &mut self.moments,
        ]
    }

    /// Weights that are all zero, for texts of so many numbers and these values of context columns.
    pub fn zero(text: usize, values: &[String]) -> Encoder {
        Encoder {
            values: values.to_vec(),
            text,
            into: vec![0.0; text * WIDTH],
            out: vec![0.0; text * WIDTH],
            place: [0.0; LONGEST],
            gap: [0.0; GAPS],
            kind: [0.0; Kind::ALL.len()],
            attend: vec![0.0; WIDTH * WIDTH],
            moments: vec![0.0; (MOMENTS + values.len()) * WIDTH],
        }
    }

    /// The same, with more values of context columns, of which nothing is learnt yet; `None` where its own are not the first.
    pub fn with_values(mut self, values: &[String]) -> Option<Encoder> {
        if !values.starts_with(&self.values) {
            return None;
        }
        self.moments.resize((MOMENTS + values.len()) * WIDTH, 0.0);
        self.values = values.to_vec();
        Some(self)
    }

    /// What an item is by its text alone.
    pub fn by_text(&self, vector: &[f32], mean: &[f32]) -> Own {
        let centred = centred(vector, mean);
        Own { into: project(&centred, &self.into), out: project(&centred, &self.out), bias: 0.0 }
    }

    /// Attention over a history; `x` gives each step's vector. Of nothing, nothing.
    pub fn pool<'x>(&self, steps: &[Step], x: impl Fn(usize) -> &'x Wide) -> Option<Pooled> {
        if steps.is_empty() {
            return None;
        }
        let asks = project(x(0), &self.attend);
        let logit = |(place, step): (usize, &Step)| {
            self.place[place] + self.gap[step.gap] + self.kind[step.kind] + dot(&asks, x(place)) / (WIDTH as f32).sqrt()
        };
        let mut shares: Vec<f32> = steps.iter().enumerate().map(logit).collect();
        softmax(&mut shares);
        let mut vector = [0.0; WIDTH];
        for (place, share) in shares.iter().enumerate() {
            vector.iter_mut().zip(x(place)).for_each(|(sum, x)| *sum += share * x);
        }
        Some(Pooled { shares, asks, vector })
    }

    /// The places of a moment's vectors.
    pub fn places(&self, moment: &Moment) -> Vec<usize> {
        let values = moment.values.iter().map(|value| MOMENTS + usize::from(*value));
        moments(moment.at).into_iter().chain(values).filter(|place| (place + 1) * WIDTH <= self.moments.len()).collect()
    }

    /// The moment's vector.
    pub fn moment(&self, moment: &Moment) -> Wide {
        let mut sum = [0.0; WIDTH];
        for place in self.places(moment) {
            sum.iter_mut().zip(&self.moments[place * WIDTH..(place + 1) * WIDTH]).for_each(|(sum, x)| *sum += x);
        }
        sum
    }

    /// A moment by the names of its context columns and their values; those that were not learnt say nothing.
    pub fn moment_of(&self, at: f64, context: &[(String, String)]) -> Moment {
        let place = |(column, value): &(String, String)| {
            let name = value_name(column, value);
            self.values.iter().position(|known| *known == name).map(|place| place as u16)
        };
        Moment { at, values: context.iter().filter_map(place).collect() }
    }

    /// A call: its history with each step's vector, and its moment.
    pub fn read(&self, steps: &[Step], own: impl Fn(i64) -> Option<Own>, moment: &Moment) -> Reading {
        let known: Vec<(Step, Box<Wide>)> =
            steps.iter().filter_map(|step| Some((*step, Box::new(own(step.item)?.into)))).collect();
        let steps: Vec<Step> = known.iter().map(|(step, _)| *step).collect();
        let pooled = self.pool(&steps, |place| &known[place].1);
        let shares = pooled.iter().flat_map(|p| p.shares.iter().map(|s| s.max(1e-9).ln())).collect::<Vec<_>>();
        Reading {
            shopper: pooled.map(|p| Box::new(p.vector)),
            moment: Some(Box::new(self.moment(moment))),
            taken: known.into_iter().map(|(_, x)| x).zip(shares).collect(),
        }
    }

    /// As bytes: the text's width, the length of the values as JSON, those, then every weight, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let values = serde_json::to_vec(&self.values).unwrap_or_default();
        let mut bytes = (self.text as u32).to_le_bytes().to_vec();
        bytes.extend((values.len() as u32).to_le_bytes());
        bytes.extend(values);
        bytes.extend(self.groups().iter().flat_map(|g| g.iter()).flat_map(|w| w.to_le_bytes()));
        bytes
    }

    /// What `to_bytes` wrote; anything else is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Encoder> {
        let bad = || Error::RankerWeights { reason: "those of its encoder are cut, or no numbers".into() };
        let (text, rest) = bytes.split_first_chunk::<4>().ok_or_else(bad)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
        let (values, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(bad)?;
        let values: Vec<String> = serde_json::from_slice(values).map_err(|_| bad())?;
        let text = u32::from_le_bytes(*text) as usize;
        if text > 65_536 || values.len() > usize::from(u16::MAX) {
            return Err(bad());
        }
        let mut encoder = Encoder::zero(text, &values);
        let size: usize = encoder.groups().iter().map(|g| g.len()).sum();
        if rest.len() != size * 4 {
            return Err(bad());
        }
        let mut numbers = rest.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        for group in encoder.groups_mut() {
            group.iter_mut().zip(numbers.by_ref()).for_each(|(to, from)| *to = from);
        }
        if encoder.groups().iter().all(|g| g.iter().all(|w| w.is_finite())) { Ok(encoder) } else { Err(bad()) }
    }
}

impl Reading {
    /// What it says of an item: u · o, m · o, and the nearest of the history and the mean of it by attention, both by o.
    pub fn of(&self, own: &Own) -> (f32, f32, f32, f32) {
        let by = |vector: &Option<Box<Wide>>| vector.as_ref().map_or(0.0, |v| dot(v.as_slice(), &own.out));
        let mut most = f32::NEG_INFINITY;
        let products: Vec<f32> = self.taken.iter().map(|(x, _)| dot(x.as_slice(), &own.out)).collect();
        let mut shares: Vec<f32> = products.iter().zip(&self.taken).map(|(p, (_, share))| p + share).collect();
        softmax(&mut shares);
        let near = shares.iter().zip(&products).map(|(s, p)| s * p).sum();
        products.iter().for_each(|p| most = most.max(*p));
        (by(&self.shopper), by(&self.moment), if most.is_finite() { most } else { 0.0 }, near)
    }
}

/// A text vector from the catalog's mean, of length 1.
pub fn centred(vector: &[f32], mean: &[f32]) -> Vec<f32> {
    let mut centred = vector.to_vec();
    centred.iter_mut().zip(mean).for_each(|(value, mean)| *value -= mean);
    let length = dot(&centred, &centred).sqrt();
    if length > 0.0 {
        centred.iter_mut().for_each(|value| *value /= length);
    }
    centred
}

/// A vector by a matrix `[its length, WIDTH]`.
pub fn project(vector: &[f32], matrix: &[f32]) -> Wide {
    let mut sum = [0.0; WIDTH];
    for (value, row) in vector.iter().zip(matrix.chunks_exact(WIDTH)) {
        sum.iter_mut().zip(row).for_each(|(sum, w)| *sum += value * w);
    }
    sum
}

/// Makes shares of logits.
pub fn softmax(logits: &mut [f32]) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter_mut().for_each(|l| *l = (*l - most).exp());
    let sum: f32 = logits.iter().sum();
    if sum > 0.0 {
        logits.iter_mut().for_each(|l| *l /= sum);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_moment_is_that_of_the_calendar() {
        // 2011-09-04 13:30 UTC, a Sunday.
        assert_eq!(moments(1_315_143_000.0), [4, 8 + 6, 15 + 8]);
        // 1970-01-01 00:00, a Thursday; 2024-02-29 23:59, a Thursday.
        assert_eq!(moments(0.0), [0, 8 + 3, 15]);
        assert_eq!(moments(1_709_251_140.0), [7, 8 + 3, 15 + 1]);
    }

    #[test]
    fn bytes_come_back() {
        let mut encoder = Encoder::zero(3, &["country=FR".into()]);
        encoder.groups_mut().into_iter().flatten().enumerate().for_each(|(n, w)| *w = n as f32);
        assert_eq!(Encoder::from_bytes(&encoder.to_bytes()).unwrap(), encoder);
        let moment = encoder.moment_of(0.0, &[("country".into(), "FR".into()), ("country".into(), "XX".into())]);
        assert_eq!(encoder.places(&moment)[3..], [MOMENTS]);
        let more = encoder.clone().with_values(&["country=FR".into(), "country=XX".into()]).unwrap();
        assert_eq!(more.moment(&moment), encoder.moment(&moment));
        assert_eq!(more.places(&more.moment_of(0.0, &[("country".into(), "XX".into())]))[3..], [MOMENTS + 1]);
        assert!(encoder.clone().with_values(&["country=XX".into()]).is_none());
        assert!(Encoder::from_bytes(&encoder.to_bytes()[..100]).is_err());
        assert!(Encoder::from_bytes(&[255; 8]).is_err());
    }

    #[test]
    fn untrained_it_is_the_mean_of_what_was_taken() {
        let encoder = Encoder::zero(3, &[]);
        let (one, other) = ([1.0; WIDTH], [3.0; WIDTH]);
        let step = |item| Step { item, gap: 0, kind: 0 };
        let pooled = encoder.pool(&[step(1), step(2)], |n| if n == 0 { &one } else { &other }).unwrap();
        assert_eq!(pooled.vector, [2.0; WIDTH]);
    }
}
