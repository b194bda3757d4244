//! A stream of inferences at one filter: takes its messages off what comes, has each judged by a decision of its own, and says of each in a mark what
//! that came to. It sends nothing on and answers nothing: what goes on in place of what came is its result.

use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::{Decision, Denial, Now, Reason, Step};
use tensorgate_wire::context::{Key, Levels, Mark, Marker, Refusal};
use tensorgate_wire::messages::{Messages, Taken, framed};
use tensorgate_wire::{addressee, decode, expand};

use crate::body::ALWAYS_HELD_BYTES;
use crate::enforced::Enforced;
use crate::gate::cannot_decide;
use crate::host::Proxy;
use crate::outcome::Outcome;
use crate::pay::{Dues, MAX_STEPS, Paid, out_of_order, pay};
use crate::root::GateRoot;

/// Refused messages in a row, after which a stream is over: each costs its caller a few bytes, and us a judgement, an answer and a line in the log. What is
/// allowed is counted by its grant's rates.
pub const MAX_REFUSED_IN_A_ROW: u32 = 32;

/// Messages of one stream that are refused before anybody pays: for a model that is not granted, or that takes no such coding. One that names no model, or
/// cannot be read, ends its stream.
pub const MAX_UNPAID: u32 = 4;

/// Flag and length of a first frame.
const FIRST_BYTES: usize = 5;

/// A stream on its way.
#[derive(Debug)]
pub(crate) struct Streaming {
    plan: BodyPlan,
    messages: Messages,
    /// Who marks what goes on; nobody where nobody reads marks, and then the first refusal ends the stream.
    marker: Option<Marker>,
    /// Bytes that must be there before there is anything to do.
    wants: usize,
    /// The beginning of a message whose end was not there when the one before it went on. No longer than what one read brings, but for that the
    /// proxy holds what has come.
    begun: Vec<u8>,
    /// Whether the proxy holds the beginning of one.
    waits: bool,
    /// Messages that have come.
    number: u64,
    refused_in_a_row: u32,
    /// Messages refused before anybody paid.
    unpaid: u32,
    /// When the credential that opened it counts no more.
    until_unix_s: Option<u64>,
}

/// What came of what came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// The proxy holds it until there is more.
    Waits,
    /// It goes on as it now stands with the proxy. `ends`: whatever comes after it does not.
    GoesOn {
        /// Nothing more of the stream is looked at.
        ends: bool,
    },
}

/// Everything that a message is judged with.
pub(crate) struct Judge<'j> {
    pub(crate) root: &'j GateRoot,
    pub(crate) proxy: &'j mut dyn Proxy,
    /// The head's decision.
    pub(crate) stream: &'j Decision,
    pub(crate) dues: &'j mut Dues,
    pub(crate) outcome: &'j mut Outcome,
    pub(crate) request_id: &'j str,
}

/// What was read of a message that is refused.
#[derive(Default)]
struct Seen {
    /// Whether it names a model.
    named: bool,
    id: Option<String>,
}

/// What goes on: marks, and the frames that they are for, by their place in what came.
#[derive(Default)]
struct Out {
    pieces: Vec<(Vec<u8>, core::ops::Range<usize>)>,
}

impl Streaming {
    /// A stream whose head went on under the context that is `signed`, and came with one from the filter `before`.
    pub(crate) fn new(
        plan: BodyPlan,
        key: Option<&Key>,
        before: Option<&str>,
        signed: Option<&str>,
        until_unix_s: Option<u64>,
    ) -> Self {
        let marker = |context: Option<&str>| Some(Marker::new(key?, context?));
        let messages = match marker(before) {
            Some(marker) => Messages::marked(marker, plan.max_bytes),
            None => Messages::of_client(plan.max_bytes),
        };
        Self {
            plan,
            messages,
            marker: marker(signed.or(before)),
            wants: FIRST_BYTES,
            begun: Vec::new(),
            waits: false,
            number: 0,
            refused_in_a_row: 0,
            unpaid: 0,
            until_unix_s,
        }
    }

    /// Whether a message has begun and not ended.
    pub(crate) const fn waits(&self) -> bool {
        self.waits || !self.begun.is_empty()
    }

