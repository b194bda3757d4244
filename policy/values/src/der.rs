//! Elements of DER (X.690), as keys, certificates and signatures have them.

use alloc::vec::Vec;

use der::Decode as _;
use der::asn1::{AnyRef, GeneralizedTime, UtcTime};

/// The tag of a truth value.
pub const BOOLEAN: u8 = 0x01;
/// The tag of a number.
pub const INTEGER: u8 = 0x02;
/// The tag of bits.
pub const BIT_STRING: u8 = 0x03;
/// The tag of octets.
pub const OCTET_STRING: u8 = 0x04;
/// The tag of an object identifier.
pub const OBJECT_ID: u8 = 0x06;
/// The tag of a time with two digits of the year.
pub const UTC_TIME: u8 = 0x17;
/// The tag of a time with four digits of the year.
pub const GENERALIZED_TIME: u8 = 0x18;
/// The tag of a sequence.
pub const SEQUENCE: u8 = 0x30;
/// Largest content whose length has one octet.
const SHORT: u8 = 0x7f;

/// Reads elements one after the other. `None` means that the bytes are not DER or not as expected.
#[derive(Debug)]
pub struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// A reader of these elements.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The content of a sequence without trailing data.
    pub fn only(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Self(bytes);
        let inner = Self(outer.take(SEQUENCE)?);
        outer.end()?;
        Some(inner)
    }

    /// Tag and content of the next element. Only tags of one octet are accepted.
    pub fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let tag = *self.0.first().filter(|tag| **tag & 0x1f != 0x1f)?;
        let (element, rest) = AnyRef::from_der_partial(self.0).ok()?;
        self.0 = rest;
        Some((tag, element.value()))
    }

    /// The content of the next element, with this tag.
    pub fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.any()?;
        (found == tag).then_some(content)
    }

    /// The content of the next element if it has this tag; `None` if it is invalid.
    pub fn take_if(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.next_is(tag) {
            self.take(tag).map(Some)
        } else {
            Some(None)
        }
    }

    /// The next element with its tag and length.
    pub fn encoded(&mut self) -> Option<&'a [u8]> {
        let before = self.0;
        self.any()?;
        before.get(..before.len().checked_sub(self.0.len())?)
    }

    /// A bit string of whole octets.
    pub fn octets(&mut self) -> Option<&'a [u8]> {
        self.take(BIT_STRING)?.strip_prefix(&[0_u8])
    }

    /// A point in time, in seconds since 1970.
    pub fn time(&mut self) -> Option<u64> {
        let tag = *self.0.first()?;
        let encoded = self.encoded()?;
        let since_1970 = match tag {
            UTC_TIME => UtcTime::from_der(encoded).ok()?.to_unix_duration(),
            GENERALIZED_TIME => GeneralizedTime::from_der(encoded).ok()?.to_unix_duration(),
            _ => return None,
        };
        Some(since_1970.as_secs())
    }

    /// Whether the next element has this tag.
    pub fn next_is(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    /// Whether nothing follows.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing follows; otherwise `None`.
    pub fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// An element with this tag and content.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|octet| *octet == 0).collect();
    let mut encoded = alloc::vec![tag];
    match length.as_slice() {
        [] => encoded.push(0),
        [short] if *short <= SHORT => encoded.push(*short),
        long => {
            // At most eight octets, so their number fits.
            encoded.push(0x80 | u8::try_from(long.len()).unwrap_or(SHORT));
            encoded.extend_from_slice(long);
        }
    }
    encoded.extend_from_slice(content);
    encoded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]

    use super::*;
    use alloc::vec;

    #[test]
    fn lengths_must_have_their_shortest_encoding() {
        for (length, expected) in [
            (&[3][..], true),
            (&[0x81, 3], false),
            (&[0x82, 0, 3], false),
            (&[0x80], false),
            (&[0x84, 0, 0, 0, 3], false),
            (
                &[0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                false,
            ),
            (&[0xff], false),
        ] {
            let bytes = [&[SEQUENCE], length, &[1, 2, 3]].concat();
            assert_eq!(Der::new(&bytes).any().is_some(), expected, "{length:?}");
        }
        assert_eq!(Der::new(&[0x1f, 1, 0]).any(), None);
        assert_eq!(Der::new(&[0x3f, 1, 0]).any(), None);
        assert_eq!(Der::new(&[0x9f, 0x22, 0]).any(), None);
        assert_eq!(Der::new(&[0xbf, 0x22, 0]).any(), None);
        let long = [&[SEQUENCE, 0x83, 1, 0, 0][..], &vec![0; 1 << 16]].concat();
        assert_eq!(
            Der::new(&long).any().map(|(_, content)| content.len()),
            Some(1 << 16)
        );
    }

    #[test]
    fn lengths_take_as_many_octets_as_they_need() {
        for (length, expected) in [
            (0, vec![4, 0]),
            (127, vec![4, 127]),
            (128, vec![4, 0x81, 128]),
            (256, vec![4, 0x82, 1, 0]),
            (65536, vec![4, 0x83, 1, 0, 0]),
        ] {
            let encoded = element(4, &vec![0; length]);
            assert_eq!(encoded.get(..expected.len()), Some(expected.as_slice()));
            assert_eq!(encoded.len(), length + expected.len());
        }
    }
}
