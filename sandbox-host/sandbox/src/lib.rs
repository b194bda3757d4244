//! Runs untrusted handler components: a fresh instance for each call, on threads of its own, within
//! the limits of the policy.
//!
//! A component may import `tensorgate:handler/{types,config,log}` of version 0.1 or 0.2, `errors`,
//! `context` and `carry` of version 0.2, and also `fetch` and `lookup` if the policy grants them. A
//! component that imports WASI gets one that grants nothing (module `wasi`): its output becomes log
//! lines, its clocks stand still, and it has no files.
//!
//! The sandbox does not check contracts; the caller checks a handler's tensors. It keeps no state
//! between calls, except which pages of memory they write. It never runs guest code on a thread of
//! an async runtime.
//!
//! A guest never waits for the network. The host resolves capability requests
//! ([`ResourceResolver`]) between two runs of the same call.
//!
//! A call passes these modules: `load` checked the component, `compile` compiled and cached it.
//! `pool` assigns a thread, `call` creates a store with every limit. `imports` has all functions
//! that the guest can call. `cause` interprets errors, and `tensors` converts the results.

mod bindings;
mod breaker;
mod call;
mod call_history;
mod call_request;
mod call_state;
mod call_usage;
mod caller;
mod caller_text;
mod capabilities;
pub mod capture;
mod cause;
mod compile;
mod component_cache;
mod development;
mod engine;
mod error;
mod export;
mod finished_call;
mod fixed_limits;
mod guest_log;
mod handler_queue;
mod imports;
mod job_handle;
mod limits;
mod load;
mod log_quota;
mod low_priority;
mod memory_account;
mod outcome;
mod output_lines;
mod pool;
mod priority;
mod python_frames;
mod random_seed;
mod request_imports;
mod resources;
mod runtimes;
mod structure;
mod tensors;
mod ticker;
mod versions;
mod wasi;
mod wasi_state;
mod written_pages;

use std::iter;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tensorgate_base::client_key::ClientKey;
use tensorgate_base::egress_log::ResolveFailure;
use tensorgate_base::payload::{Payload, Role};
use tensorgate_policy::policy::Handler;
use tensorgate_policy::{Tensor, hex};
use tensorgate_settings::handler_threads::MAX_RESERVED_THREADS;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wasmtime::component::Linker;
use wasmtime::{Engine, Module};

use self::breaker::{Breaker, ClientName};
pub use self::breaker::{BreakerListener, BreakerReporting, CallVerdict};
use self::call::{Callee, PreviousRuns, Run};
pub use self::call_request::{CallRequest, RequestFacts};
use self::call_state::Stop;
use self::caller::{CallWaiter, NoAnswer, WaitLimits};
pub use self::capabilities::{CallContext, EgressBusy, ResourceResolver};
use self::compile::Compiler;
pub use self::compile::{CompilerConfig, CompilerProcess, RunningCompilations, compiler_process};
pub use self::development::SOURCES_SECTION;
pub use self::finished_call::{CallCapture, FinishedCall, HandlerOutput};
use self::fixed_limits::{DEADLINE_GRACE, UNSHARED_DEADLINE_GRACE};
use self::handler_queue::{HandlerId, QueueDelayLimits};
use self::load::ComponentLoader;
pub use self::memory_account::MemoryAccount;
pub use self::outcome::{CapturedCall, FaultCause, HandlerError, OpenCircuitError, Overload};
use self::pool::ThreadPool;
use self::priority::{CpuTimer, Priority};
use self::random_seed::HostKey;
pub use self::random_seed::WasiInputs;
pub use self::resources::{
    CapabilityRequest, FeatureColumn, FetchedFile, ResolvedResource, ResolvedResources,
};
use call_history::{CallHistories, CallKind};
use component_cache::ComponentCache;
pub use error::{LoadFault, SandboxError};
use job_handle::JobHandle;
use low_priority::LowPrioritySlots;
use ticker::Ticker;

/// The size of the sandbox.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// The most concurrent calls of one handler.
    pub threads: usize,
    /// The number of handlers that will be loaded. Each gets a reserved thread.
    pub handlers: usize,
    /// The most queued calls of one handler. When the queue is full, the client with the most calls
    /// loses its newest one.
    pub queue: usize,
    /// How long a call waits for a thread before it is rejected, in milliseconds.
    pub queue_wait_ms: u64,
    /// The largest linear memory that any policy may give, in bytes.
    pub max_memory_bytes: usize,
    /// The largest output of one call, data and names, in bytes.
    pub max_output_bytes: usize,
    /// Whether several clients share the threads. A call that runs for long then gets a lower
    /// priority than others, and its caller leaves soon after its deadline. Where all calls are of
    /// one client there is no need: on a busy machine the call would miss its deadline, and its
    /// fault would not be known.
    pub is_shared: bool,
    /// Where the memory of handlers is counted, with the limit on all of it.
    pub memory_account: Arc<MemoryAccount>,
    /// How components are compiled.
    pub compiler: CompilerConfig,
}

