//! The identity in a signing certificate, and the provider that vouches for it.

use tensorgate_values::der::Der;

use super::fault::IdentityFault;
use crate::model_signing::certificate::{Certificate, only_element};
use crate::model_signing::json::excerpt;

/// `id-ce-subjectAltName`, 2.5.29.17.
const NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// Kinds of names: `rfc822Name` and `uniformResourceIdentifier`.
const MAIL_ADDRESS: u8 = 0x81;
const URI: u8 = 0x86;
/// The provider as a UTF8String, 1.3.6.1.4.1.57264.1.8.
const PROVIDER: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x08];
/// The provider as text without an encoding, 1.3.6.1.4.1.57264.1.1, in older certificates.
const OLD_PROVIDER: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x01];
const UTF8_STRING: u8 = 0x0c;

/// Checks that a certificate is one of this identity, for which this provider vouches. One of an
/// authority proves no identity, because an authority could name any.
pub(super) fn check(
    certificate: &Certificate,
    trusted: &str,
    provider: &str,
) -> Result<(), IdentityFault> {
    if certificate.extensions.is_of_authority() {
        return Err(IdentityFault::Authority);
    }
    let found = name(certificate).ok_or(IdentityFault::Name)?;
    if found != trusted {
        return Err(IdentityFault::Identity {
            found: excerpt(found),
            trusted: trusted.to_owned(),
        });
    }
    let found = named_provider(certificate).ok_or(IdentityFault::NoProvider)?;
    if found != provider {
        return Err(IdentityFault::Provider {
            found: excerpt(found),
            trusted: provider.to_owned(),
        });
    }
    Ok(())
}

/// The only name of a certificate.
fn name(certificate: &Certificate) -> Option<&str> {
    let mut names = Der::only(certificate.extension(NAMES)?)?;
    let (kind, name) = names.any()?;
    names.end()?;
    let is_known = matches!(kind, MAIL_ADDRESS | URI) && !name.is_empty() && name.is_ascii();
    str::from_utf8(name).ok().filter(|_| is_known)
}

fn named_provider(certificate: &Certificate) -> Option<&str> {
    let Some(value) = certificate.extension(PROVIDER) else {
        return str::from_utf8(certificate.extension(OLD_PROVIDER)?).ok();
    };
    str::from_utf8(only_element(value, UTF8_STRING)?).ok()
}
