//! Dispatch of a decoupled request, which a backend answers with several responses. It uses the
//! same permits and queue as other requests.
//!
//! A task of its own reads the responses, one ahead of the consumer. A slow consumer therefore
//! holds its permit no longer than the time limit for all responses. When the consumer goes away,
//! the request is cancelled at the backend at once.

use std::time::Duration;

use http::HeaderMap;
use tensorgate_judge::response_size;
use tensorgate_policy::denial::AnswerLimit;
use tensorgate_policy::policy::Decoupled;
use tensorgate_policy::{Denial, Reason};
use tensorgate_telemetry::metrics::GaugeGuard;
use tensorgate_wire::proto::ModelInferRequest;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::attempt_loop::{Attempt, Attempts};
use super::in_flight::CallObserver;
use super::{Deadline, Dispatcher, Permit, SelectedEndpoint};
use crate::backends::decoupled::{DecoupledStream, RequestIdentity, StreamedResponse};
use crate::backends::{BackendError, Call, oip};

/// The number of responses that are read ahead of the consumer.
const READ_AHEAD: usize = 1;

/// The responses to one request, in order.
#[derive(Debug)]
pub struct ResponseStream {
    witness: CallObserver,
    /// The index of the endpoint that answers, and the time when the call started.
    call: (usize, Instant),
    responses: mpsc::Receiver<Result<StreamedResponse, Denial>>,
}

impl ResponseStream {
    /// Sends a request that may have several responses, and waits for the first one until the
    /// request's deadline. All responses must arrive within the model's own bounds and before
    /// `until`. Sets `waited` to the time spent waiting for a permit.
    pub async fn open(
        dispatcher: &Dispatcher,
        call: Call<'_>,
        bounds: &Decoupled,
        (request_deadline, until): (Deadline, Instant),
        waited: &mut Duration,
    ) -> Result<Self, Denial> {
        let (mut permit, raised, deadline) = dispatcher.acquire(request_deadline, waited).await?;
        let deadline = deadline.min(until);
        let (contract, version, claims) = (call.contract, call.version, call.claims);
        let max_answer_bytes = response_size::max_bytes(call.outputs);
        let identity = RequestIdentity {
            id: call.id.to_owned(),
            model: call.model.to_owned(),
            version: version.to_owned(),
        };
        let request =
            oip::request(call).map_err(|error| error.to_denial(dispatcher.health.name()))?;
        let attempts = Attempts::new(
            dispatcher,
            (contract, version),
            (deadline, request_deadline),
        );
        let opening = Opening {
            request,
            identity,
            claims,
            max_answer_bytes,
            until,
        };
        let (chosen, (since, answers, first)) = attempts.run(opening).await?;
        chosen.call.report_success();
        permit.mark_answered();
        let of = (chosen.index, since);
        let (to, came) = mpsc::channel(READ_AHEAD);
        let kept = StreamResources {
            _place: permit,
            _raised: raised,
            chosen,
        };
        tokio::spawn(read(answers, first, *bounds, until, kept, to));
        Ok(Self {
            witness: dispatcher.observer.clone(),
            call: of,
            responses: came,
        })
    }

    /// The next response. There is none after the last response or after a denial.
    pub async fn next(&mut self) -> Result<StreamedResponse, Denial> {
        self.responses.recv().await.unwrap_or_else(|| {
            let cause = "the answers did not end within the deadline";
            let denial = Denial::new(Reason::BackendTimeout, cause);
            Err(denial.limited_by(AnswerLimit::Time))
        })
    }

    /// Reports that a response breaks the contract. This counts as a rejection by the endpoint.
    pub fn report_contract_violation(&self) {
        let (endpoint_index, since) = self.call;
        self.witness.pool.on_rejection(endpoint_index, since);
    }
}

/// The resources that are held while responses are read.
struct StreamResources {
    _place: Permit,
    _raised: GaugeGuard,
    chosen: SelectedEndpoint,
}

/// The number of responses and bytes that may still come.
struct RemainingBounds {
    answers: u64,
    bytes: u64,
}

/// The start of a stream of responses.
struct Opening<'a> {
    request: ModelInferRequest,
    identity: RequestIdentity,
    claims: &'a HeaderMap,
    max_answer_bytes: usize,
    /// The deadline of all responses.
    until: Instant,
}

impl Attempt for Opening<'_> {
    /// When the request was sent, the responses, and the first of them.
    type Answer = (Instant, DecoupledStream, StreamedResponse);

    async fn send(
        &mut self,
        to: &SelectedEndpoint,
        deadline: Instant,
    ) -> Result<Self::Answer, BackendError> {
        let since = Instant::now();
        let (request, identity) = (self.request.clone(), self.identity.clone());
        let (claims, most) = (self.claims, self.max_answer_bytes);
        let times = (deadline, self.until);
        let line = to.channel.as_deref();
        let line = line.ok_or_else(BackendError::other_protocol)?;
        let answers = DecoupledStream::open(line, request, identity, claims, most, times);
        let mut answers = answers.await?;
        let first = answers.next(deadline).await?;
        Ok((since, answers, first))
    }
}

