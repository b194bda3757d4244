//! Snappy's raw format, in which TensorFlow's writers may compress a block of a table.

/// The bytes that a block expands to. `None` if it is broken or has more than `most`.
pub(super) fn expand(block: &[u8], most: usize) -> Option<Vec<u8>> {
    let (length, mut rest) = length(block)?;
    if length > most {
        return None;
    }
    let mut expanded: Vec<u8> = Vec::new();
    while let Some((tag, behind)) = rest.split_first() {
        let upper = usize::from(tag >> 2);
        let (count, distance, behind) = match tag & 3 {
            0 => {
                // From 60 on, the number says how many bytes the length has.
                let (count, behind) = match upper.checked_sub(59) {
                    None | Some(0) => (upper, behind),
                    Some(bytes) => number(behind, bytes)?,
                };
                (count.checked_add(1)?, None, behind)
            }
            1 => {
                let (low, behind) = number(behind, 1)?;
                let distance = (usize::from(tag >> 5) << 8) | low;
                ((upper & 7).checked_add(4)?, Some(distance), behind)
            }
            kind => {
                let (distance, behind) = number(behind, if kind == 2 { 2 } else { 4 })?;
                (upper.checked_add(1)?, Some(distance), behind)
            }
        };
        if count > length.checked_sub(expanded.len())? {
            return None;
        }
        rest = behind;
        match distance {
            None => {
                let (text, behind) = rest.split_at_checked(count)?;
                expanded.extend_from_slice(text);
                rest = behind;
            }
            Some(distance) => {
                let start = expanded
                    .len()
                    .checked_sub(distance)
                    .filter(|_| distance > 0)?;
                for index in start..start.checked_add(count)? {
                    let byte = *expanded.get(index)?;
                    expanded.push(byte);
                }
            }
        }
    }
    (expanded.len() == length).then_some(expanded)
}

/// The length with which a block begins.
fn length(block: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    let mut rest = block;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, behind) = rest.split_first()?;
        rest = behind;
        value |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

/// A number of some bytes, the least first.
fn number(bytes: &[u8], count: usize) -> Option<(usize, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(count)?;
    let digits = digits.iter().rev();
    let value = digits.fold(0_usize, |value, byte| (value << 8) | usize::from(*byte));
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_expanded_within_its_bound() {
        let block = b"\x0a\x04\x61\x62\x0d\x02\x00\x63";
        assert_eq!(expand(block, 10), Some(b"ababababac".to_vec()));
        assert_eq!(expand(block, 9), None, "more than the bound");
        let block = b"\x09\x08\x61\x62\x63\x0a\x03\x00\x08\x78\x79\x7a";
        assert_eq!(expand(block, 10), Some(b"abcabcxyz".to_vec()));
        for broken in [
            &b""[..],
            b"\x80",
            // Shorter than it says, longer, and a copy from before the beginning.
            b"\x03\x04ab",
            b"\x01\x04ab",
            b"\x05\x00a\x01\x02",
            b"\x05\x00a\x01\x00",
            b"\x05\xf0",
        ] {
            assert_eq!(expand(broken, 10), None, "{broken:?}");
        }
    }
}
