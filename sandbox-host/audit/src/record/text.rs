//! The texts of records. Each is limited in length, one line, and without characters that change
//! how a terminal shows it.

use tensorgate_policy::denial::{MAX_SHADOW_DETAIL_BYTES, Shadowed};
use tensorgate_policy::values::safe_text::printable_prefix;

use super::lenient_path::lenient_path;

/// The longest path in bytes. The query is never written.
pub const MAX_PATH_BYTES: usize = 512;
/// The longest method in bytes, longer than any registered one.
pub const MAX_METHOD_BYTES: usize = 32;
/// The longest cause in bytes, as in the filter's own log.
pub const MAX_DETAIL_BYTES: usize = 1024;
/// The longest policy name, credential name or detail of Envoy, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// The longest request ID in bytes. The gate's are UUIDs.
pub const MAX_ID_BYTES: usize = 64;
/// The longest `x-request-id` of a client in bytes.
pub const MAX_CLIENT_ID_BYTES: usize = tensorgate_wire::limits::MAX_REQUEST_ID_BYTES;

/// Cleans a denial in shadow mode for a record.
pub fn clean_shadowed(shadowed: &Shadowed) -> Shadowed {
    Shadowed {
        reason: printable_prefix(&shadowed.reason, MAX_NAME_BYTES),
        detail: printable_prefix(&shadowed.detail, MAX_SHADOW_DETAIL_BYTES),
    }
}

/// Cleans a path for a record. The query may have anything and is removed. A path that is too long
/// may hide its end behind parts that a lenient server leaves out, so it is written without them.
pub fn path(text: &str) -> String {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let path = text.get(..end).unwrap_or_default();
    if path.len() > MAX_PATH_BYTES {
        printable_prefix(&lenient_path(path), MAX_PATH_BYTES)
    } else {
        printable_prefix(path, MAX_PATH_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_printable_and_without_its_query() {
        for (text, expected) in [
            ("/v2/models/m/infer?key=tg_secret", "/v2/models/m/infer"),
            ("/a#key", "/a"),
            ("?x", ""),
            ("/plain", "/plain"),
            (
                "/\u{1b}[2J\u{200b}\u{202e}\n",
                "/\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}",
            ),
        ] {
            assert_eq!(path(text), expected);
        }
    }

    #[test]
    fn a_path_that_is_too_long_is_written_without_its_padding() {
        let padding = "a".repeat(MAX_PATH_BYTES);
        assert_eq!(path(&format!("/{padding}/../v2/%6D")), "/v2/m");
        assert_eq!(path(&format!("/{padding}")).len(), MAX_PATH_BYTES);
        assert_eq!(path(&"/".repeat(600)), "/");
        assert_eq!(path("/a/../B%2f"), "/a/../B%2f");
    }
}
