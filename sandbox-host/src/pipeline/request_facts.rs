//! What `context` tells the handlers of a request.

use tensorgate_base::payload::Payload;
use tensorgate_policy::Operation;
use tensorgate_policy::tensor::Parameter;
use tensorgate_sandbox::RequestFacts;

/// The facts about a client's request to a model and version, at a time in Unix milliseconds.
pub(super) fn request_facts(
    (client, time_unix_ms): (&str, u64),
    (model, version, operation): (&str, &str, Operation),
    parameters: &[Parameter<'static>],
    payload: &Payload,
) -> RequestFacts {
    RequestFacts {
        client: client.to_owned(),
        model: model.to_owned(),
        version: version.to_owned(),
        operation: operation.name().to_owned(),
        time_unix_ms,
        parameters: parameters.to_vec(),
        ..RequestFacts::from_input(payload)
    }
}
