//! `x-api-key` and `authorization` to a credential. It never judges one.

use tensorgate_policy::request::Credential;

/// What every API key begins with; a bearer token that begins otherwise is an issuer's.
const API_KEY_PREFIX: &str = "tg_";

/// The credential of a head that has at most one of the two fields.
pub(crate) fn read<'a>(api_key: Option<&'a str>, authorization: Option<&'a str>) -> Credential<'a> {
    match (api_key, authorization) {
        (None, None) => Credential::None,
        (Some(key), None) => Credential::ApiKey(key),
        (None, Some(value)) => match bearer(value) {
            Some(key) if key.starts_with(API_KEY_PREFIX) => Credential::ApiKey(key),
            Some(token) => Credential::Token(token),
            None => Credential::Unknown,
        },
        (Some(_), Some(_)) => Credential::Unknown,
    }
}

/// The token of `Bearer` (RFC 6750, 2.1: the scheme, spaces, one token).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' '))
        .then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_read_from_one_field_only() {
        for (api_key, authorization, expected) in [
            (None, None, Credential::None),
            (Some("tg_a"), None, Credential::ApiKey("tg_a")),
            (Some(""), None, Credential::ApiKey("")),
            (None, Some("Bearer tg_a"), Credential::ApiKey("tg_a")),
            (None, Some("bEARER   tg_a"), Credential::ApiKey("tg_a")),
            (
                None,
                Some("Bearer eyJhbGciOiJub25lIn0.e30."),
                Credential::Token("eyJhbGciOiJub25lIn0.e30."),
            ),
            (None, Some("BEARER a"), Credential::Token("a")),
            (None, Some("Bearer "), Credential::Unknown),
            (None, Some("Bearer  "), Credential::Unknown),
            (None, Some("Bearer a "), Credential::Unknown),
            (None, Some("Bearer\ta"), Credential::Unknown),
            (None, Some("Bearer a, Bearer b"), Credential::Unknown),
            (None, Some("Bearer tg_a tg_b"), Credential::Unknown),
            (None, Some("Bearer"), Credential::Unknown),
            (None, Some("tg_a"), Credential::Unknown),
            (None, Some("Basic dGdfYTo="), Credential::Unknown),
            (None, Some("Basic tg_a"), Credential::Unknown),
            (None, Some(""), Credential::Unknown),
            (Some("tg_a"), Some("Bearer tg_a"), Credential::Unknown),
        ] {
            assert_eq!(
                read(api_key, authorization),
                expected,
                "{api_key:?} {authorization:?}"
            );
        }
    }
}
