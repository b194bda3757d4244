//! Whose fault it is that what handlers made breaks the contract: their own, or that of the input which they were given.
//!
//! A call begins anew each time: all that it has is the handlers' config and what came. So where the same handlers have made what keeps the contract,
//! values that do not keep it follow from what the client sent, and the next client's may keep it.
//!
//! | what breaks the contract | made by | fault of | the caller gets | the last handler's breaker hears |
//! |---|---|---|---|---|
//! | names, datatypes, shapes, sizes | anybody | the handler | 500 `handler-fault` | a fault |
//! | values: `not-finite`, `out-of-range`, `item-too-long`, `url-blocked` | preprocess handlers that have kept it before, under this policy and for this model | the input | 400 and that reason | an answer, as of an input that a handler rejects |
//! | the same | preprocess handlers that never have: it may be that they never do | the handler | 500 `handler-fault` | a fault |
//! | the same | preprocess handlers of which one may ask for something outside: values may be whoever's it asks | the handler | 500 `handler-fault` | a fault |
//! | the same | postprocess handlers: what they were given, no client wrote | the handler | 500 `handler-fault` | a fault |
//!
//! So a client cannot have a handler left alone, nor itself, by what the handler's own contract lets in; and a handler that never keeps the model's is found out.

use std::sync::atomic::{AtomicBool, Ordering};

use tensorgate_policy::{Denial, Reason};

use super::broken;
use crate::sandbox::Role;

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The handler's.
    Handler,
    /// That of what the client sent.
    Input,
}

/// What handlers in a row have shown, under one policy, for one model and one set of clients.
#[derive(Debug, Default)]
pub(super) struct Repute {
    /// Whether what they made has kept the contract.
    kept: AtomicBool,
}

impl Repute {
    /// What they made keeps the contract; those of the other role are nobody's concern here.
    pub(super) fn keeps(&self, role: Role) {
        if role != Role::Preprocess {
            return;
        }
        // Mostly it is there already: nothing is written that others read.
        if !self.kept.load(Ordering::Relaxed) {
            self.kept.store(true, Ordering::Relaxed);
        }
    }

    /// Whose fault it is that what they made breaks the contract for this reason. `asks`: whether one of them may ask for something outside.
    pub(super) fn fault(&self, role: Role, asks: bool, reason: Reason) -> Fault {
        let kept = self.kept.load(Ordering::Relaxed);
        if role == Role::Preprocess && kept && !asks && of_values(reason) {
            Fault::Input
        } else {
            Fault::Handler
        }
    }
}

impl Fault {
    /// The denial for it. A client is told the reason, and no name of a tensor that it has not sent; the log has the whole cause.
    pub(super) fn denial(self, who: &str, denial: &Denial) -> Denial {
        match self {
            Self::Handler => broken(Reason::HandlerFault, who, denial),
            Self::Input => broken(denial.reason, who, denial),
        }
    }
}

/// Whether it says what stands in a tensor, and not what the tensor is.
const fn of_values(reason: Reason) -> bool {
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
            let repute = Repute::default();
            if kept {
                repute.keeps(Preprocess);
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
