//! Numbers what only the proxy's access log tells of, so that whoever keeps the log sees what never arrived. Decides nothing about
//! requests.
//!
//! An answer of the host's is in the log before it leaves, by the host's own hand: it needs no number. Whatever else a request came to
//! (refused here or by the proxy, left, broken off) is told by an entry of the access log and by nothing else. Each of those bears the
//! VM's name and its next number. A worker tells its entries in order: a number that is not the next says how many are missing.

use crate::host::{HostFault, Level, Proxy, Shared, SharedStore};
use crate::record::property;

/// The proxy's word on who answered.
const DETAILS: [&str; 2] = ["response", "code_details"];
/// Whoever stands behind.
const UPSTREAM: &[u8] = b"via_upstream";

/// Where the name that was given last is, for all VMs of a proxy process.
const NAMES: &str = "tensorgate/entry-names";
/// Tries against other VMs that take a name at once; there is one a worker, each once.
const TRIES: usize = 1_000;
/// proxy-wasm's `CAS_MISMATCH`: others were always first.
const TAKEN: u32 = 8;

/// A name that no other VM has, now or before: names count up in a process from the nanosecond at which its first was asked for. There is
/// no randomness: a rendered configuration keeps the system's from the VM.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "the SDK asks"))]
pub(crate) fn take_name(store: &mut impl SharedStore, now_ns: u64) -> Result<u64, HostFault> {
    // The proxy configures its own VM alone before any worker's.
    if store.get(NAMES)?.is_none() {
        store.put(NAMES, &now_ns.to_le_bytes())?;
    }
    for _ in 0..TRIES {
        let Some(Shared { value, token }) = store.get(NAMES)? else {
            break;
        };
        let last = value.try_into().map_or(now_ns, u64::from_le_bytes);
        let name = last.wrapping_add(1);
        if store.swap(NAMES, &name.to_le_bytes(), token)? {
            return Ok(name);
        }
    }
    Err(HostFault {
        call: "set_shared_data",
        status: TAKEN,
    })
}

/// Numbers a request that is over, unless the host has told of it, or another filter of a chain (`shared`) has numbered it.
pub(crate) fn number(proxy: &mut dyn Proxy, shared: bool) {
    // What cannot be read is numbered: an entry too many is no loss.
    if matches!(proxy.property(&DETAILS), Ok(Some(details)) if details == UPSTREAM) {
        return;
    }
    if shared && matches!(proxy.property(&[property::ENTRY]), Ok(Some(_))) {
        return;
    }
    let Some(number) = proxy.next_entry() else {
        return;
    };
    if let Err(fault) = proxy.set_property(property::ENTRY, &number) {
        proxy.log(
            Level::Error,
            &format!("property {}: {fault}", property::ENTRY),
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::native::Store;

    #[test]
    fn every_vm_of_a_process_has_another_name_and_so_has_the_next_process() {
        let mut store = Store::default();
        let mut names = Vec::new();
        for now_ns in [1_000, 5_000, 900] {
            names.push(take_name(&mut store, now_ns).unwrap());
        }
        names.push(take_name(&mut Store::default(), 9_000).unwrap());
        assert_eq!(names, [1_001, 1_002, 1_003, 9_001]);
    }
}
