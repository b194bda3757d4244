//! Authentication challenges of a registry: `WWW-Authenticate` (RFC 9110, section 11.6.1). Basic
//! and Bearer are supported.

/// A supported authentication scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from a token server.
    Bearer {
        /// URL of the token server.
        realm: String,
        /// The service that the token is for.
        service: Option<String>,
    },
}

/// The first supported challenge; Bearer is preferred over Basic.
pub fn read<'f>(fields: impl Iterator<Item = &'f str>) -> Option<Challenge> {
    let mut basic = false;
    for field in fields {
        let (scheme, rest) = field.trim().split_once(' ').unwrap_or((field.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            basic = true;
        }
        if scheme.eq_ignore_ascii_case("bearer") {
            let (mut realm, mut service) = (None, None);
            for (name, value) in parameters(rest) {
                match name.to_ascii_lowercase().as_str() {
                    "realm" => realm = Some(value),
                    "service" => service = Some(value),
                    _ => {}
                }
            }
            if let Some(realm) = realm {
                return Some(Challenge::Bearer { realm, service });
            }
        }
    }
    basic.then_some(Challenge::Basic)
}

/// Parameters of the form `name="value", name=value`. Parsing stops at the first malformed one.
fn parameters(mut text: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    while let Some((name, rest)) = text.split_once('=') {
        let name = name.trim_start_matches([',', ' ']).trim();
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut value = String::new();
                let mut characters = quoted.char_indices();
                let end = loop {
                    match characters.next() {
                        Some((at, '"')) => break Some(at),
                        Some((_, '\\')) => value.extend(characters.next().map(|(_, c)| c)),
                        Some((_, c)) => value.push(c),
                        None => break None,
                    }
                };
                let Some(after) = end.and_then(|at| quoted.get(at..)?.strip_prefix('"')) else {
                    return found;
                };
                (value, after)
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (value, after) = rest.split_at(end);
                (value.trim().to_owned(), after)
            }
        };
        found.push((name, value));
        text = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_in_every_valid_form() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        for (fields, expected) in [
            (
                &[r#"Bearer realm="https://a.example/token",service="r.example",scope="x""#][..],
                bearer("https://a.example/token", Some("r.example")),
            ),
            (
                &[r#"Basic realm="r""#, r#"bearer service=s, realm="a\"b,c""#],
                bearer("a\"b,c", Some("s")),
            ),
            (&["BASIC"], Some(Challenge::Basic)),
            (&[r#"Bearer realm="never ends"#], None),
            (&["Negotiate", ""], None),
            (&[], None),
        ] {
            assert_eq!(read(fields.iter().copied()), expected, "{fields:?}");
        }
    }
}
