//! Runs handler components that nobody trusts: a fresh instance for every call, on threads of its own, within bounds
//! that the policy names.
//!
//! Only `tensorgate:handler/{types,config,log}@0.1.0` can be imported, and `fetch` and `lookup` by whom the policy grants them. No WASI is linked, neither `wasi-common` (which
//! upstream retired in favour of `wasmtime-wasi`) nor its successor: a handler written in Rust needs none of it, and a
//! language runtime that does not start without WASI has it stubbed in its own component, where a call of it traps.
//!
//! What it never does: it checks no contract (a handler's tensors are checked by whoever dispatches them), keeps
//! nothing from one call to the next, and never runs guest code on an async runtime's thread.
//!
//! What a handler asks the host to bring ([`Bring`]) it gets in a run of its own: no guest waits for a network.
//!
//! A call passes through these, in this order: `load` has checked the component, `compile` made code of it and `compiled` keeps that, `pool` finds it a
//! thread, `call` gives it a store with every bound set, `imports` is all that it can reach, `cause` says what
//! its failure means, `tensors` what it returned.

mod asks;
mod bindings;
mod bounds;
mod breaker;
mod brought;
mod call;
mod caller;
mod cause;
mod clock;
mod compile;
mod compiled;
mod engine;
mod fault;
mod imports;
mod lanes;
mod limits;
mod load;
mod logbook;
mod outcome;
mod pace;
mod pool;
mod priority;
mod spare;
mod state;
mod tensors;
mod ticket;

use std::sync::Arc;
use std::time::Duration;

use tensorgate_policy::policy::Handler;
use tensorgate_policy::{Tensor, hex};
use tokio::sync::oneshot;
use tokio::time::Instant;
use wasmtime::component::Linker;

pub use self::asks::{
    Ask, Behalf, Bring, Brought, Busy, Column, File, Known, Ledger, Missing, Reached,
};
use self::bounds::MAX_KEPT_THREADS;
use self::breaker::{Breaker, Who};
pub use self::breaker::{Hears, Shown, Standing};
use self::call::{Before, Callee, Run};
use self::caller::{CallerEnd, NoAnswer, Waits};
use self::clock::Ticker;
use self::compile::Forge;
pub use self::compile::{CompilerProcess, Compiling, compiler_process};
use self::compiled::Compilations;
pub use self::fault::{LoadFault, SandboxError};
use self::lanes::{LaneId, Patience};
use self::load::{Allowance, Workshop};
pub use self::outcome::{
    Called, CutOff, FaultCause, HandlerError, Keep, Kept, Overload, Payload, Ran, Role,
};
use self::pace::{Paces, Went};
use self::pool::Pool;
use self::priority::{Rank, Stint};
use self::spare::SpareCores;
use self::ticket::Ticket;
use crate::dispatch::Whose;

/// How large the sandbox is.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Threads that one handler may have at once.
    pub threads: usize,
    /// Handlers that will be loaded: each has a thread that no other takes.
    pub handlers: usize,
    /// Calls of one handler that wait for a thread; more are shed, of the client that has the most.
    pub queue: usize,
    /// How long a call waits for a thread before it is shed, milliseconds.
    pub queue_wait_ms: u64,
    /// The largest linear memory that any policy may give, bytes.
    pub max_memory_bytes: usize,
    /// The largest answer of one call, data and names, bytes.
    pub max_output_bytes: usize,
    /// How components are compiled.
    pub compiling: Compiling,
}

impl Default for SandboxConfig {
    /// As many threads as cores; a queue that a healthy handler (100 µs a call) empties in a fraction of the wait.
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            handlers: MAX_KEPT_THREADS,
            queue: 256,
            queue_wait_ms: 1_000,
            max_memory_bytes: 1 << 30,
            max_output_bytes: 64 << 20,
            compiling: Compiling::default(),
        }
    }
}

/// The engine, its clock and its threads.
pub struct Sandbox {
    workshop: Workshop,
    workers: Arc<Workers>,
    queue_wait: Duration,
    max_output_bytes: usize,
    /// See [`Sandbox::engine`].
    engine: Arc<str>,
}

