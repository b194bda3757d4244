//! What the requests of one worker share, for each configuration.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use tensorgate_filter_core::host::HostFault;
use tensorgate_filter_core::report::WorkerNumbers;
use tensorgate_filter_core::root::GateRoot;
use tensorgate_policy::time::MILLISECOND_NS;

use crate::clock;
use crate::configuration::Module;
use crate::store::Store;
use crate::timer::{self, Due, Event, Wakeable, wake_at};

thread_local! {
    static WORKERS: RefCell<Vec<(Weak<Module>, Rc<Worker>)>> = const { RefCell::new(Vec::new()) };
    /// This worker's own, whatever the configuration.
    static NUMBERS: OnceCell<Rc<WorkerNumbers>> = const { OnceCell::new() };
}

/// A configuration in one worker.
pub struct Worker {
    pub root: Rc<GateRoot>,
    pub numbers: Rc<WorkerNumbers>,
    /// When key sets were imported, ns.
    imported_ns: Cell<u64>,
    /// The next tick, and the stream that is woken for it.
    tick: RefCell<Option<(Due, Weak<Wakeable>)>>,
    /// Streams that can be woken for a tick.
    wakeable: RefCell<Vec<Weak<Wakeable>>>,
}

impl Worker {
    /// This worker's own for a configuration. Those whose configuration is gone are dropped.
    ///
    /// # Errors
    /// The worker cannot get an id.
    pub fn of(module: &Arc<Module>) -> Result<Rc<Self>, HostFault> {
        let numbers = numbers()?;
        WORKERS.with(|workers| {
            let mut workers = workers.borrow_mut();
            let own = workers.iter().find(|(other, _)| is_of(other, module));
            if let Some((_, worker)) = own {
                return Ok(Rc::clone(worker));
            }
            workers.retain(|(other, _)| other.strong_count() > 0);
            let worker = Rc::new(Self {
                root: Rc::new(module.root()),
                numbers,
                imported_ns: Cell::new(0),
                tick: RefCell::default(),
                wakeable: RefCell::default(),
            });
            workers.push((Arc::downgrade(module), Rc::clone(&worker)));
            Ok(worker)
        })
    }

    /// The gate has panicked, perhaps in the middle of a change of what requests share here: the
    /// next request gets it anew, as after a trap of a wasm module.
    pub fn forget(module: &Arc<Module>) {
        WORKERS.with(|workers| {
            let mut workers = workers.borrow_mut();
            workers.retain(|(other, _)| !is_of(other, module));
        });
    }

    /// Imports the key sets that the main thread has fetched since, at most once in this time, ns.
    pub fn import_keys(&self, period_ns: u64) {
        let now = clock::now();
        let age_ns = now.monotonic_ns.saturating_sub(self.imported_ns.get());
        if age_ns >= period_ns {
            self.imported_ns.set(now.monotonic_ns);
            self.root.import_keys(&mut Store, now);
        }
    }

    /// Whether ticks measure how late this worker is, so that streams have to be wakeable.
    pub fn needs_ticks(&self) -> bool {
        self.root.busy_tick_ms().is_some()
    }

    /// A stream that can be woken for a tick. Sets the next tick, if none is set.
    pub fn add_wakeable(&self, stream: &Arc<Wakeable>) {
        self.wakeable.borrow_mut().push(Arc::downgrade(stream));
        self.set_tick();
    }

    /// Such a stream ends. Another one is woken for the tick instead.
    pub fn remove_wakeable(&self, stream: &Arc<Wakeable>) {
        self.wakeable
            .borrow_mut()
            .retain(|other| !is_of(other, stream));
        let mut tick = self.tick.borrow_mut();
        if let Some((due, _)) = tick.take_if(|(_, woken)| is_of(woken, stream)) {
            drop(tick);
            timer::cancel([due]);
            // A tick that comes early does not count as late.
            self.tick();
        }
    }

    /// Runs background work, and sets the next tick if one is needed.
    pub fn tick(&self) {
        timer::cancel(self.tick.take().map(|(due, _)| due));
        self.root.measure_lateness(clock::monotonic_ns());
        self.set_tick();
    }

    fn set_tick(&self) {
        let mut tick = self.tick.borrow_mut();
        let Some(period_ms) = self.root.busy_tick_ms().filter(|_| tick.is_none()) else {
            return;
        };
        let streams = self.wakeable.borrow();
        if let Some(stream) = streams.iter().rev().find_map(Weak::upgrade) {
            let period_ns = u64::from(period_ms).saturating_mul(MILLISECOND_NS);
            let due_ns = clock::monotonic_ns().saturating_add(period_ns);
            let due = wake_at(due_ns, &stream, Event::Tick);
            *tick = Some((due, Arc::downgrade(&stream)));
        } else {
            // Without a tick the worker would seem late.
            self.root.forget_tick();
        }
    }
}

/// Whether a weak reference is to this value.
pub fn is_of<T>(weak: &Weak<T>, value: &Arc<T>) -> bool {
    std::ptr::eq(weak.as_ptr(), Arc::as_ptr(value))
}

/// This worker's numbers.
fn numbers() -> Result<Rc<WorkerNumbers>, HostFault> {
    NUMBERS.with(|numbers| {
        if let Some(known) = numbers.get() {
            return Ok(Rc::clone(known));
        }
        let new = Rc::new(WorkerNumbers::allocate(&mut Store, clock::unix_ns())?);
        Ok(Rc::clone(numbers.get_or_init(|| new)))
    })
}
