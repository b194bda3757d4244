//! Elements of DER (X.690), as keys and certificates have them.

use der::Decode as _;
use der::asn1::{AnyRef, GeneralizedTime, UtcTime};

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_ID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
/// Largest content whose length has one octet.
const SHORT: u8 = 0x7f;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Reads elements one after the other. `None` means that the bytes are not DER or not as expected.
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The content of a sequence without trailing data.
    pub(super) fn only(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Self(bytes);
        let inner = Self(outer.take(SEQUENCE)?);
        outer.end()?;
        Some(inner)
    }

    /// Tag and content of the next element. Only tags of one octet are accepted.
    pub(super) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let tag = *self.0.first().filter(|tag| **tag & 0x1f != 0x1f)?;
        let (element, rest) = AnyRef::from_der_partial(self.0).ok()?;
        self.0 = rest;
        Some((tag, element.value()))
    }

    /// The content of the next element, with this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.any()?;
        (found == tag).then_some(content)
    }

    /// The content of the next element if it has this tag; `None` if it is invalid.
    pub(super) fn take_if(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.0.first() == Some(&tag) {
            self.take(tag).map(Some)
        } else {
            Some(None)
        }
    }

    /// The next element with its tag and length.
    pub(super) fn encoded(&mut self) -> Option<&'a [u8]> {
        let before = self.0;
        self.any()?;
        before.get(..before.len().checked_sub(self.0.len())?)
    }

    /// A bit string of whole octets.
    pub(super) fn octets(&mut self) -> Option<&'a [u8]> {
        self.take(BIT_STRING)?.strip_prefix(&[0_u8])
    }

    /// A point in time, in seconds since 1970.
    pub(super) fn time(&mut self) -> Option<u64> {
        let tag = *self.0.first()?;
        let encoded = self.encoded()?;
        let since_1970 = match tag {
            UTC_TIME => UtcTime::from_der(encoded).ok()?.to_unix_duration(),
            GENERALIZED_TIME => GeneralizedTime::from_der(encoded).ok()?.to_unix_duration(),
            _ => return None,
        };
        Some(since_1970.as_secs())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing follows.
    pub(super) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// An element with this tag and content.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|octet| *octet == 0).collect();
    let mut encoded = vec![tag];
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
