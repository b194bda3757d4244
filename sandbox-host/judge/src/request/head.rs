//! Reads a request's head and the context that came with it, as far as no policy is needed.

use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::context::{ContextFault, HEADER};
use tensorgate_wire::headers::ReadHead;

use crate::context_keys::{ContextKeys, VerifiedContext};

/// Why a context whose signature does not verify is rejected. No client can cause it: the sender is
/// a gateway with another key, or a program that reached the host without one.
const UNKNOWN_KEY: &str = "context signature does not verify: this host's key file does not have \
     the sender's key, or has it no longer; give gateway and host the same key";

/// Reads a head and verifies its context. `then` gets the context if its signature is valid for
/// this method and path and it is not from the future. Otherwise it gets the denial. The policy
/// that the context names limits the age ([`super::Verifier::verify_head`]).
pub fn read_head<N: AsRef<[u8]>, T>(
    fields: &[(N, N)],
    end_of_stream: bool,
    keys: &ContextKeys,
    now_unix_s: u64,
    then: impl FnOnce(ReadHead<'_>, Result<VerifiedContext, Denial>) -> T,
) -> T {
    let is_context = |name: &[u8]| name.eq_ignore_ascii_case(HEADER.as_bytes());
    let contexts: Vec<&[u8]> = fields
        .iter()
        .filter(|(name, _)| is_context(name.as_ref()))
        .map(|(_, value)| value.as_ref())
        .collect();
    let rest: Vec<(&[u8], &[u8])> = fields
        .iter()
        .filter(|(name, _)| !is_context(name.as_ref()))
        .map(|(name, value)| (name.as_ref(), value.as_ref()))
        .collect();
    let read = ReadHead::read(&rest, end_of_stream);
    let context = verify_context(&contexts, keys, read.method, &read.path, now_unix_s);
    then(read, context)
}

fn verify_context(
    contexts: &[&[u8]],
    keys: &ContextKeys,
    method: &str,
    path: &str,
    now_unix_s: u64,
) -> Result<VerifiedContext, Denial> {
    let [value] = contexts else {
        let cause = format!("{} context headers, expected one", contexts.len());
        return Err(Denial::new(Reason::Unauthenticated, cause));
    };
    let verified = std::str::from_utf8(value)
        .map_err(|_| ContextFault::Form)
        .and_then(|value| keys.verify(value, (method, path), now_unix_s, u64::MAX));
    verified.map_err(|fault| match fault {
        ContextFault::Signature => {
            let denial = Denial::new(Reason::Overloaded, UNKNOWN_KEY);
            denial.overloaded_by(OverloadCause::Configuration)
        }
        other => Denial::new(Reason::Unauthenticated, other.to_string()),
    })
}
