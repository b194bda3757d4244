//! Paths as they are written: percent-encoding and the query (RFC 3986, 2.1 and 3.4).

/// A path without its query.
pub(crate) fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// The text with each valid percent escape decoded once. Others stay as they are.
pub fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let escape = match (first, after) {
            (b'%', [high, low, ..]) => digit(high).zip(digit(low)),
            _ => None,
        };
        match escape.and_then(|(high, low)| u8::try_from(high << 4 | low).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn each_valid_escape_is_decoded_once() {
        for (text, expected) in [
            ("%2f%2F", "//"),
            ("%252e", "%2e"),
            ("100%", "100%"),
            ("%+1%g0%4", "%+1%g0%4"),
            ("%%41", "%A"),
        ] {
            assert_eq!(decoded(text.as_bytes()), expected.as_bytes(), "{text}");
        }
        assert_eq!(decoded(b"%00%ff"), [0, 0xff]);
    }
}