    /// Takes what has come: `bytes`, which the proxy holds, `last` if nothing follows. An error is one that no mark can tell: the stream is cut off.
    pub(crate) fn take(
        &mut self,
        judge: &mut Judge<'_>,
        bytes: usize,
        last: bool,
    ) -> Result<Came, Denial> {
        let mut bytes = bytes;
        if !self.begun.is_empty() {
            let begun = core::mem::take(&mut self.begun);
            judge
                .proxy
                .prepend_request_body(&begun)
                .map_err(cannot_decide)?;
            bytes = bytes.saturating_add(begun.len());
        }
        self.waits = bytes > 0;
        if bytes < self.wants && !last {
            return Ok(Came::Waits);
        }
        let came = crate::gate::read_body(judge.proxy, bytes)?;
        let now = judge.proxy.now().map_err(cannot_decide)?;
        let (mut out, mut at, mut ends) = (Out::default(), 0_usize, false);
        while !ends {
            let rest = came.get(at..).unwrap_or_default();
            match self.messages.take(rest) {
                Ok(Taken::Wants(wants)) => {
                    self.wants = wants;
                    let fault = self
                        .too_much(judge, wants)
                        .or_else(|| last.then(|| self.messages.end(rest.len()).err()).flatten());
                    if let Some(denial) = fault {
                        self.broken(judge, &mut out, denial)?;
                        ends = true;
                    }
                    break;
                }
                Ok(Taken::Message { mark, frame, used }) => {
                    let end = at.saturating_add(used);
                    let place = end.saturating_sub(frame.len())..end;
                    ends = self.message(judge, &mut out, mark, frame, place, now)?;
                    at = end;
                }
                // Judged by the filter before this one.
                Ok(Taken::Refused { refusal, used }) => {
                    self.number = self.number.saturating_add(1);
                    at = at.saturating_add(used);
                    ends = self.refuse(&mut out, *refusal)?;
                }
                Err(denial) => {
                    self.broken(judge, &mut out, denial)?;
                    ends = true;
                }
            }
        }
        if at == 0 && !last && !ends {
            return Ok(Came::Waits);
        }
        if !ends {
            self.begun = came.get(at..).unwrap_or_default().to_vec();
        }
        self.waits = false;
        out.put(judge.proxy, &came)?;
        Ok(Came::GoesOn { ends })
    }

    /// Judges one message; true if the stream is over with it.
    fn message(
        &mut self,
        judge: &mut Judge<'_>,
        out: &mut Out,
        mark: Option<Mark>,
        frame: &[u8],
        place: core::ops::Range<usize>,
        now: Now,
    ) -> Result<bool, Denial> {
        self.number = self.number.saturating_add(1);
        let mut decision = judge.stream.of_message();
        let mut seen = Seen::default();
        let over = self.until_unix_s.filter(|until| now.unix_s >= *until);
        let judged = match over {
            Some(_) => Err(Denial::new(
                Reason::Unauthenticated,
                "the credential that opened the stream has expired",
            )),
            None => self.judged(judge, &mut decision, frame, now, &mut seen),
        };
        let (model, rule) = self.told(judge, &decision, judged.as_ref().err());
        let denial = match judged {
            Ok(()) => {
                self.refused_in_a_row = 0;
                if let Some(marker) = &mut self.marker {
                    let mark = marker.write(&joined(mark, judge.root, &decision));
                    out.pieces.push((framed(&mark), place));
                } else {
                    out.pieces.push((Vec::new(), place));
                }
                return Ok(false);
            }
            Err(denial) => denial,
        };
        self.refused_in_a_row = self.refused_in_a_row.saturating_add(1);
        // Those come before the charge: no grant, and a coding that the model does not take.
        let unpaid = decision.model().is_none() || denial.reason == Reason::UnsupportedEncoding;
        self.unpaid = self.unpaid.saturating_add(u32::from(unpaid));
        let ends = over.is_some()
            || self.refused_in_a_row >= MAX_REFUSED_IN_A_ROW
            || (unpaid && (!seen.named || self.unpaid >= MAX_UNPAID));
        let refusal = Refusal {
            denial,
            model,
            rule,
            id: seen.id,
            shadowed: decision.shadowed().to_vec(),
            ends,
        };
        self.refuse(out, refusal)
    }

