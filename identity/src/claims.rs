//! Claims of a verified token: where one is, and the end user that one names.

use alloc::string::{String, ToString as _};

use tensorgate_policy::policy::{ClaimPath, Issuer};

use crate::json::{Json, Object};

/// Maximum size of a user's name. OpenID Connect allows a `sub` of 255 characters.
const MAX_USER_BYTES: usize = 256;

/// An end user of a client: the value of the claim that the token's issuer has for users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndUser {
    /// Name of the issuer in the policy. Two issuers may have users of one name.
    pub issuer: String,
    /// The claim's value.
    pub name: String,
}

/// The end user of a token. `None` if its issuer names none, or the claim does not name exactly
/// one: such callers share one quota.
pub fn end_user(claims: &Object, issuer: &Issuer) -> Option<EndUser> {
    let name = user_name(find(claims, issuer.user_claim()?)?)?;
    Some(EndUser {
        issuer: issuer.name().into(),
        name,
    })
}

/// A user's name, which is compared byte for byte (RFC 7519, 4.1.2): without folding of case and
/// without normalisation of Unicode.
fn user_name(claim: &Json) -> Option<String> {
    let name = match claim {
        Json::Text(text) => text.clone(),
        Json::Integer(number) => number.to_string(),
        // A list names several, and other numbers have several spellings.
        Json::Bool(_) | Json::Float(_) | Json::List(_) | Json::Object(_) | Json::Other => {
            return None;
        }
    };
    (1..=MAX_USER_BYTES).contains(&name.len()).then_some(name)
}

/// The claim with that name, or at that path. A token with both is ambiguous.
pub fn find<'c>(claims: &'c Object, path: &ClaimPath) -> Option<&'c Json> {
    let top_level = claims.get(path.name());
    if path.keys().len() == 1 {
        return top_level;
    }
    let (first, rest) = path.keys().split_first()?;
    let nested = claims.get(first).and_then(|outermost| {
        rest.iter().try_fold(outermost, |value, key| match value {
            Json::Object(object) => object.get(key),
            _ => None,
        })
    });
    match (top_level, nested) {
        (Some(_), Some(_)) => None,
        (top_level, nested) => top_level.or(nested),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use alloc::format;

    #[test]
    fn a_text_or_an_integer_names_a_user() {
        let longest = "a".repeat(MAX_USER_BYTES);
        for (json, expected) in [
            ("\"ada\"", Some("ada")),
            ("\"Ada\"", Some("Ada")),
            ("\" \"", Some(" ")),
            ("\"d\u{e9}\"", Some("d\u{e9}")),
            ("\"7\"", Some("7")),
            ("7", Some("7")),
            ("18446744073709551615", Some("18446744073709551615")),
            (&format!("\"{longest}\""), Some(longest.as_str())),
            (&format!("\"{longest}a\""), None),
            ("\"\"", None),
            ("-7", None),
            ("7.0", None),
            ("true", None),
            ("null", None),
            ("[\"ada\"]", None),
            ("{\"id\":\"ada\"}", None),
        ] {
            let object = Object::parse(format!("{{\"a\":{json}}}").as_bytes()).unwrap();
            let found = object.get("a").and_then(user_name);
            assert_eq!(found.as_deref(), expected, "{json}");
        }
    }
}
