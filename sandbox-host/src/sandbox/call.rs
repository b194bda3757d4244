//! One call: a fresh store and instance, every bound in place before the guest's first instruction, and nothing of it
//! left afterwards. Runs on a guest thread, blocks it, and ends within the deadline and a tick or two.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::{Engine, Store, UpdateDeadline};

use super::asks::{Ask, Asked, Known};
use super::bindings::preprocess as abi;
use super::bindings::preprocess::tensorgate::handler::types;
use super::bounds::{EPOCH_TICK, MAX_HANDLES, MAX_MESSAGE_BYTES, SHORT_CALL};
use super::breaker::Standing;
use super::cause::{self, Phase};
use super::compiled::Compiled;
use super::limits::Limits;
use super::load::{Allowance, Export};
use super::logbook::{Logbook, cut, escape};
use super::outcome::{Called, FaultCause, HandlerError, Payload};
use super::priority::{self, Rank, Stint};
use super::state::CallState;
use super::tensors::{self, Dims};
use super::ticket::Ticket;

/// A handler as a call needs it.
pub(super) struct Callee {
    pub(super) engine: Engine,
    pub(super) name: Arc<str>,
    pub(super) export: Export,
    /// Keeps the component to be found by other handlers that name it.
    pub(super) _compiled: Arc<Compiled>,
    pub(super) allowance: Allowance,
    /// The largest answer, data and names, bytes.
    pub(super) max_output_bytes: usize,
}

/// What earlier runs of a call have spent and brought. The first run has spent nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    pub(super) fuel: u64,
    pub(super) ran: Duration,
    pub(super) logged: u32,
    pub(super) known: Arc<Known>,
}

/// How a run of a call ends.
pub(super) enum Run {
    /// With an answer.
    Called(Called),
    /// With something that is to be brought first; then it runs again from its beginning.
    Wants { asks: Vec<Ask>, before: Before },
}

/// What a call's export answers, if the guest comes to its end.
type Answer = Result<Vec<types::TensorResult>, types::Error>;

impl Callee {
    /// Calls the export. The deadline counts from here: the wait before is bounded by itself.
    pub(super) fn call(
        &self,
        request_id: String,
        input: &Payload,
        ticket: Arc<Ticket>,
        queued: Duration,
        stint: Stint,
        before: Before,
    ) -> Result<Run, HandlerError> {
        let started = Instant::now();
        let ran_before = before.ran;
        let mut store = self.store(request_id, started, ticket, Some(stint), before)?;
        let answer = match input {
            Payload::Tensors(tensors) => {
                let dims = Dims::of(tensors).map_err(input_fault)?;
                let tensors = tensors::arguments(tensors, &dims).map_err(input_fault)?;
                self.answer(&mut store, abi::Payload::Tensors(&tensors))
            }
            Payload::Raw { content_type, data } => self.answer(
                &mut store,
                abi::Payload::Raw(types::RawBody { content_type, data }),
            ),
        };
        let fuel_used = self
            .allowance
            .fuel
            .saturating_sub(store.get_fuel().unwrap_or(0));
        let mut state = store.into_data();
        let ran = ran_before.saturating_add(started.elapsed());
        let beyond = state.asked.is_beyond();
        let asks = std::mem::take(&mut state.asked.wanted);
        if !asks.is_empty() && !beyond {
            let before = Before {
                fuel: fuel_used,
                ran,
                logged: state.logbook.lines(),
                known: state.asked.known,
            };
            return Ok(Run::Wants { asks, before });
        }
        let answer = answer
            .map_err(|(error, phase)| cause::fault(&error, phase, &state.limits, fuel_used))?;
        let tensors = answer
            .map_err(|error| reported(error, fuel_used))
            .and_then(|returned| {
                tensors::results(returned).map_err(|detail| bad_output(detail, fuel_used))
            })?;
        Ok(Run::Called(Called {
            tensors,
            fuel_used,
            log_lines_dropped: state.logbook.dropped(),
            memory_peak_bytes: state.limits.peak_bytes(),
            memory_grows: state.limits.grows(),
            memory_grown_bytes: state.limits.grown_bytes(),
            queued_us: micros(queued),
            ran_us: micros(ran),
            standing: Standing::default(),
        }))
    }

