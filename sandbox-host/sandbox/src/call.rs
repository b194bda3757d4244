//! One run of a handler call: a fresh store and instance, with every limit in place before the
//! guest's first instruction. Nothing is kept afterwards. The run blocks a guest thread and ends
//! within two ticks of its deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tensorgate_base::payload::Payload;
use tensorgate_policy::values::safe_text::{escaped, prefix};
use wasmtime::{Engine, Store, UpdateDeadline};

use crate::bindings::preprocess::tensorgate::handler::errors::Error as GuestError;
use crate::bindings::v0_1::preprocess::tensorgate::handler::types;
use crate::breaker::CallVerdict;
use crate::call_request::CallRequest;
use crate::call_state::{CallState, Stop};
use crate::caller_text::caller_text;
use crate::capabilities::CapabilityState;
use crate::cause::{self, Phase};
use crate::component_cache::CompiledComponent;
use crate::export::{Arguments, Export};
use crate::finished_call::HandlerOutput;
use crate::fixed_limits::{
    EPOCH_TICK, MAX_CORE_INSTANCES_WITH_RUNTIME, MAX_HANDLES, MAX_MESSAGE_BYTES, MAX_SHORT_CALL,
};
use crate::guest_log::{GuestLog, LineCounts};
use crate::job_handle::JobHandle;
use crate::limits::Limits;
use crate::load::HandlerLimits;
use crate::log_quota::LogQuota;
use crate::memory_account::MemoryAccount;
use crate::outcome::{FaultCause, HandlerError};
use crate::priority::{self, CpuTimer, Priority};
use crate::python_frames;
use crate::random_seed::WasiInputs;
use crate::resources::{CapabilityRequest, ResolvedResources};
use crate::tensors::{self, Dims};
use crate::wasi;
use crate::wasi_state::WasiState;

/// A handler with all that a call needs.
pub(super) struct Callee {
    pub(super) engine: Engine,
    pub(super) name: Arc<str>,
    pub(super) export: Export,
    /// Keeps the component alive in the cache for other handlers that name it.
    pub(super) compiled: Arc<CompiledComponent>,
    pub(super) allowance: HandlerLimits,
    /// Where the memory of instances is counted.
    pub(super) memory_account: Arc<MemoryAccount>,
    /// The author's code, if the component is one for development; else empty.
    pub(super) sources: Arc<[u8]>,
    /// The log lines that all its calls may write.
    pub(super) log_quota: Arc<LogQuota>,
    /// The limit for the output's data and names, in bytes.
    pub(super) max_output_bytes: usize,
}

/// What earlier runs of a call have used and resolved. Empty for the first run.
#[derive(Clone, Debug, Default)]
pub(super) struct PreviousRuns {
    pub(super) fuel: u64,
    pub(super) ran: Duration,
    pub(super) logged: LineCounts,
    pub(super) known: Arc<ResolvedResources>,
    /// The time and the seed of the call, for all its runs.
    pub(super) wasi: WasiInputs,
}

/// How a run ends.
pub(super) enum Run {
    /// With the handler's output.
    Finished(HandlerOutput),
    /// With unresolved capability requests. The call runs again once they are resolved.
    NeedsResources {
        asks: Vec<CapabilityRequest>,
        before: PreviousRuns,
    },
}

impl Callee {
    /// Calls the export. The deadline counts from here; the time in the queue has a limit of its
    /// own.
    pub(super) fn call(
        &self,
        (request_id, request): (String, CallRequest),
        input: &Payload,
        job_handle: Arc<JobHandle>,
        queued: Duration,
        cpu_timer: CpuTimer,
        before: PreviousRuns,
    ) -> Result<Run, HandlerError> {
        let started = Instant::now();
        let ran_before = before.ran;
        let mut store = self.store(
            (request_id, request),
            started,
            job_handle,
            cpu_timer,
            before,
        );
        let answer = match input {
            Payload::Tensors(tensors) => {
                let dims = Dims::from_tensors(tensors).map_err(input_fault)?;
                let tensors = tensors::arguments(tensors, &dims).map_err(input_fault)?;
                (self.export).call(&mut store, Arguments::Tensors(&tensors))
            }
            Payload::Raw { content_type, data } => (self.export).call(
                &mut store,
                Arguments::Raw(types::RawBody { content_type, data }),
            ),
        };
        let usage = (store.data()).record_usage(store.get_fuel().unwrap_or_default());
        let fuel_used = usage.fuel;
        let frames = match &answer {
            Err((error, _)) if !is_unresolved(error) => python_frames::frames(error, &store),
            _ => None,
        };
        if let (Ok(Ok(_)), Some(memory)) = (&answer, &store.data().memory) {
            self.compiled.written.observe(memory);
        }
        let mut state = store.into_data();
        let ran = ran_before.saturating_add(started.elapsed());
        let beyond = state.capabilities.exceeds_limits();
        let asks = std::mem::take(&mut state.capabilities.pending);
        if !asks.is_empty() && !beyond {
            let before = PreviousRuns {
                fuel: fuel_used,
                ran,
                logged: state.log.lines(),
                known: state.capabilities.resolved,
                wasi: state.wasi.inputs,
            };
            return Ok(Run::NeedsResources { asks, before });
        }
        wasi::finish_output(&mut state);
        let answer = answer.map_err(|(error, phase)| {
            tracing::debug!(
                handler = &*state.handler,
                request_id = state.request_id.as_str(),
                cause = cause::describe(&error),
                "handler fault"
            );
            let last_error = state.log.last_error();
            let limits = &state.limits;
            cause::fault(&error, phase, limits, last_error.as_deref(), usage, frames)
        })?;
        let tensors = answer
            .map_err(|error| handler_error(error, state.limits.refused(), fuel_used))
            .and_then(|returned| {
                tensors::results(returned).map_err(|detail| bad_output(detail, fuel_used))
            })?;
        Ok(Run::Finished(HandlerOutput {
            tensors,
            fuel_used,
            memory_peak_bytes: state.limits.peak_bytes(),
            memory_grows: state.limits.grows(),
            memory_grown_bytes: state.limits.grown_bytes(),
            queued_us: micros(queued),
            ran_us: micros(ran),
            carry: state.request.carry,
            verdict: CallVerdict::default(),
        }))
    }

