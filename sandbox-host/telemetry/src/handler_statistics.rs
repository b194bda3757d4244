//! What the calls of each handler came to and used, since the host started. Histograms of the
//! metrics cannot be read back.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A handler's name and its role.
type Key = (String, &'static str);

/// The totals of one handler in one role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandlerTotals {
    /// Finished calls.
    pub calls: u64,
    /// Calls that rejected their request.
    pub rejections: u64,
    /// Calls that failed.
    pub faults: u64,
    /// The cause of the last one.
    pub last_fault: Option<&'static str>,
    /// Calls that did not run or found no more memory.
    pub overloads: u64,
    /// The fuel of finished calls.
    pub fuel: u64,
    /// The most fuel of a finished call.
    pub max_fuel: u64,
    /// The largest linear memory of a finished call, in bytes.
    pub max_memory_bytes: u64,
    /// The time that finished calls ran, in microseconds.
    pub ran_us: u64,
    /// The time that finished calls waited for a thread, in microseconds.
    pub queued_us: u64,
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub enum HandlerCall {
    /// It returned tensors.
    Finished {
        /// Its fuel.
        fuel: u64,
        /// Its largest linear memory in bytes.
        memory_bytes: usize,
        /// The time that it ran, in microseconds.
        ran_us: u64,
        /// The time that it waited for a thread, in microseconds.
        queued_us: u64,
    },
    /// It rejected its request.
    Rejected,
    /// It failed for this cause.
    Fault(&'static str),
    /// It did not run or found no more memory.
    Overloaded,
}

/// The totals by handler and role. Both are policy names, and names that no loaded policy has are
/// forgotten at each change of policy. So their number is bounded.
#[derive(Debug, Default)]
pub struct HandlerStatistics(Mutex<BTreeMap<Key, HandlerTotals>>);

impl HandlerStatistics {
    /// Counts a call.
    pub fn count(&self, handler: &str, role: &'static str, call: HandlerCall) {
        let mut handlers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let totals = handlers.entry((handler.to_owned(), role)).or_default();
        totals.count(call);
    }

    /// Forgets the handlers whose names are not known.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        let mut handlers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        handlers.retain(|(name, _), _| is_known(name));
    }

    /// The totals so far, by name and role.
    pub fn totals(&self) -> BTreeMap<(String, &'static str), HandlerTotals> {
        let handlers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        handlers.clone()
    }
}

impl HandlerTotals {
    fn count(&mut self, call: HandlerCall) {
        match call {
            HandlerCall::Finished {
                fuel,
                memory_bytes,
                ran_us,
                queued_us,
            } => {
                let memory_bytes = u64::try_from(memory_bytes).unwrap_or(u64::MAX);
                self.calls = self.calls.saturating_add(1);
                self.fuel = self.fuel.saturating_add(fuel);
                self.max_fuel = self.max_fuel.max(fuel);
                self.max_memory_bytes = self.max_memory_bytes.max(memory_bytes);
                self.ran_us = self.ran_us.saturating_add(ran_us);
                self.queued_us = self.queued_us.saturating_add(queued_us);
            }
            HandlerCall::Rejected => self.rejections = self.rejections.saturating_add(1),
            HandlerCall::Fault(cause) => {
                self.faults = self.faults.saturating_add(1);
                self.last_fault = Some(cause);
            }
            HandlerCall::Overloaded => self.overloads = self.overloads.saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_count_by_handler_and_role() {
        let statistics = HandlerStatistics::default();
        let finished = |fuel, memory_bytes| HandlerCall::Finished {
            fuel,
            memory_bytes,
            ran_us: 20,
            queued_us: 3,
        };
        statistics.count("h", "preprocess", finished(100, 5));
        statistics.count("h", "preprocess", finished(60, 9));
        statistics.count("h", "preprocess", HandlerCall::Fault("trap"));
        statistics.count("h", "preprocess", HandlerCall::Rejected);
        statistics.count("h", "postprocess", HandlerCall::Overloaded);
        let totals = statistics.totals();
        let expected = HandlerTotals {
            calls: 2,
            rejections: 1,
            faults: 1,
            last_fault: Some("trap"),
            overloads: 0,
            fuel: 160,
            max_fuel: 100,
            max_memory_bytes: 9,
            ran_us: 40,
            queued_us: 6,
        };
        let key = |role| ("h".to_owned(), role);
        assert_eq!(totals.get(&key("preprocess")), Some(&expected));
        let overloads = totals.get(&key("postprocess")).map(|it| it.overloads);
        assert_eq!((totals.len(), overloads), (2, Some(1)));
    }
}