/// Reads responses until the last one, until the consumer goes away, or until the time limit. Then
/// it releases the held resources.
async fn read(
    mut answers: DecoupledStream,
    first: StreamedResponse,
    bounds: Decoupled,
    until: Instant,
    kept: StreamResources,
    to: mpsc::Sender<Result<StreamedResponse, Denial>>,
) {
    let left = RemainingBounds {
        answers: bounds.max_answers,
        bytes: bounds.max_bytes,
    };
    let gap = Duration::from_millis(bounds.gap_ms);
    let at = kept.chosen.endpoint.uri();
    let all = forward(&mut answers, first, left, gap, until, at, &to);
    // One sleep bounds the whole loop, not each step. It also bounds a consumer that does not take
    // a response.
    tokio::select! {
        () = all => {}
        () = tokio::time::sleep_until(until) => {}
        () = to.closed() => {}
    }
}

async fn forward(
    answers: &mut DecoupledStream,
    first: StreamedResponse,
    mut left: RemainingBounds,
    gap: Duration,
    until: Instant,
    at: &str,
    to: &mpsc::Sender<Result<StreamedResponse, Denial>>,
) {
    let mut next = Ok(first);
    loop {
        let answer = next.and_then(|answer| left.take(answer, at));
        let over = answer.as_ref().map_or(true, |answer| answer.last);
        if to.send(answer).await.is_err() || over {
            return;
        }
        let deadline = Instant::now().checked_add(gap);
        let deadline = deadline.map_or(until, |deadline| deadline.min(until));
        let received = answers.next(deadline).await;
        next = received.map_err(|error| no_answer(&error, at, deadline, until));
    }
}

/// The denial for an answer that did not come. A late one is beyond a limit of the policy.
fn no_answer(error: &BackendError, at: &str, deadline: Instant, until: Instant) -> Denial {
    let denial = error.to_denial(at);
    let is_late = matches!(error, BackendError::Timeout(_)) && Instant::now() >= deadline;
    match (is_late, deadline < until) {
        (false, _) => denial,
        (true, true) => denial.limited_by(AnswerLimit::Gap),
        (true, false) => denial.limited_by(AnswerLimit::Time),
    }
}

impl RemainingBounds {
    /// Counts a response of an endpoint against the bounds.
    fn take(&mut self, answer: StreamedResponse, at: &str) -> Result<StreamedResponse, Denial> {
        let beyond = |limit: AnswerLimit, what: &str| {
            let denial = BackendError::Fault(what.to_owned()).to_denial(at);
            Err(denial.limited_by(limit))
        };
        // A message that only ends the stream is not a response.
        let one = u64::from(answer.tensors.is_some());
        let (answers, bytes) = (
            self.answers.checked_sub(one),
            self.bytes.checked_sub(answer.bytes),
        );
        let Some(answers) = answers else {
            return beyond(
                AnswerLimit::Answers,
                "more answers than the policy allows (max_answers)",
            );
        };
        let Some(bytes) = bytes else {
            return beyond(
                AnswerLimit::Bytes,
                "answers of more bytes than the policy allows (max_bytes)",
            );
        };
        *self = Self { answers, bytes };
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_number_and_bytes() {
        let answer = |has_tensors: bool, bytes| StreamedResponse {
            tensors: has_tensors.then(Vec::new),
            last: !has_tensors,
            bytes,
        };
        for (coming, good) in [
            (vec![(true, 10), (true, 10), (false, 1)], 3),
            (vec![(true, 1), (true, 1), (true, 1)], 2),
            (vec![(true, 20), (false, 2)], 1),
            (vec![(true, 22)], 0),
        ] {
            let mut left = RemainingBounds {
                answers: 2,
                bytes: 21,
            };
            let taken = coming.iter().take_while(|(has_tensors, bytes)| {
                left.take(answer(*has_tensors, *bytes), "e").is_ok()
            });
            assert_eq!(taken.count(), good, "{coming:?}");
        }
    }

    #[test]
    fn a_denial_beyond_a_bound_names_the_limit_to_the_client() {
        let answer = |bytes| StreamedResponse {
            tensors: Some(Vec::new()),
            last: false,
            bytes,
        };
        for (left, bytes, limit) in [(0, 1, AnswerLimit::Answers), (1, 22, AnswerLimit::Bytes)] {
            let mut left = RemainingBounds {
                answers: left,
                bytes: 21,
            };
            let denial = left.take(answer(bytes), "backend").err();
            assert_eq!(denial.and_then(|denial| denial.limit), Some(limit));
        }
        let now = Instant::now();
        let later = now.checked_add(Duration::from_secs(1)).unwrap_or(now);
        let late = BackendError::Timeout("late".to_owned());
        for (error, deadline, until, limit) in [
            (&late, now, later, Some(AnswerLimit::Gap)),
            (&late, now, now, Some(AnswerLimit::Time)),
            // The server's own timeout, and what is no timeout.
            (&late, later, later, None),
            (&BackendError::Fault("x".to_owned()), now, now, None),
        ] {
            assert_eq!(no_answer(error, "backend", deadline, until).limit, limit);
        }
    }
}
