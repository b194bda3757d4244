//! Numbers what only the proxy's access log tells of, so that whoever keeps the log sees what never arrived. Decides nothing about
//! requests.
//!
//! An answer of the host's is in the log before it leaves, by the host's own hand: it needs no number. Whatever else a request came to
//! (refused here or by the proxy, left, broken off) is told by an entry of the access log and by nothing else. Each of those bears the
//! VM's name and its next number. A worker tells its entries in order: a number that is not the next says how many are missing.

use crate::host::{Level, Proxy};
use crate::record::property;

/// The proxy's word on who answered.
const DETAILS: [&str; 2] = ["response", "code_details"];
/// Whoever stands behind.
const UPSTREAM: &[u8] = b"via_upstream";

/// Numbers a request that is over, unless the host has told of it, or another filter of a chain (`shared`) has numbered it.
pub(crate) fn number(proxy: &mut dyn Proxy, shared: bool) {
    // What cannot be read is numbered: an entry too many is no loss.
    if matches!(proxy.property(&DETAILS), Ok(Some(details)) if details == UPSTREAM) {
        return;
    }
    if shared && matches!(proxy.property(&[property::ENTRY]), Ok(Some(_))) {
        return;
    }
    let number = proxy.next_entry();
    if let Err(fault) = proxy.set_property(property::ENTRY, &number) {
        proxy.log(
            Level::Error,
            &format!("property {}: {fault}", property::ENTRY),
        );
    }
}
