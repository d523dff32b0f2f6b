//! The language of a query: by its script, by its words where there are enough of them, else the catalog's.

use super::segment::{Script, script};

/// The language as an ISO 639-1 code; `usual` is the catalog's, for texts too short to tell.
pub fn language(text: &str, usual: &str) -> String {
    let (mut han, mut kana, mut hangul, mut letters) = (0, 0, 0, 0);
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        match script(c) {
            Some(Script::Han) => han += 1,
            Some(Script::Hiragana | Script::Katakana) => kana += 1,
            Some(Script::Hangul) => hangul += 1,
            None => {}
        }
    }
    // One word of han says more than the Latin brand beside it.
    let code = if kana > 0 {
        "ja"
    } else if hangul > 0 {
        "ko"
    } else if han > 0 {
        "zh"
    } else if letters == 0 {
        usual
    } else {
        return by_words(text).unwrap_or_else(|| usual.to_owned());
    };
    code.to_owned()
}

/// Trigrams need words: a query of two says nothing reliable in Latin letters, another alphabet says it at once.
fn by_words(text: &str) -> Option<String> {
    let info = whatlang::detect(text)?;
    let latin = info.script() == whatlang::Script::Latin;
    let enough = text.split_whitespace().count() >= 5 && info.is_reliable();
    (!latin || enough).then(|| short(info.lang()).to_owned())
}

fn short(lang: whatlang::Lang) -> &'static str {
    use whatlang::Lang::*;
    match lang {
        Deu => "de",
        Fra => "fr",
        Spa => "es",
        Ita => "it",
        Por => "pt",
        Nld => "nl",
        Swe => "sv",
        Dan => "da",
        Nob => "no",
        Fin => "fi",
        Pol => "pl",
        Ces => "cs",
        Tur => "tr",
        Rus => "ru",
        Ukr => "uk",
        Ell => "el",
        Heb => "he",
        Ara => "ar",
        Pes => "fa",
        Hin => "hi",
        Tha => "th",
        Vie => "vi",
        Ind => "id",
        Hun => "hu",
        Ron => "ro",
        Eng => "en",
        other => other.code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_script_by_words_by_the_catalog() {
        for (text, wanted) in [
            ("红色连衣裙", "zh"),
            ("apple 手机", "zh"),
            ("電池のケース", "ja"),
            ("노트북", "ko"),
            ("ноутбук", "ru"),
            ("hp", "en"),
            ("42", "en"),
            ("wie wähle ich den richtigen laufschuh für den winter", "de"),
        ] {
            assert_eq!(language(text, "en"), wanted, "{text}");
        }
    }
}
