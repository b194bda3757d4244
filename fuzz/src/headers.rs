//! Fuzz target: request headers, one `name:value` a line. Order and case of the fields must not
//! matter. The gate's own fields and repeated fields must be rejected. A route must consist of
//! exactly the bytes of the path.

use std::sync::LazyLock;

use tensorgate_policy::Policy;
use tensorgate_policy::policy::Templates;
use tensorgate_policy::request::{Credential, Head, Identity, Operation, Protocol, Route};
use tensorgate_wire::headers::{OWN_PREFIX, ReadHead};

use crate::support::policy;

type Field = (Vec<u8>, Vec<u8>);

/// Runs one input. The first byte says whether a body follows.
pub fn run(data: &[u8]) {
    let Some((flags, lines)) = data.split_first() else {
        return;
    };
    let end_of_stream = flags & 1 == 1;
    let fields = fields(lines);
    keys(&fields, end_of_stream);
    let (head, method, path, credential) = read(&fields, end_of_stream);

    let mut turned: Vec<Field> = fields
        .iter()
        .map(|(name, value)| (name.to_ascii_uppercase(), value.clone()))
        .collect();
    turned.reverse();
    let (other, other_method, other_path, _) = read(&turned, end_of_stream);
    assert_eq!(head.ambiguous.is_some(), other.ambiguous.is_some());
    assert_eq!(head.header_bytes, other.header_bytes);
    assert_eq!(head.header_count, fields.len());
    let Head {
        ambiguous: None, ..
    } = head
    else {
        return;
    };
    assert_eq!((&method, &path), (&other_method, &other_path));
    assert_eq!(head.route, other.route);
    assert_eq!(head.content_type, other.content_type);
    assert_eq!(head.content_length, other.content_length);
    assert_eq!(head.encoding, other.encoding);
    assert!(!method.is_empty() && !path.is_empty());
    unambiguous(&fields, &credential);
    route(&head.route, &method, &path);
}

/// A key in a cookie or a query must be read once and removed from the path. The rest must be read
/// as without the key.
fn keys(fields: &[Field], end_of_stream: bool) {
    static POLICY: LazyLock<Policy> = LazyLock::new(|| {
        policy(r#"{"version": 1, "listen": {"api_key": {"cookie": "k", "query": "k"}}}"#)
    });
    let slices = fields.iter();
    let slices = slices.map(|(name, value)| (name.as_slice(), value.as_slice()));
    let read = ReadHead::read_keys(slices, end_of_stream, POLICY.listen().key_locations());
    let plain = ReadHead::read(fields, end_of_stream);
    let (key, in_path, path) = (read.credential, read.key_in_path, read.path.clone());
    let (complete, of_field) = (plain.path.clone(), plain.credential);
    let (head, without) = (
        read.into_head(Identity::Missing, POLICY.templates()),
        plain.into_head(Identity::Missing, POLICY.templates()),
    );
    assert_eq!(head.header_bytes, without.header_bytes);
    if head.ambiguous.is_some() {
        return;
    }
    let names = |path: &str| {
        let query = path
            .split_once('?')
            .map_or("", |(_, query)| query)
            .to_owned();
        let named = |it: &&str| it.split('=').next() == Some("k");
        query.split('&').filter(named).count()
    };
    assert_eq!(names(&path), 0, "{path}");
    // A query that is ignored is not part of the path.
    if complete.contains('?') {
        assert_eq!(names(&complete), usize::from(in_path), "{complete}");
    }
    if in_path {
        assert!(matches!(key, Credential::ApiKey(_)) && of_field == Credential::None);
    } else {
        assert_eq!(path, complete);
        assert_eq!(head.route, without.route);
    }
}

/// `name:value` lines; a name may begin with a colon.
pub fn fields(lines: &[u8]) -> Vec<Field> {
    lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let colon = line
                .iter()
                .skip(1)
                .position(|byte| *byte == b':')
                .map_or(line.len(), |at| at + 1);
            let (name, value) = line.split_at(colon);
            (
                name.to_vec(),
                value.strip_prefix(b":").unwrap_or_default().to_vec(),
            )
        })
        .collect()
}

fn read(fields: &[Field], end_of_stream: bool) -> (Head<'_>, String, String, String) {
    let read = ReadHead::read(fields, end_of_stream);
    let (method, path) = (read.method.to_owned(), read.path.clone().into_owned());
    let credential = match read.credential {
        Credential::None => String::new(),
        other => format!("{other:?}"),
    };
    (
        read.into_head(Identity::Missing, &Templates::default()),
        method,
        path,
        credential,
    )
}

fn unambiguous(fields: &[Field], credential: &str) {
    let count = |name: &str| {
        fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))
            .count()
    };
    for name in [
        ":method",
        ":path",
        ":authority",
        "host",
        "content-type",
        "content-length",
        "transfer-encoding",
        "content-encoding",
        "authorization",
        "x-api-key",
        "x-request-id",
        "inference-header-content-length",
    ] {
        assert!(count(name) <= 1, "{name} is repeated");
    }
    assert!(count("authorization") + count("x-api-key") <= 1);
    assert!(count("content-length") + count("transfer-encoding") <= 1);
    if count("authorization") + count("x-api-key") == 0 {
        assert_eq!(credential, "", "a credential out of nowhere");
    }
    for (name, value) in fields {
        assert!(
            !name.to_ascii_lowercase().starts_with(OWN_PREFIX),
            "a field of the gate's own"
        );
        assert!(!value.contains(&b'\r') && !value.contains(&0));
    }
}

/// The names in a route must be the bytes of the path.
fn route(route: &Route<'_>, method: &str, path: &str) {
    let Route::Model {
        protocol: Protocol::OipRest,
        operation,
        model: Some(model),
        version,
    } = route
    else {
        return;
    };
    let version = version
        .as_deref()
        .map(|version| format!("/versions/{version}"))
        .unwrap_or_default();
    let (expected, end) = match operation {
        Operation::Infer | Operation::Stream => ("POST", "/infer"),
        Operation::Metadata => ("GET", ""),
        Operation::Ready => ("GET", "/ready"),
        Operation::Statistics => ("GET", "/stats"),
    };
    assert_eq!(method, expected);
    assert_eq!(path, format!("/v2/models/{model}{version}{end}"));
    assert!(!model.contains(['/', '%', '?', '#', '\\']), "{model}");
}
