//! Questions to the rate limit service, over the proxy's own way there.

use std::time::Duration;

use proxy_wasm::hostcalls;
use tensorgate_wire::rate_limit::{MAX_MESSAGE_BYTES, METHOD, SERVICE};

use super::{Host, abi};
use crate::host::{HostFault, RATE_LIMIT_CLUSTER};

/// `GrpcService.envoy_grpc` and its `cluster_name`: both are field 1, a message and a text.
const FIELD_1: u8 = 1 << 3 | 2;
/// gRPC's `INTERNAL`, for an answer that cannot be read.
const INTERNAL: u32 = 13;

/// Asks; the token of the answer. The question is the configuration's own, not its request's: a request that ends takes its questions with it, and
/// the SDK would keep the token of each until its VM ends.
pub(super) fn ask(host: Host, question: &[u8], timeout_ms: u64) -> Result<u32, HostFault> {
    let fault = |status| HostFault {
        call: "grpc_call",
        status,
    };
    let service = service().ok_or_else(|| fault(0))?;
    abi::set_effective_context(host.own)?;
    // The SDK's own: its dispatcher must know the token. Envoy answers with the statuses that it knows.
    let asked = hostcalls::dispatch_grpc_call(
        &service,
        SERVICE,
        METHOD,
        Vec::new(),
        Some(question),
        Duration::from_millis(timeout_ms),
    );
    abi::set_effective_context(host.request)?;
    asked.map_err(|status| fault(status as u32))
}

/// A `GrpcService` that says which cluster.
fn service() -> Option<String> {
    let length = u8::try_from(RATE_LIMIT_CLUSTER.len()).ok()?;
    let inner = length.checked_add(2).filter(|length| *length < 0x80)?;
    let head = [FIELD_1, inner, FIELD_1, length];
    let head = String::from_utf8(head.to_vec()).ok()?;
    Some(head + RATE_LIMIT_CLUSTER)
}

/// What came: a message, or gRPC's status.
pub(super) fn answer(host: Host, status: u32) -> Result<Vec<u8>, u32> {
    if status != 0 {
        return Err(status);
    }
    // It is with whoever asked.
    let message = abi::set_effective_context(host.own)
        .and_then(|()| abi::grpc_message(MAX_MESSAGE_BYTES.saturating_add(1)));
    let back = abi::set_effective_context(host.request);
    back.and(message).map_err(|_| INTERNAL)
}
