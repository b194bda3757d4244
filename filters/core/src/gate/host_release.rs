//! What a host of another release says of itself when it rejects a request: it does not understand
//! this filter. Its response is the caller's; the log names both releases.

use tensorgate_wire::context::{RELEASE_TRAILER, Release};

use crate::host::{Level, Proxy};
use crate::root::GateRoot;

/// How often a worker logs it, in nanoseconds.
const LOG_INTERVAL_NS: u64 = 60_000_000_000;

/// Handles the response trailers. What a host says to the filter is always removed.
pub(super) fn remove_trailer(root: &GateRoot, proxy: &mut dyn Proxy) {
    match proxy.take_response_trailer(RELEASE_TRAILER) {
        Ok(Some(text)) => log_mismatch(root, proxy, &text),
        Ok(None) => {}
        Err(fault) => {
            let line = format!("a trailer of the host cannot be removed: {fault}");
            proxy.log(Level::Error, &line);
        }
    }
}

/// Logs which release the host is, unless this worker has done so within a minute. What no key of
/// the host signed is ignored: an upstream without the key says nothing here.
fn log_mismatch(root: &GateRoot, proxy: &mut dyn Proxy, text: &str) {
    let host = (root.host_key()).and_then(|key| Release::of_host(text, key));
    let (Some(host), Ok(now)) = (host, proxy.now()) else {
        return;
    };
    let now_ns = now.monotonic_ns;
    let last_ns = root.mismatch_logged_ns.get();
    if last_ns.is_some_and(|last_ns| now_ns.saturating_sub(last_ns) < LOG_INTERVAL_NS) {
        return;
    }
    root.mismatch_logged_ns.set(Some(now_ns));
    let cause = Release::mismatch(&Release::own(), &host);
    proxy.log(Level::Error, &format!("the host rejects requests: {cause}"));
}
