//! Limits that the listener of a stream enforces. `render` writes these limits into the name of the
//! filter chain.
//!
//! After a reload a connection stays on the listener that accepted it, with the limits of the old
//! policy, while the filters use the new policy. If the name has no limits, the policy's own limits
//! apply.

use crate::host::Proxy;

/// Prefix of such a filter chain name.
const PREFIX: &str = "tensorgate";
const STREAM_MS: &str = "stream_ms";
const HOLD_BYTES: &str = "hold_bytes";

/// Limits of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerBounds {
    /// Maximum duration of the stream, in milliseconds.
    pub stream_ms: Option<u64>,
    /// Body bytes that a filter may buffer.
    pub hold_bytes: Option<usize>,
}

impl ListenerBounds {
    /// Name of a filter chain that enforces these limits.
    pub fn name(stream_ms: u64, hold_bytes: usize) -> String {
        format!("{PREFIX} {STREAM_MS}={stream_ms} {HOLD_BYTES}={hold_bytes}")
    }

    /// Reads the limits from the proxy.
    pub fn read(proxy: &mut dyn Proxy) -> Self {
        let name = proxy.property(&["xds", "filter_chain_name"]);
        let name = name.ok().flatten().unwrap_or_default();
        str::from_utf8(&name).map_or_else(|_| Self::default(), Self::parse)
    }

    /// So many body bytes, or as many as the listener of this stream lets a filter buffer.
    pub(crate) fn within_listener(proxy: &mut dyn Proxy, bytes: usize) -> usize {
        let of_listener = Self::read(proxy).hold_bytes;
        of_listener.map_or(bytes, |hold_bytes| hold_bytes.min(bytes))
    }

    fn parse(name: &str) -> Self {
        let mut words = name.split(' ');
        if words.next() != Some(PREFIX) {
            return Self::default();
        }
        let mut bounds = Self::default();
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name {
                STREAM_MS => bounds.stream_ms = value.parse().ok(),
                HOLD_BYTES => bounds.hold_bytes = value.parse().ok(),
                _ => {}
            }
        }
        bounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_bounds_are_read_from_the_name_or_unknown() {
        let of = |stream_ms, hold_bytes| ListenerBounds {
            stream_ms,
            hold_bytes,
        };
        let name = ListenerBounds::name(60_000, 1 << 20);
        assert_eq!(name, "tensorgate stream_ms=60000 hold_bytes=1048576");
        for (name, expected) in [
            (name.as_str(), of(Some(60_000), Some(1 << 20))),
            ("tensorgate hold_bytes=7", of(None, Some(7))),
            (
                "tensorgate stream_ms=18446744073709551616 x=1",
                of(None, None),
            ),
            ("tensorgate stream_ms=-1", of(None, None)),
            ("tensorgate", of(None, None)),
            ("tensorgates stream_ms=1", of(None, None)),
            ("stream_ms=1", of(None, None)),
            ("", of(None, None)),
        ] {
            assert_eq!(ListenerBounds::parse(name), expected, "{name}");
        }
    }
}