    /// Instantiates, and nothing more.
    pub(super) fn instantiate(&self) -> Result<(), HandlerError> {
        let mut store = self.store(
            String::new(),
            Instant::now(),
            Arc::default(),
            // Whose thread this is, is not for a guest to say.
            None,
            Before::default(),
        )?;
        let made = match &self.export {
            Export::Preprocess(export) => export.instantiate(&mut store).map(drop),
            Export::Postprocess(export) => export.instantiate(&mut store).map(drop),
        };
        made.map_err(|error| cause::fault(&error, Phase::Instantiate, &store.data().limits, 0))
    }

    /// A store with every bound set.
    fn store(
        &self,
        request_id: String,
        started: Instant,
        ticket: Arc<Ticket>,
        stint: Option<Stint>,
        before: Before,
    ) -> Result<Store<CallState>, HandlerError> {
        let state = CallState {
            limits: Limits::new(self.allowance.memory_bytes),
            handler: Arc::clone(&self.name),
            request_id,
            config: Arc::clone(&self.allowance.config),
            logbook: Logbook::after(before.logged),
            // A timeout too long for the clock to express is none: fuel still ends the call.
            deadline: started
                .checked_add(self.allowance.timeout.saturating_sub(before.ran))
                .unwrap_or(started),
            ticket,
            stint,
            host_calls: 0,
            asked: Asked {
                may: self.allowance.asking.clone(),
                known: before.known,
                wanted: Vec::new(),
            },
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        store
            .set_fuel(self.allowance.fuel.saturating_sub(before.fuel))
            .map_err(|error| HandlerError::Fault {
                cause: FaultCause::Instantiate,
                detail: format!("{error:#}"),
                fuel_used: 0,
            })?;
        // What the guest can make the host copy at once; 128 MiB if not said.
        store.set_hostcall_fuel(self.max_output_bytes);
        // 100,000 if not said.
        store.set_max_component_handles(MAX_HANDLES);
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            state.may_go_on()?;
            let had = state.stint.map_or(Duration::ZERO, |stint| stint.so_far());
            if had > SHORT_CALL {
                priority::step_to(Rank::Back);
            }
            // A guest that has had a core for a tick lets others on before it goes on: they wait for a tick, not for a slice. One that
            // a tick has merely come upon has not.
            if had >= EPOCH_TICK {
                std::thread::yield_now();
            }
            Ok(UpdateDeadline::Continue(1))
        });
        // Before instantiation: a start function can loop.
        store.set_epoch_deadline(1);
        Ok(store)
    }

    /// Instantiates and calls; an error comes with where it came up.
    fn answer(
        &self,
        store: &mut Store<CallState>,
        input: abi::Payload<'_>,
    ) -> Result<Answer, (wasmtime::Error, Phase)> {
        let at = |phase| move |error| (error, phase);
        match &self.export {
            Export::Preprocess(export) => {
                let instance = export
                    .instantiate(&mut *store)
                    .map_err(at(Phase::Instantiate))?;
                instance
                    .call_preprocess(&mut *store, input)
                    .map_err(at(Phase::Call))
            }
            Export::Postprocess(export) => {
                let abi::Payload::Tensors(outputs) = input else {
                    return Ok(Err(types::Error::Fault(
                        "a postprocess handler was given a body".to_owned(),
                    )));
                };
                let instance = export
                    .instantiate(&mut *store)
                    .map_err(at(Phase::Instantiate))?;
                instance
                    .call_postprocess(&mut *store, outputs)
                    .map_err(at(Phase::Call))
            }
        }
    }
}

/// What the handler says of its own failure; its text is cut and escaped, because it goes to the log.
fn reported(error: types::Error, fuel_used: u64) -> HandlerError {
    let printable = |text: String| escape(cut(&text, MAX_MESSAGE_BYTES));
    match error {
        types::Error::BadInput(text) => HandlerError::Rejected {
            text: printable(text),
            fuel_used,
        },
        types::Error::Fault(text) => HandlerError::Fault {
            cause: FaultCause::Reported,
            detail: printable(text),
            fuel_used,
        },
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
