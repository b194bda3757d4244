//! A gate whose request waits for what only a call to the outside can bring. It holds whatever comes meanwhile, and judges it once the wait is
//! over, in the order in which it came.
//!
//! | waits for | a piece of its body | more than may be held | the answer, or no more time | the stream ends |
//! |---|---|---|---|---|
//! | a key | held, in the worker's room | the wait is over | the head is judged with the keys that there are, then what came | its place is free |
//! | limits, with a body to come | held | it passes on; its end waits for the answer | the decision goes on, then what came | nobody waits for the answer |
//! | limits, of a message of a stream | held | the message is refused | the stream goes on from there (`messages`) | nobody waits for the answer |
//! | limits, all of it here | there is none | | the body is read again, the decision goes on | nobody waits for the answer |

use tensorgate_policy::{ChargeOutcome, Step};

use super::{Gate, Held, Phase, cannot_decide};
use crate::body::{ALWAYS_HELD_BYTES, Body};
use crate::enforced::Enforced;
use crate::host::{Action, Level, Proxy};
use crate::keys::Awaited;
use crate::shared_limits::{Owed, answered, leave};
use crate::waiting::{Arrived, End, Place};

/// A request that waits.
pub(super) struct Waiting {
    what: For,
    arrived: Arrived,
    /// Whether it waits with its body, too. A stream of messages does not: whoever sent its first one may send no other before that is answered, and
    /// only what comes would have it go on.
    holds: bool,
}

/// What for.
enum For {
    /// A key that its issuer may have published since its keys were fetched. Nothing of the request is judged yet.
    Keys(Awaited, Place),
    /// What the rate limit service says to a charge.
    Limits(OnHold),
}

/// A request that is allowed so far, and has asked.
struct OnHold {
    held: Box<Held>,
    owed: Owed,
    /// Whether all of it is here, so that nothing more comes before the answer.
    whole: bool,
}

impl Gate {
    /// Whether the request waits for a key, so that [`Self::wake`] is to be called once [`Self::is_due`].
    pub fn waits(&self) -> bool {
        match &self.phase {
            Phase::Waiting(waiting) => matches!(waiting.what, For::Keys(..)),
            _ => false,
        }
    }

    /// Whether an answer of the rate limit service is for this request.
    pub fn asked_for(&self, token: u32) -> bool {
        let waits = match &self.phase {
            Phase::Waiting(waiting) => match &waiting.what {
                For::Limits(on_hold) => on_hold.owed.sent.token == token,
                For::Keys(..) => false,
            },
            Phase::Messages(_, streaming) => streaming.asked_for(token),
            _ => false,
        };
        waits || self.dues.owed.iter().any(|owed| owed.sent.token == token)
    }

    /// Whether an answer of the rate limit service is on its way.
    pub fn asks(&self) -> bool {
        let waits = match &self.phase {
            Phase::Waiting(waiting) => matches!(waiting.what, For::Limits(_)),
            Phase::Messages(_, streaming) => streaming.asks(),
            _ => false,
        };
        waits || !self.dues.owed.is_empty()
    }

    /// Whether what it waits for is there, or will not come in time.
    pub fn is_due(&self, now_ns: u64) -> bool {
        match &self.phase {
            Phase::Waiting(waiting) => match &waiting.what {
                For::Keys(awaited, _) => self.root.keys.borrow().is_over(awaited, now_ns),
                // Its own answer ends that wait, or that none came in time.
                For::Limits(_) => false,
            },
            _ => false,
        }
    }

    /// Ends the wait: judges what has come, and has the stream go on if it may. Called from a callback that is not the stream's own.
    pub fn wake(&mut self, proxy: &mut dyn Proxy) {
        if !self.waits() {
            return;
        }
        let Some(waiting) = self.take_waiting() else {
            return;
        };
        let arrived = waiting.arrived;
        let came_to = self.go_on(proxy, *waiting);
        self.carry_on(proxy, arrived, came_to);
    }

