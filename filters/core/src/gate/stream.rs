//! The states of a request at one filter, and the one place that says which event leads where.
//! `docs/explanation/filter-states.md` has the same table.

mod advance;
mod arrived;
mod delivery;
mod event_context;
mod forward_mode;
mod forwarded;
mod head;
mod lingering;
mod messages;
mod pending;
mod readiness;
mod second_gate;
mod signed_context;
mod streaming;
mod waiting;

use std::rc::Rc;

use tensorgate_policy::Decision;
use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::request::{CallerDigests, Operations};

use crate::body::Body;
use crate::body::small_chunks::SmallChunks;
use crate::host::Proxy;
use crate::identify::PreviousFilters;
use crate::keys::AwaitedFetch;
use crate::quota::rate_limit_service::PendingCharge;
use crate::root::{GateRoot, WaitPermit};
use crate::steps::streaming_validation::StreamingValidator;
use crate::upstream::{Rewrite, Upstream};
use arrived::Arrived;
use event_context::Transition;
pub(super) use event_context::{Effect, EventContext};
use lingering::Lingering;
use messages::Messages;
use streaming::Streaming;

/// State of a request.
pub(super) enum Stream {
    /// No event has arrived.
    Fresh,
    /// The verdict is open. The head is held, unless headers are forwarded first.
    Waiting(Waiting),
    /// The body is validated while it streams. Only without a host.
    Streaming(Box<Streaming>),
    /// The head was forwarded, and messages follow.
    Messages(Box<Messages>),
    /// Nothing is left to decide.
    Forwarded(Forwarded),
    /// Rejected, or the stream ended before its verdict. Final.
    Closed(Closed),
}

/// What of a forwarded request is to come.
#[derive(Debug)]
pub(super) enum Forwarded {
    /// Nothing: it is complete.
    Complete,
    /// The rest of a body that this filter does not read.
    Unread(SmallChunks),
    /// All but the head, untouched. A gate before this one decides and reports, or this is the
    /// readiness probe: nothing is reported here.
    Exempt,
}

/// What is left of a request that ended here.
pub(super) enum Closed {
    /// Nothing more is sent: it was answered, or its stream has ended.
    Over,
    /// The response waits until the rest of the body was discarded.
    Lingering(Box<Lingering>),
}

/// A request whose verdict is open.
struct PendingRequest {
    decision: Decision,
    previous: PreviousFilters,
    upstream: Upstream,
    /// Changes to the proxy's headers that remain, except the signed context.
    rewrite: Rewrite,
    /// Size of names and values of the original headers, in bytes.
    head_bytes: usize,
    body: Body,
    /// Body bytes that have arrived, except during a wait for a limit, which counts them itself.
    body_bytes: usize,
    /// The longest body that this filter judges, in bytes. `None`: there is no host, so the filter
    /// judges all.
    bound: Option<usize>,
    /// Whether this filter stopped at a charge that the host makes before it looks at the body.
    leaves_charge: bool,
    /// Operations that the credential does not allow.
    withheld: Operations,
    /// End user and source, for a host that limits them.
    caller: CallerDigests,
    /// When the credential expires, in Unix seconds.
    until_unix_s: Option<u64>,
    /// Set once the headers were forwarded.
    forwarded_head: Option<Box<ForwardedHead>>,
}

/// What follows a forwarded head.
enum Remainder {
    /// Nothing: the request is complete.
    None,
    /// A body that this filter does not read.
    PassThrough,
    /// A body that is validated while it streams.
    Validated(StreamingValidator),
    /// Messages in this format.
    Messages(BodyPlan),
}

/// What a filter keeps of a request whose head was forwarded.
#[derive(Debug, Default)]
struct ForwardedHead {
    /// Copy of the body so far, if this filter evaluates or withholds the body.
    copy: Rc<Vec<u8>>,
    /// Whether trailers have arrived, after which a proxy accepts no more body.
    in_trailers: bool,
    /// Used if a host is behind this filter: otherwise the body is withheld.
    small_chunks: SmallChunks,
}

/// What a request with an open verdict waits for.
pub(super) enum Waiting {
    /// A key that the issuer may have published since the last fetch. Nothing is evaluated yet.
    Key(Box<KeyWait>),
    /// The rate-limit service's answer to a charge. Only without a host.
    Limit(Box<LimitWait>),
    /// More of the body.
    Body(BodyWait),
}

/// A request that waits for a key.
pub(super) struct KeyWait {
    fetch: AwaitedFetch,
    permit: WaitPermit,
    arrived: Arrived,
    /// Whether the body is buffered during the wait. A stream of messages is not: a client may wait
    /// for the first answer before it sends more, so only new data would resume the stream.
    holds: bool,
}

