//! Notes on backends whose HTTP/1.1 connections several clients share: HTTP/1.1 does not say which
//! request an answer belongs to.

use std::collections::BTreeSet;

use tensorgate_policy::Policy;

/// A note for each such backend.
pub(super) fn notes(policy: &Policy) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, backend) in policy.backends() {
        let is_shared = backend.kind().is_http1() && backend.connections().is_shared();
        let clients = clients(policy, name);
        if is_shared && clients > 1 {
            notes.push(format!(
                "backends.{name}: {clients} clients share its connections, and a server that answers a request twice may give the second answer to another client. Unless all of them trust the server, set `connections: per-client` or `one-request`"
            ));
        }
    }
    notes
}

/// The number of clients that may send requests to a backend.
fn clients(policy: &Policy, backend: &str) -> usize {
    let granted = policy.granted().filter(|(_, model, ..)| {
        let model = policy.model(*model);
        model.is_some_and(|model| model.backend() == backend)
    });
    let clients: BTreeSet<_> = granted.map(|(client, ..)| client).collect();
    clients.len()
}
