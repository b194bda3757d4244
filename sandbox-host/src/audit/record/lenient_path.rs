//! The path that a lenient server reads: it may decode escapes, merge slashes and resolve dot
//! segments.

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
