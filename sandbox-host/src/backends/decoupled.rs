//! Several answers to one request, over a stream of its own to the server: the request goes out, the stream's other half is closed, and answers come
//! until one says that it is the last. Each is read as untrusted input, as a single answer is. Dropping the stream cancels the request at the server.

use http::HeaderMap;
use http::uri::PathAndQuery;
use prost::Message as _;
use tensorgate_policy::Tensor;
use tensorgate_wire::encode::FINAL_RESPONSE;
use tensorgate_wire::proto;
use tensorgate_wire::proto::infer_parameter::ParameterChoice;
use tensorgate_wire::upstream::open_inference;
use tokio::time::Instant;
use tonic::Streaming;
use tonic::codegen::tokio_stream;

use super::oip::{Line, MAX_MESSAGE_CHARS, sort, timed, within};
use super::unary::Weighed;
use super::{BackendError, answer};

/// What the answers must be answers to.
#[derive(Clone, Debug)]
pub struct Question {
    /// Our own request id.
    pub id: String,
    /// The model's name at the backend.
    pub model: String,
    /// Its version.
    pub version: String,
}

/// One answer.
#[derive(Debug)]
pub struct Answered {
    /// What it says; not yet held against the contract. Nothing, where it only says that it is the last.
    pub tensors: Option<Vec<Tensor<'static>>>,
    /// Whether it is the last.
    pub last: bool,
    /// How long it was, bytes.
    pub bytes: u64,
}

/// A request's answers on their way.
#[derive(Debug)]
pub struct Answers {
    stream: Streaming<proto::ModelStreamInferResponse>,
    question: Question,
}

impl Line {
    /// Sends a request that may be answered several times, and reads the head of what comes: `deadline` is for that, and `until` for all of it.
    pub async fn infer_decoupled(
        &self,
        request: proto::ModelInferRequest,
        question: Question,
        claims: &HeaderMap,
        max_answer_bytes: usize,
        (deadline, until): (Instant, Instant),
    ) -> Result<Answers, BackendError> {
        let mut request = timed(tokio_stream::once(request), until);
        request.metadata_mut().as_mut().extend(claims.clone());
        let answers = async {
            let mut caller = self.caller(max_answer_bytes).await?;
            let codec = Weighed::new(open_inference::streamed_bytes, max_answer_bytes);
            let method = PathAndQuery::from_static(open_inference::INFER_STREAM);
            caller.streaming(request, method, codec).await
        };
        let stream = within(deadline, answers).await?;
        Ok(Answers { stream, question })
    }
}

impl Answers {
    /// The next answer, which is there before the deadline.
    pub async fn next(&mut self, deadline: Instant) -> Result<Answered, BackendError> {
        let next = tokio::time::timeout_at(deadline, self.stream.message()).await;
        let next = next.map_err(|_| {
            BackendError::Timeout("no further answer within the deadline".to_owned())
        })?;
        match next.map_err(|status| sort(&status, Instant::now() >= deadline))? {
            Some(response) => read(response, &self.question),
            None => Err(BackendError::Fault(
                "the answers ended, and none was the last".to_owned(),
            )),
        }
    }
}

fn read(
    response: proto::ModelStreamInferResponse,
    question: &Question,
) -> Result<Answered, BackendError> {
    let bytes = u64::try_from(response.encoded_len()).unwrap_or(u64::MAX);
    let proto::ModelStreamInferResponse {
        error_message,
        infer_response,
    } = response;
    if !error_message.is_empty() {
        let said: String = error_message.chars().take(MAX_MESSAGE_CHARS).collect();
        return Err(BackendError::Fault(format!("it says: {said}")));
    }
    let Some(answer) = infer_response else {
        return Err(BackendError::Fault(
            "an answer with nothing in it".to_owned(),
        ));
    };
    let last = match answer.parameters.get(FINAL_RESPONSE) {
        None => false,
        Some(proto::InferParameter {
            parameter_choice: Some(ParameterChoice::BoolParam(last)),
        }) => *last,
        Some(_) => {
            let cause = format!("its {FINAL_RESPONSE} is no boolean");
            return Err(BackendError::Fault(cause));
        }
    };
    let empty = answer.outputs.is_empty() && answer.raw_output_contents.is_empty();
    let tensors = answer::tensors(answer, &question.id, &question.model, &question.version)?;
    Ok(Answered {
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
        let question = Question {
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
        // The last one may say nothing else; any other that says nothing is held against the contract.
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
        check(said("q", text), Err("no boolean"));
        check(
            proto::ModelStreamInferResponse {
                error_message: "SECRET".into(),
                ..said("q", flag(true))
            },
            Err("SECRET"),
        );
        check(
            proto::ModelStreamInferResponse::default(),
            Err("nothing in it"),
        );
    }
}