impl Default for SandboxConfig {
    /// As many threads as cores, and no limit on the memory of all handlers. A healthy handler
    /// (100 µs a call) empties the queue in a fraction of the wait.
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            handlers: MAX_RESERVED_THREADS,
            queue: 256,
            queue_wait_ms: 1_000,
            max_memory_bytes: 1 << 30,
            max_output_bytes: 64 << 20,
            is_shared: true,
            memory_account: MemoryAccount::new(usize::MAX),
            compiler: CompilerConfig::default(),
        }
    }
}

/// The engine, its epoch ticker and its threads.
pub struct Sandbox {
    loader: ComponentLoader,
    workers: Arc<Workers>,
    queue_wait: Duration,
    max_output_bytes: usize,
    /// See [`Sandbox::engine`].
    engine: Arc<str>,
}

/// The threads and the ticker. Handlers share them, so a handler that outlives its sandbox still
/// works.
struct Workers {
    pool: ThreadPool,
    ticker: Ticker,
    low_priority_slots: LowPrioritySlots,
    is_shared: bool,
    host_key: HostKey,
}

impl Sandbox {
    /// Creates the engine and starts its threads.
    ///
    /// # Errors
    /// Returns an error if the machine cannot provide the address space or a thread.
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let SandboxConfig {
            threads,
            handlers,
            queue,
            queue_wait_ms,
            max_memory_bytes,
            max_output_bytes,
            is_shared,
            memory_account,
            compiler: compiling,
        } = config;
        let threads = threads.max(1);
        let engine = engine::engine(handler_queue::threads(threads, handlers), max_memory_bytes)?;
        let mut linker = Linker::new(&engine);
        let link_error = |error| SandboxError::Engine(format!("{error:#}"));
        imports::link(&mut linker).map_err(link_error)?;
        if compiling.development {
            development::link(&mut linker).map_err(link_error)?;
        }
        let mut wasi_linker = linker.clone();
        wasi::link(&mut wasi_linker).map_err(link_error)?;
        let queue_wait = Duration::from_millis(queue_wait_ms);
        let patience = QueueDelayLimits::from_queue_wait(queue_wait);
        let workers = Arc::new(Workers {
            ticker: Ticker::start(&engine)?,
            low_priority_slots: LowPrioritySlots::new(threads),
            is_shared,
            host_key: HostKey::generate()?,
            pool: ThreadPool::start(threads, handlers, queue.max(1), patience)?,
        });
        let identity = hex(&compile::identity(&engine));
        let engine_name = format!("tensorgate {} {identity:.16}", env!("CARGO_PKG_VERSION"));
        Ok(Self {
            engine: engine_name.into(),
            loader: ComponentLoader {
                development: compiling.development,
                compiler: Compiler::new(&engine, compiling),
                engine,
                linker,
                wasi_linker,
                component_cache: ComponentCache::default(),
                runtimes: ComponentCache::default(),
                memory_account,
            },
            workers,
            queue_wait,
            max_output_bytes,
        })
    }

    /// Checks a component, its digest first. Compiles it unless a loaded handler has the same. This
    /// takes as long as the compiler and must not run on an async thread.
    ///
    /// # Errors
    /// Returns a [`LoadFault`], with a text for the operator.
    pub fn load(
        &self,
        name: &str,
        rule: &Handler,
        role: Role,
        component: &[u8],
    ) -> Result<LoadedHandler, LoadFault> {
        let loaded = self.loader.load(name, rule, role, component)?;
        let allowance = loaded.limits(rule);
        let callee = Callee {
            engine: self.loader.engine.clone(),
            name: Arc::from(name),
            export: loaded.export,
            compiled: loaded.compiled,
            allowance,
            memory_account: Arc::clone(&self.loader.memory_account),
            sources: loaded.sources,
            log_quota: Arc::default(),
            max_output_bytes: self.max_output_bytes,
        };
        Ok(LoadedHandler {
            callee: Arc::new(callee),
            queue: self.workers.pool.add_handler(),
            workers: Arc::clone(&self.workers),
            queue_wait: self.queue_wait,
            deadline: None,
            resolver: None,
            rule: Arc::new(rule.clone()),
            engine: Arc::clone(&self.engine),
            context: CallContext::default(),
            breaker: Breaker::new(Arc::from(name)),
            call_histories: Arc::new(CallHistories::new()),
            client: None,
            client_key: ClientKey::from_name(None),
        })
    }

    /// The code of a runtime, compiled once, with the engine that runs it. A build starts it.
    ///
    /// # Errors
    /// Returns what is wrong with its file.
    pub fn runtime(&self, digest: &[u8; 32]) -> Result<(Engine, Module), String> {
        let (loader, account) = (&self.loader, &self.loader.memory_account);
        let compile = || loader.compiler.runtime(digest, account);
        let runtime = loader.runtimes.get(*digest, compile);
        let runtime = runtime.map_err(|error: wasmtime::Error| cause::describe(&error))?;
        Ok((loader.engine.clone(), runtime.module.clone()))
    }

    /// The version of this crate, and a digest of the engine's version, its configuration and the
    /// processor's features.
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// How often a component was compiled. Handlers with the same component share one compilation.
    pub fn compilations(&self) -> u64 {
        self.loader.compiler.count()
    }
}

