//! Reads issuer, date and number from a certificate revocation list in DER form (RFC 5280, 5.1).
//! Nothing is verified, and revoked entries are only counted.

use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_policy::values::der::{Der, GENERALIZED_TIME, INTEGER, SEQUENCE, UTC_TIME};

use super::{each_extension, serial, signed};

const EXTENSIONS: u8 = 0xa0;
/// `id-ce-cRLNumber`, 2.5.29.20.
const NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
/// `id-ce-deltaCRLIndicator`, 2.5.29.27.
const DELTA: &[u8] = &[0x55, 0x1d, 0x1b];

/// Contents of a revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Name of its authority, as DER content.
    pub issuer: Vec<u8>,
    /// Date of issue, `YYYYMMDDHHMMSSZ`.
    pub since: String,
    /// Its number, big-endian, without leading zeros; version 1 lists have none.
    pub number: Option<Vec<u8>>,
    /// Number of revoked certificates.
    pub revoked: usize,
    /// Whether it only contains changes since another list.
    pub delta: bool,
}

impl List {
    /// Whether it is older than another list of its authority, by number or else by date.
    pub fn is_older_than(&self, other: &Self) -> bool {
        match (&self.number, &other.number) {
            (Some(own), Some(other)) => (own.len(), own) < (other.len(), other),
            _ => self.since < other.since,
        }
    }
}

/// Parses a list; `None` if anything is unusual.
pub fn from_der(bytes: &[u8]) -> Option<List> {
    let mut body = signed(bytes)?;
    body.take_if(INTEGER)?;
    // Signature algorithm.
    body.take(SEQUENCE)?;
    let mut list = List {
        issuer: body.take(SEQUENCE)?.into(),
        since: time(&mut body)?,
        number: None,
        revoked: 0,
        delta: false,
    };
    if body.next_is(UTC_TIME) || body.next_is(GENERALIZED_TIME) {
        time(&mut body)?;
    }
    if let Some(entries) = body.take_if(SEQUENCE)? {
        let mut entries = Der::new(entries);
        while !entries.is_empty() {
            let mut entry = Der::new(entries.take(SEQUENCE)?);
            entry.take(INTEGER)?;
            time(&mut entry)?;
            entry.take_if(SEQUENCE)?;
            entry.end()?;
            list.revoked = list.revoked.saturating_add(1);
        }
    }
    if let Some(extensions) = body.take_if(EXTENSIONS)? {
        list.extensions(extensions)?;
    }
    body.end()?;
    Some(list)
}

impl List {
    fn extensions(&mut self, bytes: &[u8]) -> Option<()> {
        each_extension(bytes, |id, value| {
            if id == NUMBER {
                let mut value = Der::new(value);
                let number = serial(value.take(INTEGER)?)?;
                value.end()?;
                // At most once (RFC 5280, 4.2).
                if self.number.replace(number).is_some() {
                    return None;
                }
            } else if id == DELTA {
                self.delta = true;
            }
            Some(())
        })
    }
}

/// A time with a four-digit year (RFC 5280, 4.1.2.5).
fn time(from: &mut Der<'_>) -> Option<String> {
    let (tag, digits) = from.any()?;
    let digits = str::from_utf8(digits).ok()?;
    let century = match (tag, digits.as_bytes()) {
        (UTC_TIME, [b'5'..=b'9', ..]) => "19",
        (UTC_TIME, _) => "20",
        (GENERALIZED_TIME, _) => "",
        _ => return None,
    };
    let mut text = String::from(century);
    text.push_str(digits);
    let (last, rest) = text.as_bytes().split_last()?;
    let right = *last == b'Z' && rest.len() == 14 && rest.iter().all(u8::is_ascii_digit);
    right.then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tensorgate_policy::values::der::{BIT_STRING, OBJECT_ID, OCTET_STRING, element};

    use super::*;

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        element(tag, &parts.concat())
    }

    fn extension(id: &[u8], value: &[u8]) -> Vec<u8> {
        der(
            SEQUENCE,
            &[&der(OBJECT_ID, &[id]), &der(OCTET_STRING, &[value])],
        )
    }

    /// A list with these parts after its issuer.
    fn list(parts: &[&[u8]]) -> Vec<u8> {
        let start = [
            der(INTEGER, &[&[1]]),
            der(SEQUENCE, &[]),
            der(SEQUENCE, &[b"ca"]),
        ]
        .concat();
        let body = der(SEQUENCE, &[&start, &parts.concat()]);
        der(
            SEQUENCE,
            &[&body, &der(SEQUENCE, &[]), &der(BIT_STRING, &[&[0, 1]])],
        )
    }

    #[test]
    fn a_list_has_an_issuer_a_date_and_a_count() {
        let since = der(UTC_TIME, &[b"260102030405Z"]);
        let until = der(GENERALIZED_TIME, &[b"21260101000000Z"]);
        let entry = der(SEQUENCE, &[&der(INTEGER, &[&[9]]), &since]);
        let numbered = |value: &[u8]| {
            let one = extension(NUMBER, &der(INTEGER, &[value]));
            der(EXTENSIONS, &[&der(SEQUENCE, &[&one])])
        };
        let read = from_der(&list(&[
            &since,
            &until,
            &der(SEQUENCE, &[&entry, &entry]),
            &numbered(&[1, 0]),
        ]));
        let read = read.unwrap();
        assert_eq!(
            (&*read.issuer, &*read.since),
            (&b"ca"[..], "20260102030405Z")
        );
        assert_eq!((read.revoked, read.delta), (2, false));
        let bare = from_der(&list(&[&der(UTC_TIME, &[b"991231235959Z"])])).unwrap();
        assert_eq!((bare.revoked, &*bare.since), (0, "19991231235959Z"));
        assert!(bare.is_older_than(&read) && !read.is_older_than(&bare));
        // Numbers are compared before dates, as numbers and not as texts.
        let before = from_der(&list(&[&until, &numbered(&[0, 0xff])])).unwrap();
        assert!(before.is_older_than(&read) && !read.is_older_than(&before));
        assert!(!read.is_older_than(&read));
        let delta = extension(DELTA, &der(INTEGER, &[&[1]]));
        let delta = der(EXTENSIONS, &[&der(SEQUENCE, &[&delta])]);
        assert!(from_der(&list(&[&since, &delta])).unwrap().delta);
    }

    #[test]
    fn malformed_lists_are_rejected() {
        let since = der(UTC_TIME, &[b"260102030405Z"]);
        let encoded = list(&[&since]);
        for end in 0..encoded.len() {
            assert_eq!(
                from_der(encoded.get(..end).unwrap_or_default()),
                None,
                "{end}"
            );
        }
        assert_eq!(from_der(&[&encoded[..], b"\0"].concat()), None);
        for time in [&b"2601020304Z"[..], b"260102030405", b"2601020304 5Z"] {
            assert_eq!(from_der(&list(&[&der(UTC_TIME, &[time])])), None);
        }
        assert_eq!(from_der(&list(&[])), None, "no time");
        let entry = der(SEQUENCE, &[&der(INTEGER, &[&[9]])]);
        assert_eq!(from_der(&list(&[&since, &der(SEQUENCE, &[&entry])])), None);
    }
}
