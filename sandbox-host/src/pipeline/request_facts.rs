//! What `context` tells the handlers of a request.

use tensorgate_base::payload::Payload;
use tensorgate_policy::tensor::Parameter;
use tensorgate_policy::{Operation, Tensor};
use tensorgate_sandbox::RequestFacts;

/// The facts about a client's request to a model and version, at a time in Unix milliseconds.
pub(super) fn request_facts(
    (client, time_unix_ms): (&str, u64),
    (model, version, operation): (&str, &str, Operation),
    parameters: &[Parameter<'static>],
    payload: &Payload,
) -> RequestFacts {
    // A checked tensor has no negative dimension.
    let dims = |shape: &[i64]| shape.iter().map(|dim| dim.unsigned_abs()).collect();
    let tensor = |tensor: &Tensor<'_>| (tensor.name.clone().into_owned(), dims(&tensor.shape));
    let (tensors, media_type) = match payload {
        Payload::Tensors(tensors) => (tensors.iter().map(tensor).collect(), None),
        Payload::Raw { content_type, .. } => (Vec::new(), Some(content_type.clone())),
    };
    RequestFacts {
        client: client.to_owned(),
        model: model.to_owned(),
        version: version.to_owned(),
        operation: operation.name().to_owned(),
        time_unix_ms,
        parameters: parameters.to_vec(),
        tensors,
        media_type,
        media_bytes: u64::try_from(payload.data_bytes()).unwrap_or(u64::MAX),
    }
}
