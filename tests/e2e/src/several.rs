//! How the stand-in answers one message several times, and how such answers can be wrong.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tensorgate_wire::proto::infer_parameter::ParameterChoice;
use tensorgate_wire::proto::{InferParameter, ModelInferResponse, ModelStreamInferResponse};
use tokio::time::Sleep;
use tonic::Status;
use tonic::codegen::tokio_stream::Stream;

use crate::backend::SECRET;

/// How the answers to one message come and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Several {
    /// So many answers, and then an empty one that is marked as the last.
    Then(usize),
    /// So many answers, of which the last one is marked as such.
    Whole(usize),
    /// So many answers, none of which is marked as the last.
    Unended(usize),
    /// So many answers, and then nothing more.
    Stalls(usize),
    /// So many answers, and then an error text that no caller may see.
    Fails(usize),
    /// So many answers, and then a status with that text.
    Breaks(usize),
    /// Answers without end.
    Endless,
    /// An answer to another request.
    OfAnother,
    /// An answer with one element too many.
    TooLarge,
    /// An answer of more bytes than any that the contract allows.
    Oversized,
    /// An answer whose mark of the last one is not a boolean.
    NoBoolean,
}

impl Default for Several {
    fn default() -> Self {
        Self::Then(1)
    }
}

/// Answers that are being sent. Dropping this decrements the number of open streams.
pub struct Answers {
    several: Several,
    answer: ModelInferResponse,
    given: usize,
    over: bool,
    open: Arc<AtomicUsize>,
    /// The pause before the next answer, where answers have no end. A client's library takes a
    /// flood of small frames for an attack.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Answers {
    /// Answers that are copies of one.
    pub fn new(several: Several, answer: ModelInferResponse, open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self {
            several,
            answer,
            given: 0,
            over: false,
            open: Arc::clone(open),
            pause: None,
        }
    }

    fn with(&self, last: ParameterChoice) -> ModelInferResponse {
        let mut answer = self.answer.clone();
        let parameter = InferParameter {
            parameter_choice: Some(last),
        };
        answer
            .parameters
            .insert("triton_final_response".into(), parameter);
        answer
    }

    fn empty(&self) -> ModelInferResponse {
        let mut answer = self.with(ParameterChoice::BoolParam(true));
        answer.outputs.clear();
        answer.raw_output_contents.clear();
        answer
    }

    /// The next answer, or the end; pending for ever where nothing more comes.
    fn next(&mut self) -> Poll<Option<Result<ModelStreamInferResponse, Status>>> {
        let flag = ParameterChoice::BoolParam;
        let said = |answer| {
            Poll::Ready(Some(Ok(ModelStreamInferResponse {
                error_message: String::new(),
                infer_response: Some(answer),
            })))
        };
        if self.over {
            return Poll::Ready(None);
        }
        self.given += 1;
        let behind = |count: usize| self.given == count + 1;
        let mut answer = self.with(flag(false));
        match self.several {
            Several::Then(count) if behind(count) => {
                self.over = true;
                return said(self.empty());
            }
            Several::Whole(count) if self.given == count => {
                self.over = true;
                return said(self.with(flag(true)));
            }
            Several::Unended(count) if behind(count) => return Poll::Ready(None),
            Several::Stalls(count) if behind(count) => {
                // At the next poll there is still nothing.
                self.given -= 1;
                return Poll::Pending;
            }
            Several::Fails(count) if behind(count) => {
                self.over = true;
                return Poll::Ready(Some(Ok(ModelStreamInferResponse {
                    error_message: SECRET.into(),
                    infer_response: Some(self.empty()),
                })));
            }
            Several::Breaks(count) if behind(count) => {
                self.over = true;
                return Poll::Ready(Some(Err(Status::internal(SECRET))));
            }
            Several::OfAnother => answer.id = "another".into(),
            Several::TooLarge => {
                answer.outputs[0].shape[0] += 1;
                let raw = &mut answer.raw_output_contents[0];
                *raw = Bytes::from(vec![0; raw.len() * 2]);
            }
            Several::Oversized => {
                answer.raw_output_contents[0] = Bytes::from(vec![0; 1 << 20]);
            }
            Several::NoBoolean => {
                answer = self.with(ParameterChoice::StringParam("true".into()));
            }
            _ => {}
        }
        said(answer)
    }
}

impl Stream for Answers {
    type Item = Result<ModelStreamInferResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
        }
        if matches!(self.several, Several::Endless) {
            self.pause = Some(Box::pin(tokio::time::sleep(Duration::from_millis(1))));
        }
        // A task that waits for ever is never woken: the connection drops it.
        self.next()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}
