//! Finds the credential of a head: a header field for keys, `authorization`, a cookie or the query.
//! It verifies nothing.
//!
//! A credential is compared literally, without unescaping, so a key has one spelling. Anything that
//! another parser could read as the same location makes the head ambiguous: escaped names, other
//! letter case, `;` between parameters, quotes around other cookies.

use std::borrow::Cow;

use tensorgate_policy::policy::KeyLocations;
use tensorgate_policy::request::{Credential, looks_like_jwt};

use crate::percent;

/// Prefix of tensorgate's own keys.
const API_KEY_PREFIX: &str = "tg_";

/// A key outside of the header fields for keys.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyBeside<'a> {
    /// Untrusted.
    pub key: Option<&'a str>,
    /// The path without the key.
    pub path: Cow<'a, str>,
}

/// The credential of a head with at most one of the two fields.
pub(crate) fn read<'a>(
    places: &KeyLocations,
    api_key: Option<&'a str>,
    authorization: Option<&'a str>,
) -> Credential<'a> {
    match (api_key, authorization) {
        (None, None) => Credential::None,
        (Some(key), None) => Credential::ApiKey(key),
        (None, Some(value)) => match bearer(value) {
            Some(text) if places.bearer() && is_key(places, text) => Credential::ApiKey(text),
            Some(token) => Credential::Token(token),
            None => Credential::Unknown,
        },
        (Some(_), Some(_)) => Credential::Unknown,
    }
}

/// Whether a bearer text is an API key and not a token.
fn is_key(places: &KeyLocations, text: &str) -> bool {
    text.starts_with(API_KEY_PREFIX) || (places.any_format() && !looks_like_jwt(text))
}

/// The token of `Bearer` (RFC 6750, 2.1: the scheme, spaces, one token).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' '))
        .then_some(token)
}

/// Value of the only cookie with a name, over all `cookie` fields: HTTP/2 allows one field per pair
/// (RFC 9113, 8.2.3).
pub(crate) fn in_cookies<'a>(
    fields: &[&'a [u8]],
    name: &str,
) -> Result<Option<&'a str>, &'static str> {
    let mut found = None;
    let mut quoted = false;
    for pair in fields
        .iter()
        .flat_map(|field| field.split(|byte| *byte == b';'))
    {
        // By RFC 2109 a semicolon in quotes is part of the value.
        quoted |= pair.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
        let (own, value) = split(pair);
        let own = own.trim_ascii();
        if own == name.as_bytes() {
            if found.is_some() {
                return Err("the API key's cookie is sent twice");
            }
            let text = str::from_utf8(value.trim_ascii());
            found = Some(text.map_err(|_| "the key's cookie is not UTF-8")?);
        } else if is_like(own, name) {
            return Err("a cookie's name is ambiguous with the API key's");
        }
    }
    if found.is_some() && quoted {
        return Err("the API key's cookie is within quotes that are not closed");
    }
    Ok(found)
}

/// Value of the only parameter with a name, and the path without it. Other parameters are
/// unchanged.
pub(crate) fn in_query<'a>(path: &'a str, name: &str) -> Result<KeyBeside<'a>, &'static str> {
    let absent = KeyBeside {
        key: None,
        path: Cow::Borrowed(path),
    };
    let Some((bare, query)) = path.split_once('?') else {
        return Ok(absent);
    };
    let mut key = None;
    let mut rest: Vec<&str> = Vec::new();
    for parameter in query.split('&') {
        let mut parts = parameter.split(';').map(|part| split(part.as_bytes()));
        let own = parameter.split_once('=').unwrap_or((parameter, ""));
        if own.0 == name && parts.clone().nth(1).is_none() {
            if key.replace(own.1).is_some() {
                return Err("the API key's parameter is sent twice");
            }
        } else if parts.any(|(part, _)| is_like(part, name)) {
            return Err("a parameter's name is ambiguous with the API key's");
        } else {
            rest.push(parameter);
        }
    }
    if key.is_none() {
        return Ok(absent);
    }
    let path = if rest.is_empty() {
        Cow::Borrowed(bare)
    } else {
        Cow::Owned(format!("{bare}?{}", rest.join("&")))
    };
    Ok(KeyBeside { key, path })
}

/// A name and the text after its first `=`.
fn split(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => (
            pair.get(..at).unwrap_or_default(),
            pair.get(at.saturating_add(1)..).unwrap_or_default(),
        ),
        None => (pair, &[]),
    }
}

/// Maximum levels of escapes in one name. Deeper nesting has no legitimate use.
const MAX_ESCAPES_DEEP: usize = 4;

