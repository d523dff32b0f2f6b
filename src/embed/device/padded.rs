//! Ragged texts as the rectangles that a device wants.

/// Padded tokens that go through the network together.
const TOGETHER: usize = 16 << 10;

/// Texts of like length, padded to the longest of them.
pub(super) struct Padded {
    /// Their places in the call.
    pub(super) texts: Vec<usize>,
    /// Where the tokens of each begin in the call.
    pub(super) starts: Vec<usize>,
    /// How many tokens each has.
    pub(super) lengths: Vec<usize>,
    /// How many the longest has.
    pub(super) across: usize,
    /// Their tokens, and to which text of a pair each belongs, `[texts, across]`.
    pub(super) ids: Vec<u32>,
    pub(super) types: Vec<u32>,
}

impl Padded {
    /// The runs of a call's texts, which end at `ends`: the longest first, so that what does not fit into the device's
    /// memory is known at once.
    pub(super) fn runs(ids: &[u32], types: &[u32], ends: &[u32]) -> Result<Vec<Padded>, String> {
        let count = ends.last().copied().unwrap_or(0) as usize;
        if ids.len() != count || types.len() != count || ends.windows(2).any(|pair| pair[0] > pair[1]) {
            return Err("the batch does not fit together".to_owned());
        }
        let start = |text: usize| text.checked_sub(1).map_or(0, |before| ends[before] as usize);
        let len = |text: usize| ends[text] as usize - start(text);
        let mut order: Vec<usize> = (0..ends.len()).filter(|&text| len(text) > 0).collect();
        order.sort_by_key(|&text| len(text));
        let mut runs = Vec::new();
        let mut rest = order.as_slice();
        while let Some(&longest) = rest.last() {
            // None is padded to more than twice its length.
            let like = rest.iter().rev().take_while(|&&text| 2 * len(text) >= len(longest)).count();
            let count = (TOGETHER / len(longest)).clamp(1, like);
            let (shorter, run) = rest.split_at(rest.len() - count);
            rest = shorter;
            let across = len(longest);
            let mut padded = Padded {
                texts: run.to_vec(),
                starts: run.iter().map(|&text| start(text)).collect(),
                lengths: run.iter().map(|&text| len(text)).collect(),
                across,
                ids: vec![0; run.len() * across],
                types: vec![0; run.len() * across],
            };
            for (row, (&at, &len)) in padded.starts.iter().zip(&padded.lengths).enumerate() {
                padded.ids[row * across..][..len].copy_from_slice(&ids[at..at + len]);
                padded.types[row * across..][..len].copy_from_slice(&types[at..at + len]);
            }
            runs.push(padded);
        }
        Ok(runs)
    }

    /// The rows of `width` numbers of its texts, `[texts, across, width]`, from where they stand in the call.
    pub(super) fn gather(&self, values: &[f32], width: usize) -> Vec<f32> {
        let mut padded = vec![0.0; self.texts.len() * self.across * width];
        for (row, (&at, &len)) in self.starts.iter().zip(&self.lengths).enumerate() {
            padded[row * self.across * width..][..len * width].copy_from_slice(&values[at * width..][..len * width]);
        }
        padded
    }

    /// Copies its texts' rows of `width` numbers out of `[texts, across, width]`, to where they stand in the call.
    pub(super) fn spread(&self, values: &[f32], width: usize, out: &mut [f32]) {
        for (row, (&at, &len)) in self.starts.iter().zip(&self.lengths).enumerate() {
            out[at * width..][..len * width].copy_from_slice(&values[row * self.across * width..][..len * width]);
        }
    }
}
