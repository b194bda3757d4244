//! Fault attribution: whether a handler or the client's input is at fault when a handler's output
//! breaks the contract.
//!
//! Each call starts fresh: it depends only on the handler's config and its input. So if the same
//! handlers have kept the contract before, invalid values follow from this client's input, and
//! another client's input may be fine.
//!
//! | violation | output of | at fault |
//! |---|---|---|
//! | names, datatypes, shapes, sizes | any handler | the handler |
//! | values | preprocess handlers that have kept the contract before | the input |
//! | values | preprocess handlers that never have | the handler |
//! | values | preprocess handlers of which one may make capability requests | the handler |
//! | values | postprocess handlers | the handler |
//!
//! - Violations by values are `not-finite`, `out-of-range`, `item-too-long` and `url-blocked`.
//! - The history of a contract counts per policy version and model.
//! - If the input is at fault, the response is 400 with that reason. The circuit breaker of the
//!   last handler counts a success, as for a rejected input.
//! - If the handler is at fault, the response is 500 `handler-fault` and the circuit breaker counts
//!   a fault.
//! - With capability requests, the values may come from another server. The input of postprocess
//!   handlers does not come from a client.
//!
//! So a client cannot open the circuit of a handler, or its own, with input that the handler
//! accepts. A handler that never keeps the model's contract is still detected.

use std::sync::atomic::{AtomicBool, Ordering};

use tensorgate_base::payload::Role;
use tensorgate_policy::{Denial, Reason};

use super::contract_denial;

/// What is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The handler.
    Handler,
    /// The client's input.
    Input,
}

/// The history of a handler chain under one policy, for one model and one set of clients.
#[derive(Debug, Default)]
pub(super) struct ContractHistory {
    /// Whether an output has kept the contract.
    kept: AtomicBool,
}

impl ContractHistory {
    /// Records that an output keeps the contract. Only preprocess handlers count.
    pub(super) fn record_kept(&self, role: Role) {
        if role != Role::Preprocess {
            return;
        }
        // Usually set already, so the shared memory is not written.
        if !self.kept.load(Ordering::Relaxed) {
            self.kept.store(true, Ordering::Relaxed);
        }
    }

    /// Attributes a contract violation with this reason. `asks` says whether a handler may make
    /// capability requests.
    pub(super) fn fault(&self, role: Role, asks: bool, reason: Reason) -> Fault {
        let kept = self.kept.load(Ordering::Relaxed);
        if role == Role::Preprocess && kept && !asks && is_value_fault(reason) {
            Fault::Input
        } else {
            Fault::Handler
        }
    }
}

impl Fault {
    /// The denial for the client: the reason, without names of tensors that the client did not
    /// send. The log has the whole cause.
    pub(super) fn denial(self, who: &str, denial: &Denial) -> Denial {
        match self {
            Self::Handler => contract_denial(Reason::HandlerFault, who, denial),
            Self::Input => contract_denial(denial.reason, who, denial),
        }
    }
}

/// Whether the reason is about values and not about the structure of a tensor.
const fn is_value_fault(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NotFinite | Reason::OutOfRange | Reason::ItemTooLong | Reason::UrlBlocked
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_inputs_fault_where_handlers_have_kept_the_contract() {
        use Fault::{Handler, Input};
        use Role::{Postprocess, Preprocess};
        for (kept, role, asks, values) in [
            (true, Preprocess, false, Input),
            (false, Preprocess, false, Handler),
            (true, Preprocess, true, Handler),
            (true, Postprocess, false, Handler),
        ] {
            let repute = ContractHistory::default();
            if kept {
                repute.record_kept(Preprocess);
            }
            for reason in Reason::ALL {
                let expected = match reason.name() {
                    "not-finite" | "out-of-range" | "item-too-long" | "url-blocked" => values,
                    _ => Handler,
                };
                let case = format!("{kept} {role:?} {asks} {reason:?}");
                assert_eq!(repute.fault(role, asks, reason), expected, "{case}");
            }
        }
    }

    #[test]
    fn a_client_is_told_no_name_of_what_a_handler_made() {
        let broke = Denial::with_field(Reason::OutOfRange, "features", "element 3 is out of range");
        let input = Fault::Input.denial("handler \"h\"'s output", &broke);
        assert_eq!(input.reason, Reason::OutOfRange);
        assert_eq!(input.field, None);
        assert!(
            input
                .cause
                .contains("handler \"h\"'s output breaks the contract")
        );
        let handler = Fault::Handler.denial("handler \"h\"'s output", &broke);
        assert_eq!(handler.reason, Reason::HandlerFault);
        assert!(handler.cause.contains("out-of-range"), "{}", handler.cause);
    }
}
