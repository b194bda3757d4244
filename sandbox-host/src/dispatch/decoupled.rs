//! A request that a backend answers several times, within the same places and queue as others. Its answers are read by a task of their own, one ahead of
//! whoever takes them: so a caller that dawdles keeps its place at the backend for no longer than all answers may take, and one that goes away has its
//! request cancelled there at once.

use std::time::Duration;

use tensorgate_policy::policy::Decoupled;
use tensorgate_policy::{Denial, Reason};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::call::Witness;
use super::{Chosen, Dispatcher, Latest, Place, denial};
use crate::backends::decoupled::{Answered, Answers, Question};
use crate::backends::{BackendError, Call, answer, oip};
use crate::metrics::Raised;

/// Answers that are read before the one in front of them is taken.
const AHEAD: usize = 1;

/// The answers to one request, in their order.
#[derive(Debug)]
pub struct Replies {
    witness: Witness,
    /// Which server answers, and since when it does.
    of: (usize, Instant),
    came: mpsc::Receiver<Result<Answered, Denial>>,
}

impl Replies {
    /// The next one. After the last one, or a refusal, there is none.
    pub async fn next(&mut self) -> Result<Answered, Denial> {
        self.came.recv().await.unwrap_or_else(|| {
            let cause = "the answers did not end within their time";
            Err(Denial::new(Reason::BackendTimeout, cause))
        })
    }

    /// One that was given breaks the contract: its server counts as one that refused.
    pub fn broken(&self) {
        let (place, since) = self.of;
        self.witness.pool.refused(place, since);
    }
}

/// What the answers keep while they are read.
struct Kept {
    _place: Place,
    _raised: Raised,
    chosen: Chosen,
}

/// How much of it there may still be.
struct Left {
    answers: u64,
    bytes: u64,
}

impl Dispatcher {
    /// Sends a request that may be answered several times, and waits for its first answer as for one that is answered once, until `latest`. All of them are
    /// there within the model's own bounds and before `until`. `waited`: for a place.
    pub async fn converse(
        &self,
        call: Call<'_>,
        bounds: &Decoupled,
        (latest, until): (Latest, Instant),
        waited: &mut Duration,
    ) -> Result<Replies, Denial> {
        let (mut place, raised, deadline) = self.enter(latest, waited).await?;
        let deadline = deadline.min(until);
        let (contract, version, claims) = (call.contract, call.version, call.claims);
        let max_answer_bytes = answer::max_bytes(call.outputs);
        let question = Question {
            id: call.id.to_owned(),
            model: call.model.to_owned(),
            version: version.to_owned(),
        };
        let request = oip::request(call).map_err(|error| denial(&error, self.health.name()))?;
        let mut attempts = self.attempts((contract, version), (deadline, latest));
        loop {
            let chosen = attempts.server().await?;
            let since = Instant::now();
            let begun = begin(
                &chosen,
                request.clone(),
                question.clone(),
                claims,
                max_answer_bytes,
                (deadline, until),
            )
            .await;
            let Some((answers, first)) = attempts.over(&chosen, begun)? else {
                continue;
            };
            place.served();
            let of = (chosen.place, since);
            let (to, came) = mpsc::channel(AHEAD);
            let kept = Kept {
                _place: place,
                _raised: raised,
                chosen,
            };
            tokio::spawn(read(answers, first, *bounds, until, kept, to));
            return Ok(Replies {
                witness: self.witness.clone(),
                of,
                came,
            });
        }
    }
}

/// Sends it, and waits for its first answer.
async fn begin(
    chosen: &Chosen,
    request: tensorgate_wire::proto::ModelInferRequest,
    question: Question,
    claims: &http::HeaderMap,
    max_answer_bytes: usize,
    (deadline, until): (Instant, Instant),
) -> Result<(Answers, Answered), BackendError> {
    let times = (deadline, until);
    let mut answers = chosen
        .line
        .infer_decoupled(request, question, claims, max_answer_bytes, times)
        .await?;
    let first = answers.next(deadline).await?;
    Ok((answers, first))
}

/// Reads answers until the last one is taken, nobody takes them any more, or their time is over. What it holds is given back then.
async fn read(
    mut answers: Answers,
    first: Answered,
    bounds: Decoupled,
    until: Instant,
    kept: Kept,
    to: mpsc::Sender<Result<Answered, Denial>>,
) {
    let left = Left {
        answers: bounds.max_answers,
        bytes: bounds.max_bytes,
    };
    let gap = Duration::from_millis(bounds.gap_ms);
    let at = kept.chosen.endpoint.uri();
    let all = pass_on(&mut answers, first, left, gap, until, at, &to);
    // A sleep, not a deadline on each step: whoever does not take an answer is bounded by it too.
    tokio::select! {
        () = all => {}
        () = tokio::time::sleep_until(until) => {}
        () = to.closed() => {}
    }
}

async fn pass_on(
    answers: &mut Answers,
    first: Answered,
    mut left: Left,
    gap: Duration,
    until: Instant,
    at: &str,
    to: &mpsc::Sender<Result<Answered, Denial>>,
) {
    let mut next = Ok(first);
    loop {
        let answer = next
            .and_then(|answer| left.take(answer))
            .map_err(|error| denial(&error, at));
        let over = answer.as_ref().map_or(true, |answer| answer.last);
        if to.send(answer).await.is_err() || over {
            return;
        }
        let deadline = Instant::now().checked_add(gap);
        let deadline = deadline.map_or(until, |deadline| deadline.min(until));
        next = answers.next(deadline).await;
    }
}

impl Left {
    /// Counts an answer.
    fn take(&mut self, answer: Answered) -> Result<Answered, BackendError> {
        let fault = |what: &str| Err(BackendError::Fault(what.to_owned()));
        // One that only says that they are over is none.
        let one = u64::from(answer.tensors.is_some());
        let (answers, bytes) = (
            self.answers.checked_sub(one),
            self.bytes.checked_sub(answer.bytes),
        );
        let Some(answers) = answers else {
            return fault("more answers than the policy lets it have");
        };
        let Some(bytes) = bytes else {
            return fault("answers of more bytes than the policy lets them have");
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
        let answer = |says: bool, bytes| Answered {
            tensors: says.then(Vec::new),
            last: !says,
            bytes,
        };
        for (coming, good) in [
            (vec![(true, 10), (true, 10), (false, 1)], 3),
            (vec![(true, 1), (true, 1), (true, 1)], 2),
            (vec![(true, 20), (false, 2)], 1),
            (vec![(true, 22)], 0),
        ] {
            let mut left = Left {
                answers: 2,
                bytes: 21,
            };
            let taken = coming
                .iter()
                .take_while(|(says, bytes)| left.take(answer(*says, *bytes)).is_ok());
            assert_eq!(taken.count(), good, "{coming:?}");
        }
    }
}
