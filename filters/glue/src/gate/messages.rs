//! A gate whose request is a stream of inferences: the head goes on once it is judged, then every message that passes, each behind a mark, and a mark alone
//! in the place of every one that does not. Whoever stands behind answers for both. What no mark can tell cuts the stream off. While a message waits for
//! what the rate limit service says, the proxy holds it and what comes behind it; the answer's own callback has the stream go on.

use std::rc::Rc;

use tensorgate_policy::{Denial, Reason};

use super::{Gate, Held, Phase};
use crate::host::{Action, HostFault, Proxy};
use crate::streaming::{Came, Judge, Streaming};

impl Gate {
    /// More of a stream is in.
    pub(super) fn messages(&mut self, proxy: &mut dyn Proxy, bytes: usize, last: bool) -> Action {
        let Some((held, mut streaming)) = self.take_messages() else {
            return Action::Pause;
        };
        let came = self.with_judge(proxy, &held, |judge| streaming.take(judge, bytes, last));
        self.came(proxy, held, streaming, came)
    }

    /// The rate limit service has answered for the message that waits: it and those behind it are judged, and the stream goes on if it may.
    pub(super) fn message_told(&mut self, proxy: &mut dyn Proxy, answer: Result<Vec<u8>, u32>) {
        let Some((held, mut streaming)) = self.take_messages() else {
            return;
        };
        let came = self.with_judge(proxy, &held, |judge| streaming.go_on(judge, answer));
        if self.came(proxy, held, streaming, came) == Action::Continue {
            super::waiting::resume(proxy);
        }
    }

    fn with_judge<T>(
        &mut self,
        proxy: &mut dyn Proxy,
        held: &Held,
        judges: impl FnOnce(&mut Judge<'_>) -> T,
    ) -> T {
        let root = Rc::clone(&self.root);
        judges(&mut Judge {
            root: &root,
            proxy,
            stream: &held.decision,
            dues: &mut self.dues,
            outcome: &mut self.outcome,
            request_id: &held.upstream.request_id,
        })
    }

    /// What becomes of what came.
    fn came(
        &mut self,
        proxy: &mut dyn Proxy,
        held: Box<Held>,
        streaming: Box<Streaming>,
        came: Result<Came, Denial>,
    ) -> Action {
        match came {
            Err(denial) => self.refuse(proxy, held, denial),
            Ok(Came::Waits) => {
                self.phase = Phase::Messages(held, streaming);
                Action::Pause
            }
            Ok(Came::GoesOn { ends, last }) => {
                self.phase = match (last, ends) {
                    (true, _) => Phase::Forwarded,
                    (false, true) => Phase::Swallowing,
                    (false, false) => Phase::Messages(held, streaming),
                };
                Action::Continue
            }
        }
    }

    /// A stream ends in trailers: they say so behind its last message, or within one.
    pub(super) fn messages_end(
        &mut self,
        proxy: &mut dyn Proxy,
        cleared: Result<(), HostFault>,
    ) -> Action {
        let Some((held, mut streaming)) = self.take_messages() else {
            return Action::Pause;
        };
        if let Err(fault) = cleared {
            streaming.leave(proxy);
            return self.refuse(proxy, held, super::cannot_decide(fault));
        }
        if streaming.asks() {
            streaming.over();
            self.phase = Phase::Messages(held, streaming);
            return Action::Pause;
        }
        // Once a body is over nothing can be put into it.
        if streaming.waits() {
            let cause = "the stream ends inside a message";
            return self.refuse(proxy, held, Denial::new(Reason::Malformed, cause));
        }
        self.phase = Phase::Forwarded;
        Action::Continue
    }

    /// What comes behind the end of a stream goes nowhere.
    pub(super) fn swallow(&mut self, proxy: &mut dyn Proxy, bytes: usize) -> Action {
        if bytes == 0 {
            return Action::Continue;
        }
        match proxy.replace_request_body(&[]) {
            Ok(()) => Action::Continue,
            // Held then, and it ends with its stream.
            Err(_) => Action::Pause,
        }
    }

    pub(super) fn take_messages(&mut self) -> Option<(Box<Held>, Box<Streaming>)> {
        self.take(|phase| match phase {
            Phase::Messages(held, streaming) => Ok((held, streaming)),
            other => Err(other),
        })
    }
}
