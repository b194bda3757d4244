//! Syntax of API keys: `tg_`, base-62 digits and checksum; or keys of other systems.

use alloc::string::String;

use tensorgate_policy::request::looks_like_jwt;

/// Prefix of every tensorgate key.
pub(super) const PREFIX: &str = "tg_";

/// Base-62 digits of the random part: 62^27 is just over 2^160.
const RANDOM_CHARS: usize = 27;

/// Base-62 digits of the checksum: 62^6 is over 2^32.
const CHECKSUM_CHARS: usize = 6;

/// Length of the checksummed part.
const BODY_CHARS: usize = PREFIX.len() + RANDOM_CHARS;

/// Length of a key.
pub const KEY_CHARS: usize = BODY_CHARS + CHECKSUM_CHARS;

/// Base-62 digits in the order of their values and of ASCII.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Minimum length of a key of another system.
///
/// Its digest is stored without salt or slow hash, which NIST SP 800-63B-3 (5.1.2.2) allows from
/// 112 random bits. Twenty random letters and digits have 119 bits, twenty base64 characters 120.
/// Hex needs 28 characters. The randomness cannot be checked, because a policy contains only the
/// digest.
pub const MIN_FOREIGN_CHARS: usize = 20;

/// Maximum length of a key of another system. It limits the work of hashing and is longer than the
/// keys of large providers.
pub const MAX_FOREIGN_CHARS: usize = 512;

/// Why a text cannot be a key of another system. For the log: callers get the same response for
/// all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ForeignFault {
    #[error("it has fewer than {MIN_FOREIGN_CHARS} characters")]
    TooShort,
    #[error("it has more than {MAX_FOREIGN_CHARS} characters")]
    TooLong,
    #[error("it has a character other than visible ASCII without `\"`, `,`, `;` and `\\`")]
    Character,
    #[error("it has three parts of base64url, as a JWT has")]
    Jwt,
    #[error("it begins with `{PREFIX}` as tensorgate's own keys do, but is none: {0}")]
    Own(KeyFault),
}

/// Whether a text may be a key of another system. The length is checked first.
///
/// The characters are those of a cookie value (RFC 6265, 4.1.1), so a key is the same in a header
/// field, a cookie and a query. A text that looks like a JWT is treated as a token.
///
/// # Errors
/// It cannot be such a key.
pub fn parse_foreign(text: &str) -> Result<(), ForeignFault> {
    if text.len() < MIN_FOREIGN_CHARS {
        return Err(ForeignFault::TooShort);
    }
    if text.len() > MAX_FOREIGN_CHARS {
        return Err(ForeignFault::TooLong);
    }
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\');
    if !text.bytes().all(fits) {
        return Err(ForeignFault::Character);
    }
    if looks_like_jwt(text) {
        return Err(ForeignFault::Jwt);
    }
    match parse_key(text) {
        Err(fault) if text.starts_with(PREFIX) => Err(ForeignFault::Own(fault)),
        _ => Ok(()),
    }
}

/// Why a text is not a key. For the log: callers get the same response for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum KeyFault {
    #[error("a key has {KEY_CHARS} characters")]
    Length,
    #[error("a key is `{PREFIX}` and base-62 digits")]
    Form,
    #[error("the checksum does not match: a character is wrong")]
    Checksum,
}

/// Formats a key from 20 random bytes: `tg_` + base-62 + checksum.
pub fn format_key(random: &[u8; 20]) -> String {
    let mut text = String::with_capacity(KEY_CHARS);
    text.push_str(PREFIX);
    text.extend(base62::<_, RANDOM_CHARS>(*random).map(char::from));
    text.extend(checksum(&text).map(char::from));
    text
}

/// Checks the form and checksum of a key. The length is checked first.
///
/// # Errors
/// It is not of that form.
pub fn parse_key(text: &str) -> Result<(), KeyFault> {
    if text.len() != KEY_CHARS {
        return Err(KeyFault::Length);
    }
    let digits = text.strip_prefix(PREFIX).ok_or(KeyFault::Form)?;
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(KeyFault::Form);
    }
    let (body, sent) = text.split_at_checked(BODY_CHARS).ok_or(KeyFault::Form)?;
    if sent.as_bytes() == checksum(body) {
        Ok(())
    } else {
        Err(KeyFault::Checksum)
    }
}

/// The checksum of a key's beginning.
fn checksum(body: &str) -> [u8; CHECKSUM_CHARS] {
    base62(crc32(body.as_bytes()).to_be_bytes())
}

