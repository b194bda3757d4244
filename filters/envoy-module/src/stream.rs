//! One request, between Envoy's hooks.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use tensorgate_filter_core::gate::Gate;
use tensorgate_filter_core::host::{HostFault, Level, Proxy as _};
use tensorgate_policy::time::{MILLISECOND_NS, SECOND_NS};

use crate::abi::{self, Call, LogLevel};
use crate::clock;
use crate::configuration::Module;
use crate::host::{Effects, Host, state_name};
use crate::panics::{self, Hook, log_panic};
use crate::state::StreamState;
use crate::store::Store;
use crate::timer::{self, Due, Event, Wakeable, wake_at};
use crate::worker::Worker;

/// Time after which a wait is looked at again, ns.
const WAIT_NS: u64 = 20 * MILLISECOND_NS;
/// Time after which key sets are imported again, ns.
const IMPORT_NS: u64 = SECOND_NS;
/// Time after which the permits of a stream that has outlived its reset are looked at again, ns.
const RENEW_NS: u64 = SECOND_NS;

/// The gate has panicked.
#[derive(Debug)]
pub struct Panicked;

/// Timers of a stream.
#[derive(Default)]
struct Timers {
    wakeable: Option<Arc<Wakeable>>,
    wait: Option<Due>,
    end: Option<Due>,
    /// Whether the stream can be woken for a tick of its worker.
    ticks: bool,
}

/// A request.
pub struct Stream {
    pub state: StreamState,
    gate: RefCell<Gate>,
    /// Whether it was answered here, or its gate has panicked. Nothing more of it is forwarded.
    closed: Cell<bool>,
    /// Whether its gate has panicked. Nothing more of its response is forwarded either.
    poisoned: Cell<bool>,
    /// Whether it has ended.
    complete: Cell<bool>,
    timers: RefCell<Timers>,
    /// Whether the stream was reset at its end, and whether a later fault was logged.
    was_reset: Cell<bool>,
    is_renewal_logged: Cell<bool>,
    /// The hook in which a test wants a panic.
    #[cfg(debug_assertions)]
    panics_in: RefCell<Option<String>>,
}

impl Stream {
    /// A new request.
    ///
    /// # Errors
    /// The worker cannot get an id.
    pub fn begin(module: Arc<Module>) -> Result<Self, HostFault> {
        panics::panic_if_named(Hook::Begin);
        let state = StreamState::new(module)?;
        Ok(Self {
            gate: RefCell::new(Gate::new(Rc::clone(&state.worker.root))),
            state,
            closed: Cell::new(false),
            poisoned: Cell::new(false),
            complete: Cell::new(false),
            timers: RefCell::default(),
            was_reset: Cell::new(false),
            is_renewal_logged: Cell::new(false),
            #[cfg(debug_assertions)]
            panics_in: RefCell::default(),
        })
    }

