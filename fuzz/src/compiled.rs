//! Fuzz target: a compiled policy with changed bytes, or any bytes behind the header of this
//! release. Loading must end with a policy or a fault. What is loaded is written as bytes that load
//! as the same policy, each permission in it leads to a client and a grant, and a filter can be
//! configured with it.

use std::sync::LazyLock;

use tensorgate_filter_core::root::GateRoot;
use tensorgate_policy::compiled::{HEADER_BYTES, with_header};
use tensorgate_policy::{Compiled, FilterConfiguration, FilterTarget, HostTarget, Target};
use tensorgate_policy_compiler::Version;

use crate::support::{CONTENTS, CONTEXT_KEY, COSTS, FOREIGN_KEYS, GUARDRAIL, MAIN, RATES, RAW};

/// Compiled policies of the vectors, without their headers.
static POLICIES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let filter = Target::Filter(FilterTarget::default());
    let host = Target::Host(HostTarget::default());
    let policies =
        [MAIN, RATES, COSTS, RAW, FOREIGN_KEYS, CONTENTS].map(|policy| (policy, &filter));
    let of_hosts = [MAIN, RAW, GUARDRAIL].map(|policy| (policy, &host));
    let all = policies.into_iter().chain(of_hosts);
    all.map(|(policy, target)| {
        let raw = serde_json::from_str(policy).expect("a policy of the vectors");
        let version = Version::new(raw).expect("a valid policy");
        let bytes = version.compile(target.clone()).to_bytes();
        bytes[HEADER_BYTES..].to_vec()
    })
    .collect()
});

/// The bytes that an input stands for: a policy, and changes of it as position and byte.
fn bytes_of(data: &[u8]) -> Vec<u8> {
    let Some((choice, rest)) = data.split_first() else {
        return Vec::new();
    };
    let Some(policy) = POLICIES.get(usize::from(*choice)) else {
        return with_header(rest);
    };
    let mut bytes = policy.clone();
    for change in rest.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    with_header(&bytes)
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(compiled) = Compiled::load(&bytes_of(data)) else {
        return;
    };
    let written = compiled.to_bytes();
    let again = Compiled::load(&written).expect("our own writing");
    assert_eq!(format!("{compiled:?}"), format!("{again:?}"));
    assert_eq!(again.to_bytes(), written);
    let policy = &compiled.policy;
    for (client, model, version, operation, grant) in policy.granted() {
        assert!(policy.client(client).is_some() && policy.grant(grant).is_some());
        let granted = policy.grant_for(client, model, version, operation);
        assert_eq!(granted, Some(grant));
    }
    let encoded = FilterConfiguration::new(&written, FilterConfiguration::MAX_PLAIN_BYTES);
    let Ok(encoded) = encoded else {
        return;
    };
    let configuration = serde_json::to_string(&encoded).expect("text");
    // Whether it has faults or not, it ends.
    drop(GateRoot::configure(configuration, Some(CONTEXT_KEY)));
}
