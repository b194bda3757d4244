//! Header maps in proxy-wasm's binary form: a count, two lengths per field, then each name and
//! value followed by a zero byte. Numbers are 32-bit little-endian. Names and values are bytes and
//! need not be text.

use super::fields::{Fields, Span};

/// Size of a number, in bytes.
const NUMBER: usize = 4;

/// Decodes a map; `None` if the bytes are invalid. An empty map may have no bytes at all.
pub fn deserialize(bytes: Vec<u8>) -> Option<Fields> {
    if bytes.is_empty() {
        return Some(Fields::default());
    }
    let (count, rest) = number(&bytes)?;
    let lengths_size = count.checked_mul(NUMBER.checked_mul(2)?)?;
    let mut lengths = rest.get(..lengths_size)?;
    let mut end = NUMBER.checked_add(lengths_size)?;
    // The count is now known to fit the input.
    let mut spans = Vec::with_capacity(count);
    while !lengths.is_empty() {
        let (name_bytes, rest) = number(lengths)?;
        let (value_bytes, rest) = number(rest)?;
        lengths = rest;
        let name = text(&bytes, &mut end, name_bytes)?;
        let value = text(&bytes, &mut end, value_bytes)?;
        spans.push([name, value]);
    }
    Some(Fields { bytes, spans })
}

/// Encodes a map; `None` if a length does not fit its number.
pub fn serialize(fields: &[(&str, &str)]) -> Option<Vec<u8>> {
    let size = fields.iter().fold(NUMBER, |size, (name, value)| {
        // Two numbers and two zero bytes per field.
        size.saturating_add(name.len())
            .saturating_add(value.len())
            .saturating_add(2 * NUMBER + 2)
    });
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(&u32::try_from(fields.len()).ok()?.to_le_bytes());
    for (name, value) in fields {
        bytes.extend_from_slice(&u32::try_from(name.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
    }
    for text in fields.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    Some(bytes)
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<NUMBER>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

/// Where the next text of this size is. `end` is then behind its zero byte.
fn text(bytes: &[u8], end: &mut usize, size: usize) -> Option<Span> {
    let (start, zero) = (*end, end.checked_add(size)?);
    *end = zero.checked_add(1)?;
    (bytes.get(zero) == Some(&0)).then_some((start, size))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn a_written_map_is_read_back() {
        let fields = [(":method", "POST"), ("x-empty", ""), ("x", "a\0b")];
        let read = deserialize(serialize(&fields).unwrap()).unwrap();
        let expected = fields.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        assert!(read.iter().eq(expected));
    }

    #[test]
    fn names_and_values_need_not_be_text() {
        let bytes = [
            &[1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0][..],
            b"\xff\0\xfe\xfd\0",
        ]
        .concat();
        let read = deserialize(bytes).unwrap();
        assert!(read.iter().eq([(&b"\xff"[..], &b"\xfe\xfd"[..])]));
    }

    #[test]
    fn an_unterminated_string_is_rejected() {
        let closed = [&[1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0][..], b"a\0b\0"].concat();
        assert!(deserialize(closed.clone()).is_some());
        for position in [13, 15] {
            let mut open = closed.clone();
            open[position] = 1;
            assert!(deserialize(open).is_none(), "byte {position}");
        }
    }

    #[test]
    fn no_bytes_are_an_empty_map() {
        for bytes in [Vec::new(), vec![0; 4]] {
            assert_eq!(deserialize(bytes).unwrap().iter().count(), 0);
        }
    }

    #[test]
    fn wrong_lengths_are_rejected_and_truncation_does_not_panic() {
        assert!(deserialize(vec![0xff; 4]).is_none());
        assert!(deserialize(vec![0xff; 64]).is_none());
        let whole = serialize(&[("name", "value"), ("other", "one")]).unwrap();
        for cut in 1..whole.len() {
            assert!(deserialize(whole[..cut].to_vec()).is_none(), "cut at {cut}");
        }
    }
}
