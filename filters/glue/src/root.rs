//! A configured filter: what every request of one policy generation shares.
//!
//! Configuration is the JSON of a [`Bundle`]; the context key comes apart from it, by environment, because proxies show
//! plugin configurations in their config dumps. Any error means no gate at all: the proxy then refuses the configuration and keeps the one
//! before.

use std::cell::{Cell, RefCell};

use tensorgate_identity::{Identifier, TokenCache};
use tensorgate_policy::policy::{Grant, KeyPlaces};
use tensorgate_policy::validate::validate;
use tensorgate_policy::{Bundle, Fault, Now, Policy, Severity};
use tensorgate_wire::context::Key;

use crate::body::ALWAYS_HELD_BYTES;
use crate::filter::Filter;
use crate::host::{Answered, Outside, SharedStore};
use crate::keys::Keyring;
use crate::slots::SlotFault;
use crate::waiting::Room;

/// The environment variable that holds the context key, 64 hex digits.
pub const CONTEXT_KEY_VARIABLE: &str = "TENSORGATE_CONTEXT_KEY";

/// What is read of a configuration, bytes: one more than may be, so that a larger one is seen to be that and not taken for one that is cut off.
pub const READ_CONFIGURATION_BYTES: usize = Bundle::MAX_BYTES + 1;

/// Requests that wait for a key at once, of one worker: each holds what a client has sent, and nothing is known of that client.
const MAX_WAITING: usize = 64;
/// What they hold of bodies, all of one worker together: sixteen of a size that every gate holds, or one of the greatest that this one holds. Nobody
/// knows yet who sends them.
const WAITING_BYTES: usize = 16 * ALWAYS_HELD_BYTES;
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
    /// Key sets that issuers publish.
    pub(crate) keys: RefCell<Keyring>,
    /// Room for requests that wait for one of them.
    pub(crate) room: Room,
    /// Room for what has come of streams behind messages that waited.
    pub(crate) behind: Room,
    /// A request has had the next tick come sooner.
    pub(crate) hurried: Cell<bool>,
}

impl GateRoot {
    /// Reads and validates a configuration. `Ok` carries the warnings, `Err` every fault. No fault quotes the context key, without
    /// which a filter that identifies callers cannot tell the upstream who calls. A VM's memory never shrinks: what has been read goes before
    /// what is made of it grows.
    ///
    /// # Errors
    /// The faults of the configuration, where any is an error.
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
        if bundle_json.as_ref().len() > Bundle::MAX_BYTES {
            let cause = format!("configuration is larger than {} bytes", Bundle::MAX_BYTES);
            faults.push(error("", &cause));
            return Err(faults);
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
            Ok((policy, warnings)) if filter != Filter::Gate && messages_wait(&policy) => {
                // A proxy has one buffer for all of its filters: what one of them holds another would send on.
                let cause = "messages of streams wait for limits of scope global in the filter `gate` alone, not in parts of it";
                faults.push(error("grants", cause));
                faults.extend(warnings);
                Err(faults)
            }
            Ok((policy, warnings)) if faults.is_empty() => {
                let identifier = Identifier::new(&policy);
                let keys = Keyring::new(&policy, filter.duties().identify);
                let waiting_bytes = policy.listen().limits().hold_bytes.max(WAITING_BYTES);
                Ok((
                    Self {
                        filter,
                        policy,
                        identifier,
                        tokens: RefCell::default(),
                        keys: RefCell::new(keys),
                        room: Room::new(MAX_WAITING, waiting_bytes),
                        behind: Room::new(MAX_WAITING, waiting_bytes),
                        hurried: Cell::new(false),
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

    /// Where requests may carry API keys, for whoever looks for them. Another filter reads the path as it is: the one in front has taken a key
    /// out of it, or nobody does, and such a path is no route.
    pub(crate) fn key_places(&self) -> &KeyPlaces {
        static USUAL: KeyPlaces = KeyPlaces::USUAL;
        if self.filter.duties().identify {
            self.policy.listen().key_places()
        } else {
            &USUAL
        }
    }

    /// The policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The generation's name.
    pub fn generation(&self) -> &str {
        &self.generation
    }

    /// Makes the slots of key sets, and takes in what workers of the policy before this one have fetched.
    ///
    /// # Errors
    /// The store failed, or is full.
    pub fn make_keys(&self, store: &mut dyn SharedStore, now: Now) -> Result<(), SlotFault> {
        let mut keys = self.keys.borrow_mut();
        keys.make_slots(store)?;
        keys.refresh(store, self.tokens.borrow_mut().keys_mut(), now, true);
        Ok(())
    }

    /// Whether there is work that no request does.
    pub fn ticks(&self) -> bool {
        !self.keys.borrow().is_empty()
    }

    /// Whether a request has had the next tick come sooner since this was asked.
    pub fn was_hurried(&self) -> bool {
        self.hurried.take()
    }

    /// Does the work that no request does, as far as it is due.
    pub fn on_tick(&self, outside: &mut dyn Outside) {
        let mut tokens = self.tokens.borrow_mut();
        self.keys.borrow_mut().on_tick(outside, tokens.keys_mut());
    }

    /// A server that was asked has answered, or has not.
    pub fn on_answer(&self, outside: &mut dyn Outside, token: u32, answered: Option<&Answered>) {
        let mut tokens = self.tokens.borrow_mut();
        let sets = tokens.keys_mut();
        let mut keys = self.keys.borrow_mut();
        keys.on_answer(outside, sets, token, answered);
    }

    /// Nothing of this configuration will be asked or answered any more.
    pub fn close(&self, store: &mut dyn SharedStore) {
        self.keys.borrow_mut().close(store);
    }

    /// Has an issuer publish a key set, as if it had been fetched just now.
    ///
    /// # Errors
    /// What is wrong with the document, or that no such issuer has its keys fetched.
    pub fn publish(
        &self,
        store: &mut dyn SharedStore,
        issuer: &str,
        document: &[u8],
        now: Now,
    ) -> Result<(), String> {
        let mut tokens = self.tokens.borrow_mut();
        let mut keys = self.keys.borrow_mut();
        keys.publish(store, tokens.keys_mut(), issuer, document, now)
    }
}

/// Whether messages of streams wait for the rate limit service.
fn messages_wait(policy: &Policy) -> bool {
    policy.grants().iter().any(Grant::messages_wait)
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