/// A big-endian number as base-62 digits with leading zeros.
fn base62<const N: usize, const D: usize>(mut number: [u8; N]) -> [u8; D] {
    let mut digits = [b'0'; D];
    for digit in digits.iter_mut().rev() {
        // Schoolbook division by 62, byte by byte; a dividend is below 62 * 256, so its quotient is
        // a byte.
        let mut remainder = 0_u16;
        for byte in &mut number {
            let dividend = (remainder << 8) | u16::from(*byte);
            *byte = u8::try_from(dividend / 62).unwrap_or(u8::MAX);
            remainder = dividend % 62;
        }
        if let Some(known) = DIGITS.get(usize::from(remainder)) {
            *digit = *known;
        }
    }
    digits
}

/// CRC-32 as in IEEE 802.3 and zlib, by half bytes: for 30 bytes a larger table would not pay off.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let crc = crc ^ u32::from(*byte);
        (0..2).fold(crc, |crc, _| {
            let low = usize::try_from(crc & 0xf).unwrap_or_default();
            (crc >> 4) ^ HALF_BYTES.get(low).copied().unwrap_or_default()
        })
    })
}

/// The checksum of each half byte.
#[expect(clippy::indexing_slicing, reason = "the compiler computes it")]
const HALF_BYTES: [u32; 16] = {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut table = [0; 16];
    let (mut index, mut half) = (0, 0_u32);
    while index < table.len() {
        let (mut crc, mut bit) = (half, 0);
        while bit < 4 {
            crc = (crc >> 1) ^ if crc & 1 == 0 { 0 } else { POLYNOMIAL };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
        half += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_checksum_is_the_standard_crc_32() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_made_key_is_a_key() {
        for random in [[0; 20], [0xff; 20], [0x5a; 20]] {
            let key = format_key(&random);
            assert_eq!(key.len(), KEY_CHARS);
            assert_eq!(parse_key(&key), Ok(()), "{key}");
        }
    }

    #[test]
    fn the_random_part_is_the_number_in_base_62() {
        let one = {
            let mut bytes = [0; 20];
            bytes[19] = 63;
            bytes
        };
        assert_eq!(&format_key(&one)[3..30], "000000000000000000000000011");
        // 2^160 - 1, computed independently.
        assert_eq!(
            &format_key(&[0xff; 20])[3..30],
            "aWgEPTl1tmebfsQzFP4bxwgy80V"
        );
    }

    #[test]
    fn every_single_wrong_character_is_caught() {
        let key = format_key(&[7; 20]);
        for position in 0..KEY_CHARS {
            for wrong in "0Az_-"
                .chars()
                .filter(|wrong| Some(*wrong) != key.chars().nth(position))
            {
                let typo: String = key
                    .chars()
                    .enumerate()
                    .map(|(at, right)| if at == position { wrong } else { right })
                    .collect();
                assert!(parse_key(&typo).is_err(), "{typo}");
            }
        }
    }

    #[test]
    fn swapped_neighbours_are_caught() {
        let key = format_key(b"0123456789abcdefghij");
        for position in 3..KEY_CHARS - 1 {
            let mut bytes = key.clone().into_bytes();
            bytes.swap(position, position + 1);
            let swapped = String::from_utf8(bytes).unwrap();
            if swapped != key {
                assert_eq!(parse_key(&swapped), Err(KeyFault::Checksum), "{swapped}");
            }
        }
    }

    #[test]
    fn a_text_of_another_form_is_no_key() {
        fn check(text: &str, fault: KeyFault) {
            assert_eq!(parse_key(text), Err(fault), "{text:?}");
        }
        let key = format_key(&[9; 20]);
        check("", KeyFault::Length);
        check("tg_", KeyFault::Length);
        check(&key[..KEY_CHARS - 1], KeyFault::Length);
        check(&alloc::format!("{key}0"), KeyFault::Length);
        check(
            &alloc::format!(" {}", &key[..KEY_CHARS - 1]),
            KeyFault::Form,
        );
        check(&key.replace("tg_", "TG_"), KeyFault::Form);
        check(&"t".repeat(1 << 20), KeyFault::Length);
        // As many bytes as a key but fewer characters; a character boundary lies inside the
        // checksum.
        check(
            &alloc::format!("{}é", &key[..KEY_CHARS - 2]),
            KeyFault::Form,
        );
    }
}
