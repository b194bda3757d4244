//! A stream of inferences at one filter: takes its messages off what comes, has each judged by a decision of its own, and says of each in a mark what
//! that came to. It sends nothing on and answers nothing: what goes on in place of what came is its result. One whose charge the rate limit service is
//! asked for waits, and all behind it (the module `asking`).

mod asking;
mod out;
mod walk;

use core::ops::Range;

use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::{Decision, Denial, Now, Reason, Step};
use tensorgate_wire::context::{Key, Mark, Marker, Refusal};
use tensorgate_wire::messages::{Messages, Taken, framed};
use tensorgate_wire::{addressee, decode, expand};

use crate::body::ALWAYS_HELD_BYTES;
use crate::enforced::Enforced;
use crate::gate::{cannot_decide, read_body, read_body_at};
use crate::host::Proxy;
use crate::outcome::Outcome;
use crate::pay::{Dues, MAX_STEPS, Paid, out_of_order, pay};
use crate::reserved::Reserved;
use crate::root::GateRoot;
use crate::shared_limits::Owed;
use crate::waiting::Place;
use asking::Asking;
use out::{Out, joined};
use walk::{Judged, Message, Seen, View, Walk};

/// Refused messages in a row, after which a stream is over: each costs its caller a few bytes, and us a judgement, an answer and a line in the log. What is
/// allowed is counted by its grant's rates.
pub const MAX_REFUSED_IN_A_ROW: u32 = 32;

/// Messages of one stream that are refused before anybody pays: for a model that is not granted, or that takes no such coding. One that names no model, or
/// cannot be read, ends its stream.
pub const MAX_UNPAID: u32 = 4;

/// Messages that are judged, and go on with one that waits: marks are longer than the shortest of messages.
const MAX_JUDGED: usize = 1024;

/// Flag and length of a first frame.
const FIRST_BYTES: usize = 5;
/// What is read at once of what came behind a message that has waited.
const WINDOW_BYTES: usize = 16 << 10;

/// A stream on its way.
#[derive(Debug)]
pub(crate) struct Streaming {
    plan: BodyPlan,
    messages: Messages,
    /// Who marks what goes on; nobody where nobody reads marks, and then the first refusal ends the stream.
    marker: Option<Marker>,
    /// Bytes that must be there before there is anything to do.
    wants: usize,
    /// The beginning of a message whose end was not there when the one before it went on. No longer than what one read brings, or else it has a
    /// place; but for that the proxy holds what has come.
    begun: Vec<u8>,
    place: Option<Place>,
    /// The message that waits.
    asking: Option<Box<Asking>>,
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
    /// It goes on as it now stands with the proxy.
    GoesOn {
        /// Nothing more of the stream is looked at.
        ends: bool,
        /// Nothing more of it comes.
        last: bool,
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
            place: None,
            asking: None,
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
        if self.asks() {
            return self.more(judge, bytes, last);
        }
        let mut bytes = bytes;
        if !self.begun.is_empty() {
            let begun = core::mem::take(&mut self.begun);
            judge
                .proxy
                .prepend_request_body(&begun)
                .map_err(cannot_decide)?;
            bytes = bytes.saturating_add(begun.len());
            self.place = None;
        }
        self.waits = bytes > 0;
        if bytes < self.wants && !last {
            return Ok(Came::Waits);
        }
        let view = View {
            start: 0,
            bytes: read_body(judge.proxy, bytes)?,
        };
        let walk = Walk {
            out: Out::default(),
            at: 0,
            held: bytes,
            last,
            hurries: false,
        };
        self.walk(judge, view, walk)
    }

