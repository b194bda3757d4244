//! Extensions of a certificate (RFC 5280, 4.2): what its key may be used for.

use tensorgate_values::der::{
    BIT_STRING, BOOLEAN, Der, INTEGER, OBJECT_ID, OCTET_STRING, SEQUENCE, element,
};

/// `id-ce-keyUsage` and its siblings below 2.5.29.
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
const EXTENDED_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// `anyExtendedKeyUsage`.
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// `id-kp-codeSigning`, 1.3.6.1.5.5.7.3.3.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];

/// `id-kp-timeStamping`, 1.3.6.1.5.5.7.3.8.
const TIME_STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];

/// First octet of a key usage: signatures over data, the same as a commitment, and over
/// certificates.
const DIGITAL_SIGNATURE: u8 = 0x80;
const COMMITMENT: u8 = 0x40;
const CERTIFICATE_SIGN: u8 = 0x04;

/// What a chain of certificates is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model_signing) enum Purpose {
    /// Signatures of models.
    Models,
    /// Time stamps.
    TimeStamps,
}

/// Why extensions are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtensionFault {
    /// Not as RFC 5280 says.
    Form,
    /// Critical and not known here, or a constraint on names, which is not evaluated.
    Unsupported,
}

/// What the extensions say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::model_signing) struct Extensions {
    is_authority: bool,
    /// How many authorities may stand between this one and a leaf.
    path_length: Option<usize>,
    /// First octet of the key usage.
    key_usage: Option<u8>,
    /// Whether the extended usages, if there are any, have code signing.
    code_signing: Option<Usage>,
    /// The same for time stamps.
    time_stamping: Option<Usage>,
    /// Whether there is one extended usage alone, and it is critical.
    has_one_critical_usage: bool,
}

/// Whether an extended usage is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usage {
    Named,
    Any,
    No,
}

impl Usage {
    /// The same after a further usage.
    fn after(self, found: &[u8], wanted: &[u8]) -> Self {
        match found {
            found if found == wanted => Self::Named,
            ANY_USAGE if self == Self::No => Self::Any,
            _ => self,
        }
    }
}

impl Extensions {
    /// Reads the list of extensions.
    pub(super) fn read(der: &[u8]) -> Result<Self, ExtensionFault> {
        let mut extensions = Self::default();
        let mut seen: Vec<&[u8]> = Vec::new();
        let mut list = Der::only(der).ok_or(ExtensionFault::Form)?;
        while !list.is_empty() {
            let (id, is_critical, value) = extension(&mut list).ok_or(ExtensionFault::Form)?;
            if seen.contains(&id) {
                return Err(ExtensionFault::Form);
            }
            seen.push(id);
            let known = match id {
                BASIC_CONSTRAINTS => extensions.basic_constraints(value),
                KEY_USAGE => extensions.key_usage(value),
                EXTENDED_USAGE => extensions.extended_usage(value, is_critical),
                // Names mean nothing in a chain. Those of an identity are read where it is checked.
                ALTERNATIVE_NAMES => Some(()),
                NAME_CONSTRAINTS => return Err(ExtensionFault::Unsupported),
                _ if is_critical => return Err(ExtensionFault::Unsupported),
                _ => Some(()),
            };
            known.ok_or(ExtensionFault::Form)?;
        }
        Ok(extensions)
    }

    /// Whether models may be signed: digital signatures and code signing, both named.
    pub(in crate::model_signing) fn signs_models(&self) -> bool {
        self.key_usage
            .is_some_and(|usage| usage & DIGITAL_SIGNATURE != 0)
            && self.code_signing == Some(Usage::Named)
    }

    /// Whether times may be stamped, and nothing else may be done (RFC 3161, 2.3).
    pub(in crate::model_signing) fn stamps_times(&self) -> bool {
        let may_sign = |usage: u8| usage & (DIGITAL_SIGNATURE | COMMITMENT) != 0;
        self.has_one_critical_usage
            && self.time_stamping == Some(Usage::Named)
            && self.key_usage.is_none_or(may_sign)
            && !self.is_of_authority()
    }

