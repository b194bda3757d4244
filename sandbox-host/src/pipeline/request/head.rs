//! Reads a request's head and the context that came with it, as far as no policy is needed.

use tensorgate_wire::context::{Context, ContextFault, HEADER, Key};
use tensorgate_wire::headers::ReadHead;

/// Reads a head and verifies its context. `then` gets the context if its signature is valid for
/// this method and path and it is not from the future. Otherwise it gets the cause for the log. The
/// policy that the context names limits the age ([`super::Verifier::verify_head`]).
pub fn read_head<N: AsRef<[u8]>, T>(
    fields: &[(N, N)],
    end_of_stream: bool,
    key: &Key,
    now_unix_s: u64,
    then: impl FnOnce(ReadHead<'_>, Result<Context, String>) -> T,
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
    let context = verify_context(&contexts, key, read.method, &read.path, now_unix_s);
    then(read, context)
}

fn verify_context(
    contexts: &[&[u8]],
    key: &Key,
    method: &str,
    path: &str,
    now_unix_s: u64,
) -> Result<Context, String> {
    let [value] = contexts else {
        return Err(format!("{} context headers, expected one", contexts.len()));
    };
    let verified = std::str::from_utf8(value)
        .map_err(|_| ContextFault::Form)
        .and_then(|value| Context::verify(value, key, method, path, now_unix_s, u64::MAX));
    verified.map_err(|fault| fault.to_string())
}
