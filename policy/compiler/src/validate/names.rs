//! Syntax of names, versions, digests and file names.
//!
//! Names occur in paths, header fields, log lines, metric labels and bucket keys. The allowed
//! characters have no special meaning in any of these; `@` and `:` are reserved for `model@version`
//! and `group:name`.

use std::collections::BTreeMap;

use tensorgate_policy::policy::BUILTIN;
use tensorgate_policy::report::{Path, all, quote};
use tensorgate_policy::values::unhex;

/// Maximum length of a name, as in the decoders.
pub(super) const MAX_NAME_BYTES: usize = 128;
/// Maximum length of a version.
const MAX_VERSION_BYTES: usize = 64;
/// Maximum length of a file name: Linux's `PATH_MAX` without the terminator.
const MAX_FILE_BYTES: usize = 4095;

/// Name of a client, group, model, backend, handler or grant.
pub(super) fn name(path: &Path, text: &str) -> Option<()> {
    characters(path, text, MAX_NAME_BYTES, b"._/-")?;
    if text
        .split('/')
        .any(|part| part.is_empty() || part.starts_with('.'))
    {
        // Intermediaries normalize `.`, `..` and empty segments of paths.
        path.error(format!(
            "{} has an empty part or one that begins with a dot",
            quote(text)
        ));
        return None;
    }
    Some(())
}

/// Name of a model at a server of OpenAI's API. It is sent in a body alone, and may have a tag, as
/// in `llama3:8b`.
pub(super) fn served_model(path: &Path, text: &str) -> Option<()> {
    match text.split_once(':') {
        Some((base, tag)) => name(path, base).and(version(path, tag)),
        None => name(path, text),
    }
}

/// Checks every entry of a section and its name, so that all faults are reported.
pub(super) fn each<R, T>(
    path: &Path,
    section: &BTreeMap<String, R>,
    mut check: impl FnMut(&Path, &str, &R) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    all(section.iter().map(|(key, raw)| {
        let path = path.key(key);
        let named = name(&path, key);
        let value = check(&path, key, raw);
        named.and(value).map(|value| (key.clone(), value))
    }))
}

/// Name of a tensor or parameter, as the model has it, such as TensorFlow's `input:0`.
pub(super) fn tensor_name(path: &Path, text: &str) -> Option<()> {
    characters(path, text, MAX_NAME_BYTES, b"._/-:")?;
    no_leading_dot(path, text)
}

/// Version of a model: a path segment.
pub(super) fn version(path: &Path, text: &str) -> Option<()> {
    characters(path, text, MAX_VERSION_BYTES, b"._-")?;
    no_leading_dot(path, text)
}

fn no_leading_dot(path: &Path, text: &str) -> Option<()> {
    if text.starts_with('.') {
        return path.fail(format!("{} begins with a dot", quote(text)));
    }
    Some(())
}

/// Maximum length of a route.
const MAX_ROUTE_BYTES: usize = 256;

/// A path of plain segments, which every server reads alike.
pub(super) fn route(path: &Path, text: &str, fix: &str) -> Option<String> {
    let plain = |segment: &str| {
        let unreserved =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        !segment.is_empty()
            && segment.bytes().all(unreserved)
            && !segment.bytes().all(|byte| byte == b'.')
    };
    let segments = text.strip_prefix('/').map(|rest| rest.split('/'));
    if text.len() > MAX_ROUTE_BYTES || !segments.is_some_and(|mut all| all.all(plain)) {
        return path.fail_with_fix(format!(
                "{} is not a plain path of at most {MAX_ROUTE_BYTES} bytes: no query, escapes, empty or dotted segments",
                quote(text)
            ),
            fix,
        );
    }
    Some(text.into())
}

