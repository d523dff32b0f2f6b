//! Words of scripts that write without spaces, for the index and the query alike.
//!
//! Chinese is cut by jieba's dictionary, and long words are given with the shorter ones inside them, as its search mode
//! does. Where a text holds kana it is Japanese, which that dictionary does not know: runs of han and of hiragana are
//! cut into overlapping pairs of characters beside jieba's words, so that a query of han alone still meets them. Hangul
//! has spaces, but its words carry particles: a longer word is followed by its pairs. Katakana is a word by itself.
//! Pairs need no dictionary of a hundred megabytes, and find as well (Nie et al., 2000; Lucene's CJK analyser does so too).

use jieba_rs::Jieba;
use std::borrow::Cow;
use std::sync::OnceLock;
use unicode_normalization::UnicodeNormalization;

/// The scripts that are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Chinese characters.
    Han,
    /// Japanese syllables.
    Hiragana,
    /// Japanese syllables for foreign words.
    Katakana,
    /// Korean syllables.
    Hangul,
}

/// The script of a character that may need cutting.
pub fn script(c: char) -> Option<Script> {
    match u32::from(c) {
        0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x323AF | 0x3005 | 0x3007 => Some(Script::Han),
        0x3041..=0x309F => Some(Script::Hiragana),
        0x30A1..=0x30FA | 0x30FC..=0x30FF | 0x31F0..=0x31FF => Some(Script::Katakana),
        0xAC00..=0xD7A3 | 0x1100..=0x11FF | 0x3131..=0x318E => Some(Script::Hangul),
        _ => None,
    }
}

/// Loaded at the first text that holds han: a shop without any never pays for it.
fn jieba() -> &'static Jieba {
    static JIEBA: OnceLock<Jieba> = OnceLock::new();
    JIEBA.get_or_init(Jieba::new)
}

/// The words of a run of han that do not overlap, as byte ranges; for the query's tokens.
pub fn chinese(run: &str) -> Vec<(usize, usize)> {
    jieba().cut(run, false).into_iter().map(|t| (t.byte_start, t.byte_end)).collect()
}

/// The text with spaces between words of scripts that have none; borrowed where there is nothing to cut.
pub fn segment(text: &str) -> Cow<'_, str> {
    // A byte from 0xE1 on begins every character that is cut (the CJK marks, kana, han, hangul, and full width).
    if !text.bytes().any(|b| b >= 0xE1) || !text.chars().any(|c| script(c).is_some() || is_mark(c)) {
        return Cow::Borrowed(text);
    }
    // Full-width letters and half-width katakana are the same letters.
    if text.chars().any(|c| matches!(u32::from(c), 0xFF10..=0xFF9F)) {
        let plain: String = text.nfkc().collect();
        return Cow::Owned(cut(&plain));
    }
    Cow::Owned(cut(text))
}

fn cut(text: &str) -> String {
    let japanese = text.chars().any(|c| matches!(script(c), Some(Script::Hiragana | Script::Katakana)));
    let mut out = String::with_capacity(text.len() * 2);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let kind = script(first);
        let end = rest.char_indices().find(|(_, c)| script(*c) != kind).map_or(rest.len(), |(at, _)| at);
        let (run, after) = rest.split_at(end);
        rest = after;
        match kind {
            None => out.extend(run.chars().map(|c| if is_mark(c) { ' ' } else { c })),
            Some(kind) => {
                out.push(' ');
                words(run, kind, japanese, &mut out);
            }
        }
    }
    out
}

/// Punctuation that Postgres's parser takes for a letter.
fn is_mark(c: char) -> bool {
    matches!(u32::from(c), 0x3000..=0x3004 | 0x3008..=0x3020 | 0x30FB | 0xFF00..=0xFF0F | 0xFF1A..=0xFF20 | 0xFF3B..=0xFF40 | 0xFF5B..=0xFF65)
}

fn words(run: &str, kind: Script, japanese: bool, out: &mut String) {
    let mut add = |word: &str| {
        out.push_str(word);
        out.push(' ');
    };
    let pairs = |add: &mut dyn FnMut(&str)| {
        let starts: Vec<usize> = run.char_indices().map(|(at, _)| at).chain([run.len()]).collect();
        for pair in starts.windows(3) {
            add(&run[pair[0]..pair[2]]);
        }
        starts.len() - 1
    };
    match kind {
        Script::Han => {
            for token in jieba().cut_for_search(run, false) {
                add(token.word);
            }
            if japanese {
                pairs(&mut add);
            }
        }
        Script::Hiragana => {
            if pairs(&mut add) == 1 {
                add(run);
            }
        }
        Script::Katakana => add(run),
        Script::Hangul => {
            add(run);
            if run.chars().count() > 2 {
                pairs(&mut add);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(text: &str) -> Vec<String> {
        segment(text).split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn chinese_is_cut_into_words() {
        assert_eq!(list("红色连衣裙"), ["红色", "连衣", "衣裙", "连衣裙"]);
        assert_eq!(list("iPhone15手机壳，黑色"), ["iPhone15", "手机", "壳", "黑色"]);
    }

    #[test]
    fn japanese_and_korean_become_pairs() {
        assert!(list("電池のケース").contains(&"ケース".to_owned()));
        assert!(list("電池のケース").contains(&"電池".to_owned()));
        assert_eq!(list("노트북을 샀다"), ["노트북을", "노트", "트북", "북을", "샀다"]);
    }

    #[test]
    fn what_needs_no_cutting_is_borrowed() {
        for text in ["", "hp printer 17\"", "Größe 42 – été"] {
            assert!(matches!(segment(text), Cow::Borrowed(_)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_letter_is_lost(text in "[a-z红色连衣裙のケース노트북 ]{0,20}") {
            let whole = segment(&text);
            prop_assert!(text.chars().filter(|c| !c.is_whitespace()).all(|c| whole.contains(c)));
        }
    }
}