/// What runs calls. Handlers share it, so that one that outlives its sandbox still has a thread and a deadline.
struct Workers {
    pool: Pool,
    ticker: Ticker,
    spare: SpareCores,
}

impl Sandbox {
    /// Makes the engine and starts its threads.
    ///
    /// # Errors
    /// If the machine cannot give the address space or a thread.
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let SandboxConfig {
            threads,
            handlers,
            queue,
            queue_wait_ms,
            max_memory_bytes,
            max_output_bytes,
            compiling,
        } = config;
        let threads = threads.max(1);
        let engine = engine::engine(lanes::threads(threads, handlers), max_memory_bytes)?;
        let mut linker = Linker::new(&engine);
        imports::link(&mut linker).map_err(|error| SandboxError::Engine(format!("{error:#}")))?;
        let queue_wait = Duration::from_millis(queue_wait_ms);
        let patience = Patience::of(queue_wait);
        let workers = Arc::new(Workers {
            ticker: Ticker::start(&engine)?,
            spare: SpareCores::of(threads),
            pool: Pool::start(threads, handlers, queue.max(1), patience)?,
        });
        let identity = hex(&compile::identity(&engine));
        let engine_name = format!("tensorgate {} {identity:.16}", env!("CARGO_PKG_VERSION"));
        Ok(Self {
            engine: engine_name.into(),
            workshop: Workshop {
                forge: Forge::new(&engine, compiling),
                engine,
                linker,
                compilations: Compilations::default(),
            },
            workers,
            queue_wait,
            max_output_bytes,
        })
    }

    /// Checks a component, its digest first, and compiles it unless a handler that is loaded has the same. Takes as long as a compiler
    /// takes: not for an async thread.
    ///
    /// # Errors
    /// [`LoadFault`], each for the operator to read.
    pub fn load(
        &self,
        name: &str,
        rule: &Handler,
        role: Role,
        component: &[u8],
    ) -> Result<LoadedHandler, LoadFault> {
        let loaded = self.workshop.load(name, rule, role, component)?;
        let callee = Callee {
            engine: self.workshop.engine.clone(),
            name: Arc::from(name),
            export: loaded.export,
            _compiled: loaded.compiled,
            allowance: Allowance::of(rule),
            max_output_bytes: self.max_output_bytes,
        };
        Ok(LoadedHandler {
            callee: Arc::new(callee),
            lane: self.workers.pool.lane(),
            workers: Arc::clone(&self.workers),
            queue_wait: self.queue_wait,
            latest: None,
            bring: None,
            rule: Arc::new(rule.clone()),
            engine: Arc::clone(&self.engine),
            behalf: Behalf::default(),
            breaker: Breaker::new(Arc::from(name)),
            paces: Arc::new(Paces::new()),
            client: None,
            whose: Whose::of(None),
        })
    }

    /// What runs calls: this crate's version, and a digest of its engine's, with the engine's configuration and what the processor can do.
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// How often a component was compiled. Handlers that name one component share what was made of it once.
    pub fn compilations(&self) -> u64 {
        self.workshop.forge.count()
    }
}

/// A component that is ready to be called. Clones share its place in the queue.
#[derive(Clone)]
pub struct LoadedHandler {
    callee: Arc<Callee>,
    workers: Arc<Workers>,
    lane: LaneId,
    queue_wait: Duration,
    latest: Option<Instant>,
    bring: Option<Arc<dyn Bring>>,
    rule: Arc<Handler>,
    engine: Arc<str>,
    behalf: Behalf,
    breaker: Arc<Breaker>,
    paces: Arc<Paces>,
    /// For whom it is called; whoever calls it for nobody is never cut off.
    client: Option<Who>,
    /// Whose turn its calls wait for.
    whose: Whose,
}

impl LoadedHandler {
    /// The same handler, its asks answered by this. Without it nothing is brought: every ask is [`Missing::Unavailable`].
    #[must_use]
    pub fn with(&self, bring: Arc<dyn Bring>) -> Self {
        Self {
            bring: Some(bring),
            ..self.clone()
        }
    }

