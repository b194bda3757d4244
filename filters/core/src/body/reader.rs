//! Reads a request body from the proxy's buffer, all that was asked for or nothing.

use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{Denial, Reason};

use crate::host::{Proxy, cannot_decide};

/// Reads `bytes` of body, the whole amount in the proxy's buffer.
pub(crate) fn read_body(proxy: &mut dyn Proxy, bytes: usize) -> Result<Vec<u8>, Denial> {
    if bytes == 0 {
        return Ok(Vec::new());
    }
    let body = proxy.request_body(0, bytes).map_err(cannot_decide)?;
    if body.len() == bytes {
        return Ok(body);
    }
    let cause = format!(
        "host call get_buffer_bytes gave {} bytes of a body of {bytes}",
        body.len()
    );
    let denial = Denial::new(Reason::Overloaded, cause);
    Err(denial.overloaded_by(OverloadCause::HostCall))
}
