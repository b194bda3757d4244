//! A head as it came to the host, and the one context that came with it: what can be told of both before a policy is known.

use tensorgate_wire::context::{Context, ContextFault, HEADER, Key};
use tensorgate_wire::headers::ReadHead;

#[cfg(doc)]
use super::Judge;

/// Reads a head and opens the one context that came with it, as far as that takes no policy: what `then` gets is the context if its
/// signature holds for this method and path and it is not from the future, else the cause for the log. Its age is for the policy
/// that it names to judge ([`Judge::begin`]).
pub fn arrive<N: AsRef<[u8]>, T>(
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
    let context = open(&contexts, key, read.method, &read.path, now_unix_s);
    then(read, context)
}

fn open(
    contexts: &[&[u8]],
    key: &Key,
    method: &str,
    path: &str,
    now_unix_s: u64,
) -> Result<Context, String> {
    let [value] = contexts else {
        return Err(format!("{} context headers, not one", contexts.len()));
    };
    let verified = std::str::from_utf8(value)
        .map_err(|_| ContextFault::Form)
        .and_then(|value| Context::verify(value, key, method, path, now_unix_s, u64::MAX));
    verified.map_err(|fault| fault.to_string())
}
