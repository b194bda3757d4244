//! Maximum length of a text after Unicode normalization. Many tokenizers normalize first (NFC or
//! NFKC), which makes some characters longer. Counting the longest form keeps the bound in bytes
//! valid as a bound in tokens.
//!
//! Few characters grow. Under NFC these are composition exclusions; under NFKC also ligatures,
//! fractions and units. Some marks below a letter separate it from a mark above ("\u{e9}" and
//! U+0323 become U+1EB9 and U+0301); each such mark is counted with that cost. Composition never
//! makes a text longer, so the sum over all characters is an upper bound.

/// Characters that grow: first, last, and the maximum size after normalization.
#[rustfmt::skip]
const LONGER: [(u32, u32, u8); 120] = [
    (0xa8, 0xa8, 3),
    (0xaf, 0xaf, 3),
    (0xb4, 0xb4, 3),
    (0xb8, 0xb8, 3),
    (0xbc, 0xbe, 5),
    (0x13f, 0x140, 3),
    (0x149, 0x149, 3),
    (0x1c4, 0x1c6, 4),
    (0x2d8, 0x2dd, 3),
    (0x31b, 0x31b, 5),
    (0x323, 0x328, 5),
    (0x32d, 0x32e, 5),
    (0x330, 0x331, 5),
    (0x344, 0x344, 6),
    (0x37a, 0x37a, 3),
    (0x384, 0x385, 5),
    (0x3d3, 0x3d4, 4),
    (0x587, 0x587, 4),
    (0x675, 0x678, 4),
    (0x958, 0x95f, 6),
    (0x9dc, 0x9dd, 6),
    (0x9df, 0x9df, 6),
    (0xa33, 0xa33, 6),
    (0xa36, 0xa36, 6),
    (0xa59, 0xa5b, 6),
    (0xa5e, 0xa5e, 6),
    (0xb5c, 0xb5d, 6),
    (0xe33, 0xe33, 6),
    (0xeb3, 0xeb3, 6),
    (0xedc, 0xedd, 6),
    (0xf43, 0xf43, 6),
    (0xf4d, 0xf4d, 6),
    (0xf52, 0xf52, 6),
    (0xf57, 0xf57, 6),
    (0xf5c, 0xf5c, 6),
    (0xf69, 0xf69, 6),
    (0xf73, 0xf73, 6),
    (0xf75, 0xf79, 9),
    (0xf81, 0xf81, 6),
    (0xf93, 0xf93, 6),
    (0xf9d, 0xf9d, 6),
    (0xfa2, 0xfa2, 6),
    (0xfa7, 0xfa7, 6),
    (0xfac, 0xfac, 6),
    (0xfb9, 0xfb9, 6),
    (0x1fc1, 0x1fc1, 5),
    (0x1fcd, 0x1fcf, 5),
    (0x1fdd, 0x1fdf, 5),
    (0x1fed, 0x1fee, 5),
    (0x2033, 0x2034, 9),
    (0x2036, 0x2037, 9),
    (0x2057, 0x2057, 12),
    (0x2150, 0x215f, 6),
    (0x2167, 0x2167, 4),
    (0x2177, 0x2177, 4),
    (0x2189, 0x2189, 5),
    (0x222c, 0x222d, 9),
    (0x222f, 0x2230, 9),
    (0x247d, 0x2487, 4),
    (0x2a0c, 0x2a0c, 12),
    (0x2adc, 0x2adc, 5),
    (0x309b, 0x309c, 4),
    (0x309f, 0x309f, 6),
    (0x30ff, 0x30ff, 6),
    (0x3200, 0x321e, 17),
    (0x3220, 0x3243, 5),
    (0x326e, 0x327e, 15),
    (0x32c0, 0x32cb, 5),
    (0x32ff, 0x3313, 18),
    (0x3314, 0x3314, 6),
    (0x3315, 0x3326, 18),
    (0x3327, 0x333e, 18),
    (0x333f, 0x3351, 18),
    (0x3352, 0x3357, 18),
    (0x3358, 0x3370, 5),
    (0x337b, 0x337f, 12),
    (0x3389, 0x3389, 4),
    (0x33a7, 0x33a8, 6),
    (0x33ae, 0x33af, 8),
    (0x33c2, 0x33c2, 4),
    (0x33c6, 0x33c6, 6),
    (0x33d8, 0x33d8, 4),
    (0x33de, 0x33fe, 5),
    (0xfa6c, 0xfa6c, 4),
    (0xfacf, 0xfad1, 4),
    (0xfad5, 0xfad7, 4),
    (0xfb13, 0xfb17, 4),
    (0xfb1d, 0xfb1d, 4),
    (0xfb1f, 0xfb1f, 4),
    (0xfb2a, 0xfb36, 6),
    (0xfb38, 0xfb3c, 4),
    (0xfb3e, 0xfb3e, 4),
    (0xfb40, 0xfb41, 4),
    (0xfb43, 0xfb44, 4),
    (0xfb46, 0xfb4f, 4),
    (0xfba4, 0xfba5, 4),
    (0xfbb0, 0xfbb1, 4),
    (0xfbdd, 0xfbdd, 4),
    (0xfbea, 0xfbfb, 6),
    (0xfc00, 0xfd3d, 6),
    (0xfd50, 0xfd8f, 6),
    (0xfd92, 0xfdc7, 6),
    (0xfdf0, 0xfdf9, 8),
    (0xfdfa, 0xfdfa, 33),
    (0xfdfb, 0xfdfc, 15),
    (0xfe71, 0xfe71, 4),
    (0xfe77, 0xfe77, 4),
    (0xfe79, 0xfe79, 4),
    (0xfe7b, 0xfe7b, 4),
    (0xfe7d, 0xfe7d, 4),
    (0xfe7f, 0xfe7f, 4),
    (0xfe81, 0xfe8c, 4),
    (0xfef5, 0xfefc, 6),
    (0x1b123, 0x1b126, 6),
    (0x1d15e, 0x1d164, 12),
    (0x1d1bb, 0x1d1c0, 12),
    (0x1f12a, 0x1f12a, 7),
    (0x1f200, 0x1f201, 6),
    (0x1f213, 0x1f213, 6),
    (0x1f240, 0x1f248, 9),
];

