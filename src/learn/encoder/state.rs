//! A training as bytes, so that it can go on in another transaction: what it has learnt, how the optimiser moves, and where
//! the random numbers stand. Items come and go meanwhile: each is found by its number, and one that is new begins with its
//! text alone.

use super::{Own, Settings, Training};
use crate::error::{Error, Result};
use crate::learn::table::Table;
use crate::random::Random;
use crate::shopper::sequence::{Encoder, WIDTH};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

#[derive(Serialize, Deserialize)]
struct Header {
    text: usize,
    values: Vec<String>,
    items: usize,
    steps: Vec<u32>,
    random: u64,
}

impl Training<'_> {
    /// The length of a header, the header as JSON, the items' numbers, then every number, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let header = Header {
            text: self.table.text,
            values: self.shared.values.clone(),
            items: self.table.len(),
            steps: self.adams.iter().map(|adam| adam.steps).collect(),
            random: self.random.state(),
        };
        let header = serde_json::to_vec(&header).unwrap_or_default();
        let mut bytes = (header.len() as u32).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(self.table.ids.iter().flat_map(|id| id.to_le_bytes()));
        let own = [&self.own.into, &self.own.out, &self.own.bias].map(Vec::as_slice);
        let moments = self.adams.iter().flat_map(|adam| [adam.first.as_slice(), adam.second.as_slice()]);
        for group in self.shared.groups().into_iter().chain(own).chain(moments) {
            bytes.extend(group.iter().flat_map(|w| w.to_le_bytes()));
        }
        bytes
    }

    /// What `to_bytes` wrote, over the items of today; `None` where their texts have vectors of another length.
    pub fn read<'t>(table: &'t Table, settings: Settings, bytes: &[u8]) -> Result<Option<Training<'t>>> {
        let bad = || Error::RankerWeights { reason: "the state of a training is cut, or no numbers".into() };
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(bad)?;
        let (header, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(bad)?;
        let header: Header = serde_json::from_slice(header).map_err(|_| bad())?;
        if header.text != table.text {
            return Ok(None);
        }
        let (ids, rest) = rest.split_at_checked(header.items.checked_mul(8).ok_or_else(bad)?).ok_or_else(bad)?;
        let ids = ids.as_chunks::<8>().0.iter().map(|id| i64::from_le_bytes(*id));
        let places: HashMap<i64, usize> = ids.enumerate().map(|(place, id)| (id, place)).collect();
        let mut numbers = rest.as_chunks::<4>().0.iter().map(|w| f32::from_le_bytes(*w));
        let mut shared = Encoder::zero(table.text, &header.values);
        let sizes = shared.groups().map(|group| group.len());
        let mut take = |size: usize| -> Result<Vec<f32>> {
            let taken: Vec<f32> = numbers.by_ref().take(size).collect();
            if taken.len() == size && taken.iter().all(|w| w.is_finite()) { Ok(taken) } else { Err(bad()) }
        };
        for (group, size) in shared.groups_mut().into_iter().zip(sizes) {
            group.copy_from_slice(&take(size)?);
        }
        let widths = [WIDTH, WIDTH, 1];
        // The rows of then in the order of today's.
        let sorted = |then: Vec<f32>, width: usize| -> Vec<f32> {
            let mut now = vec![0.0; table.len() * width];
            for (row, to) in table.ids.iter().zip(now.chunks_exact_mut(width)) {
                if let Some(from) = places.get(row).and_then(|place| then.get(place * width..(place + 1) * width)) {
                    to.copy_from_slice(from);
                }
            }
            now
        };
        let mut own = Vec::new();
        for width in widths {
            own.push(sorted(take(header.items * width)?, width));
        }
        let (Some(bias), Some(out), Some(into)) = (own.pop(), own.pop(), own.pop()) else { return Err(bad()) };
        let mut training = Training::with(table, settings, shared, Own { into, out, bias }, Random::new(header.random));
        if header.steps.len() != training.adams.len() {
            return Err(bad());
        }
        for (n, steps) in header.steps.iter().enumerate() {
            let moments = match sizes.get(n) {
                Some(size) => [take(*size)?, take(*size)?],
                None => {
                    let width = widths[n - sizes.len()];
                    [sorted(take(header.items * width)?, width), sorted(take(header.items * width)?, width)]
                }
            };
            let [first, second] = moments;
            training.adams[n] = super::Adam { first, second, steps: *steps };
        }
        Ok(Some(training))
    }
}