    /// The rate limit service has answered: a message, or gRPC's status.
    pub fn on_limits_answer(
        &mut self,
        proxy: &mut dyn Proxy,
        token: u32,
        answer: Result<Vec<u8>, u32>,
    ) {
        if !self.asked_for(token) {
            return;
        }
        if let Some(place) = self
            .dues
            .owed
            .iter()
            .position(|owed| owed.sent.token == token)
        {
            let owed = self.dues.owed.remove(place);
            return self.told_late(proxy, &owed, answer);
        }
        if matches!(self.phase, Phase::Messages(..)) {
            return self.message_told(proxy, answer);
        }
        let Some(waiting) = self.take_waiting() else {
            return;
        };
        let arrived = waiting.arrived;
        if let For::Limits(on_hold) = waiting.what {
            let came_to = self.told(proxy, on_hold, arrived, answer);
            self.carry_on(proxy, arrived, came_to);
        }
    }

    /// What an answer comes to for the request that waits for it.
    fn told(
        &mut self,
        proxy: &mut dyn Proxy,
        on_hold: OnHold,
        arrived: Arrived,
        answer: Result<Vec<u8>, u32>,
    ) -> Action {
        let OnHold {
            mut held,
            owed,
            whole,
        } = on_hold;
        let now = match proxy.now() {
            Ok(now) => now,
            Err(fault) => {
                leave(proxy, &owed);
                return self.refuse(proxy, held, cannot_decide(fault));
            }
        };
        let policy = &self.root.policy;
        let reserved = &mut self.dues.reserved;
        let outcome = answered(policy, proxy, &owed.charge, answer, now, reserved);
        let step = held.decision.charged(policy, outcome);
        if !whole {
            return self.advance(proxy, held, now, step, None, arrived.end == End::Head);
        }
        match (step, held.body) {
            // The body is read again: nobody keeps a second one while a request waits.
            (step @ (Step::Decode | Step::Check), Body::Judge(plan)) => {
                match self.whole_body(proxy, &held, plan) {
                    Ok(body) => self.advance(proxy, held, now, step, Some((plan, &body)), true),
                    Err(denial) => self.refuse(proxy, held, denial),
                }
            }
            (step, _) => self.advance(proxy, held, now, step, None, true),
        }
    }

    /// Judges what has come while a request waited, and has its stream go on if it may.
    fn carry_on(&mut self, proxy: &mut dyn Proxy, arrived: Arrived, came_to: Action) {
        if arrived.goes_on_by_itself() {
            return self.keep(proxy, arrived);
        }
        let action = match arrived.end {
            End::Open | End::Head => came_to,
            End::Body => self.on_request_body(proxy, arrived.bytes, true),
            End::Trailers => {
                if arrived.bytes > 0 {
                    self.on_request_body(proxy, arrived.bytes, false);
                }
                self.on_request_trailers(proxy)
            }
        };
        if action == Action::Continue {
            resume(proxy);
        }
    }

    /// Remembers what has come of a body of which more is to come: where that is trailers alone, nobody says again how much there is.
    fn keep(&mut self, proxy: &mut dyn Proxy, arrived: Arrived) {
        if let Phase::Waiting(waiting) = &mut self.phase {
            return waiting.came(arrived);
        }
        let Some(mut held) = self.take_held() else {
            return;
        };
        held.body_bytes = arrived.bytes;
        if arrived.bytes > ALWAYS_HELD_BYTES {
            held.body = held.body.within(Enforced::read(proxy));
        }
        match held.body.fits(arrived.bytes) {
            Ok(()) => self.phase = Phase::Held(held),
            Err(denial) => {
                self.refuse(proxy, held, denial);
            }
        }
    }

    /// Waits for a key. Its place is free again when the wait ends, however it does.
    pub(super) fn wait_for_key(
        &mut self,
        proxy: &mut dyn Proxy,
        awaited: Awaited,
        place: Place,
        end_of_stream: bool,
        holds: bool,
    ) -> Action {
        self.phase = Phase::Waiting(Box::new(Waiting {
            what: For::Keys(awaited, place),
            arrived: Arrived::head(end_of_stream),
            holds,
        }));
        self.root.hurried.set(true);
        proxy.tick_soon();
        Action::Pause
    }

