//! The form of a `traceparent` (W3C Trace Context, version 00). A client or a proxy sets it. It is
//! only recorded, and decides nothing.

/// The header field.
pub const TRACEPARENT: &str = "traceparent";

/// The only version that is known.
const VERSION: &str = "00";
/// Hex digits of a trace ID.
const TRACE_ID_DIGITS: usize = 32;
/// Hex digits of a span ID.
const SPAN_ID_DIGITS: usize = 16;
/// Hex digits of the flags.
const FLAGS_DIGITS: usize = 2;

/// The IDs of a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent<'t> {
    /// The trace ID, 32 hex digits.
    pub trace_id: &'t str,
    /// The ID of the sender's span, 16 hex digits.
    pub span_id: &'t str,
    /// The flags, 2 hex digits.
    pub flags: &'t str,
}

impl<'t> TraceParent<'t> {
    /// Reads `00-TRACE-SPAN-FLAGS` with lower-case digits. IDs of zeros are invalid. Every other
    /// text is not recorded, so a text of a client is never longer than 55 bytes.
    pub fn read(text: &'t str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace_id) = (parts.next()?, parts.next()?);
        let (span_id, flags) = (parts.next()?, parts.next()?);
        let is_valid = version == VERSION
            && parts.next().is_none()
            && is_id(trace_id, TRACE_ID_DIGITS)
            && is_id(span_id, SPAN_ID_DIGITS)
            && is_hex(flags, FLAGS_DIGITS);
        is_valid.then_some(Self {
            trace_id,
            span_id,
            flags,
        })
    }
}

/// Whether a text is an ID of this many digits.
fn is_id(text: &str, digits: usize) -> bool {
    is_hex(text, digits) && text.bytes().any(|digit| digit != b'0')
}

/// Whether a text is this many lower-case hex digits.
fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn only_version_00_with_valid_ids_is_read() {
        let read = TraceParent {
            trace_id: TRACE,
            span_id: SPAN,
            flags: "01",
        };
        let valid = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(TraceParent::read(&valid), Some(read));
        let zeros = "0".repeat(32);
        for bad in [
            String::new(),
            format!("01-{TRACE}-{SPAN}-01"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01,{valid}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{TRACE}-00f067aa0ba902b\u{1b}-01"),
            format!(" {valid}"),
            "-".repeat(55),
        ] {
            assert_eq!(TraceParent::read(&bad), None, "{bad:?}");
        }
    }
}