    /// The same handler for one client's request: what it asks for is asked on that client's behalf.
    #[must_use]
    pub fn on_behalf_of(&self, behalf: Behalf) -> Self {
        Self {
            behalf,
            ..self.clone()
        }
    }

    /// What can be brought into memory for one call, bytes.
    pub fn most_brought_bytes(&self) -> usize {
        self.callee.allowance.most_brought_bytes
    }

    /// The same handler for one request, whose time ends then. A call that has not started by then is
    /// [`HandlerError::Overloaded`], one that runs is stopped as a [`FaultCause::RequestDeadline`].
    #[must_use]
    pub fn by(&self, latest: Instant) -> Self {
        Self {
            latest: Some(latest),
            ..self.clone()
        }
    }

    /// The same handler for one client, or one that has no name: clients' calls wait in turn. Who calls it so is told [`HandlerError::CutOff`] once it failed too often.
    #[must_use]
    pub fn of(&self, client: Option<&str>) -> Self {
        Self {
            client: Some(client.map(Arc::from)),
            whose: Whose::of(client),
            ..self.clone()
        }
    }

    /// Where operators see that it was cut off; said once.
    pub fn show(&self, shown: Shown) {
        self.breaker.show(shown);
    }

    /// Calls the `preprocess` export on a fresh instance. Dropping the future stops the call within a tick or two.
    ///
    /// # Errors
    /// [`HandlerError`]; a component that was loaded for the other role is not called.
    pub async fn preprocess(
        &self,
        request_id: &str,
        input: Payload,
    ) -> Result<Called, HandlerError> {
        self.call(Role::Preprocess, request_id, input).await
    }

    /// Calls the `postprocess` export on a fresh instance. Dropping the future stops the call within a tick or two.
    ///
    /// # Errors
    /// [`HandlerError`]; a component that was loaded for the other role is not called.
    pub async fn postprocess(
        &self,
        request_id: &str,
        outputs: Vec<Tensor<'static>>,
    ) -> Result<Called, HandlerError> {
        self.call(Role::Postprocess, request_id, Payload::Tensors(outputs))
            .await
    }

    /// Makes an instance as a call would, with every bound set, and drops it: on this thread, and nothing but its start function runs.
    /// What a call costs before the guest's first line, and whether a component can start at all.
    ///
    /// # Errors
    /// [`HandlerError`], as a call's.
    pub fn instantiate(&self) -> Result<(), HandlerError> {
        let _ticking = self.workers.ticker.run();
        self.callee.instantiate()
    }

    /// Calls if its breaker lets it, and tells it what became of it.
    async fn call(
        &self,
        role: Role,
        request_id: &str,
        input: Payload,
    ) -> Result<Called, HandlerError> {
        let Some(client) = &self.client else {
            return self.runs(role, request_id, input).await;
        };
        // Dropped with this future, it says nothing.
        let mut call = self.breaker.admit(client)?;
        let outcome = self.runs(role, request_id, input).await;
        call.came_to(outcome.as_ref().err());
        outcome.map(|called| Called {
            standing: called.standing.clone().of(call),
            ..called
        })
    }

    /// Runs until nothing is asked for any more.
    async fn runs(
        &self,
        role: Role,
        request_id: &str,
        input: Payload,
    ) -> Result<Called, HandlerError> {
        if role != self.callee.export.role() {
            let detail = format!(
                "loaded as {}, called as {}",
                self.callee.export.role().export(),
                role.export()
            );
            return Err(HandlerError::Fault {
                cause: FaultCause::Input,
                detail,
                fuel_used: 0,
            });
        }
        let input = Arc::new(input);
        let keep = self.behalf.keep.as_ref();
        let (mut before, mut known) = (Before::default(), Arc::<Known>::default());
        let mut called = loop {
            let (asks, so_far) = match self.run(request_id, &input, before).await {
                Ok(Run::Called(called)) => break Ok(called),
                Ok(Run::Wants { asks, before }) => (asks, before),
                Err(error) => break Err(error),
            };
            match self.bring((asks, so_far)).await {
                Ok(brought) => {
                    if keep.is_some() {
                        known = Arc::clone(&brought.known);
                    }
                    before = brought;
                }
                Err(error) => break Err(error),
            }
        };
        let kept = keep.and_then(|keep| {
            keep.keep(Ran {
                engine: &self.engine,
                handler: &self.callee.name,
                rule: &self.rule,
                role,
                request_id,
                input: &input,
                known: &known,
                called: &called,
            })
        });
        if let Ok(called) = &mut called {
            called.standing = Standing::kept(kept);
        }
        called
    }