/// Maximum size of a text after normalization.
pub(super) fn longest(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    text.chars().map(bytes).fold(0, usize::saturating_add)
}

fn bytes(character: char) -> usize {
    let point = u32::from(character);
    let behind = LONGER.partition_point(|(first, ..)| *first <= point);
    let run = behind.checked_sub(1).and_then(|index| LONGER.get(index));
    match run {
        Some((_, last, bytes)) if point <= *last => usize::from(*bytes),
        _ => character.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_counts_as_the_longest_that_it_can_become() {
        for (text, expected) in [
            ("", 0),
            ("plain", 5),
            // Composed characters stay composed, including Hangul.
            ("\u{e9}\u{1ebf}\u{d55c}\u{4e00}\u{304c}", 2 + 3 + 3 + 3 + 3),
            ("\u{1f600}", 4),
            // Composition exclusions: three characters of four bytes each.
            ("\u{1d1c0}", 12),
            ("\u{1d15f}", 12),
            ("\u{958}", 6),
            // NFKC: a fraction, a unit, a ligature of eighteen letters.
            ("\u{bd}", 5),
            ("\u{fdfa}", 33),
            // e, a dot below, an acute: five bytes instead of four.
            ("\u{e9}\u{323}", 7),
            ("a\u{fdfa}b", 35),
        ] {
            assert_eq!(longest(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_table_is_in_order_and_makes_nothing_shorter() {
        let mut before = 0;
        for (first, last, bytes) in LONGER {
            assert!(before < first && first <= last, "{first:x}");
            before = last;
            for point in first..=last {
                let plain = char::from_u32(point).map_or(0, char::len_utf8);
                assert!(plain <= usize::from(bytes), "{point:x}");
            }
        }
    }
}
