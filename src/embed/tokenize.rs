//! Text to token ids, bounded before the tokenizer sees it.

use tokenizers::{TruncationDirection, TruncationParams, TruncationStrategy};

use super::Role;
use super::bundle::Bundle;
use super::config::Config;
use super::packed::Batch;
use crate::error::{Error, Result};

/// Longest text taken, in bytes; a longer one is refused with `TextTooLong`. Of a shorter one no more is read than can
/// reach the maximum length, see [`Tokenizer::push`].
pub const MAX_TEXT: usize = 64 << 20;

/// Bytes of a text that are tokenised at first, for each token of the maximum length.
const BYTES_PER_TOKEN: usize = 8;
/// Bytes of a text that are tokenised at most. Reached only where words are absent: a run of spaces, or one word without
/// an end. It keeps the longest step that cannot be cancelled under some 100 ms.
const MAX_READ: usize = 256 << 10;
/// Tokens beyond the maximum length after which the last word of a cut text cannot matter.
const MARGIN: usize = 8;

/// A token, and the bytes of the text that it stands for; none for a special one.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Its number.
    pub id: u32,
    /// Where it stands.
    pub bytes: std::ops::Range<usize>,
}

/// A bundle's tokenizer with its truncation and prompts.
pub(super) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    max_length: usize,
    vocab: usize,
    lower_case: bool,
    types: bool,
    query_prompt: String,
    document_prompt: String,
}

impl Tokenizer {
    /// Reads `tokenizer.json`. Its own padding and truncation are those of whoever saved it last; the bundle's maximum
    /// length takes their place.
    pub(super) fn read(bundle: &Bundle, config: &Config) -> Result<Self> {
        let file = "tokenizer.json";
        let bytes = bundle.tokenizer()?;
        let read =
            guarded(|| tokenizers::Tokenizer::from_bytes(bytes)).unwrap_or_else(|| Err("it is malformed".into()));
        let mut inner = read.map_err(|e| bundle.broken(file, e))?;
        inner.with_padding(None);
        let truncation = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: config.max_length,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        inner.with_truncation(Some(truncation)).map_err(|e| bundle.broken(file, e))?;
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if largest >= config.network.vocab {
            let rows = config.network.vocab;
            return Err(bundle.broken(file, format!("it has a token {largest}, and the network {rows} tokens")));
        }
        Ok(Self {
            inner,
            max_length: config.max_length,
            vocab: config.network.vocab,
            lower_case: config.lower_case,
            types: config.token_types,
            query_prompt: config.prompt(Role::Query).to_owned(),
            document_prompt: config.prompt(Role::Document).to_owned(),
        })
    }

    /// Adds the tokens of `text`, behind its role's prompt, to `batch`.
    ///
    /// A long text is tokenised from a prefix that grows until the maximum length is filled, so that the work is bounded
    /// by the model and not by the text; the tokens are those of the whole text.
    pub(super) fn push(&self, text: &str, role: Role, batch: &mut Batch) -> Result<()> {
        let prompt = match role {
            Role::Query => &self.query_prompt,
            Role::Document => &self.document_prompt,
        };
        if text.len() > MAX_TEXT {
            return Err(Error::TextTooLong { bytes: text.len(), limit: MAX_TEXT });
        }
        let most = MAX_READ.max(self.max_length * BYTES_PER_TOKEN);
        let mut size = self.max_length * BYTES_PER_TOKEN;
        loop {
            let read = prefix(text, size.min(most));
            let encoding = if prompt.is_empty() && !self.lower_case {
                self.encode(read)
            } else {
                let mut whole = format!("{prompt}{read}");
                if self.lower_case {
                    whole = whole.to_lowercase();
                }
                self.encode(whole)
            };
            let encoding = encoding?;
            let over: usize = encoding.get_overflowing().iter().map(tokenizers::Encoding::len).sum();
            if read.len() == text.len() || size >= most || over >= MARGIN {
                return self.accept(encoding.get_ids(), &[], batch);
            }
            size *= 4;
        }
    }

