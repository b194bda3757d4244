//! Claims of a verified token as header fields. A claim without an unambiguous field value is
//! omitted.

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;

use tensorgate_policy::policy::{ClaimHeader, Issuer};

use crate::claims::find;
use crate::json::{Json, Object};

/// Maximum size of a value.
const MAX_VALUE_BYTES: usize = 2048;
/// Maximum size of all names and values, for the signed context and the token cache.
pub const MAX_BYTES: usize = 4096;
/// Up to this number every integer is an exact double.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Header fields, in the policy's order.
pub type Fields = Vec<(Arc<str>, String)>;

/// Claim rules of an issuer.
#[derive(Debug)]
pub struct ClaimHeaders(Vec<(ClaimHeader, Arc<str>)>);

impl ClaimHeaders {
    /// The rules of one issuer.
    pub fn new(issuer: &Issuer) -> Self {
        let rules = issuer.claim_headers().iter();
        Self(
            rules
                .map(|rule| (rule.clone(), Arc::from(rule.header())))
                .collect(),
        )
    }

    /// Header fields of a token's claims.
    pub fn fields(&self, claims: &Object) -> Fields {
        let mut left = MAX_BYTES;
        let mut fields = Vec::new();
        for (rule, name) in &self.0 {
            let Some(value) = find(claims, rule.claim()).and_then(value) else {
                continue;
            };
            let bytes = name.len().saturating_add(value.len());
            let Some(rest) = left.checked_sub(bytes) else {
                continue;
            };
            left = rest;
            fields.push((Arc::clone(name), value));
        }
        fields
    }
}

/// A claim as a field value.
fn value(claim: &Json) -> Option<String> {
    let value = match claim {
        // A text with a comma would look like a list.
        Json::Text(text) if text.contains(',') => return None,
        Json::Text(text) => text.clone(),
        Json::Bool(truth) => truth.to_string(),
        Json::Integer(number) => number.to_string(),
        Json::Float(number) if number % 1.0 == 0.0 && number.abs() <= MAX_EXACT_INTEGER => {
            // No negative zero.
            (number + 0.0).to_string()
        }
        Json::List(list) => {
            // An entry with a comma would look like two.
            let is_one = |text: &&str| fits(text) && !text.contains(',');
            let entries = list.iter().map(|entry| entry.text().filter(is_one));
            entries.collect::<Option<Vec<_>>>()?.join(",")
        }
        Json::Float(_) | Json::Object(_) | Json::Other => return None,
    };
    fits(&value).then_some(value)
}

/// Whether a text is unambiguous: printable ASCII without outer blanks (RFC 9110, 5.5).
fn fits(text: &str) -> bool {
    (1..=MAX_VALUE_BYTES).contains(&text.len())
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && text.trim_matches(' ').len() == text.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use alloc::format;

    fn check(json: &str, expected: Option<&str>) {
        let object = Object::parse(format!("{{\"a\":{json}}}").as_bytes()).unwrap();
        let found = object.get("a").and_then(value);
        let start: String = json.chars().take(60).collect();
        assert_eq!(found.as_deref(), expected, "{start}");
    }

    #[test]
    fn a_claim_is_a_field_where_it_has_one_spelling() {
        check("\"ds\"", Some("ds"));
        check("\"a b; c\"", Some("a b; c"));
        check("7", Some("7"));
        check("-7", Some("-7"));
        check("18446744073709551615", Some("18446744073709551615"));
        check("1.0", Some("1"));
        check("-0.0", Some("0"));
        check("-9007199254740992", Some("-9007199254740992"));
        check("true", Some("true"));
        check("false", Some("false"));
        check("[\"ds\"]", Some("ds"));
        check("[\"ds\",\"eu west\"]", Some("ds,eu west"));
        let long = "a".repeat(MAX_VALUE_BYTES);
        check(&format!("\"{long}\""), Some(&long));
        for json in [
            "null",
            "\"\"",
            "[]",
            "{}",
            "{\"b\":\"c\"}",
            "1.5",
            "1e300",
            "-9007199254740994",
            "[\"ds\",1]",
            "[\"ds\",\"\"]",
            "[\"ds\",\"a,b\"]",
            "\"a,b\"",
            "\"a b, c\"",
            "[\"ds\",[\"eu\"]]",
            "[\"ds\",\"eu \"]",
            "\" ds\"",
            "\"ds \"",
            "\"d\\ns\"",
            "\"d\\r\\nx-user: root\"",
            "\"d\\u0000s\"",
            "\"d\\ts\"",
            "\"d\\u007fs\"",
            "\"d\u{e9}s\"",
            &format!("\"{long}a\""),
        ] {
            check(json, None);
        }
    }
}