fn characters(path: &Path, text: &str, max_bytes: usize, marks: &[u8]) -> Option<()> {
    if text.is_empty() {
        return path.fail("is empty");
    }
    if text.len() > max_bytes {
        return path.fail_with_fix(
            format!("{} bytes are too long", text.len()),
            format!("at most {max_bytes} bytes"),
        );
    }
    if let Some(strange) = text.chars().find(|character| {
        !character.is_ascii_alphanumeric()
            && !u8::try_from(*character).is_ok_and(|byte| marks.contains(&byte))
    }) {
        let allowed =
            marks
                .iter()
                .map(|mark| char::from(*mark))
                .fold(String::new(), |mut list, mark| {
                    list.push(' ');
                    list.push(mark);
                    list
                });
        return path.fail_with_fix(
            format!(
                "{} has the character {}, which is not allowed",
                quote(text),
                quote(strange.encode_utf8(&mut [0; 4]))
            ),
            format!("only letters, digits and{allowed}"),
        );
    }
    Some(())
}

/// Header fields with a meaning for protocols, the proxy or its environment.
const TAKEN_FIELDS: [&str; 32] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "inference-header-content-length",
    "keep-alive",
    "origin",
    "range",
    "referer",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-client-traceparent",
    "x-http-method",
    "x-method-override",
    "x-request-id",
];
/// Prefixes of further such fields.
const TAKEN_FAMILIES: [&str; 10] = [
    "access-control-",
    "grpc-",
    "proxy-",
    "sec-",
    "x-envoy-",
    "x-forwarded-",
    "x-http-method-",
    "x-original-",
    "x-rewrite-",
    "x-tensorgate-",
];

/// A custom header field in lower case. Underscores are excluded, because some servers read them as
/// dashes.
pub(super) fn header(path: &Path, name: &str, max_bytes: usize) -> Option<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_valid = (1..=max_bytes).contains(&name.len())
        && name.bytes().all(plain)
        && name.starts_with(|first: char| first.is_ascii_lowercase());
    if !is_valid {
        return path.fail_with_fix(
            format!("{} is not a header field's name", quote(name)),
            format!("at most {max_bytes} letters, digits and dashes, a letter first"),
        );
    }
    let family = |start: &&str| name.starts_with(*start);
    if TAKEN_FIELDS.contains(&name) || TAKEN_FAMILIES.iter().any(family) {
        return path.fail_with_fix(
            format!("{} is reserved", quote(name)),
            "a name of its own, such as x-my-name",
        );
    }
    Some(())
}

/// A SHA-256 digest: 64 lower-case hex digits.
pub(super) fn sha256(path: &Path, text: &str) -> Option<[u8; 32]> {
    let digest = unhex(text.as_bytes());
    if digest.is_none() {
        let message = "is not a sha256 digest";
        if unhex::<32>(text.to_ascii_lowercase().as_bytes()).is_some() {
            path.error_with_fix(message, text.to_ascii_lowercase());
        } else {
            path.error_with_fix(message, "64 lower-case hex digits");
        }
    }
    digest
}

/// Installed handlers that need configuration and cannot be used directly.
const TO_CONFIGURE: [&str; 1] = ["text-classifier"];

/// A component: a file, relative to the policy, or `builtin:` and the name of an installed one.
pub(super) fn component(path: &Path, text: &str) -> Option<()> {
    let Some(name) = text.strip_prefix(BUILTIN) else {
        return file(path, text);
    };
    let plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    let is_valid = (1..=MAX_VERSION_BYTES).contains(&name.len()) && name.bytes().all(plain);
    if !is_valid {
        return path.fail_with_fix(
            format!("{} is not the name of a builtin handler", quote(name)),
            "lower-case letters, digits, - and _, as in builtin:tabular",
        );
    }
    if TO_CONFIGURE.contains(&name) {
        return path.fail_with_fix(
            format!("{BUILTIN}{name} has no tokenizer: it must be configured first"),
            format!("run `tensorgate handler configure {BUILTIN}{name} --file tokenizer.json -o text.wasm`, and name text.wasm with the digest that it prints"),
        );
    }
    Some(())
}

/// A file or folder, relative to the policy.
pub(super) fn file(path: &Path, text: &str) -> Option<()> {
    if text.is_empty() {
        return path.fail("is empty");
    }
    if text.len() > MAX_FILE_BYTES || text.chars().any(char::is_control) {
        return path.fail("is not a file name: it is too long, or has control characters");
    }
    Some(())
}