    /// Takes one message after the other, until one waits or none is whole.
    fn walk(
        &mut self,
        judge: &mut Judge<'_>,
        mut view: View,
        mut walk: Walk,
    ) -> Result<Came, Denial> {
        let now = judge.proxy.now().map_err(cannot_decide)?;
        let mut ends = false;
        while !ends {
            let (rest, left) = (view.from(walk.at), walk.held.saturating_sub(walk.at));
            let wants = match self.messages.take(rest) {
                Ok(Taken::Wants(wants)) => wants,
                Ok(Taken::Message { mark, frame, used }) => {
                    let end = walk.at.saturating_add(used);
                    let place = end.saturating_sub(frame.len())..end;
                    walk.at = end;
                    match self.message(judge, &mut walk, (mark, place), frame, now)? {
                        Judged::Over { ends: over } => ends = over,
                        Judged::Asks(message, owed) => {
                            self.asking = Some(Box::new(Asking::new(*message, owed, walk)));
                            return Ok(Came::Waits);
                        }
                    }
                    continue;
                }
                // Judged by the filter before this one.
                Ok(Taken::Refused { refusal, used }) => {
                    self.number = self.number.saturating_add(1);
                    walk.at = walk.at.saturating_add(used);
                    ends = self.refuse(&mut walk.out, *refusal)?;
                    continue;
                }
                Err(denial) => {
                    ends = self.broken(judge, &mut walk.out, denial)?;
                    continue;
                }
            };
            // There is more than was read.
            if rest.len() < wants.min(left) {
                view = View::read(judge.proxy, walk.at, left.min(wants.max(WINDOW_BYTES)))?;
                continue;
            }
            self.wants = wants;
            let fault = self
                .too_much(judge, wants)
                .or_else(|| walk.last.then(|| self.messages.end(left).err()).flatten());
            if let Some(denial) = fault {
                ends = self.broken(judge, &mut walk.out, denial)?;
            }
            break;
        }
        self.end(judge, &view, walk, ends)
    }

    /// Has the proxy hold what goes on.
    fn end(
        &mut self,
        judge: &mut Judge<'_>,
        view: &View,
        mut walk: Walk,
        mut ends: bool,
    ) -> Result<Came, Denial> {
        if walk.at == 0 && !walk.last && !ends {
            return Ok(Came::Waits);
        }
        let left = walk.held.saturating_sub(walk.at);
        if !ends && left > ALWAYS_HELD_BYTES {
            // What came behind a message that has waited.
            let place = judge.root.behind.enter();
            self.place = place.and_then(|mut place| place.holds(left).then_some(place));
            if self.place.is_none() {
                let cause = "too much has come behind messages that waited";
                let denial = Denial::new(Reason::Overloaded, cause);
                ends = self.broken(judge, &mut walk.out, denial)?;
            }
        }
        if !ends {
            let read = view.from(walk.at);
            self.begun = if read.len() == left {
                read.to_vec()
            } else {
                read_body_at(judge.proxy, walk.at, left)?
            };
        }
        self.waits = false;
        let whole = view.start == 0 && view.bytes.len() == walk.held;
        let came = whole.then_some(view.bytes.as_slice());
        walk.out.put(judge.proxy, came, walk.held)?;
        Ok(Came::GoesOn {
            ends,
            last: walk.last,
        })
    }

    /// Judges one message, as far as that goes without waiting.
    fn message(
        &mut self,
        judge: &mut Judge<'_>,
        walk: &mut Walk,
        (mark, place): (Option<Mark>, Range<usize>),
        frame: &[u8],
        now: Now,
    ) -> Result<Judged, Denial> {
        self.number = self.number.saturating_add(1);
        let mut message = Message {
            decision: judge.stream.of_message(),
            mark,
            place,
            seen: Seen::default(),
        };
        let over = self.until_unix_s.is_some_and(|until| now.unix_s >= until);
        let judged = if over {
            Err(Denial::new(
                Reason::Unauthenticated,
                "the credential that opened the stream has expired",
            ))
        } else if walk.hurries {
            Err(asking::too_much_behind())
        } else {
            self.judged(judge, &mut message, walk, frame, now)
        };
        match judged {
            Ok(Some(owed)) => Ok(Judged::Asks(Box::new(message), owed)),
            Ok(None) => self.close(judge, walk, message, Ok(()), over),
            Err(denial) => self.close(judge, walk, message, Err(denial), over),
        }
    }

