//! Reads a request's head and the context that came with it, as far as no policy is needed.

use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::context::{ContextFault, HEADER, Release};
use tensorgate_wire::headers::ReadHead;

use super::denied::DenialOrigin;
use crate::context_keys::{ContextKeys, VerifiedContext};

/// Why a context whose signature does not verify is rejected. No client can cause it: the sender is
/// a gateway with another key, or a program that reached the host without one.
const UNKNOWN_KEY: &str = "context signature does not verify: this host's key file does not have \
     the sender's key, or has it no longer; give gateway and host the same key";

/// Why no context is accepted.
#[derive(Debug)]
pub struct ContextDenial {
    /// The denial.
    pub denial: Denial,
    /// What it says about the sender.
    pub origin: DenialOrigin,
}

/// Reads a head and verifies its context. `then` gets the context if its signature is valid for
/// this method and path and it is not from the future. Otherwise it gets the denial. The policy
/// that the context names limits the age ([`super::Verifier::verify_head`]).
pub fn read_head<N: AsRef<[u8]>, T>(
    fields: &[(N, N)],
    end_of_stream: bool,
    keys: &ContextKeys,
    now_unix_s: u64,
    then: impl FnOnce(ReadHead<'_>, Result<VerifiedContext, Box<ContextDenial>>) -> T,
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
) -> Result<VerifiedContext, Box<ContextDenial>> {
    let [value] = contexts else {
        let cause = format!("{} context headers, expected one", contexts.len());
        return Err(unknown_sender(Denial::new(Reason::Unauthenticated, cause)));
    };
    let Ok(value) = std::str::from_utf8(value) else {
        let cause = ContextFault::Form.to_string();
        return Err(unknown_sender(Denial::new(Reason::Unauthenticated, cause)));
    };
    let verified = keys.verify(value, (method, path), now_unix_s, u64::MAX);
    verified.map_err(|fault| match fault {
        ContextFault::Signature => unknown_sender(misconfigured(UNKNOWN_KEY.to_owned())),
        ContextFault::Release => {
            let gateway = keys.release_of(value).map(|(release, _)| release);
            let cause = gateway.map_or_else(
                || fault.to_string(),
                |gateway| Release::mismatch(&gateway, &Release::own()),
            );
            Box::new(ContextDenial {
                denial: misconfigured(cause),
                origin: DenialOrigin::OtherRelease,
            })
        }
        ContextFault::Form | ContextFault::Request | ContextFault::Age => {
            unknown_sender(Denial::new(Reason::Unauthenticated, fault.to_string()))
        }
    })
}

/// A denial that no client can cause and an operator has to cure.
fn misconfigured(cause: String) -> Denial {
    Denial::new(Reason::Overloaded, cause).overloaded_by(OverloadCause::Configuration)
}

pub(super) fn unknown_sender(denial: Denial) -> Box<ContextDenial> {
    Box::new(ContextDenial {
        denial,
        origin: DenialOrigin::UnknownSender,
    })
}
