//! What the tables beside an item table are called.

/// Names of the companion tables: the item table's name with an ending, cut so that 63 bytes hold it.
///
/// A cut name carries a hash of the whole one, so that two long names stay apart.
pub fn name(items: &str, ending: &str) -> String {
    let whole = format!("{items}_{ending}");
    if whole.len() <= 63 {
        return whole;
    }
    let hash = items.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let tail = format!("_{:08x}_{ending}", hash as u32);
    let mut cut = 63 - tail.len();
    while !items.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}{tail}", &items[..cut])
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let one = "a".repeat(60) + "bcd";
        let two = "a".repeat(60) + "bce";
        assert_eq!(name("products", "persona"), "products_persona");
        assert!(name(&one, "persona_stats").len() <= 63);
        assert_ne!(name(&one, "persona"), name(&two, "persona"));
        assert!(name(&"ü".repeat(31), "persona_terms").len() <= 63);
    }
}