/// A request that is accepted so far and has a pending charge.
pub(super) struct LimitWait {
    pending: Box<PendingRequest>,
    charge: PendingCharge,
    arrived: Arrived,
}

/// A request that is accepted so far and whose body is arriving.
pub(super) struct BodyWait {
    pending: Box<PendingRequest>,
    /// Bytes that arrived before the headers were forwarded and that the next callback repeats.
    unread_bytes: usize,
}

/// What happens to a request.
#[derive(Debug)]
pub(super) enum Event {
    /// The headers arrive; `end`: nothing follows.
    Head { end: bool },
    /// More of the body arrives: `bytes` are in the proxy's buffer.
    Body { bytes: usize, end: bool },
    /// The trailers arrive: the body is complete, although no body callback said so.
    Trailers,
    /// The rate-limit service answers with a message or a gRPC status.
    Answer(Result<Vec<u8>, u32>),
    /// The wait is over, or the time is.
    Tick,
    /// The stream ends, for any reason.
    Done,
}

/// Name of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Waiting,
    Streaming,
    Messages,
    Forwarded,
    Closed,
}

/// Name of an event.
#[derive(Clone, Copy, Debug)]
enum EventKind {
    Head,
    Body,
    Trailers,
    Answer,
    Tick,
    Done,
}

/// The states that may follow a state and an event. If there are none, the state stays.
const fn next_states(state: State, event: EventKind) -> &'static [State] {
    use {EventKind as On, State::*};
    match (state, event) {
        (Fresh, On::Head) => &[Waiting, Messages, Forwarded, Closed],
        (Waiting, On::Body) => &[Waiting, Streaming, Messages, Forwarded, Closed],
        (Waiting, On::Trailers | On::Answer) => &[Waiting, Forwarded, Closed],
        (Waiting, On::Tick) => &[Waiting, Messages, Forwarded, Closed],
        (Streaming, On::Body) => &[Streaming, Forwarded, Closed],
        (Streaming, On::Trailers) => &[Forwarded, Closed],
        (Messages, On::Body) => &[Messages, Forwarded, Closed],
        (Messages, On::Trailers) => &[Forwarded, Closed],
        (Forwarded, On::Body | On::Trailers) => &[Forwarded, Closed],
        (Fresh | Waiting | Streaming, On::Done) => &[Closed],
        _ => &[],
    }
}

impl Stream {
    /// Handles an event.
    pub(super) fn on(self, ctx: &mut EventContext<'_>, event: Event) -> Transition {
        let (before, kind) = (self.state(), event.kind());
        let transition = match (self, event) {
            (Self::Fresh, Event::Head { end }) => head::evaluate(ctx, end, None),
            (Self::Fresh, Event::Done) => {
                ctx.outcome.ended_before_head(ctx.proxy);
                (Self::OVER, Effect::Pause)
            }
            (Self::Waiting(waiting), Event::Body { bytes, end }) => waiting.body(ctx, bytes, end),
            (Self::Waiting(waiting), Event::Trailers) => waiting.trailers(ctx),
            (Self::Waiting(waiting), Event::Answer(answer)) => waiting.answer(ctx, answer),
            (Self::Waiting(waiting), Event::Tick) => waiting.tick(ctx),
            (Self::Waiting(waiting), Event::Done) => waiting.done(ctx),
            (Self::Streaming(streaming), Event::Body { bytes, end }) => {
                streaming.body(ctx, bytes, end)
            }
            (Self::Streaming(streaming), Event::Trailers) => streaming.trailers(ctx),
            (Self::Streaming(streaming), Event::Done) => streaming.done(ctx),
            (Self::Messages(messages), Event::Body { bytes, end }) => {
                messages.body(ctx, bytes, end)
            }
            (Self::Messages(messages), Event::Trailers) => messages.trailers(ctx),
            (Self::Forwarded(forwarded), Event::Body { bytes, end }) => {
                forwarded.body(ctx, bytes, end)
            }
            (Self::Forwarded(forwarded), Event::Trailers) => forwarded.trailers(ctx),
            (Self::Closed(Closed::Lingering(lingering)), Event::Body { bytes, end }) => {
                lingering.body(ctx, bytes, end)
            }
            (Self::Closed(Closed::Lingering(lingering)), Event::Trailers | Event::Tick) => {
                lingering.end()
            }
            (
                stream @ Self::Fresh,
                Event::Body { .. } | Event::Trailers | Event::Answer(_) | Event::Tick,
            )
            | (stream @ Self::Waiting(_), Event::Head { .. })
            | (
                stream @ (Self::Streaming(_) | Self::Messages(_) | Self::Forwarded(_)),
                Event::Head { .. } | Event::Answer(_) | Event::Tick,
            )
            | (stream @ (Self::Messages(_) | Self::Forwarded(_)), Event::Done)
            | (stream @ Self::Closed(_), _) => (stream, Effect::Pause),
        };
        let (after, listed) = (transition.0.state(), next_states(before, kind));
        debug_assert!(
            listed.contains(&after) || (listed.is_empty() && after == before),
            "{before:?} {kind:?} {after:?}"
        );
        transition
    }

