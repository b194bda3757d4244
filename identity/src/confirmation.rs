//! What a token is bound to (RFC 7800). A bearer token is bound to nothing. Any other token is
//! worth nothing without the key that its claim `cnf` names, so that a stolen one is of no use.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::json::{Json, Object};

/// What the sender of a token must prove to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// Nothing: it is a bearer token.
    Nothing,
    /// The private key of the client certificate with this SHA-256 (RFC 8705, 3.1).
    Certificate([u8; 32]),
    /// A key by a method that is not checked here, such as DPoP's `jkt`, or by several methods.
    Other,
}

/// Why a bound token is refused, although its signature is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmationFault {
    /// The method is not checked here.
    Method,
    /// The connection has no client certificate, or another one.
    Certificate,
}

impl ConfirmationFault {
    /// All faults.
    pub const ALL: [Self; 2] = [Self::Method, Self::Certificate];

    /// Name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Certificate => "certificate",
        }
    }

    /// Cause, for the log.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Method => "token is bound to a key (cnf) by a method that is not checked here",
            Self::Certificate => {
                "token is bound to a client certificate (cnf) that the connection does not have"
            }
        }
    }
}

impl Confirmation {
    /// What a token's claims bind it to. A claim that cannot be read is no bearer token's.
    pub fn of(claims: &Object) -> Self {
        let method = match claims.get("cnf") {
            None => return Self::Nothing,
            Some(Json::Object(methods)) => methods.only("x5t#S256").and_then(Json::text),
            Some(_) => None,
        };
        method
            .and_then(|text| <[u8; 32]>::try_from(URL_SAFE_NO_PAD.decode(text).ok()?).ok())
            .map_or(Self::Other, Self::Certificate)
    }

    /// Checks the sender. `certificate`: the SHA-256 of the connection's client certificate.
    ///
    /// # Errors
    /// The sender has not proven that the token is its own.
    pub fn check(
        self,
        certificate: impl FnOnce() -> Option<[u8; 32]>,
    ) -> Result<(), ConfirmationFault> {
        match self {
            Self::Nothing => Ok(()),
            Self::Certificate(expected) if certificate() == Some(expected) => Ok(()),
            Self::Certificate(_) => Err(ConfirmationFault::Certificate),
            Self::Other => Err(ConfirmationFault::Method),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use alloc::format;

    #[test]
    fn only_one_digest_of_a_certificate_is_a_method_that_is_checked() {
        let read = |claims: &str| Confirmation::of(&Object::parse(claims.as_bytes()).unwrap());
        // RFC 8705, 3.1.
        let digest = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2";
        let zeros = "A".repeat(43);
        assert_eq!(read("{}"), Confirmation::Nothing);
        let bound = format!(r#"{{"cnf": {{"x5t#S256": "{zeros}"}}}}"#);
        assert_eq!(read(&bound), Confirmation::Certificate([0; 32]));
        for cnf in [
            "null",
            "{}",
            "[]",
            "\"x5t#S256\"",
            "true",
            r#"{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}"#,
            r#"{"jwk": {"kty": "OKP"}}"#,
            r#"{"kid": "a"}"#,
            r#"{"x5t": "AAAA"}"#,
            r#"{"x5t#s256": "AAAA"}"#,
            r#"{"x5t#S256": null}"#,
            r#"{"x5t#S256": ["A"]}"#,
            r#"{"x5t#S256": ""}"#,
            r#"{"x5t#S256": "AAAA"}"#,
            // Unused bits are set: another spelling of a digest.
            &format!(r#"{{"x5t#S256": "{digest}"}}"#),
            &format!(r#"{{"x5t#S256": "{zeros}="}}"#),
            &format!(r#"{{"x5t#S256": "{zeros}A"}}"#),
            &format!(r#"{{"x5t#S256": "{zeros}", "jkt": "a"}}"#),
            &format!(r#"{{"x5t#S256": "{zeros}", "osc": {{}}}}"#),
        ] {
            let claims = format!(r#"{{"cnf": {cnf}}}"#);
            assert_eq!(read(&claims), Confirmation::Other, "{cnf}");
        }
    }

    #[test]
    fn a_bound_token_needs_its_own_certificate() {
        let bound = Confirmation::Certificate([7; 32]);
        let certificate = Err(ConfirmationFault::Certificate);
        assert_eq!(bound.check(|| Some([7; 32])), Ok(()));
        assert_eq!(bound.check(|| Some([8; 32])), certificate);
        assert_eq!(bound.check(|| None), certificate);
        assert_eq!(Confirmation::Nothing.check(|| None), Ok(()));
        let other = Confirmation::Other.check(|| Some([7; 32]));
        assert_eq!(other, Err(ConfirmationFault::Method));
    }
}
