//! A gate whose request is a stream of inferences.
//!
//! The head is forwarded once it is accepted. Each accepted message is forwarded after a signed
//! envelope; a rejected message is replaced by an envelope alone. The sandbox host answers both
//! kinds. An error that no envelope can express ends the stream. While a message waits for the
//! rate-limit service, the proxy buffers that message and the following ones. The callback of the
//! service's answer resumes the stream.

use std::rc::Rc;

use tensorgate_policy::Denial;
use tensorgate_wire::messages::INCOMPLETE;

use super::forwarding::add_trailer;
use super::{Gate, PendingRequest, Phase};
use crate::host::{Action, HostFault, Proxy, cannot_decide};
use crate::message_stream::{MessageContext, MessageStream, StreamProgress};

impl Gate {
    /// Handles more data of a stream.
    pub(super) fn messages(&mut self, proxy: &mut dyn Proxy, bytes: usize, last: bool) -> Action {
        let Some((pending, mut stream)) = self.take_messages() else {
            return Action::Pause;
        };
        let came = self.with_context(proxy, &pending, |ctx| stream.take(ctx, bytes, last));
        self.apply_progress(proxy, pending, stream, came)
    }

    /// Handles the rate-limit service's answer for the waiting message. That message and the
    /// buffered ones are evaluated, and the stream resumes if allowed.
    pub(super) fn message_charge_response(
        &mut self,
        proxy: &mut dyn Proxy,
        answer: Result<Vec<u8>, u32>,
    ) {
        let Some((pending, mut stream)) = self.take_messages() else {
            return;
        };
        let came = self.with_context(proxy, &pending, |ctx| stream.charge_response(ctx, answer));
        if self.apply_progress(proxy, pending, stream, came) == Action::Continue {
            super::waiting::resume(proxy);
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

    /// Applies the result of processing stream data.
    fn apply_progress(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: Box<PendingRequest>,
        stream: Box<MessageStream>,
        came: Result<StreamProgress, Denial>,
    ) -> Action {
        match came {
            Err(denial) => {
                stream.cancel(proxy);
                self.refuse(proxy, pending, denial)
            }
            Ok(StreamProgress::Buffer) => {
                self.phase = Phase::Messages(pending, stream);
                Action::Pause
            }
            Ok(StreamProgress::Forward { ends, last }) => {
                self.phase = match (last, ends) {
                    (true, _) => Phase::Forwarded,
                    (false, true) => Phase::Discarding,
                    (false, false) => Phase::Messages(pending, stream),
                };
                Action::Continue
            }
        }
    }

    /// A stream ends in trailers, either after its last message or within a message.
    pub(super) fn messages_end(
        &mut self,
        proxy: &mut dyn Proxy,
        cleared: Result<(), HostFault>,
    ) -> Action {
        let Some((pending, mut stream)) = self.take_messages() else {
            return Action::Pause;
        };
        if let Err(fault) = cleared {
            stream.cancel(proxy);
            return self.refuse(proxy, pending, cannot_decide(fault));
        }
        if stream.has_pending_call() && stream.is_held() {
            stream.set_last();
            self.phase = Phase::Messages(pending, stream);
            return Action::Pause;
        }
        if stream.waits() {
            return self.end_incomplete(proxy, pending, &mut stream);
        }
        self.phase = Phase::Forwarded;
        Action::Continue
    }

    /// Ends a stream whose trailers arrived inside a message. Nothing can be inserted into its body
    /// any more, so a trailer tells the host, which still answers the messages before.
    fn end_incomplete(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: Box<PendingRequest>,
        stream: &mut MessageStream,
    ) -> Action {
        let ended = self.with_context(proxy, &pending, |ctx| stream.end_incomplete(ctx));
        let keeps_verdicts = self.keeps_verdicts;
        let ended = ended
            .and_then(|()| add_trailer(proxy, INCOMPLETE, keeps_verdicts).map_err(cannot_decide));
        if let Err(denial) = ended {
            stream.cancel(proxy);
            return self.refuse(proxy, pending, denial);
        }
        self.phase = Phase::Forwarded;
        Action::Continue
    }

    /// Discards data that arrives after the end of a stream.
    pub(super) fn discard(&mut self, proxy: &mut dyn Proxy, bytes: usize) -> Action {
        if bytes == 0 {
            return Action::Continue;
        }
        match proxy.replace_request_body(&[]) {
            Ok(()) => Action::Continue,
            // The data is then held and released with the stream.
            Err(_) => Action::Pause,
        }
    }

    pub(super) fn take_messages(&mut self) -> Option<(Box<PendingRequest>, Box<MessageStream>)> {
        self.take(|phase| match phase {
            Phase::Messages(pending, stream) => Ok((pending, stream)),
            other => Err(other),
        })
    }
}