    /// Nothing more is sent.
    pub(super) const OVER: Self = Self::Closed(Closed::Over);

    /// Whether another gate decides and reports, or this is the readiness probe.
    pub(super) const fn is_exempt(&self) -> bool {
        matches!(self, Self::Forwarded(Forwarded::Exempt))
    }

    /// While the verdict is open, the decision so far; `Some(None)` before the head is evaluated.
    pub(super) const fn open_decision(&self) -> Option<Option<&Decision>> {
        match self {
            Self::Waiting(waiting) => Some(waiting.decision()),
            Self::Streaming(streaming) => Some(Some(streaming.decision())),
            _ => None,
        }
    }

    /// Whether more is to come of a request that waits.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Waiting(waiting) => waiting.is_open(),
            _ => false,
        }
    }

    /// Whether a tick may change something: a wait for a key, a response that waits for the end of
    /// its request, or a body that may never be delivered.
    pub(super) fn waits(&self, root: &GateRoot) -> bool {
        match self {
            Self::Waiting(Waiting::Key(_)) | Self::Closed(Closed::Lingering(_)) => true,
            Self::Waiting(Waiting::Body(wait)) => delivery::is_body_unknown(root, &wait.pending),
            _ => false,
        }
    }

    /// Whether that wait is over.
    pub(super) fn is_due(&self, root: &GateRoot, now_ns: u64) -> bool {
        match self {
            Self::Waiting(Waiting::Key(wait)) => root.keys.borrow().is_over(&wait.fetch, now_ns),
            Self::Waiting(Waiting::Body(wait)) => delivery::is_body_unknown(root, &wait.pending),
            Self::Closed(Closed::Lingering(lingering)) => lingering.is_due(now_ns),
            // The call's own answer or timeout ends a wait for a limit.
            _ => false,
        }
    }

    /// The token of the pending call to the rate-limit service.
    pub(super) const fn pending_call(&self) -> Option<u32> {
        match self {
            Self::Waiting(Waiting::Limit(wait)) => Some(wait.charge.call.token),
            _ => None,
        }
    }

    /// Handles more of the response: `bytes` new bytes.
    pub(super) fn response(&mut self, proxy: &mut dyn Proxy, bytes: usize) {
        if let Self::Messages(messages) = self {
            messages.response(proxy, bytes);
        }
    }

    const fn state(&self) -> State {
        match self {
            Self::Fresh => State::Fresh,
            Self::Waiting(_) => State::Waiting,
            Self::Streaming(_) => State::Streaming,
            Self::Messages(_) => State::Messages,
            Self::Forwarded(_) => State::Forwarded,
            Self::Closed(_) => State::Closed,
        }
    }
}

impl Event {
    const fn kind(&self) -> EventKind {
        match self {
            Self::Head { .. } => EventKind::Head,
            Self::Body { .. } => EventKind::Body,
            Self::Trailers => EventKind::Trailers,
            Self::Answer(_) => EventKind::Answer,
            Self::Tick => EventKind::Tick,
            Self::Done => EventKind::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../../docs/explanation/filter-states.md");

    #[test]
    fn the_page_has_the_table() {
        use {EventKind as On, State::*};
        let events = [
            On::Head,
            On::Body,
            On::Trailers,
            On::Answer,
            On::Tick,
            On::Done,
        ];
        let mut table = String::from("| state |");
        events
            .iter()
            .for_each(|event| table += &format!(" {event:?} |"));
        table += &format!("\n|---|{}\n", "---|".repeat(events.len()));
        for state in [Fresh, Waiting, Streaming, Messages, Forwarded, Closed] {
            table += &format!("| {state:?} |");
            for event in events {
                let next = next_states(state, event).iter();
                let names: Vec<_> = next.map(|state| format!(" {state:?}")).collect();
                table += &format!("{} |", names.join(","));
            }
            table.push('\n');
        }
        assert!(PAGE.contains(&format!("\n\n{table}\n")), "{table}");
    }
}