    /// Calls the gate. Whatever the gate asks for that may end the stream comes back as effects.
    ///
    /// What the gate has begun to change when it panics is not used again: the caller closes the
    /// stream, and [`Self::poison`] drops what the worker's requests share.
    ///
    /// # Errors
    /// The gate has panicked.
    pub fn run<T>(
        &self,
        call: &Call<'_>,
        hook: Hook,
        work: impl FnOnce(&mut Gate, &mut Host<'_>) -> T,
    ) -> Result<(T, Effects), Panicked> {
        let run = AssertUnwindSafe(|| {
            self.panic_if_requested(hook);
            let mut host = Host::new(call, &self.state);
            let mut gate = self.gate.borrow_mut();
            if hook == Hook::RequestHeaders && self.state.module.key_requests.is_some() {
                self.state.worker.import_keys(IMPORT_NS);
            }
            let result = work(&mut gate, &mut host);
            self.report_keys(call);
            if hook != Hook::StreamComplete {
                self.set_timers(call, &gate);
            }
            (result, host.into_effects())
        });
        catch_unwind(run).map_err(|_| Panicked)
    }

    /// Asks the main thread for the keys that requests wait for, and writes its metrics.
    fn report_keys(&self, call: &Call<'_>) {
        if let Some(requests) = &self.state.module.key_requests {
            let root = &self.state.worker.root;
            if root.was_tick_requested() {
                requests.request(root.take_key_requests());
            }
            requests.write_metrics(call);
        }
    }

    /// Handles a timer of the gate. Returns whether the stream is to be reset.
    pub fn on_event(&self, gate: &mut Gate, host: &mut Host<'_>, event: Event) -> bool {
        let now = clock::now();
        match event {
            Event::Wait => {
                self.timers.borrow_mut().wait = None;
                if self.state.module.key_requests.is_some() {
                    self.state.worker.import_keys(WAIT_NS);
                }
                if gate.is_due(now.monotonic_ns) {
                    gate.wake(host);
                }
            }
            Event::End => {
                self.timers.borrow_mut().end = None;
                if !self.was_reset.replace(true) {
                    return true;
                }
                // Envoy does not reset a stream whose answer it has received completely: it ends
                // when the client reads or disconnects.
                if let Err(fault) = gate.renew_permits(&mut Store, now)
                    && !self.is_renewal_logged.replace(true)
                {
                    let line = format!("cannot renew the permits of an open stream: {fault}");
                    host.log(Level::Error, &line);
                }
            }
            Event::Tick => {}
        }
        false
    }

    /// Sets the timers that the gate needs after a call.
    fn set_timers(&self, call: &Call<'_>, gate: &Gate) {
        let mut timers = self.timers.borrow_mut();
        let waits = gate.waits() && timers.wait.is_none();
        let ends_ns = gate.ends_ns().filter(|_| timers.end.is_none());
        let needs_ticks = self.state.worker.needs_ticks() && !timers.ticks;
        if !waits && ends_ns.is_none() && !needs_ticks {
            return;
        }
        let now_ns = clock::monotonic_ns();
        let new = || Arc::new(Wakeable::new(call.scheduler()));
        let wakeable = Arc::clone(timers.wakeable.get_or_insert_with(new));
        let set = |due_ns, event| wake_at(due_ns, &wakeable, event);
        if waits {
            timers.wait = Some(set(now_ns.saturating_add(WAIT_NS), Event::Wait));
        }
        if let Some(ends_ns) = ends_ns {
            let again_ns = now_ns.saturating_add(RENEW_NS);
            let due_ns = if self.was_reset.get() {
                again_ns
            } else {
                ends_ns
            };
            timers.end = Some(set(due_ns, Event::End));
        }
        if needs_ticks {
            timers.ticks = true;
            self.state.worker.add_wakeable(&wakeable);
        }
    }

    /// No timer wakes it any more.
    pub fn cancel_timers(&self) {
        let Timers {
            wakeable,
            wait,
            end,
            ticks,
        } = self.timers.take();
        let Some(wakeable) = wakeable else {
            return;
        };
        wakeable.end();
        timer::cancel([wait, end].into_iter().flatten());
        if ticks {
            self.state.worker.remove_wakeable(&wakeable);
        }
    }

    /// Whether it was answered here, or its gate has panicked.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// It is answered here.
    pub fn close(&self) {
        self.closed.set(true);
    }

    /// Whether it has ended.
    pub fn is_complete(&self) -> bool {
        self.complete.get()
    }

    /// Whether its gate has panicked.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.get()
    }

    /// The gate has panicked.
    pub fn poison(&self, call: &Call<'_>, hook: Hook) {
        self.close();
        self.poisoned.set(true);
        report(call, &self.state.module, hook);
    }

    /// Whether the policy has streams, whose responses the gate reads.
    pub fn reads_responses(&self) -> bool {
        self.state.worker.root.takes_messages()
    }

    /// The access log is written next.
    pub fn end(&self, call: &Call<'_>) {
        self.close();
        self.complete.set(true);
        for (name, value) in self.state.properties.take() {
            if let Err(fault) = call.set_state(&state_name(&name), &value) {
                abi::log(LogLevel::Error, &format!("tensorgate: {name}: {fault}"));
            }
        }
        self.cancel_timers();
    }

    /// Reads in which hook a test wants a panic. A release build has no such fault.
    #[cfg(debug_assertions)]
    pub fn read_test_fault(&self, call: &Call<'_>) {
        let named = call.field(abi::Headers::Request, "x-test-panic");
        let named = named.and_then(|name| String::from_utf8(name).ok());
        if let Some(name) = &named {
            panics::name_next(name);
        }
        *self.panics_in.borrow_mut() = named;
    }

    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "a debug build panics here")]
    pub const fn read_test_fault(&self, _: &Call<'_>) {}

    #[cfg(debug_assertions)]
    #[expect(clippy::panic, reason = "a fault for tests")]
    fn panic_if_requested(&self, hook: Hook) {
        let mut requested = self.panics_in.borrow_mut();
        if requested.as_deref() == Some(&*format!("{hook:?}")) {
            *requested = None;
            drop(requested);
            panic!("as the test asks");
        }
    }

    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "a debug build panics here")]
    const fn panic_if_requested(&self, _: Hook) {}
}

/// The gate has panicked in a worker, perhaps in the middle of a change of what requests share.
pub fn report(call: &Call<'_>, module: &Arc<Module>, hook: Hook) {
    Worker::forget(module);
    call.increment(module.panics);
    log_panic(hook);
}