    /// What a run asked for, beside what was brought before. The number of runs is bounded by how much a call may ask for.
    async fn bring(&self, (asks, before): (Vec<Ask>, Before)) -> Result<Before, HandlerError> {
        let brought = match &self.bring {
            Some(bring) => bring
                .bring(&asks, &self.behalf, self.latest)
                .await
                .map_err(|Busy| HandlerError::Overloaded(Overload::Bringing))?,
            None => asks
                .iter()
                .map(|ask| Brought::nothing(ask, Missing::Unavailable))
                .collect(),
        };
        // Whatever is not answered would be asked for again.
        if brought.len() != asks.len() {
            return Err(HandlerError::Fault {
                cause: FaultCause::Input,
                detail: format!("{} asks, {} answers", asks.len(), brought.len()),
                fuel_used: before.fuel,
            });
        }
        let mut known = Arc::unwrap_or_clone(before.known);
        known.extend(asks.into_iter().zip(brought));
        Ok(Before {
            known: Arc::new(known),
            ..before
        })
    }

    /// One run of a call, on an instance of its own.
    async fn run(
        &self,
        request_id: &str,
        input: &Arc<Payload>,
        before: Before,
    ) -> Result<Run, HandlerError> {
        let ticket = Arc::new(Ticket::default());
        let waits = Waits {
            to_start: Instant::now().checked_add(self.queue_wait),
            runs: (self.callee.allowance.timeout).saturating_sub(before.ran),
            latest: self.latest,
        };
        let (answer, answered) = oneshot::channel();
        let job = {
            let (callee, workers, ticket) = (
                Arc::clone(&self.callee),
                Arc::clone(&self.workers),
                Arc::clone(&ticket),
            );
            let (request_id, submitted) = (request_id.to_owned(), Instant::now());
            let input = Arc::clone(input);
            let (paces, client) = (Arc::clone(&self.paces), self.client.clone());
            move || {
                let pace = paces.of(client.as_ref());
                priority::step_to(pace.rank());
                // Its turn has come only then.
                let last = priority::rank() == Rank::Last;
                let _core = last.then(|| workers.spare.enter(&ticket));
                if ticket.start() {
                    let _ticking = workers.ticker.run();
                    let (queued, stint) = (submitted.elapsed(), Stint::begin());
                    let outcome = callee.call(request_id, &input, ticket, queued, stint, before);
                    pace.note(Went::of(&outcome, stint.is_long()));
                    // Nobody may be waiting any more.
                    let _ = answer.send(outcome);
                }
            }
        };
        let (pool, job) = (&self.workers.pool, Box::new(job));
        let rank = self.paces.of(self.client.as_ref()).rank();
        let Some(place) = pool.submit(self.lane, self.whose, rank, Arc::clone(&ticket), job) else {
            return Err(HandlerError::Overloaded(Overload::Full));
        };
        let caller = CallerEnd {
            ticket,
            workers: Arc::clone(&self.workers),
            place,
        };
        let (cause, detail) = match caller.answer(waits, answered).await {
            Ok(outcome) => return outcome,
            Err(NoAnswer::NeverRan(why)) => return Err(HandlerError::Overloaded(why)),
            Err(NoAnswer::RequestOver) => {
                let detail = "the request's time ran out";
                (FaultCause::RequestDeadline, detail)
            }
            Err(NoAnswer::Overdue) => {
                let detail = "the deadline passed, and it had no core to notice";
                (FaultCause::Deadline, detail)
            }
            Err(NoAnswer::Lost) => (FaultCause::Trap, "the guest thread panicked"),
        };
        Err(HandlerError::Fault {
            cause,
            detail: detail.to_owned(),
            // It may run on for a tick or two.
            fuel_used: 0,
        })
    }
}