/// A component that is ready to be called. Clones share its queue.
#[derive(Clone)]
pub struct LoadedHandler {
    callee: Arc<Callee>,
    workers: Arc<Workers>,
    queue: HandlerId,
    queue_wait: Duration,
    deadline: Option<Instant>,
    resolver: Option<Arc<dyn ResourceResolver>>,
    rule: Arc<Handler>,
    engine: Arc<str>,
    context: CallContext,
    breaker: Arc<Breaker>,
    call_histories: Arc<CallHistories>,
    /// The client of the call. Calls without a client bypass the circuit breaker.
    client: Option<ClientName>,
    /// The client whose turn the call takes in the queue.
    client_key: ClientKey,
}

impl LoadedHandler {
    /// Returns the same handler with this resolver. Without one, every capability request fails
    /// with [`ResolveFailure::Unavailable`].
    #[must_use]
    pub fn with_resolver(&self, bring: Arc<dyn ResourceResolver>) -> Self {
        Self {
            resolver: Some(bring),
            ..self.clone()
        }
    }

    /// Returns the same handler for one client's request. Capability requests are made for that
    /// client.
    #[must_use]
    pub fn with_context(&self, behalf: CallContext) -> Self {
        Self {
            context: behalf,
            ..self.clone()
        }
    }

    /// The bytes of its component's code with the initial memory of instances, and those of its
    /// runtime, each with the digest of the file. Handlers with the same file share them.
    pub fn code_bytes(&self) -> impl Iterator<Item = ([u8; 32], usize)> {
        let compiled = &self.callee.compiled;
        let runtime = compiled.runtime.iter();
        let runtime = runtime.map(|runtime| (runtime.digest, runtime.share.bytes));
        iter::once((*self.rule.sha256(), compiled.code.bytes)).chain(runtime)
    }

    /// The most bytes that can be resolved into memory for one call.
    pub fn max_resolved_bytes(&self) -> usize {
        self.callee.allowance.max_resolved_bytes
    }

    /// Whether its component reads the request's context or carried bytes.
    pub fn reads_request(&self) -> bool {
        self.callee.compiled.reads_request
    }

    /// Whether callers get its own text when it rejects an input.
    pub fn has_public_errors(&self) -> bool {
        self.rule.has_public_errors()
    }

    /// Returns the same handler with the deadline of a request. A call that has not started by then
    /// is [`HandlerError::Overloaded`]. A running call is stopped with
    /// [`FaultCause::RequestDeadline`].
    #[must_use]
    pub fn with_deadline(&self, latest: Instant) -> Self {
        Self {
            deadline: Some(latest),
            ..self.clone()
        }
    }

    /// Returns the same handler for a client, which may have no name. Calls of clients take turns.
    /// The call fails with [`HandlerError::CircuitOpen`] once the handler failed too often.
    #[must_use]
    pub fn for_client(&self, client: Option<&str>) -> Self {
        Self {
            client: Some(client.map(Arc::from)),
            client_key: ClientKey::from_name(client),
            ..self.clone()
        }
    }

    /// Sets the metrics and the listener of the circuit breaker. Only the first call counts.
    pub fn set_breaker_reporting(&self, shown: BreakerReporting) {
        self.breaker.set_reporting(shown);
    }