    /// The steps of one message's decision.
    fn judged(
        &self,
        judge: &mut Judge<'_>,
        decision: &mut Decision,
        frame: &[u8],
        now: Now,
        seen: &mut Seen,
    ) -> Result<(), Denial> {
        let (plan, root) = (self.plan, judge.root);
        let (policy, duties) = (&root.policy, root.filter.duties());
        let body = expand(&plan, frame)?;
        let addressee = addressee(plan.format, &body)?;
        seen.named = addressee.is_some();
        let mut step = decision.body(policy, frame.len(), addressee);
        let mut request = None;
        for _ in 0..MAX_STEPS {
            step = match (step, &request) {
                (Step::Deny(denial), _) => return Err(denial),
                (Step::Forward, _) => return Ok(()),
                (step @ (Step::Charge(_) | Step::Acquire(_)), _) => {
                    match pay(root, judge.proxy, decision, judge.dues, "", now, step) {
                        Paid::Step(step) => step,
                        // A grant of streams has no limit that gateways share.
                        Paid::Asked(..) => break,
                    }
                }
                (Step::Decode, None) if !duties.check && decision.model().is_some() => {
                    return Ok(());
                }
                (Step::Decode, None) => {
                    let decoded = decode(plan.format, &body, decision.read_by(policy))?;
                    seen.id = decoded.id.as_deref().map(str::to_owned);
                    decision.message(policy, request.insert(decoded))
                }
                (Step::Check, Some(_)) if !duties.check => return Ok(()),
                (Step::Check, Some(request)) => decision.check(policy, request),
                (
                    Step::Answer(..)
                    | Step::ReadBody(_)
                    | Step::ReadMessages(_)
                    | Step::Decode
                    | Step::Check,
                    _,
                ) => break,
            };
        }
        Err(out_of_order())
    }

    /// What is no message, and so the stream's end.
    fn broken(
        &mut self,
        judge: &mut Judge<'_>,
        out: &mut Out,
        denial: Denial,
    ) -> Result<bool, Denial> {
        self.number = self.number.saturating_add(1);
        self.told(judge, judge.stream, Some(&denial));
        self.refuse(out, Refusal::of(denial, true))
    }

    /// A refusal in place of what it refuses; true if the stream is over with it.
    fn refuse(&mut self, out: &mut Out, refusal: Refusal) -> Result<bool, Denial> {
        let Some(marker) = &mut self.marker else {
            return Err(refusal.denial);
        };
        let ends = refusal.ends;
        let mark = marker.write(&Mark::Refused(Box::new(refusal)));
        out.pieces.push((framed(&mark), 0..0));
        Ok(ends)
    }

    /// Whether more is wanted than the stream's listener, which may be an older policy's, lets a filter hold.
    fn too_much(&self, judge: &mut Judge<'_>, wants: usize) -> Option<Denial> {
        if wants <= ALWAYS_HELD_BYTES {
            return None;
        }
        let most = Enforced::read(judge.proxy).hold_bytes?;
        (wants > most).then(|| {
            let cause = format!("a message of {wants} bytes, {most} are held");
            Denial::new(Reason::BodyTooLarge, cause)
        })
    }

    /// Tells the log and the counters of a message; the names of its model and its grant.
    fn told(
        &self,
        judge: &mut Judge<'_>,
        decision: &Decision,
        denial: Option<&Denial>,
    ) -> (Option<String>, Option<String>) {
        let id = format!("{}-{}", judge.request_id, self.number);
        judge
            .outcome
            .message(judge.proxy, &judge.root.policy, decision, denial, &id)
    }
}

impl Out {
    /// Has the proxy hold what goes on in place of what came.
    fn put(self, proxy: &mut dyn Proxy, came: &[u8]) -> Result<(), Denial> {
        let whole = |range: &core::ops::Range<usize>| *range == (0..came.len());
        match self.pieces.as_slice() {
            // The usual one: a message by itself, which stays where it is.
            [(mark, range)] if whole(range) && mark.is_empty() => return Ok(()),
            [(mark, range)] if whole(range) => {
                return proxy.prepend_request_body(mark).map_err(cannot_decide);
            }
            _ => {}
        }
        let mut bytes = Vec::new();
        for (mark, range) in &self.pieces {
            bytes.extend_from_slice(mark);
            bytes.extend_from_slice(came.get(range.clone()).unwrap_or_default());
        }
        proxy.replace_request_body(&bytes).map_err(cannot_decide)
    }
}

/// What this filter says of a message that passed, and what the one before it said: each limit is charged by one filter.
fn joined(before: Option<Mark>, root: &GateRoot, decision: &Decision) -> Mark {
    let own = Levels {
        request: decision.levels(false).collect(),
        content: decision.levels(true).collect(),
    };
    let checks = root.filter.duties().check;
    match before {
        Some(Mark::Message { checked, levels }) => Mark::Message {
            checked: checks || checked,
            levels: own.or(levels),
        },
        Some(Mark::Refused(_)) | None => Mark::Message {
            checked: checks,
            levels: own,
        },
    }
}