    /// What is said of a message that is judged. `over`: the stream is, whatever it says of this one.
    fn close(
        &mut self,
        judge: &mut Judge<'_>,
        walk: &mut Walk,
        message: Message,
        judged: Result<(), Denial>,
        over: bool,
    ) -> Result<Judged, Denial> {
        // Nobody settles what a message reserves.
        judge.dues.reserved = Reserved::default();
        let Message {
            decision,
            mark,
            place,
            seen,
        } = message;
        let (model, rule) = self.told(judge, &decision, judged.as_ref().err());
        let denial = match judged {
            Ok(()) => {
                self.refused_in_a_row = 0;
                let mark = self.marker.as_mut().map(|marker| {
                    let mark = joined(mark, judge.root, &decision);
                    framed(&marker.write(&mark))
                });
                walk.out.push(mark.unwrap_or_default(), place);
                return Ok(Judged::Over { ends: false });
            }
            Err(denial) => denial,
        };
        self.refused_in_a_row = self.refused_in_a_row.saturating_add(1);
        // Those come before the charge: no grant, and a coding that the model does not take.
        let early = decision.model().is_none() && denial.reason != Reason::Overloaded;
        let unpaid = early || denial.reason == Reason::UnsupportedEncoding;
        self.unpaid = self.unpaid.saturating_add(u32::from(unpaid));
        let ends = over
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
        let ends = self.refuse(&mut walk.out, refusal)?;
        Ok(Judged::Over { ends })
    }

    /// The first steps of one message's decision: until it has to wait for what it owes, if it has to.
    fn judged(
        &self,
        judge: &mut Judge<'_>,
        message: &mut Message,
        walk: &Walk,
        frame: &[u8],
        now: Now,
    ) -> Result<Option<Owed>, Denial> {
        let body = expand(&self.plan, frame)?;
        let addressee = addressee(self.plan.format, &body)?;
        message.seen.named = addressee.is_some();
        let policy = &judge.root.policy;
        let step = message.decision.body(policy, frame.len(), addressee);
        self.steps(judge, message, walk, &body, now, step)
    }

    /// One step after the other.
    fn steps(
        &self,
        judge: &mut Judge<'_>,
        message: &mut Message,
        walk: &Walk,
        body: &[u8],
        now: Now,
        first: Step,
    ) -> Result<Option<Owed>, Denial> {
        let (plan, root) = (self.plan, judge.root);
        let (policy, duties) = (&root.policy, root.filter.duties());
        let Message { decision, seen, .. } = message;
        let (mut step, mut request) = (first, None);
        for _ in 0..MAX_STEPS {
            step = match (step, &request) {
                (Step::Deny(denial), _) => return Err(denial),
                (Step::Forward, _) => return Ok(None),
                (Step::Charge(charge), _)
                    if !charge.scope.is_local() && walk.out.len() >= MAX_JUDGED =>
                {
                    return Err(asking::too_much_behind());
                }
                (step @ (Step::Charge(_) | Step::Acquire(_)), _) => {
                    match pay(root, judge.proxy, decision, judge.dues, "", now, step) {
                        Paid::Step(step) => step,
                        Paid::Asked(owed) => return Ok(Some(owed)),
                    }
                }
                (Step::Decode, None) if !duties.check && decision.model().is_some() => {
                    return Ok(None);
                }
                (Step::Decode, None) => {
                    let decoded = decode(plan.format, body, decision.read_by(policy))?;
                    seen.id = decoded.id.as_deref().map(str::to_owned);
                    decision.message(policy, request.insert(decoded))
                }
                (Step::Check, _) if !duties.check => return Ok(None),
                (Step::Check, Some(request)) => decision.check(policy, request),
                // Decoded before it had to wait, and not kept.
                (Step::Check, None) => {
                    let decoded = decode(plan.format, body, decision.read_by(policy))?;
                    decision.check(policy, request.insert(decoded))
                }
                (
                    Step::Answer(..) | Step::ReadBody(_) | Step::ReadMessages(_) | Step::Decode,
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
        out.push(framed(&mark), 0..0);
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