    /// The tokens of a text without a prompt, each with the bytes that it stands for.
    pub(super) fn pieces(&self, text: &str) -> Result<Vec<Piece>> {
        if text.len() > MAX_TEXT {
            return Err(Error::TextTooLong { bytes: text.len(), limit: MAX_TEXT });
        }
        let read = prefix(text, MAX_READ.min(self.max_length * BYTES_PER_TOKEN * 8));
        let encoding = self.inner.encode(read, true).map_err(|e| Error::Internal(format!("tokenizer: {e}")))?;
        let mut pieces = Vec::new();
        for ((id, (start, end)), special) in
            encoding.get_ids().iter().zip(encoding.get_offsets()).zip(encoding.get_special_tokens_mask())
        {
            if *id as usize >= self.vocab {
                return Err(Error::Internal(format!("the tokenizer made token {id} of {}", self.vocab)));
            }
            let bytes = if *special == 1 || end > &read.len() { 0..0 } else { *start..*end };
            pieces.push(Piece { id: *id, bytes });
        }
        pieces.truncate(self.max_length);
        if pieces.is_empty() {
            pieces.push(Piece { id: 0, bytes: 0..0 });
        }
        Ok(pieces)
    }

    /// The tokens of a text without a prompt.
    #[cfg(test)]
    pub(super) fn plain(&self, text: &str) -> Result<Vec<u32>> {
        let mut batch = Batch::default();
        let encoding = self.inner.encode_fast(text, true).map_err(|e| Error::Internal(format!("tokenizer: {e}")))?;
        self.accept(encoding.get_ids(), &[], &mut batch)?;
        Ok(batch.tokens(0..1).0.to_vec())
    }

    /// Adds the tokens of a pair of texts, as a cross-encoder reads them. Each is cut to the bytes that could matter.
    pub(super) fn push_pair(&self, left: &str, right: &str, batch: &mut Batch) -> Result<()> {
        for text in [left, right] {
            if text.len() > MAX_TEXT {
                return Err(Error::TextTooLong { bytes: text.len(), limit: MAX_TEXT });
            }
        }
        let size = MAX_READ.min(self.max_length * BYTES_PER_TOKEN * 8);
        let pair = (prefix(left, size), prefix(right, size));
        let encoding = self.encode(pair)?;
        self.accept(encoding.get_ids(), if self.types { encoding.get_type_ids() } else { &[] }, batch)
    }

    fn encode<'t>(&self, input: impl Into<tokenizers::EncodeInput<'t>>) -> Result<tokenizers::Encoding> {
        let made = guarded(|| self.inner.encode_fast(input, true));
        let made = made.unwrap_or_else(|| Err("it failed".into()));
        made.map_err(|e| Error::Internal(format!("tokenizer: {e}")))
    }

    fn accept(&self, ids: &[u32], types: &[u32], batch: &mut Batch) -> Result<()> {
        // Tokens added by a post-processor need not stand in the vocabulary that was checked.
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocab) {
            return Err(Error::Internal(format!("the tokenizer made token {id} of {}", self.vocab)));
        }
        // A tokenizer that adds no special tokens makes nothing of an empty text; token 0 stands for it.
        if ids.is_empty() {
            batch.push(&[0], &[]);
        } else {
            let kept = ids.len().min(self.max_length);
            batch.push(&ids[..kept], types.get(..kept).unwrap_or_default());
        }
        Ok(())
    }
}

/// What `work` returns, or nothing where it panics: the crate that reads `tokenizer.json` trusts it, and it may be anybody's.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok()
}

/// At most `size` bytes of `text`, cut behind a space where one is near, and never within a character.
fn prefix(text: &str, size: usize) -> &str {
    if text.len() <= size {
        return text;
    }
    let boundary = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let cut = boundary(size);
    let near = boundary(cut.saturating_sub(512));
    match text[near..cut].rfind(char::is_whitespace) {
        Some(space) => &text[..near + space],
        None => &text[..cut],
    }
}

#[cfg(test)]
mod tests {
    use super::prefix;

    #[test]
    fn a_prefix_ends_between_words_or_characters() {
        assert_eq!(prefix("one two three", 9), "one two");
        assert_eq!(prefix("ééé", 3), "é");
        assert_eq!(prefix("short", 9), "short");
        assert_eq!(prefix("", 0), "");
    }
}
