//! Denials of one request that are not enforced: those of gate and verification, and those of
//! handler and backend outputs. [`Shadow`] says which reasons are not enforced. The first denial of
//! each reason is recorded here.

use tensorgate_policy::contract::{TensorRule, check_tensors};
use tensorgate_policy::policy::{Shadow, note};
use tensorgate_policy::{Denial, Reason, Tensor};

/// The shadow mode of a request.
#[derive(Debug, Default)]
pub struct InShadow {
    shadow: Shadow,
    noted: Vec<Denial>,
}

/// The kind of values that are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// The inputs of the backend.
    Inputs,
    /// The outputs of the backend, or of a postprocess handler.
    Outputs,
}

impl InShadow {
    /// Creates the shadow mode of a grant, with the denials so far.
    pub const fn new(shadow: Shadow, noted: Vec<Denial>) -> Self {
        Self { shadow, noted }
    }

    /// The denials that were not enforced.
    pub fn noted(&self) -> &[Denial] {
        &self.noted
    }

    /// Checks an output. `own` converts a denial to one with the producer's reason; the log has the
    /// whole cause.
    ///
    /// # Errors
    /// Returns the first denial that is enforced.
    pub fn check(
        &mut self,
        values: Values,
        rules: &[TensorRule],
        tensors: &[Tensor<'_>],
        own: impl Fn(Denial) -> Denial,
    ) -> Result<(), Denial> {
        let passes = |reason: Reason| match values {
            Values::Inputs => self.shadow.lets_pass(reason),
            Values::Outputs => self.shadow.lets_answer_pass(reason),
        };
        let noted = &mut self.noted;
        check_tensors(rules, tensors, &mut |denial| {
            if !passes(denial.reason) {
                return Err(denial);
            }
            note(noted, own(denial));
            Ok(())
        })
        .map_err(&own)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use serde_json::json;
    use tensorgate_policy::policy::{Accepts, Policy};
    use tensorgate_policy_compiler::{raw, validate};

    use super::*;

    fn policy(mode: &str) -> Policy {
        let raw: raw::Policy = serde_json::from_value(json!({
            "version": 1,
            "clients": {"c": {"api_keys": [{"sha256": "03".repeat(32)}]}},
            "backends": {"b": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:1"], "max_in_flight": 1, "queue": 1, "timeout_ms": 9}},
            "models": {"m": {
                "backend": "b", "versions": ["1"], "protocols": ["oip-rest"],
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "range": [0, 1]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}]
            }},
            "grants": [{"name": "g", "clients": ["c"], "models": ["m"], "operations": ["infer"], "mode": {mode: "shadow"}}]
        }))
        .unwrap();
        validate::validate(&raw).unwrap().0
    }

    /// Checks a handler's output as inputs or outputs. Returns the enforced reason and the recorded
    /// ones.
    fn check(mode: &str, values: Values, x: [f32; 2], shape: i64) -> (Option<Reason>, Vec<Reason>) {
        let policy = policy(mode);
        let Accepts::Tensors(contract) = policy.models()[0].accepts() else {
            return (None, Vec::new());
        };
        let tensor = Tensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![shape],
            parameters: Vec::new(),
            data: Ok(x.map(f32::to_le_bytes).concat().into()),
        };
        let mut shadow = InShadow::new(policy.grants()[0].shadow(), Vec::new());
        let own = |denial: Denial| Denial::new(Reason::HandlerFault, denial.cause);
        let checked = shadow.check(values, contract.inputs(), &[tensor], own);
        let noted = shadow.noted().iter().map(|denial| denial.reason).collect();
        (checked.err().map(|denial| denial.reason), noted)
    }

    #[test]
    fn values_that_a_handler_makes_pass_where_their_kind_is_in_shadow() {
        use Reason::HandlerFault;
        let (good, wrong) = ([0.0, 1.0], [f32::NAN, 2.0]);
        let refused = (Some(HandlerFault), Vec::new());
        let noted = (None, vec![HandlerFault]);
        for (mode, values, x, shape, expected) in [
            ("values", Values::Inputs, good, 2, (None, Vec::new())),
            ("values", Values::Inputs, wrong, 2, noted.clone()),
            ("values", Values::Outputs, wrong, 2, refused.clone()),
            ("outputs", Values::Outputs, wrong, 2, noted),
            ("outputs", Values::Inputs, wrong, 2, refused.clone()),
            ("default", Values::Inputs, good, 3, refused.clone()),
            ("default", Values::Outputs, wrong, 1, refused),
        ] {
            assert_eq!(check(mode, values, x, shape), expected, "{mode} {values:?}");
        }
    }
}
