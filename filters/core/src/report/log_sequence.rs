//! Sequence numbers for access log entries, so that a reader of the log can detect gaps.
//!
//! Responses of the sandbox host are logged by the host before they leave, and need no number.
//! Every other outcome (rejected here or by the proxy, aborted) appears only in the access log.
//! Each such entry carries the id of the VM and its next sequence number. A worker writes its
//! entries in order, so a gap in the numbers shows how many entries are missing.

use std::cell::Cell;

use tensorgate_wire::context::Key;

use super::property;
use super::request_id::request_id;
use crate::host::{HostFault, Level, Proxy, Shared, SharedStore};

/// The proxy's property that names the source of the response.
const DETAILS: [&str; 2] = ["response", "code_details"];

/// Shared data key of the last allocated VM id, for all VMs of a proxy process.
const VM_IDS: &str = "tensorgate/entry-names";
/// Maximum number of swap attempts against other VMs that allocate an id at the same time.
const MAX_TRIES: usize = 1_000;
/// proxy-wasm's `CAS_MISMATCH`: another VM won every attempt.
const CAS_MISMATCH: u32 = 8;

/// The numbers of one worker of a proxy: its id, how many requests it has given an id, and its last
/// sequence number.
#[derive(Debug)]
pub struct WorkerNumbers {
    id: u64,
    requests: Cell<u64>,
    entries: Cell<u64>,
}

impl WorkerNumbers {
    /// Numbers for a worker, with an id of its own.
    ///
    /// # Errors
    /// The store failed.
    pub fn allocate(store: &mut impl SharedStore, now_ns: u64) -> Result<Self, HostFault> {
        Ok(Self {
            id: allocate_vm_id(store, now_ns)?,
            requests: Cell::new(0),
            entries: Cell::new(0),
        })
    }

    /// Creates the id of a new request; see [`request_id`].
    pub fn new_request_id(&self, key: Option<&Key>) -> String {
        request_id(key, self.id, next(&self.requests))
    }

    /// The next sequence number as `WORKER.NUMBER`: the worker's id in 16 hex digits, and a number
    /// that counts from 1.
    pub fn next_sequence_number(&self) -> String {
        format!("{:016x}.{}", self.id, next(&self.entries))
    }
}

fn next(counter: &Cell<u64>) -> u64 {
    let number = counter.get().saturating_add(1);
    counter.set(number);
    number
}

/// Allocates a VM id that no other VM has, now or earlier. Ids count up from the time of the first
/// allocation, in ns. Random ids are not possible: a rendered configuration gives the VM no
/// randomness.
fn allocate_vm_id(store: &mut impl SharedStore, now_ns: u64) -> Result<u64, HostFault> {
    // The proxy's main thread does this before any worker, so there is no race here.
    if store.get(VM_IDS)?.is_none() {
        store.put(VM_IDS, &now_ns.to_le_bytes())?;
    }
    for _ in 0..MAX_TRIES {
        let Some(Shared { value, token }) = store.get(VM_IDS)? else {
            break;
        };
        let last = value.try_into().map_or(now_ns, u64::from_le_bytes);
        let name = last.wrapping_add(1);
        if store.swap(VM_IDS, &name.to_le_bytes(), token)? {
            return Ok(name);
        }
    }
    Err(HostFault {
        call: "set_shared_data",
        status: CAS_MISMATCH,
    })
}

/// Numbers a finished request, unless the host has logged it or another filter has numbered it.
pub(crate) fn set_sequence_number(proxy: &mut dyn Proxy) {
    // A request with an unreadable property is numbered: an extra entry does no harm.
    if matches!(proxy.property(&DETAILS), Ok(Some(details)) if details == property::VIA_UPSTREAM) {
        return;
    }
    if matches!(proxy.property(&[property::SEQUENCE]), Ok(Some(_))) {
        return;
    }
    let Some(number) = proxy.next_sequence_number() else {
        return;
    };
    if let Err(fault) = proxy.set_property(property::SEQUENCE, &number) {
        proxy.log(
            Level::Error,
            &format!("property {}: {fault}", property::SEQUENCE),
        );
    }
}
