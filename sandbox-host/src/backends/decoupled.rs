//! Several responses to one request, over a stream of their own. The request is sent and its half
//! of the stream closed. Responses arrive until one is marked as the last. Each is read as
//! untrusted input. Dropping the stream cancels the request at the server.

use http::HeaderMap;
use http::uri::PathAndQuery;
use prost::Message as _;
use tensorgate_judge::protocol_adapter::ProtocolAdapter;
use tensorgate_policy::Tensor;
use tensorgate_wire::encode::FINAL_RESPONSE;
use tensorgate_wire::proto::infer_parameter::ParameterChoice;
use tensorgate_wire::{proto, upstream};
use tokio::time::Instant;
use tonic::Streaming;
use tonic::codegen::tokio_stream;

use super::codec::SizeCheckedCodec;
use super::grpc_status::{MAX_MESSAGE_CHARS, classify, classify_inference, infer_within};
use super::oip::{Channel, with_deadline};
use super::{BackendError, answer};

/// The request that the responses must match.
#[derive(Clone, Debug)]
pub struct RequestIdentity {
    /// The host's request ID.
    pub id: String,
    /// The model's name at the backend.
    pub model: String,
    /// The model's version.
    pub version: String,
}

/// One response.
#[derive(Debug)]
pub struct StreamedResponse {
    /// The tensors, not yet validated against the contract. `None` if the message only ends the
    /// stream.
    pub tensors: Option<Vec<Tensor<'static>>>,
    /// Whether this is the last response.
    pub last: bool,
    /// The encoded size in bytes.
    pub bytes: u64,
}

/// The response stream of a request.
#[derive(Debug)]
pub struct DecoupledStream {
    stream: Streaming<proto::ModelStreamInferResponse>,
    question: RequestIdentity,
    protocol: ProtocolAdapter,
    /// Whether a message has arrived. A later client error is a fault within the answer.
    has_answered: bool,
}

impl DecoupledStream {
    /// Sends a request that may have several responses, and reads the response head. `deadline`
    /// applies to the head, and `until` to the whole stream.
    pub async fn open(
        channel: &Channel,
        request: proto::ModelInferRequest,
        question: RequestIdentity,
        claims: &HeaderMap,
        max_answer_bytes: usize,
        (deadline, until): (Instant, Instant),
    ) -> Result<Self, BackendError> {
        let mut request = with_deadline(tokio_stream::once(request), until);
        request.metadata_mut().as_mut().extend(claims.clone());
        let answers = async {
            let mut caller = channel.grpc_client(max_answer_bytes).await?;
            let codec = SizeCheckedCodec::new(upstream::streamed_bytes, max_answer_bytes);
            let method = PathAndQuery::from_static(upstream::INFER_STREAM);
            caller.streaming(request, method, codec).await
        };
        let protocol = channel.dialect();
        let stream = infer_within(protocol, deadline, answers).await?;
        Ok(Self {
            stream,
            question,
            protocol,
            has_answered: false,
        })
    }

    /// The next response, which must arrive before the deadline.
    pub async fn next(&mut self, deadline: Instant) -> Result<StreamedResponse, BackendError> {
        let next = tokio::time::timeout_at(deadline, self.stream.message()).await;
        let next = next.map_err(|_| {
            BackendError::Timeout("no further answer within the deadline".to_owned())
        })?;
        let next = next.map_err(|status| {
            let late = Instant::now() >= deadline;
            if self.has_answered {
                classify(&status, late)
            } else {
                classify_inference(self.protocol, &status, late)
            }
        });
        self.has_answered = true;
        match next? {
            Some(response) => read(response, &self.question),
            None => Err(BackendError::Fault(
                "the stream ended without a final answer".to_owned(),
            )),
        }
    }
}

fn read(
    response: proto::ModelStreamInferResponse,
    question: &RequestIdentity,
) -> Result<StreamedResponse, BackendError> {
    let bytes = u64::try_from(response.encoded_len()).unwrap_or(u64::MAX);
    let proto::ModelStreamInferResponse {
        error_message,
        infer_response,
    } = response;
    if !error_message.is_empty() {
        let said: String = error_message.chars().take(MAX_MESSAGE_CHARS).collect();
        return Err(BackendError::Fault(format!("it reports: {said}")));
    }
    let Some(answer) = infer_response else {
        return Err(BackendError::Fault("an empty answer".to_owned()));
    };
    let last = match answer.parameters.get(FINAL_RESPONSE) {
        None => false,
        Some(proto::InferParameter {
            parameter_choice: Some(ParameterChoice::BoolParam(last)),
        }) => *last,
        Some(_) => {
            let cause = format!("its {FINAL_RESPONSE} is not a boolean");
            return Err(BackendError::Fault(cause));
        }
    };
    let empty = answer.outputs.is_empty() && answer.raw_output_contents.is_empty();
    let tensors = answer::tensors(answer, &question.id, &question.model, &question.version)?;
    Ok(StreamedResponse {
        tensors: (!(last && empty)).then_some(tensors),
        last,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    fn said(id: &str, last: Option<ParameterChoice>) -> proto::ModelStreamInferResponse {
        let mut answer = proto::ModelInferResponse {
            model_name: "m".into(),
            model_version: "1".into(),
            id: id.into(),
            ..Default::default()
        };
        if let Some(choice) = last {
            let parameter = proto::InferParameter {
                parameter_choice: Some(choice),
            };
            answer.parameters.insert(FINAL_RESPONSE.into(), parameter);
        }
        proto::ModelStreamInferResponse {
            error_message: String::new(),
            infer_response: Some(answer),
        }
    }

    fn check(response: proto::ModelStreamInferResponse, expected: Result<(bool, bool), &str>) {
        let question = RequestIdentity {
            id: "q".into(),
            model: "m".into(),
            version: "1".into(),
        };
        match (read(response, &question), expected) {
            (Ok(answer), Ok((says, last))) => {
                assert_eq!((answer.tensors.is_some(), answer.last), (says, last));
            }
            (Err(BackendError::Fault(cause)), Err(text)) => {
                assert!(cause.contains(text), "{cause}");
            }
            (got, expected) => panic!("got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn an_answer_says_whether_it_is_the_last_and_is_ours() {
        let flag = |last| Some(ParameterChoice::BoolParam(last));
        check(said("q", None), Ok((true, false)));
        check(said("q", flag(false)), Ok((true, false)));
        // Only the last message may be empty. Any other empty message is checked against the
        // contract.
        check(said("q", flag(true)), Ok((false, true)));
        let mut whole = said("q", flag(true));
        let output = proto::model_infer_response::InferOutputTensor {
            name: "y".into(),
            datatype: "UINT8".into(),
            shape: vec![0],
            ..Default::default()
        };
        if let Some(answer) = &mut whole.infer_response {
            answer.outputs.push(output);
            answer.raw_output_contents.push(bytes::Bytes::new());
        }
        check(whole, Ok((true, true)));
        check(said("other", flag(true)), Err("answers request"));
        check(said("other", None), Err("answers request"));
        let text = Some(ParameterChoice::StringParam("true".into()));
        check(said("q", text), Err("is not a boolean"));
        check(
            proto::ModelStreamInferResponse {
                error_message: "SECRET".into(),
                ..said("q", flag(true))
            },
            Err("SECRET"),
        );
        check(
            proto::ModelStreamInferResponse::default(),
            Err("an empty answer"),
        );
    }
}
