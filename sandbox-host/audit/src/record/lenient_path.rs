//! The path that a lenient server reads: it may decode escapes, merge slashes and resolve dot
//! segments.

use tensorgate_wire::percent;

/// How often escapes are decoded at most. Servers behind each other may decode once each.
const MAX_DECODES: usize = 3;

/// The path that a lenient server reads, in lower case: without escapes, empty segments, dot
/// segments, and parameters of segments (`;…`).
pub fn lenient_path(path: &str) -> String {
    let mut path = path.to_owned();
    for _ in 0..MAX_DECODES {
        if !path.contains('%') {
            break;
        }
        path = String::from_utf8_lossy(&percent::decoded(path.as_bytes())).into_owned();
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
    let mut lenient = String::with_capacity(path.len());
    for segment in segments {
        lenient.push('/');
        lenient.push_str(segment);
    }
    if lenient.is_empty() {
        lenient.push('/');
    }
    // Last, because escapes may stand for capitals.
    lenient.make_ascii_lowercase();
    lenient
}
