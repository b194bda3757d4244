//! The requests of one configuration whose streams the filter ends when their time is over.
//!
//! Proxies that forward headers (meshes) may have no limit on the duration of a stream. The host
//! answers a request in time, but a client that does not read the answer keeps its stream open, and
//! the permits of the stream would expire before it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use super::{Host, abi};
use tensorgate_filter_core::gate::Gate;
use tensorgate_filter_core::host::{Level, Proxy as _};

/// Streams that are reset in one tick. Envoy carries out the next reset inside the previous one, so
/// each needs more of its stack.
const MAX_RESETS: usize = 16;

/// The open streams by the context of their request.
#[derive(Clone, Default)]
pub(crate) struct OpenStreams(Rc<RefCell<BTreeMap<u32, OpenStream>>>);

struct OpenStream {
    gate: Weak<RefCell<Gate>>,
    /// When the stream must end, in ns of the monotonic clock.
    ends_ns: u64,
    /// Whether it was reset.
    reset: bool,
    /// Whether a permit could not be renewed. Logged once.
    faulty: bool,
}

impl OpenStreams {
    /// Adds a stream.
    pub(crate) fn add(&self, context: u32, ends_ns: u64, gate: &Rc<RefCell<Gate>>) {
        let stream = OpenStream {
            gate: Rc::downgrade(gate),
            ends_ns,
            reset: false,
            faulty: false,
        };
        self.0.borrow_mut().insert(context, stream);
    }

    /// Removes a stream that has ended.
    pub(crate) fn remove(&self, context: u32) {
        self.0.borrow_mut().remove(&context);
    }

    /// Resets streams whose time is over, from a callback of the configuration's own context.
    /// Returns whether there are more than one tick may reset.
    ///
    /// A stream that is still open at a later tick keeps its permits. Envoy does not reset a stream
    /// whose answer it has received completely: it ends when the client reads or disconnects.
    pub(crate) fn end_late(&self, own: u32) -> bool {
        let mut outside = Host::outside();
        let Ok(now) = outside.now() else {
            return false;
        };
        let (mut resets, mut more) = (0_usize, false);
        for (context, stream) in self.0.borrow_mut().iter_mut() {
            if now.monotonic_ns < stream.ends_ns {
                continue;
            }
            if !stream.reset && resets >= MAX_RESETS {
                more = true;
                continue;
            }
            if std::mem::replace(&mut stream.reset, true) {
                let renewed = stream.gate.upgrade();
                let renewed =
                    renewed.map(|gate| gate.borrow_mut().renew_permits(&mut outside, now));
                if let Some(Err(fault)) = renewed
                    && !std::mem::replace(&mut stream.faulty, true)
                {
                    let line = format!("cannot renew the permits of an open stream: {fault}");
                    outside.log(Level::Error, &line);
                }
                continue;
            }
            resets = resets.saturating_add(1);
            let reset = abi::set_effective_context(*context).and_then(|()| abi::close_request());
            if let Err(fault) = reset {
                let line = format!("cannot end an expired stream: {fault}");
                outside.log(Level::Error, &line);
            }
        }
        let _ = abi::set_effective_context(own);
        more
    }
}
