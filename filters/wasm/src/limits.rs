//! Calls to the rate-limit service through the proxy's cluster.

use std::time::Duration;

use proxy_wasm::hostcalls;
use tensorgate_wire::rate_limit::{MAX_MESSAGE_BYTES, METHOD, SERVICE};

use super::{Host, abi};
use tensorgate_filter_core::host::{HostFault, RATE_LIMIT_CLUSTER};

/// `GrpcService.envoy_grpc` and its `cluster_name`: both are field 1, a message and a text.
const FIELD_1: u8 = 1 << 3 | 2;
/// gRPC's `INTERNAL`, for an unreadable answer.
const INTERNAL: u32 = 13;

/// Sends the call and returns the token of its answer. The call belongs to the configuration's
/// context. With a request's context, the call would end with the request, and the SDK would keep
/// its token until the VM ends.
pub(crate) fn ask(host: Host, question: &[u8], timeout_ms: u64) -> Result<u32, HostFault> {
    let fault = |status| HostFault {
        call: "grpc_call",
        status,
    };
    let service = service().ok_or_else(|| fault(0))?;
    abi::set_effective_context(host.own)?;
    // The SDK's own call: its dispatcher must know the token. Envoy returns only statuses that the
    // SDK knows.
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

/// A `GrpcService` with the cluster's name.
fn service() -> Option<String> {
    let length = u8::try_from(RATE_LIMIT_CLUSTER.len()).ok()?;
    let inner = length.checked_add(2).filter(|length| *length < 0x80)?;
    let head = [FIELD_1, inner, FIELD_1, length];
    let head = String::from_utf8(head.to_vec()).ok()?;
    Some(head + RATE_LIMIT_CLUSTER)
}

/// The answer: a message or a gRPC status.
pub(crate) fn answer(host: Host, status: u32) -> Result<Vec<u8>, u32> {
    if status != 0 {
        return Err(status);
    }
    // The answer is in the context that made the call.
    let message = abi::set_effective_context(host.own)
        .and_then(|()| abi::grpc_message(MAX_MESSAGE_BYTES.saturating_add(1)));
    let back = abi::set_effective_context(host.request);
    back.and(message).map_err(|_| INTERNAL)
}