    /// The log lines beyond the limits since the last time, of all calls of the handler.
    pub fn take_dropped_log_lines(&self) -> u64 {
        self.callee.log_quota.take_dropped()
    }

    /// The clients whose circuits are open, and `None` if the one of all clients is. A client
    /// without a name is empty.
    pub fn open_circuits(&self) -> Vec<Option<String>> {
        self.breaker.open_circuits()
    }

    /// Calls the `preprocess` export on a fresh instance. Dropping the future stops the call within
    /// two ticks.
    ///
    /// # Errors
    /// Returns a [`HandlerError`]. A component that was loaded for the other role is not called.
    pub async fn preprocess(
        &self,
        request_id: &str,
        input: Payload,
    ) -> Result<HandlerOutput, HandlerError> {
        self.call(Role::Preprocess, request_id, input).await
    }

    /// Calls the `postprocess` export on a fresh instance. Dropping the future stops the call
    /// within two ticks.
    ///
    /// # Errors
    /// Returns a [`HandlerError`]. A component that was loaded for the other role is not called.
    pub async fn postprocess(
        &self,
        request_id: &str,
        outputs: Vec<Tensor<'static>>,
    ) -> Result<HandlerOutput, HandlerError> {
        self.call(Role::Postprocess, request_id, Payload::Tensors(outputs))
            .await
    }

    /// Creates an instance with every limit set, on this thread, and drops it. Only its start
    /// function runs. This shows the cost of a call before the guest's first line, and whether a
    /// component can start. The thread must have a stack of 8 MiB, because a start function may use
    /// half of it.
    ///
    /// # Errors
    /// Returns a [`HandlerError`], as a call does.
    pub fn instantiate(&self) -> Result<(), HandlerError> {
        let _ticking = self.workers.ticker.run();
        self.callee.instantiate()
    }

    /// Calls the handler if the circuit breaker permits it, and records the outcome.
    async fn call(
        &self,
        role: Role,
        request_id: &str,
        input: Payload,
    ) -> Result<HandlerOutput, HandlerError> {
        let Some(client) = &self.client else {
            return self.run_until_resolved(role, request_id, input).await;
        };
        // If this future is dropped, the outcome is unknown.
        let mut call = self.breaker.admit(client)?;
        let outcome = self.run_until_resolved(role, request_id, input).await;
        call.set_outcome(outcome.as_ref().err());
        outcome.map(|called| HandlerOutput {
            verdict: called.verdict.clone().with_call(call),
            ..called
        })
    }

    /// Runs the call until no capability request is unresolved.
    async fn run_until_resolved(
        &self,
        role: Role,
        request_id: &str,
        input: Payload,
    ) -> Result<HandlerOutput, HandlerError> {
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
        let keep = self.context.capture.as_ref();
        let wasi = self.wasi_inputs(request_id);
        let mut before = PreviousRuns {
            wasi: wasi.unwrap_or_default(),
            ..PreviousRuns::default()
        };
        let mut known = Arc::<ResolvedResources>::default();
        let mut called = loop {
            let (asks, so_far) = match self.run(request_id, &input, before).await {
                Ok(Run::Finished(called)) => break Ok(called),
                Ok(Run::NeedsResources { asks, before }) => (asks, before),
                Err(error) => break Err(error),
            };
            match self.resolve((asks, so_far)).await {
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
            keep.capture(FinishedCall {
                engine: &self.engine,
                handler: &self.callee.name,
                rule: &self.rule,
                role,
                request_id,
                request: self.reads_request().then_some(&self.context.request),
                input: &input,
                resolved: &known,
                wasi,
                outcome: &called,
            })
        });
        if let Ok(called) = &mut called {
            called.verdict = CallVerdict::captured(kept);
        }
        called
    }

    /// The time and the seed of a call. `None` if the component does not import WASI.
    fn wasi_inputs(&self, request_id: &str) -> Option<WasiInputs> {
        let callee = &self.callee;
        let seed = || {
            let key = &self.workers.host_key;
            key.seed(&callee.name, callee.export.role(), request_id)
        };
        let inputs = || WasiInputs {
            unix_ms: random_seed::unix_ms(self.context.at.unwrap_or_else(SystemTime::now)),
            seed: self.context.seed.unwrap_or_else(seed),
        };
        self.callee.compiled.uses_wasi.then(inputs)
    }

