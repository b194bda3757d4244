//! The upstream behind every proxy and every peer: an inference server that reads the whole request
//! and answers ten numbers at once. Over gRPC it also answers the metadata and readiness calls that
//! a host or a peer makes first.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use prost::Message as _;
use tensorgate_wire::proto::model_infer_response::InferOutputTensor;
use tensorgate_wire::proto::model_metadata_response::TensorMetadata;
use tensorgate_wire::proto::{
    ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyResponse,
    ServerLiveResponse, ServerReadyResponse,
};

use super::{Body, FRAME_HEAD_BYTES, grpc};
use crate::models;
use crate::outcome::{Failure, Outcome};

/// Bytes of a request that are kept: the model's name and the request's ID are in them.
const KEPT_BYTES: usize = 4 << 10;

/// Reads the whole request and answers it.
pub(super) async fn answer(request: Request<Incoming>) -> Outcome<Response<Body>> {
    let (head, mut body) = request.into_parts();
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            let room = KEPT_BYTES.saturating_sub(kept.len()).min(data.len());
            kept.extend_from_slice(data.get(..room).unwrap_or_default());
        }
    }
    Ok(if is_grpc(&head.headers) {
        grpc(&message(head.uri.path(), &kept))
    } else {
        let body = http_body_util::Full::new(Bytes::from_static(models::JSON_ANSWER.as_bytes()));
        let mut answer = Response::new(
            body.map_err(|never| -> Failure { match never {} })
                .boxed_unsync(),
        );
        answer.headers_mut().insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        );
        answer
    })
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn message(path: &str, kept: &[u8]) -> Vec<u8> {
    let asked = kept.get(FRAME_HEAD_BYTES..).unwrap_or_default();
    match path.rsplit('/').next().unwrap_or_default() {
        "ServerLive" => ServerLiveResponse { live: true }.encode_to_vec(),
        "ServerReady" => ServerReadyResponse { ready: true }.encode_to_vec(),
        "ModelReady" => ModelReadyResponse { ready: true }.encode_to_vec(),
        "ModelMetadata" => metadata(&ModelMetadataRequest::decode(asked).unwrap_or_default()),
        _ => inference(asked),
    }
}

fn metadata(request: &ModelMetadataRequest) -> Vec<u8> {
    let tensor = |tensor: &models::TensorShape| TensorMetadata {
        name: tensor.name.to_owned(),
        datatype: tensor.datatype.to_owned(),
        shape: tensor.dims.to_vec(),
    };
    let inputs = models::backend_input(&request.name);
    ModelMetadataResponse {
        name: request.name.clone(),
        versions: vec![models::VERSION.to_owned()],
        platform: "bench".to_owned(),
        inputs: inputs.iter().map(tensor).collect(),
        outputs: vec![tensor(&models::OUTPUT)],
    }
    .encode_to_vec()
}

/// A response of ten numbers with the model and the ID of the request.
fn inference(asked: &[u8]) -> Vec<u8> {
    let (mut model_name, mut id) = (String::new(), String::new());
    let mut rest = asked;
    while let Some((field, value, behind)) = length_delimited(rest) {
        let text = || String::from_utf8_lossy(value).into_owned();
        match field {
            1 => model_name = text(),
            3 => id = text(),
            _ => {}
        }
        rest = behind;
    }
    ModelInferResponse {
        model_name,
        model_version: models::VERSION.to_owned(),
        id,
        outputs: vec![InferOutputTensor {
            name: models::OUTPUT.name.to_owned(),
            datatype: models::OUTPUT.datatype.to_owned(),
            shape: models::OUTPUT.dims.to_vec(),
            ..InferOutputTensor::default()
        }],
        raw_output_contents: vec![[0, 0, 0, 0x3f].repeat(models::CLASSES).into()],
        ..ModelInferResponse::default()
    }
    .encode_to_vec()
}

/// A length-delimited field: its number, its bytes and the rest. `None` for another wire type or
/// truncated data.
fn length_delimited(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let mut rest = bytes;
    let tag = prost::encoding::decode_varint(&mut rest).ok()?;
    if tag & 7 != 2 {
        return None;
    }
    let length = usize::try_from(prost::encoding::decode_varint(&mut rest).ok()?).ok()?;
    let (value, behind) = rest.split_at_checked(length)?;
    Some((tag >> 3, value, behind))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use tensorgate_wire::proto::ModelInferRequest;

    #[test]
    fn an_inference_is_answered_for_the_model_and_id_that_it_names() {
        let asked = ModelInferRequest {
            model_name: "m".into(),
            model_version: "1".into(),
            id: "seven".into(),
            raw_input_contents: vec![vec![0; 9000].into()],
            ..ModelInferRequest::default()
        }
        .encode_to_vec();
        let cut = asked.get(..KEPT_BYTES).unwrap();
        let answer = ModelInferResponse::decode(inference(cut).as_slice()).unwrap();
        assert_eq!(
            (answer.model_name.as_str(), answer.id.as_str()),
            ("m", "seven")
        );
    }
}
