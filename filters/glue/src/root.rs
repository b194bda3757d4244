//! A configured filter: what every request of one policy generation shares.
//!
//! Configuration is the JSON of a [`Bundle`]; the context key comes apart from it, by environment, because proxies show
//! plugin configurations in their config dumps. Any error means no gate at all: the proxy then refuses the configuration and keeps the one
//! before.

use std::cell::RefCell;

use tensorgate_identity::{Identifier, TokenCache};
use tensorgate_policy::validate::validate;
use tensorgate_policy::{Bundle, Fault, Policy, Severity};
use tensorgate_wire::context::Key;

use crate::filter::Filter;

/// The environment variable that holds the context key, 64 hex digits.
pub const CONTEXT_KEY_VARIABLE: &str = "TENSORGATE_CONTEXT_KEY";

/// A generation's longest name, bytes; `render` writes 16 hex digits.
const MAX_GENERATION_BYTES: usize = 64;

/// A configured gate.
pub struct GateRoot {
    pub(crate) filter: Filter,
    pub(crate) policy: Policy,
    pub(crate) identifier: Identifier,
    /// What tokens came to. It goes with its configuration; the generation is in its keys all the same.
    pub(crate) tokens: RefCell<TokenCache>,
    pub(crate) generation: String,
    /// `None` only where somebody else signs the context, or nobody reads one.
    pub(crate) context_key: Option<Key>,
}

impl GateRoot {
    /// Reads and validates a configuration. `Ok` carries the warnings, `Err` every fault. No fault quotes the context key, without
    /// which a filter that identifies callers cannot tell the upstream who calls. A VM's memory never shrinks: what has been read goes before
    /// what is made of it grows.
    pub fn configure(
        filter: Filter,
        bundle_json: impl AsRef<[u8]>,
        context_key_hex: Option<&str>,
    ) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let mut faults = Vec::new();
        let context_key = context_key_hex.and_then(Key::from_hex);
        let needed = filter.duties().identify || context_key_hex.is_some();
        if needed && context_key.is_none() {
            let message = if context_key_hex.is_none() {
                "is not set"
            } else {
                "is not 64 hex digits"
            };
            faults.push(error(CONTEXT_KEY_VARIABLE, message));
        }
        let read: Result<Bundle, _> = serde_json::from_slice(bundle_json.as_ref());
        drop(bundle_json);
        let Bundle { generation, policy } = match read {
            Ok(bundle) => bundle,
            Err(fault) => {
                faults.push(error(
                    "",
                    &format!("configuration is not a policy bundle: {fault}"),
                ));
                return Err(faults);
            }
        };
        if !is_generation(&generation) {
            faults.push(error(
                "generation",
                "must be 1 to 64 letters, digits or dashes",
            ));
        }
        let validated = validate(&policy);
        drop(policy);
        match validated {
            Ok((policy, warnings)) if faults.is_empty() => {
                let identifier = Identifier::new(&policy);
                Ok((
                    Self {
                        filter,
                        policy,
                        identifier,
                        tokens: RefCell::default(),
                        generation,
                        context_key,
                    },
                    warnings,
                ))
            }
            Ok((_, warnings)) => {
                faults.extend(warnings);
                Err(faults)
            }
            Err(more) => {
                faults.extend(more);
                Err(faults)
            }
        }
    }

    /// Which filter it is.
    pub const fn filter(&self) -> Filter {
        self.filter
    }

    /// The policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The generation's name.
    pub fn generation(&self) -> &str {
        &self.generation
    }
}

fn is_generation(name: &str) -> bool {
    (1..=MAX_GENERATION_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn error(path: &str, message: &str) -> Fault {
    Fault {
        severity: Severity::Error,
        path: path.into(),
        message: message.into(),
        fix: None,
    }
}

/// A host call that failed while the gate was being configured, as a fault of the configuration.
pub(crate) fn host_fault(fault: impl core::fmt::Display) -> Fault {
    error("", &format!("the proxy cannot run the gate: {fault}"))
}