    /// Waits for the rate limit service. `whole`: all of the request is here.
    pub(super) fn wait_for_limits(
        &mut self,
        held: Box<Held>,
        owed: Owed,
        whole: bool,
        end_of_stream: bool,
    ) -> Action {
        let on_hold = OnHold { held, owed, whole };
        self.phase = Phase::Waiting(Box::new(Waiting {
            what: For::Limits(on_hold),
            // Whole or a head alone: there is nothing that the wait's end would have to catch up with.
            arrived: Arrived::head(end_of_stream || whole),
            holds: true,
        }));
        Action::Pause
    }

    /// More of the body of a request that waits. One that is too large to be held waits no longer, and a stream of messages.
    pub(super) fn wait_with_body(
        &mut self,
        proxy: &mut dyn Proxy,
        body_bytes: usize,
        end_of_stream: bool,
    ) -> Action {
        let Some(mut waiting) = self.take_waiting() else {
            return Action::Pause;
        };
        let fits = body_bytes <= ALWAYS_HELD_BYTES || body_bytes <= self.may_hold(proxy);
        if body_bytes == 0 || (waiting.holds && fits && waiting.has_room(body_bytes)) {
            waiting.came(Arrived::body(body_bytes, end_of_stream));
            self.phase = Phase::Waiting(waiting);
            return Action::Pause;
        }
        self.go_on(proxy, *waiting);
        self.on_request_body(proxy, body_bytes, end_of_stream)
    }

    /// The trailers of a request that waits.
    pub(super) fn wait_with_trailers(&mut self) -> Action {
        if let Phase::Waiting(waiting) = &mut self.phase {
            waiting.came(waiting.arrived.trailers());
        }
        Action::Pause
    }

    /// Bytes of a body that may be held before anything is known of the request.
    fn may_hold(&self, proxy: &mut dyn Proxy) -> usize {
        let own = self.root.policy.listen().limits().hold_bytes;
        let enforced = Enforced::read(proxy).hold_bytes;
        enforced.map_or(own, |enforced| enforced.min(own))
    }

    /// What the wait has come to, as the callback in which it began would have said it.
    fn go_on(&mut self, proxy: &mut dyn Proxy, waiting: Waiting) -> Action {
        let Waiting {
            what,
            arrived,
            holds: _,
        } = waiting;
        match what {
            For::Keys(awaited, _place) => {
                let head_only = arrived.end == End::Head;
                self.judge_head(proxy, head_only, Some(&awaited))
            }
            For::Limits(OnHold { mut held, owed, .. }) => {
                let now = match proxy.now() {
                    Ok(now) => now,
                    Err(fault) => {
                        leave(proxy, &owed);
                        return self.refuse(proxy, held, cannot_decide(fault));
                    }
                };
                // Nobody holds more of it: it passes, and the charge is told before its end does.
                let step = (held.decision).charged(&self.root.policy, ChargeOutcome::Later);
                self.dues.owed.push(owed);
                self.advance(proxy, held, now, step, None, false)
            }
        }
    }

    pub(super) fn take_waiting(&mut self) -> Option<Box<Waiting>> {
        self.take(|phase| match phase {
            Phase::Waiting(waiting) => Ok(waiting),
            other => Err(other),
        })
    }
}

impl Waiting {
    /// Takes room for so many bytes of the body, if there is: what waits for keys shares it, since nothing of that is judged yet.
    fn has_room(&mut self, bytes: usize) -> bool {
        match &mut self.what {
            For::Keys(_, place) => place.holds(bytes),
            For::Limits(_) => true,
        }
    }

    /// More has come. Of a request that is here as a whole nothing does.
    fn came(&mut self, arrived: Arrived) {
        let whole = match &self.what {
            For::Keys(..) => false,
            For::Limits(on_hold) => on_hold.whole,
        };
        if !whole {
            self.arrived = arrived;
        }
    }

    /// The request as it stands and what it has asked, where something of it is judged.
    pub(super) const fn judged(&self) -> Option<(&Held, &Owed)> {
        match &self.what {
            For::Keys(..) => None,
            For::Limits(on_hold) => Some((&on_hold.held, &on_hold.owed)),
        }
    }
}

/// Has a stream go on, from a callback that is not its own.
pub(super) fn resume(proxy: &mut dyn Proxy) {
    if let Err(fault) = proxy.resume() {
        // The request stays on hold, and the proxy's own timeout ends it.
        proxy.log(Level::Error, &format!("a request that waited: {fault}"));
    }
}
