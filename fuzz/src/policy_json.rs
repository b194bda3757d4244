//! Fuzz target: a policy as JSON, its canonical form. Reading and validating must end with a policy
//! or with described faults. The canonical form of a valid policy must be the same policy.

use tensorgate_policy::Severity;
use tensorgate_policy_compiler::raw;
use tensorgate_policy_compiler::validate::validate;

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(raw) = serde_json::from_slice::<raw::Policy>(data) else {
        return;
    };
    check(&raw);
}

/// Checks the properties of a policy that could be read.
pub fn check(raw: &raw::Policy) {
    match validate(raw) {
        Ok((policy, warnings)) => {
            assert!(
                warnings
                    .iter()
                    .all(|warning| warning.severity == Severity::Warning)
            );
            for model in policy.models() {
                assert!(!model.versions().is_empty() && !model.protocols().is_empty());
                for rule in model.backend_inputs() {
                    assert!(rule.shape().iter().all(|dim| dim.max() < u64::MAX));
                }
            }
            let canonical = serde_json::to_vec(raw).expect("finite numbers only");
            let again: raw::Policy = serde_json::from_slice(&canonical).expect("our own writing");
            assert_eq!(*raw, again, "canonical form is not read as it was");
            let (_, warned) = validate(&again).expect("valid as before");
            assert_eq!(warnings, warned);
        }
        Err(faults) => {
            assert!(
                faults.iter().any(|fault| fault.severity == Severity::Error),
                "refused without a fault"
            );
            assert!(faults.iter().all(|fault| !fault.message.is_empty()));
        }
    }
}