    /// Instantiates the component without calling it.
    pub(super) fn instantiate(&self) -> Result<(), HandlerError> {
        // The priority of the calling thread must not change.
        priority::fix();
        let mut store = self.store(
            (String::new(), CallRequest::default()),
            Instant::now(),
            Arc::default(),
            CpuTimer::start(),
            PreviousRuns::default(),
        );
        let made = self.export.instantiate(&mut store);
        made.map_err(|error| {
            let state = store.data();
            let last_error = state.log.last_error();
            let usage = state.record_usage(store.get_fuel().unwrap_or_default());
            cause::fault(
                &error,
                Phase::Instantiate,
                &state.limits,
                last_error.as_deref(),
                usage,
                None,
            )
        })
    }

    /// Creates a store with every limit set.
    fn store(
        &self,
        (request_id, request): (String, CallRequest),
        started: Instant,
        job_handle: Arc<JobHandle>,
        cpu_timer: CpuTimer,
        before: PreviousRuns,
    ) -> Store<CallState> {
        let mut limits = Limits::new(self.allowance.memory_bytes).counted_in(&self.memory_account);
        if self.compiled.runtime.is_some() {
            limits.instances = MAX_CORE_INSTANCES_WITH_RUNTIME;
        }
        let state = CallState {
            limits,
            handler: Arc::clone(&self.name),
            request_id,
            request,
            shown_parameters: Arc::clone(&self.allowance.shown_parameters),
            config: Arc::clone(&self.allowance.config),
            sources: Arc::clone(&self.sources),
            log: GuestLog::resume_after(before.logged, Arc::clone(&self.log_quota)),
            started,
            // A timeout beyond the range of the clock counts as none. Fuel still ends the call.
            deadline: started
                .checked_add(self.allowance.timeout.saturating_sub(before.ran))
                .unwrap_or(started),
            max_fuel: self.allowance.fuel,
            handle: job_handle,
            cpu_timer,
            host_calls: 0,
            capabilities: CapabilityState {
                limits: self.allowance.capabilities.clone(),
                resolved: before.known,
                pending: Vec::new(),
            },
            wasi: WasiState::new(before.wasi),
            memory: None,
        };
        let fuel = self.allowance.fuel.saturating_sub(before.fuel);
        state.record_usage(fuel);
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        // Cannot fail, because the engine counts fuel. A store without any runs nothing.
        let _ = store.set_fuel(fuel);
        // Limits what the guest can make the host copy at once. The default is 128 MiB. A handle of
        // WASI is larger in the host than in the guest's memory.
        store.set_hostcall_fuel(self.max_output_bytes.min(self.allowance.memory_bytes));
        // The default is 100,000.
        store.set_max_component_handles(MAX_HANDLES);
        store.epoch_deadline_callback(|store| {
            let state = store.data();
            let usage = state.record_usage(store.get_fuel()?);
            state.check_may_continue()?;
            if usage.cpu > MAX_SHORT_CALL {
                priority::lower_to(Priority::Low);
            }
            // A guest that used a full tick yields to other threads before it goes on. They then
            // wait for a tick instead of a slice.
            if usage.cpu >= EPOCH_TICK {
                std::thread::yield_now();
            }
            Ok(UpdateDeadline::Continue(1))
        });
        // Set before instantiation, because a start function can loop.
        store.set_epoch_deadline(1);
        store
    }
}

/// Whether a call stopped for resources, and may run again.
fn is_unresolved(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref::<Stop>(), Some(Stop::Unresolved))
}

/// Converts the handler's own error. The text is shortened and escaped because it is logged. After
/// a refused growth of memory, that is the cause: an interpreter reports it as an error of its own,
/// with the line.
fn handler_error(error: GuestError, refused: Option<&str>, fuel_used: u64) -> HandlerError {
    let bounded = |text: String| escaped(prefix(&text, MAX_MESSAGE_BYTES));
    match error {
        GuestError::BadInput(rejection) => HandlerError::Rejected {
            text: bounded(rejection.log),
            caller: rejection.caller.as_deref().and_then(caller_text),
            fuel_used,
        },
        GuestError::Fault(text) => {
            let text = bounded(text);
            let (cause, detail) = match refused {
                Some(refused) => (FaultCause::Memory, format!("{refused}; {text}")),
                None => (FaultCause::Reported, text),
            };
            HandlerError::Fault {
                cause,
                detail,
                fuel_used,
            }
        }
    }
}

const fn bad_output(detail: String, fuel_used: u64) -> HandlerError {
    HandlerError::Fault {
        cause: FaultCause::BadOutput,
        detail,
        fuel_used,
    }
}

const fn input_fault(detail: String) -> HandlerError {
    HandlerError::Fault {
        cause: FaultCause::Input,
        detail,
        fuel_used: 0,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
