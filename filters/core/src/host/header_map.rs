//! Header maps in proxy-wasm's binary form: a count, two lengths per field, then each name and
//! value followed by a zero byte. Numbers are 32-bit little-endian. Names and values are bytes and
//! need not be text.

use super::Field;

/// Size of a number, in bytes.
const NUMBER: usize = 4;

/// Decodes a map; `None` if the bytes are invalid. An empty map may have no bytes at all.
pub fn deserialize(bytes: &[u8]) -> Option<Vec<Field>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let (count, rest) = number(bytes)?;
    let lengths_size = count.checked_mul(NUMBER.checked_mul(2)?)?;
    let (mut lengths, mut texts) = rest.split_at_checked(lengths_size)?;
    // The count is now known to fit the input.
    let mut fields = Vec::with_capacity(count);
    while !lengths.is_empty() {
        let (name_size, rest) = number(lengths)?;
        let (value_size, rest) = number(rest)?;
        lengths = rest;
        let (name, rest) = text(texts, name_size)?;
        let (value, rest) = text(rest, value_size)?;
        texts = rest;
        fields.push((name.to_vec(), value.to_vec()));
    }
    Some(fields)
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

fn text(bytes: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    let (text, rest) = bytes.split_at_checked(size)?;
    Some((text, rest.strip_prefix(&[0])?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn a_written_map_is_read_back() {
        let fields = [(":method", "POST"), ("x-empty", ""), ("x", "a\0b")];
        let read = deserialize(&serialize(&fields).unwrap()).unwrap();
        let expected: Vec<Field> = fields
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn names_and_values_need_not_be_text() {
        let bytes = [
            &[1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0][..],
            b"\xff\0\xfe\xfd\0",
        ]
        .concat();
        assert_eq!(
            deserialize(&bytes),
            Some(vec![(vec![0xff], vec![0xfe, 0xfd])])
        );
    }

    #[test]
    fn an_unterminated_string_is_rejected() {
        let closed = [&[1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0][..], b"a\0b\0"].concat();
        assert!(deserialize(&closed).is_some());
        for position in [13, 15] {
            let mut open = closed.clone();
            open[position] = 1;
            assert_eq!(deserialize(&open), None, "byte {position}");
        }
    }

    #[test]
    fn no_bytes_are_an_empty_map() {
        assert_eq!(deserialize(&[]), Some(Vec::new()));
        assert_eq!(deserialize(&[0, 0, 0, 0]), Some(Vec::new()));
    }

    #[test]
    fn wrong_lengths_are_rejected_and_truncation_does_not_panic() {
        assert_eq!(deserialize(&[0xff; 4]), None);
        assert_eq!(deserialize(&[0xff; 64]), None);
        let whole = serialize(&[("name", "value"), ("other", "one")]).unwrap();
        for cut in 1..whole.len() {
            assert_eq!(deserialize(&whole[..cut]), None, "cut at {cut}");
        }
    }
}
