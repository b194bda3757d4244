//! A message of a stream whose charge the rate limit service has been asked for. It waits, and all that comes behind it waits with it, in order: with the
//! proxy, which holds so much and no more. What comes beyond that is not waited for any longer, and refused: nothing passes because somebody is in a hurry.

use tensorgate_policy::{Denial, Reason, Step};
use tensorgate_wire::expand;

use super::walk::{Judged, Message, View, Walk};
use super::{Came, Judge, Streaming};
use crate::body::ALWAYS_HELD_BYTES;
use crate::enforced::Enforced;
use crate::gate::{cannot_decide, read_body_at};
use crate::host::Proxy;
use crate::shared_limits::{Owed, answered, leave};

/// A message that waits.
#[derive(Debug)]
pub(super) struct Asking {
    message: Message,
    owed: Owed,
    /// What is judged, up to it.
    walk: Walk,
}

impl Asking {
    pub(super) const fn new(message: Message, owed: Owed, walk: Walk) -> Self {
        Self {
            message,
            owed,
            walk,
        }
    }
}

impl Streaming {
    /// Whether a message waits.
    pub(crate) const fn asks(&self) -> bool {
        self.asking.is_some()
    }

    /// Whether an answer is for the message that waits.
    pub(crate) fn asked_for(&self, token: u32) -> bool {
        let asking = self.asking.as_ref();
        asking.is_some_and(|asking| asking.owed.sent.token == token)
    }

    /// The stream is over before its message is told of.
    pub(crate) fn leave(&self, proxy: &mut dyn Proxy) {
        if let Some(asking) = &self.asking {
            leave(proxy, &asking.owed);
        }
    }

    /// Nothing comes behind what is held.
    pub(crate) fn over(&mut self) {
        if let Some(asking) = &mut self.asking {
            asking.walk.last = true;
        }
    }

    /// More has come behind the message that waits: `bytes` are held now.
    pub(super) fn more(
        &mut self,
        judge: &mut Judge<'_>,
        bytes: usize,
        last: bool,
    ) -> Result<Came, Denial> {
        let Some(mut asking) = self.asking.take() else {
            return Ok(Came::Waits);
        };
        asking.walk.held = bytes;
        asking.walk.last |= last;
        if bytes <= ALWAYS_HELD_BYTES || bytes <= most(judge) {
            self.asking = Some(asking);
            return Ok(Came::Waits);
        }
        let Asking {
            message,
            owed,
            mut walk,
        } = *asking;
        leave(judge.proxy, &owed);
        walk.hurries = true;
        let denial = Err(too_much_behind());
        match self.close(judge, &mut walk, message, denial, false)? {
            Judged::Over { ends: true } => self.end(judge, &View::NONE, walk, true),
            _ => self.walk(judge, View::NONE, walk),
        }
    }

    /// The service has answered: a message, or gRPC's status.
    pub(crate) fn go_on(
        &mut self,
        judge: &mut Judge<'_>,
        answer: Result<Vec<u8>, u32>,
    ) -> Result<Came, Denial> {
        let Some(asking) = self.asking.take() else {
            return Ok(Came::Waits);
        };
        let Asking {
            mut message,
            owed,
            mut walk,
        } = *asking;
        let now = match judge.proxy.now() {
            Ok(now) => now,
            Err(fault) => {
                leave(judge.proxy, &owed);
                return Err(cannot_decide(fault));
            }
        };
        let (policy, reserved) = (&judge.root.policy, &mut judge.dues.reserved);
        let outcome = answered(policy, judge.proxy, &owed.charge, answer, now, reserved);
        let step = message.decision.charged(policy, outcome);
        // The body is read again: nobody keeps a second one while a message waits.
        let judged = match &step {
            Step::Decode | Step::Check => {
                let place = message.place.clone();
                let frame = read_body_at(judge.proxy, place.start, place.len())?;
                expand(&self.plan, frame)
                    .and_then(|body| self.steps(judge, &mut message, &walk, &body, now, step))
            }
            _ => self.steps(judge, &mut message, &walk, &[], now, step),
        };
        let judged = match judged {
            Ok(Some(owed)) => {
                self.asking = Some(Box::new(Asking::new(message, owed, walk)));
                return Ok(Came::Waits);
            }
            Ok(None) => Ok(()),
            Err(denial) => Err(denial),
        };
        match self.close(judge, &mut walk, message, judged, false)? {
            Judged::Over { ends: true } => self.end(judge, &View::NONE, walk, true),
            _ => self.walk(judge, View::NONE, walk),
        }
    }
}

/// What the proxy holds of a stream at most while a message waits, bytes: one message, and what one read brings.
fn most(judge: &mut Judge<'_>) -> usize {
    let own = judge.root.policy.listen().limits().hold_bytes;
    let enforced = Enforced::read(judge.proxy).hold_bytes.unwrap_or(own);
    enforced.min(own).saturating_add(ALWAYS_HELD_BYTES)
}

/// The refusal of a message that cannot wait.
pub(super) fn too_much_behind() -> Denial {
    let cause = "more of the stream has come than is held while a message waits for its limits";
    Denial::new(Reason::Overloaded, cause)
}
