//! Paths at which inference servers load models, change settings or map memory.
//!
//! The gate routes exact paths only, so any other spelling of such a path is rejected. It is an
//! attempt all the same: a server may decode escapes, merge slashes and resolve dot segments. So
//! what counts is the path that such a server would read.

/// Parts of such paths. Compared in lower case.
const PARTS: [&str; 10] = [
    "/v2/repository",
    "repositorymodel",
    "repositoryindex",
    "managementapisservice",
    "handlereloadconfigrequest",
    "/v2/logging",
    "logsettings",
    "/trace/setting",
    "tracesetting",
    "sharedmemory",
];
/// The management interface of TorchServe, where these methods change models.
const TORCHSERVE_MODELS: &str = "/models";
/// These methods.
const CHANGES: [&str; 3] = ["POST", "PUT", "DELETE"];
/// How often escapes are decoded at most. Servers behind each other may decode once each.
const MAX_DECODES: usize = 3;

/// Whether a request with this method and path is one for the management of a server.
pub(super) fn is_management(method: Option<&str>, path: &str) -> bool {
    let path = canonical(path);
    let changes = || method.is_some_and(|method| CHANGES.contains(&method));
    let is_models = path
        .strip_prefix(TORCHSERVE_MODELS)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    PARTS.iter().any(|part| path.contains(part)) || (is_models && changes())
}

/// The path that a lenient server reads, in lower case: without escapes, empty segments, dot
/// segments, and parameters of segments (`;…`).
fn canonical(path: &str) -> String {
    let mut path = path.to_ascii_lowercase();
    for _ in 0..MAX_DECODES {
        if !path.contains('%') {
            break;
        }
        path = decode(&path);
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split(['/', '\\']) {
        let segment = segment.split(';').next().unwrap_or_default();
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    let mut canonical = String::with_capacity(path.len());
    for segment in segments {
        canonical.push('/');
        canonical.push_str(segment);
    }
    canonical.make_ascii_lowercase();
    canonical
}

/// Decodes each escape (`%2f`) once. Others stay as they are.
fn decode(path: &str) -> String {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.split_at_checked(2).filter(|_| *first == b'%');
        let byte = escaped.and_then(|(digits, after)| Some((byte_of(digits)?, after)));
        let (byte, after) = byte.unwrap_or((*first, after));
        decoded.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The byte of two hex digits.
fn byte_of(digits: &[u8]) -> Option<u8> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_management_is_one_in_each_protocol() {
        for (method, path) in [
            ("POST", "/v2/repository/models/m/load"),
            (
                "POST",
                "/inference.GRPCInferenceService/RepositoryModelLoad",
            ),
            ("POST", "/v2/cudasharedmemory/region/r/register"),
            ("POST", "/v2/models/m/trace/setting"),
            ("DELETE", "/models/second"),
            ("POST", "/models"),
            (
                "POST",
                "/org.pytorch.serve.grpc.management.ManagementAPIsService/ListModels",
            ),
        ] {
            assert!(is_management(Some(method), path), "{method} {path}");
        }
        for (method, path) in [
            ("POST", "/v2/models/repository/infer"),
            ("GET", "/models"),
            ("POST", "/modelsort"),
            ("GET", "/metrics"),
            ("POST", "/v2/repository/../models/m/infer"),
        ] {
            assert!(!is_management(Some(method), path), "{method} {path}");
        }
    }

    #[test]
    fn another_spelling_of_the_path_is_the_same_attempt() {
        for path in [
            "//V2/Repository/index",
            "/v2//repository///index",
            "/v2/%72epository/index",
            "/v2%2Frepository%2findex",
            "/v2/%2572epository/index",
            "/%56%32/REPOSITORY/index",
            "/v2/models/../repository/index",
            "/x/%2e%2e/v2/./repository/index",
            "/v2\\repository\\index",
            "/v2;a=b/repository;c/index",
            "/v2/models/m/%74race//setting",
        ] {
            assert!(is_management(Some("POST"), path), "{path}");
        }
        for path in ["/%2F/%6dodels/m", "//models", "/./models;x/m"] {
            assert!(is_management(Some("DELETE"), path), "{path}");
            assert!(!is_management(Some("GET"), path), "{path}");
        }
        for path in ["%", "/%zz/%2", "/%+2f", "", "/../.."] {
            assert!(!is_management(Some("POST"), path), "{path}");
        }
    }
}
