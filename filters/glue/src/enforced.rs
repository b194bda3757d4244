//! What the proxy itself enforces on a stream, as the listener that carries it says: in the name of its filter chain, which `render`
//! writes. After a reload a connection stays on the listener that took it, with that one's bounds, while its filters are the new policy's.
//! Decides nothing; where the name says nothing, the policy's own numbers count.

use crate::host::Proxy;

/// How such a name begins.
const PREFIX: &str = "tensorgate";
const STREAM_MS: &str = "stream_ms";
const HOLD_BYTES: &str = "hold_bytes";

/// Bounds of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforced {
    /// The longest that it may last, milliseconds.
    pub stream_ms: Option<u64>,
    /// What of its body a filter may hold, bytes.
    pub hold_bytes: Option<usize>,
}

impl Enforced {
    /// The name of a filter chain that enforces these.
    pub fn name(stream_ms: u64, hold_bytes: usize) -> String {
        format!("{PREFIX} {STREAM_MS}={stream_ms} {HOLD_BYTES}={hold_bytes}")
    }

    /// Asks the proxy.
    pub fn read(proxy: &mut dyn Proxy) -> Self {
        let name = proxy.property(&["xds", "filter_chain_name"]);
        let name = name.ok().flatten().unwrap_or_default();
        str::from_utf8(&name).map_or_else(|_| Self::default(), Self::parse)
    }

    fn parse(name: &str) -> Self {
        let mut words = name.split(' ');
        if words.next() != Some(PREFIX) {
            return Self::default();
        }
        let mut enforced = Self::default();
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name {
                STREAM_MS => enforced.stream_ms = value.parse().ok(),
                HOLD_BYTES => enforced.hold_bytes = value.parse().ok(),
                _ => {}
            }
        }
        enforced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_is_enforced_and_any_other_says_nothing() {
        let of = |stream_ms, hold_bytes| Enforced {
            stream_ms,
            hold_bytes,
        };
        let name = Enforced::name(60_000, 1 << 20);
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
            assert_eq!(Enforced::parse(name), expected, "{name}");
        }
    }
}
