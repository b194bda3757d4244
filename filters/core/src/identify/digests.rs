//! The end user and the source of a request as keyed digests, by which a host finds the states of
//! their limits. The digests are the same at every gateway with one context key, and neither a
//! client nor a reader of the host's files can compute one.

use tensorgate_identity::EndUser;
use tensorgate_policy::request::{CallerDigest, CallerDigests, HolderDigest};

use super::caller::address;
use crate::host::Proxy;
use crate::root::GateRoot;
use crate::store::lockout::source_bytes;

/// The digests that the policy's limits need.
pub fn caller(proxy: &mut dyn Proxy, root: &GateRoot, user: Option<&EndUser>) -> CallerDigests {
    let Some(key) = root.host_key() else {
        return CallerDigests::default();
    };
    let digest = |parts: &[&[u8]]| match key.name(parts) {
        [a, b, c, d, e, f, g, h, ..] => {
            HolderDigest::new(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
        }
    };
    let user = match root.limits_users {
        true => user
            .map(|user| digest(&[b"user", user.issuer.as_bytes(), user.name.as_bytes()]))
            .into(),
        false => CallerDigest::NotLimited,
    };
    let source = match root.limits_sources {
        true => {
            let source = proxy.source_address();
            let source = source.as_deref().and_then(address).map(source_bytes);
            source
                .map(|source| digest(&[b"source".as_slice(), source.as_slice()]))
                .into()
        }
        false => CallerDigest::NotLimited,
    };
    CallerDigests { user, source }
}
