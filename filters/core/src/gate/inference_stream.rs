//! A gate whose request is a stream of inferences.
//!
//! The head is forwarded once it is accepted. The sandbox host judges and answers the messages, and
//! the gate passes them unread, within the bound of [`UnansweredChunks`]. Without a host the gate
//! judges each message and forwards the accepted ones. The first rejection ends the stream.

use std::rc::Rc;

use super::{Gate, PendingRequest, Phase};
use crate::host::{Action, HostFault, Proxy, cannot_decide};
use crate::message_stream::{MessageContext, MessageStream, UnansweredChunks};

impl Gate {
    /// Passes more data of a stream that the host judges.
    pub(super) fn pass_messages(
        &mut self,
        proxy: &mut dyn Proxy,
        bytes: usize,
        last: bool,
    ) -> Action {
        let Some((pending, mut chunks)) = self.take_passing() else {
            return Action::Pause;
        };
        let added = chunks.add(bytes, |start, most| proxy.request_body(start, most));
        if let Err(denial) = added {
            // The stream is counted as allowed since its head.
            if let Some(cause) = denial.overload {
                proxy.count_overload(cause);
            }
            return self.refuse(proxy, pending, denial);
        }
        self.phase = if last {
            Phase::Forwarded
        } else {
            Phase::PassingMessages(pending, chunks)
        };
        Action::Continue
    }

    /// Handles more of the response: `bytes` new bytes. They are looked at only for a stream that
    /// the host judges and that has not ended.
    pub fn on_response_body(&mut self, proxy: &mut dyn Proxy, bytes: usize) {
        if let Phase::PassingMessages(_, chunks) = &mut self.phase {
            chunks.answer(bytes, |start, most| proxy.response_body(start, most));
        }
    }

    /// Judges more data of a stream.
    pub(super) fn messages(&mut self, proxy: &mut dyn Proxy, bytes: usize, last: bool) -> Action {
        let Some((pending, mut stream)) = self.take_messages() else {
            return Action::Pause;
        };
        match self.with_context(proxy, &pending, |ctx| stream.take(ctx, bytes, last)) {
            Ok(action) => {
                self.phase = if last {
                    Phase::Forwarded
                } else {
                    Phase::Messages(pending, stream)
                };
                action
            }
            Err(denial) => self.refuse(proxy, pending, denial),
        }
    }

    fn with_context<T>(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: &PendingRequest,
        work: impl FnOnce(&mut MessageContext<'_>) -> T,
    ) -> T {
        let root = Rc::clone(&self.root);
        work(&mut MessageContext {
            root: &root,
            proxy,
            stream: &pending.decision,
            resources: &mut self.resources,
            outcome: &mut self.outcome,
            request_id: &pending.upstream.request_id,
        })
    }

    /// A stream ends in trailers. `cleared`: whether the client's trailers are removed.
    pub(super) fn messages_end(
        &mut self,
        proxy: &mut dyn Proxy,
        cleared: Result<(), HostFault>,
    ) -> Action {
        let cleared = cleared.map_err(cannot_decide);
        let (pending, ended) = if let Some((pending, _)) = self.take_passing() {
            (pending, cleared)
        } else if let Some((pending, mut stream)) = self.take_messages() {
            let ended = cleared.and_then(|()| {
                self.with_context(proxy, &pending, |ctx| stream.end_in_trailers(ctx))
            });
            (pending, ended)
        } else {
            return Action::Pause;
        };
        if let Err(denial) = ended {
            return self.refuse(proxy, pending, denial);
        }
        self.phase = Phase::Forwarded;
        Action::Continue
    }

    fn take_passing(&mut self) -> Option<(Box<PendingRequest>, Box<UnansweredChunks>)> {
        self.take(|phase| match phase {
            Phase::PassingMessages(pending, chunks) => Ok((pending, chunks)),
            other => Err(other),
        })
    }

    fn take_messages(&mut self) -> Option<(Box<PendingRequest>, Box<MessageStream>)> {
        self.take(|phase| match phase {
            Phase::Messages(pending, stream) => Ok((pending, stream)),
            other => Err(other),
        })
    }
}
