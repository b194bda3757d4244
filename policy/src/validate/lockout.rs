//! The lockout rule for wrong credentials.

use super::report::Path;
use crate::limits::lockout::Lockout;
use crate::raw;

/// Defaults.
const DEFAULT: [u64; 3] = [10, 60, 300];
/// Maximum failures: beyond it a lock would never occur.
const MAX_FAILURES: u64 = 10_000;
/// Maximum window: an hour.
const MAX_WINDOW_S: u64 = 3_600;
/// Maximum lock: a day.
const MAX_FOR_S: u64 = 86_400;

pub(super) fn lockout(path: &Path, raw: &raw::Lockout, listen: &raw::Listen) -> Option<Lockout> {
    // A gate that terminates TLS is called directly by its clients.
    if listen.trusted_hops == 0 && listen.tls.is_none() {
        path.warn(
            "behind a proxy or a balancer all callers are one source, and share one lock",
            "listen.trusted_hops: the proxies in front",
        );
    }
    let [failures, window_s, for_s] = DEFAULT;
    let bounded = |name: &str, value: Option<u64>, default, most, unit| {
        path.field(name)
            .within(value.unwrap_or(default), 1, most, unit)
    };
    let failures = bounded("failures", raw.failures, failures, MAX_FAILURES, "failures");
    let window_s = bounded("window_s", raw.window_s, window_s, MAX_WINDOW_S, "s");
    let for_s = bounded("for_s", raw.for_s, for_s, MAX_FOR_S, "s");
    Some(Lockout {
        failures: failures?,
        window_s: window_s?,
        for_s: for_s?,
    })
}
