//! Postgres's `tsvector` as the binary that it is (`tsearch/ts_type.h`), read in place.
//!
//! Layout: an `int32` count, `count` words (1 bit: has positions, 11 bits: length, 20 bits: offset), then the strings;
//! behind a string with positions, two-byte aligned, an `uint16` count and that many positions (2 bits: weight,
//! 14 bits: place). Entries are sorted by bytes, a prefix before its extensions.

use pgrx::pg_sys;

/// A detoasted `tsvector`.
pub struct TsVector {
    data: *const u8,
}

impl TsVector {
    /// Opens a datum; the memory is the current context's or the datum's own.
    ///
    /// # Safety
    /// The datum has to be a `tsvector`, and to outlive the value.
    pub unsafe fn open(datum: pg_sys::Datum) -> TsVector {
        // SAFETY: detoasting returns the datum itself or a copy with a four-byte header.
        let at = unsafe { pg_sys::pg_detoast_datum(datum.cast_mut_ptr()) };
        TsVector { data: at.cast::<u8>() }
    }

    fn count(&self) -> usize {
        // SAFETY: behind the varlena header stands the count.
        unsafe { self.data.add(4).cast::<i32>().read_unaligned().max(0) as usize }
    }

    fn entry(&self, index: usize) -> (&[u8], bool, *const u8) {
        // SAFETY: index < count; the word says where its string lies behind the array of words.
        unsafe {
            let word = self.data.add(8).cast::<u32>().add(index).read_unaligned();
            let (positioned, length, offset) = (word & 1 == 1, (word >> 1 & 0x7ff) as usize, (word >> 12) as usize);
            let strings = self.data.add(8 + 4 * self.count());
            let text = std::slice::from_raw_parts(strings.add(offset), length);
            let after = offset + length + ((offset + length) & 1);
            (text, positioned, strings.add(after))
        }
    }

    fn occurrences(&self, index: usize) -> [u32; 4] {
        let (_, positioned, at) = self.entry(index);
        if !positioned {
            return [1, 0, 0, 0]; // stripped: it stands somewhere
        }
        let mut found = [0; 4];
        // SAFETY: a positioned entry is followed by its count and that many positions.
        unsafe {
            let count = at.cast::<u16>().read_unaligned();
            for place in 1..=usize::from(count) {
                found[usize::from(at.cast::<u16>().add(place).read_unaligned() >> 14)] += 1;
            }
        }
        found
    }

    /// How often a lexeme stands in it, by weight label: `[D, C, B, A]`.
    pub fn find(&self, lexeme: &str) -> Option<[u32; 4]> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = (low + high) / 2;
            match self.entry(middle).0.cmp(lexeme.as_bytes()) {
                std::cmp::Ordering::Equal => return Some(self.occurrences(middle)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Each of its words with how often it stands in it, by weight label: `[D, C, B, A]`.
    pub fn words(&self) -> impl Iterator<Item = (&[u8], [u32; 4])> {
        (0..self.count()).map(|index| (self.entry(index).0, self.occurrences(index)))
    }

    /// How many words it holds, by weight label: `[D, C, B, A]`.
    pub fn lengths(&self) -> [u32; 4] {
        let mut sum = [0; 4];
        for (_, occurrences) in self.words() {
            for (total, here) in sum.iter_mut().zip(occurrences) {
                *total += here;
            }
        }
        sum
    }
}