    /// Whether an authority is named, or the right to sign certificates.
    pub(in crate::model_signing) fn is_of_authority(&self) -> bool {
        self.is_authority
            || self
                .key_usage
                .is_some_and(|usage| usage & CERTIFICATE_SIGN != 0)
    }

    /// Whether certificates may be signed, with this many authorities below, for this purpose.
    pub(in crate::model_signing) fn signs_certificates(
        &self,
        purpose: Purpose,
        authorities_below: usize,
    ) -> bool {
        let usage = match purpose {
            Purpose::Models => self.code_signing,
            Purpose::TimeStamps => self.time_stamping,
        };
        self.is_authority
            && self
                .path_length
                .is_none_or(|length| authorities_below <= length)
            && self
                .key_usage
                .is_none_or(|usage| usage & CERTIFICATE_SIGN != 0)
            && usage != Some(Usage::No)
    }

    fn basic_constraints(&mut self, value: &[u8]) -> Option<()> {
        let mut constraints = Der::only(value)?;
        // FALSE is the default, which DER leaves out.
        self.is_authority = match constraints.take_if(BOOLEAN)? {
            None => false,
            Some([0xff]) => true,
            Some(_) => return None,
        };
        if let Some(length) = constraints.take_if(INTEGER)? {
            let [length @ 0..0x80] = length else {
                return None;
            };
            self.path_length = Some(usize::from(*length));
        }
        constraints.end()
    }

    fn key_usage(&mut self, value: &[u8]) -> Option<()> {
        let mut bits = Der::new(value);
        let (_, usages) = bits.take(BIT_STRING)?.split_first()?;
        self.key_usage = Some(*usages.first()?);
        bits.end()
    }

    fn extended_usage(&mut self, value: &[u8], is_critical: bool) -> Option<()> {
        let mut usages = Der::only(value)?;
        let (mut code_signing, mut time_stamping) = (Usage::No, Usage::No);
        let mut count = 0_usize;
        while !usages.is_empty() {
            let found = usages.take(OBJECT_ID)?;
            code_signing = code_signing.after(found, CODE_SIGNING);
            time_stamping = time_stamping.after(found, TIME_STAMPING);
            count = count.saturating_add(1);
        }
        self.code_signing = Some(code_signing);
        self.time_stamping = Some(time_stamping);
        self.has_one_critical_usage = is_critical && count == 1;
        Some(())
    }
}

/// The value of the extension with this identifier in a list that [`Extensions::read`] has read.
pub(super) fn find<'a>(der: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut list = Der::only(der)?;
    while !list.is_empty() {
        let (id, _, value) = extension(&mut list)?;
        if id == wanted {
            return Some(value);
        }
    }
    None
}

/// The list of extensions without the one with this identifier.
pub(super) fn without(der: &[u8], unwanted: &[u8]) -> Option<Vec<u8>> {
    let mut list = Der::only(der)?;
    let mut kept = Vec::new();
    while !list.is_empty() {
        let encoded = list.encoded()?;
        let (id, _, _) = extension(&mut Der::new(encoded))?;
        if id != unwanted {
            kept.extend_from_slice(encoded);
        }
    }
    Some(element(SEQUENCE, &kept))
}

/// Identifier, criticality and value of the next extension.
fn extension<'a>(list: &mut Der<'a>) -> Option<(&'a [u8], bool, &'a [u8])> {
    let mut extension = Der::new(list.take(SEQUENCE)?);
    let id = extension.take(OBJECT_ID)?;
    let is_critical = extension
        .take_if(BOOLEAN)?
        .is_some_and(|value| value != [0_u8]);
    let value = extension.take(OCTET_STRING)?;
    extension.end()?;
    Some((id, is_critical, value))
}
