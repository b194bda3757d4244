//! What servers are asked that speak TF Serving's protocol or TorchServe's. TF Serving has a status and a signature for each version of a model;
//! TorchServe says on this port no more than whether it is well.

use tensorgate_wire::proto::ModelMetadataResponse;
use tensorgate_wire::proto::model_metadata_response::TensorMetadata;
use tensorgate_wire::upstream::tf_serving::{self, Described, Signature};
use tensorgate_wire::upstream::torchserve;
use tokio::time::Instant;

use super::sighting::Said;
use crate::backends::BackendError;
use crate::backends::oip::Line;
use crate::backends::signature::ANY_RANK;

/// Whether a server of TF Serving's answers at all: it has no question for this, so that it is asked about no model.
pub(super) async fn tf_server(line: &Line, deadline: Instant) -> Result<(), BackendError> {
    match line.status("", "", deadline).await {
        Ok(_) | Err(BackendError::Fault(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What it says of one version of a model.
pub(super) async fn tf_model(
    line: &Line,
    (model, version): (&str, &str),
    deadline: Instant,
) -> Result<Said, BackendError> {
    let status = line.status(model, version, deadline).await?;
    if !read(tf_serving::is_available(&status, version))? {
        return Ok(Said::Unready("it is not available".to_owned()));
    }
    let metadata = line.signature(model, version, deadline).await?;
    Ok(match read(tf_serving::signature(&metadata))? {
        None => Said::Unready("it has no default signature".to_owned()),
        Some(signature) => Said::Described(description(signature, model)),
    })
}

/// Whether a server of TorchServe's is well.
pub(super) async fn torch_server(line: &Line, deadline: Instant) -> Result<(), BackendError> {
    let answer = line.ping(deadline).await?;
    if read(torchserve::is_healthy(&answer))? {
        Ok(())
    } else {
        Err(BackendError::Busy(
            "the server says that it is not healthy".to_owned(),
        ))
    }
}

fn read<T>(found: Result<T, String>) -> Result<T, BackendError> {
    found.map_err(|cause| BackendError::Fault(format!("its answer: {cause}")))
}

/// A signature in OIP's words, which contracts are compared with.
fn description(signature: Signature, asked: &str) -> ModelMetadataResponse {
    let Signature {
        model,
        version,
        inputs,
        outputs,
    } = signature;
    let tensors = |described: Vec<Described>| {
        let tensor = |Described {
                          name,
                          datatype,
                          shape,
                      }: Described| TensorMetadata {
            name,
            datatype,
            shape: shape.unwrap_or_else(|| vec![ANY_RANK]),
        };
        described.into_iter().map(tensor).collect()
    };
    ModelMetadataResponse {
        name: model.unwrap_or_else(|| asked.to_owned()),
        versions: version.into_iter().collect(),
        platform: String::new(),
        inputs: tensors(inputs),
        outputs: tensors(outputs),
    }
}
