//! One inference request in the protocol of TorchServe.

use bytes::Bytes;
use http::HeaderMap;
use tensorgate_base::guard::offload;
use tensorgate_policy::Tensor;
use tensorgate_policy::contract::TensorRule;
use tensorgate_wire::upstream::torchserve;
use tokio::time::Instant;

use super::answer_decoding::decode;
use super::oip::Channel;
use super::{BackendError, Call};

/// Encodes a request, on a separate thread if it is large. `None` if the protocol cannot represent
/// it.
pub(super) async fn encode(call: Call<'_>) -> Option<Bytes> {
    let Call {
        contract,
        id: _,
        model,
        version,
        // The protocol has no place for parameters, so no rule can allow one.
        parameters: _,
        inputs,
        outputs: _,
        claims: _,
        sent_message: _,
    } = call;
    let (model, version) = (model.to_owned(), version.to_owned());
    let rules = contract.backend_inputs().to_vec();
    offload(torchserve::most_request_bytes(&inputs), move || {
        torchserve::request((&model, &version), &inputs, &rules)
    })
    .await
    .flatten()
    .map(Bytes::from)
}

/// Sends an encoded request and returns its tensors, before the deadline.
pub(super) async fn send(
    line: &Channel,
    message: Bytes,
    outputs: &[TensorRule],
    claims: &HeaderMap,
    most: usize,
    deadline: Instant,
) -> Result<Vec<Tensor<'static>>, BackendError> {
    let answer = line
        .unary(torchserve::PREDICTIONS, message, claims, most, deadline)
        .await
        .map_err(classify_torchserve_error)?;
    let rules = outputs.to_vec();
    decode(most, move || torchserve::answer(&answer, &rules)).await
}

/// The end of TorchServe's `UNAVAILABLE` text after an exception in its handler.
const HANDLER_RAISED: &str = "org.pytorch.serve.http.InternalServerException";
/// The text of TorchServe's `INTERNAL` status if a model has no free worker.
const NO_WORKER: (&str, &str) = (
    "Internal: Model ",
    " has no worker to serve inference request",
);

/// Corrects TorchServe's statuses, which it confuses. An exception in a handler is a fault of this
/// request, which a retry would not fix. A model without a free worker is a busy server.
fn classify_torchserve_error(error: BackendError) -> BackendError {
    match error {
        BackendError::Busy(cause) if cause.ends_with(HANDLER_RAISED) => BackendError::Fault(cause),
        BackendError::Fault(cause)
            if cause.starts_with(NO_WORKER.0) && cause.contains(NO_WORKER.1) =>
        {
            BackendError::Busy(cause)
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of TorchServe 0.12.
    #[test]
    fn torchserve_is_busy_without_a_worker_and_at_fault_where_its_handler_raised() {
        let raised =
            "Unavailable: Prediction failed\norg.pytorch.serve.http.InternalServerException";
        let unserved = "Internal: Model \"m\" Version 1.0\" has no worker to serve inference request. Please use scale workers API to add workers. If \
                        this is a sequence inference, please check if it is closed, or expired; or exceeds maxSequenceJobQueueSize\n\
                        InternalServerException.()";
        let died = "Internal: Worker died.\norg.pytorch.serve.http.InternalServerException";
        let busy = |cause: &str| BackendError::Busy(cause.to_owned());
        let at_fault = |cause: &str| BackendError::Fault(cause.to_owned());
        assert_eq!(classify_torchserve_error(busy(raised)), at_fault(raised));
        assert_eq!(
            classify_torchserve_error(at_fault(unserved)),
            busy(unserved)
        );
        assert_eq!(classify_torchserve_error(at_fault(died)), at_fault(died));
        assert_eq!(classify_torchserve_error(busy("")), busy(""));
        let gone = BackendError::Unavailable(raised.to_owned());
        assert_eq!(classify_torchserve_error(gone.clone()), gone);
    }
}