    /// Resolves the requests of a run, in addition to earlier ones. The limit on capability
    /// requests also limits the number of runs.
    async fn resolve(
        &self,
        (asks, before): (Vec<CapabilityRequest>, PreviousRuns),
    ) -> Result<PreviousRuns, HandlerError> {
        let brought = match &self.resolver {
            Some(bring) => bring
                .resolve(&asks, &self.context, self.deadline)
                .await
                .map_err(|EgressBusy| HandlerError::Overloaded(Overload::Egress))?,
            None => asks
                .iter()
                .map(|ask| ResolvedResource::failed(ask, ResolveFailure::Unavailable))
                .collect(),
        };
        // A request without a result would be made again and again.
        if brought.len() != asks.len() {
            return Err(HandlerError::Fault {
                cause: FaultCause::Input,
                detail: format!("{} requests, {} results", asks.len(), brought.len()),
                fuel_used: before.fuel,
            });
        }
        let mut known = Arc::unwrap_or_clone(before.known);
        known.extend(asks.into_iter().zip(brought));
        Ok(PreviousRuns {
            known: Arc::new(known),
            ..before
        })
    }

    /// One run of a call, on an instance of its own.
    async fn run(
        &self,
        request_id: &str,
        input: &Arc<Payload>,
        before: PreviousRuns,
    ) -> Result<Run, HandlerError> {
        let job_handle = Arc::new(JobHandle::default());
        let grace = if self.workers.is_shared {
            DEADLINE_GRACE
        } else {
            UNSHARED_DEADLINE_GRACE
        };
        let timeout = self.callee.allowance.timeout.saturating_sub(before.ran);
        let waits = WaitLimits {
            start_by: Instant::now().checked_add(self.queue_wait),
            run_limit: timeout.saturating_add(grace),
            deadline: self.deadline,
        };
        let (answer, answered) = oneshot::channel();
        let job = {
            let (callee, workers, job_handle) = (
                Arc::clone(&self.callee),
                Arc::clone(&self.workers),
                Arc::clone(&job_handle),
            );
            let (request_id, submitted) = (request_id.to_owned(), Instant::now());
            let request = self.context.request.clone();
            let input = Arc::clone(input);
            let (paces, client) = (Arc::clone(&self.call_histories), self.client.clone());
            move || {
                let pace = paces.for_client(client.as_ref());
                if !workers.is_shared {
                    priority::fix();
                }
                priority::lower_to(pace.priority());
                // The call waits here for a low-priority slot.
                let last = priority::current() == Priority::Lowest;
                let _core = last.then(|| workers.low_priority_slots.acquire(&job_handle));
                if job_handle.start() {
                    let _ticking = workers.ticker.run();
                    let (queued, cpu_timer) = (submitted.elapsed(), CpuTimer::start());
                    let request = (request_id, request);
                    let outcome =
                        callee.call(request, &input, job_handle, queued, cpu_timer, before);
                    pace.record(CallKind::from_outcome(&outcome, cpu_timer.is_long()));
                    // The caller may have left.
                    let _ = answer.send(outcome);
                }
            }
        };
        let (pool, job) = (&self.workers.pool, Box::new(job));
        let rank = self
            .call_histories
            .for_client(self.client.as_ref())
            .priority();
        let Some(place) = pool.submit(
            self.queue,
            self.client_key,
            rank,
            Arc::clone(&job_handle),
            job,
        ) else {
            return Err(HandlerError::Overloaded(Overload::Full));
        };
        let caller = CallWaiter {
            handle: job_handle,
            workers: Arc::clone(&self.workers),
            position: place,
        };
        let answer = caller.wait(waits, answered).await;
        let usage = *caller.handle.usage();
        let (cause, detail) = match answer {
            Ok(outcome) => return outcome,
            Err(NoAnswer::NeverRan(why)) => return Err(HandlerError::Overloaded(why)),
            Err(NoAnswer::RequestOver) => (
                FaultCause::RequestDeadline,
                "the request's deadline passed".to_owned(),
            ),
            Err(NoAnswer::Overdue) => {
                let started = caller.handle.started();
                let wall = started.map_or(waits.run_limit, |started| started.elapsed());
                let detail = format!("{}; {}", Stop::Deadline, usage.overdue(wall));
                (FaultCause::Deadline, detail)
            }
            Err(NoAnswer::Lost) => (FaultCause::Trap, "the guest thread panicked".to_owned()),
        };
        Err(HandlerError::Fault {
            cause,
            detail,
            // The call may still run for two ticks.
            fuel_used: usage.fuel,
        })
    }
}
