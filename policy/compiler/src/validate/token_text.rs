//! Syntax of texts that tokens carry: exact values of claims, and scopes.

use tensorgate_policy::report::{Path, quote};

/// Maximum length of issuer and audience, as in tokens.
const MAX_TEXT_BYTES: usize = 512;

/// A text that a token must contain exactly.
pub(super) fn text(path: &Path, text: &str) -> Option<()> {
    if text.is_empty() || text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
        return path.fail_with_fix(
            "is empty, too long or has control characters",
            format!("1 to {MAX_TEXT_BYTES} bytes"),
        );
    }
    Some(())
}

/// One scope (RFC 6749, 3.3): printable, without separators.
pub(super) fn scope(path: &Path, scope: &str) -> Option<()> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if scope.is_empty() || scope.len() > MAX_TEXT_BYTES || !scope.bytes().all(plain) {
        return path.fail_with_fix(
            format!("{} is not a single scope", quote(scope)),
            "printable characters without blanks",
        );
    }
    Some(())
}
