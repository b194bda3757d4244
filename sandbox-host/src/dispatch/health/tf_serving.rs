//! Health checks for servers with the protocol of TF Serving, which reports a status and a
//! signature of each model version.

use tensorgate_wire::proto::ModelMetadataResponse;
use tensorgate_wire::proto::model_metadata_response::TensorMetadata;
use tensorgate_wire::upstream::tf_serving::{self, Described, Signature};
use tokio::time::Instant;

use super::ModelStatus;
use super::answer_fault::read;
use crate::backends::BackendError;
use crate::backends::oip::Channel;
use crate::backends::signature::ANY_RANK;

/// Whether a TF Serving server answers. Its protocol has no such method, so the status of no model
/// is requested.
pub(super) async fn probe_server(line: &Channel, deadline: Instant) -> Result<(), BackendError> {
    match line.status("", "", deadline).await {
        Ok(_) | Err(BackendError::Fault(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The status and description of one model version.
pub(super) async fn probe_model(
    line: &Channel,
    (model, version): (&str, &str),
    deadline: Instant,
) -> Result<ModelStatus, BackendError> {
    let status = line.status(model, version, deadline).await?;
    if !read(tf_serving::is_available(&status, version))? {
        return Ok(ModelStatus::NotLoaded("it is not available".to_owned()));
    }
    let metadata = line.signature(model, version, deadline).await?;
    Ok(match read(tf_serving::signature(&metadata))? {
        None => ModelStatus::Unready("it has no default signature".to_owned()),
        Some(signature) => ModelStatus::Described(description(signature, model)),
    })
}

/// Converts a signature to an OIP description, which is compared with contracts.
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