/// Whether some parser could read one name as the other: by unescaping, ignoring blanks or ignoring
/// case.
fn is_like(own: &[u8], name: &str) -> bool {
    let mut own = own.to_vec();
    let mut deep = 0;
    loop {
        let plain = percent::decoded(&own);
        if plain.len() == own.len() {
            break;
        }
        if deep == MAX_ESCAPES_DEEP {
            return true;
        }
        deep = deep.saturating_add(1);
        own = plain;
    }
    let blank = |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_control() || *byte == b'+';
    own.retain(|byte| !blank(byte));
    own.eq_ignore_ascii_case(name.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "tests")]

    use tensorgate_policy::values::KeyFormat;
    use tensorgate_policy_compiler::raw;
    use tensorgate_policy_compiler::validate::validate;

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
                read(&KeyLocations::USUAL, api_key, authorization),
                expected,
                "{api_key:?} {authorization:?}"
            );
        }
    }

    #[test]
    fn a_bearer_text_is_a_key_or_a_token_where_keys_have_any_format() {
        let key = raw::ApiKey {
            sha256: Some("00".repeat(32)),
            format: KeyFormat::Any,
            ..raw::ApiKey::default()
        };
        let client = raw::Client {
            api_keys: vec![key],
            ..raw::Client::default()
        };
        let raw = raw::Policy {
            version: Some(1),
            clients: [("c".into(), client)].into(),
            ..raw::Policy::default()
        };
        let (policy, _) = validate(&raw).unwrap_or_else(|faults| panic!("{faults:?}"));
        for (text, expected) in [
            ("Bearer sk-live-0123", Credential::ApiKey("sk-live-0123")),
            ("Bearer a", Credential::ApiKey("a")),
            ("Bearer tg_a.b.c", Credential::ApiKey("tg_a.b.c")),
            ("Bearer a.b", Credential::ApiKey("a.b")),
            ("Bearer a.b.c.d.e", Credential::ApiKey("a.b.c.d.e")),
            ("Bearer a.b.c", Credential::Token("a.b.c")),
            ("Bearer a.b.", Credential::Token("a.b.")),
            ("Bearer a b", Credential::Unknown),
            ("Basic sk-live-0123", Credential::Unknown),
        ] {
            let places = policy.listen().key_locations();
            assert_eq!(read(places, None, Some(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_cookie_has_one_spelling_and_occurs_once() {
        let twice = Err("the API key's cookie is sent twice");
        let like = Err("a cookie's name is ambiguous with the API key's");
        let open = Err("the API key's cookie is within quotes that are not closed");
        for (fields, expected) in [
            (&[][..], Ok(None)),
            (&[&b""[..]], Ok(None)),
            (&[b"k=a"], Ok(Some("a"))),
            (&[b"a=1; k=a; b=2"], Ok(Some("a"))),
            (&[b"a=1;k=a"], Ok(Some("a"))),
            (&[b" k = a "], Ok(Some("a"))),
            (&[b"a=1", b"k=a", b"b=2"], Ok(Some("a"))),
            (&[b"k=a=b"], Ok(Some("a=b"))),
            (&[b"k="], Ok(Some(""))),
            (&[b"k"], Ok(Some(""))),
            // Read literally: neither is a key.
            (&[b"k=\"a\""], Ok(Some("\"a\""))),
            (&[b"k=%61"], Ok(Some("%61"))),
            (&[b"a=1, k=a"], Ok(None)),
            (&[b"kk=a; ak=a"], Ok(None)),
            (&[b"a=\xff; k=a"], Ok(Some("a"))),
            (&[b"k=\xff"], Err("the key's cookie is not UTF-8")),
            (&[b"k=a; k=a"], twice),
            (&[b"k=a; a=1; k=b"], twice),
            (&[b"k=a", b"k=a"], twice),
            (&[b"k; k=a"], twice),
            (&[b"K=a"], like),
            (&[b"k=a; K=b"], like),
            (&[b"%6b=a"], like),
            (&[b"%256b=a"], like),
            (&[b"%25256B=a; k=a"], like),
            (&[b"+k=a"], like),
            // Five levels of escapes could hide the name: treated as ambiguous.
            (&[b"%252525252561=a"], like),
            (&[b"a=\"x; k=a; b=y\""], open),
            (&[b"a=\"x", b"k=a", b"b=y\""], open),
            (&[b"a=\"x\"; k=a"], Ok(Some("a"))),
        ] {
            assert_eq!(in_cookies(fields, "k"), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_parameter_has_one_spelling_and_the_rest_stays_as_it_is() {
        let twice = Err("the API key's parameter is sent twice");
        let like = Err("a parameter's name is ambiguous with the API key's");
        let found = |key: &'static str, path: &'static str| Ok((Some(key), path));
        for (path, expected) in [
            ("/a", Ok((None, "/a"))),
            ("/a?", Ok((None, "/a?"))),
            ("/a?b=k", Ok((None, "/a?b=k"))),
            ("/a?kk=1&ak=2", Ok((None, "/a?kk=1&ak=2"))),
            ("/k=a", Ok((None, "/k=a"))),
            ("/a?k=tg_x", found("tg_x", "/a")),
            ("/a?k=tg_x&b=1", found("tg_x", "/a?b=1")),
            ("/a?b=%20+1&k=tg_x&&c", found("tg_x", "/a?b=%20+1&&c")),
            ("/a?&k=tg_x", found("tg_x", "/a?")),
            ("/a?k=tg_x&", found("tg_x", "/a?")),
            ("/a?b;c=1&k=a", found("a", "/a?b;c=1")),
            ("/a?k=", found("", "/a")),
            ("/a?k", found("", "/a")),
            ("/a?k=a=b", found("a=b", "/a")),
            ("/a?k=%74g_x", found("%74g_x", "/a")),
            ("/a?k=a?k=b", found("a?k=b", "/a")),
            ("/a?k=a&k=a", twice),
            ("/a?k&k=a", twice),
            ("/a?k=a;b=1", like),
            ("/a?b=1;k=a", like),
            ("/a?k=a;k=a", like),
            ("/a?K=a", like),
            ("/a?%6b=a", like),
            ("/a?%6B=a&k=a", like),
            ("/a?%256b=a", like),
            ("/a?+k=a", like),
            ("/a?%20k=a", like),
            ("/a?k%00=a", like),
        ] {
            let read = in_query(path, "k");
            let read = read
                .as_ref()
                .map(|it| (it.key, &*it.path))
                .map_err(|it| *it);
            assert_eq!(read, expected, "{path}");
        }
    }
}
