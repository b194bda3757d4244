//! A gate whose request waits for what only a call to the outside can bring. It holds whatever comes meanwhile, and judges it once the wait is
//! over, in the order in which it came.

use super::{Gate, Phase};
use crate::body::ALWAYS_HELD_BYTES;
use crate::enforced::Enforced;
use crate::host::{Action, Level, Proxy};
use crate::keys::Awaited;
use crate::waiting::{Arrived, End, Place};

/// A request that waits.
pub(super) struct Waiting {
    what: For,
    arrived: Arrived,
    place: Place,
}

/// What for.
enum For {
    /// A key that its issuer may have published since its keys were fetched. Nothing of the request is judged yet.
    Keys(Awaited),
}

impl Gate {
    /// Whether the request waits for a key, so that [`Self::wake`] is to be called once [`Self::is_due`].
    pub const fn waits(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_))
    }

    /// Whether what it waits for is there, or will not come in time.
    pub fn is_due(&self, now_ns: u64) -> bool {
        match &self.phase {
            Phase::Waiting(waiting) => match &waiting.what {
                For::Keys(awaited) => self.root.keys.borrow().is_over(awaited, now_ns),
            },
            _ => false,
        }
    }

    /// Ends the wait: judges what has come, and has the stream go on if it may. Called from a callback that is not the stream's own.
    pub fn wake(&mut self, proxy: &mut dyn Proxy) {
        let Some(waiting) = self.take_waiting() else {
            return;
        };
        let arrived = waiting.arrived;
        let came_to = self.go_on(proxy, *waiting);
        if arrived.goes_on_by_itself() {
            return;
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
        if action == Action::Continue
            && let Err(fault) = proxy.resume()
        {
            // The request stays on hold, and the proxy's own timeout ends it.
            proxy.log(Level::Error, &format!("a request that waited: {fault}"));
        }
    }

    /// Waits for a key. Its place is free again when the wait ends, however it does.
    pub(super) fn wait_for_key(
        &mut self,
        proxy: &mut dyn Proxy,
        awaited: Awaited,
        place: Place,
        end_of_stream: bool,
    ) -> Action {
        self.phase = Phase::Waiting(Box::new(Waiting {
            what: For::Keys(awaited),
            arrived: Arrived::head(end_of_stream),
            place,
        }));
        self.root.hurried.set(true);
        proxy.tick_soon();
        Action::Pause
    }

    /// More of the body of a request that waits. One that is too large to be held, alone or beside the others that wait, waits no longer.
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
        if fits && waiting.place.holds(body_bytes) {
            waiting.arrived = Arrived::body(body_bytes, end_of_stream);
            self.phase = Phase::Waiting(waiting);
            return Action::Pause;
        }
        self.go_on(proxy, *waiting);
        self.on_request_body(proxy, body_bytes, end_of_stream)
    }

    /// The trailers of a request that waits.
    pub(super) fn wait_with_trailers(&mut self) -> Action {
        if let Phase::Waiting(waiting) = &mut self.phase {
            waiting.arrived = waiting.arrived.trailers();
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
            place: _place,
        } = waiting;
        match what {
            For::Keys(awaited) => {
                let head_only = arrived.end == End::Head;
                self.judge_head(proxy, head_only, Some(&awaited))
            }
        }
    }

    pub(super) fn take_waiting(&mut self) -> Option<Box<Waiting>> {
        match core::mem::replace(&mut self.phase, Phase::Denied) {
            Phase::Waiting(waiting) => Some(waiting),
            other => {
                self.phase = other;
                None
            }
        }
    }
}
