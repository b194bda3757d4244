//! The gate's own state as conditions that begin and end: a model that is not ready, a circuit that
//! is open, an audit log that cannot be written. A host compares them about once a second, and each
//! change is kept for operators and passed on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tensorgate_base::rfc3339::rfc3339;

/// The most conditions of a kind that hold at once. Further ones are not told apart.
pub const MAX_OF_KIND: usize = 256;
/// The most changes that are kept. The oldest go first.
const KEPT_CHANGES: usize = 512;

/// What a condition is about. A backend comes before its models, so that an alert about both begins
/// with the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConditionKind {
    /// A backend's endpoint takes no requests. The subject is `backend "NAME" at ADDRESS`.
    BackendAway,
    /// A model is not ready. The subject is `model "NAME" version "VERSION"`, as in `/readyz`.
    ModelUnready,
    /// A circuit is open. The subject is `backend "NAME"` or `handler "NAME"`, followed by
    /// `for client "NAME"` if it stops one client only.
    CircuitOpen,
    /// A client is blocked or throttled. The subject is its name.
    ClientBlocked,
    /// The audit log cannot be written. The subject is its file.
    AuditFailing,
    /// A changed policy, or another file of it, is not in force. The subject is the file.
    #[serde(rename = "policy-held")]
    PolicyNotInForce,
    /// Model files cannot be checked, for another cause than the files. The subject is the model's
    /// version, or `the scanner`.
    ScannerFailed,
    /// The files of a model were rejected. The subject is the model's version.
    ModelRejected,
    /// The service of shared rate limits does not answer. The subject is its address.
    LimitServiceAway,
}

impl ConditionKind {
    /// What begins, for operators.
    pub const fn begins(self) -> &'static str {
        match self {
            Self::ModelUnready => "not ready",
            Self::BackendAway => "backend away",
            Self::CircuitOpen => "circuit open",
            Self::ClientBlocked => "client blocked",
            Self::AuditFailing => "audit log not written",
            Self::PolicyNotInForce => "held",
            Self::ScannerFailed => "model files not checked",
            Self::ModelRejected => "model files rejected",
            Self::LimitServiceAway => "shared limits away",
        }
    }

    /// What ends, for operators.
    pub const fn ends(self) -> &'static str {
        match self {
            Self::ModelUnready => "ready again",
            Self::BackendAway => "backend back",
            Self::CircuitOpen => "circuit closed",
            Self::ClientBlocked => "client no longer blocked",
            Self::AuditFailing => "audit log written again",
            Self::PolicyNotInForce => "no longer held",
            Self::ScannerFailed => "model files checked again",
            Self::ModelRejected => "model files no longer rejected",
            Self::LimitServiceAway => "shared limits back",
        }
    }

    /// Whether it is about a model's version, which is not served meanwhile.
    pub const fn is_about_model(self) -> bool {
        matches!(
            self,
            Self::ModelUnready | Self::ScannerFailed | Self::ModelRejected
        )
    }
}

/// A condition that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Its kind.
    pub kind: ConditionKind,
    /// Who or what it is about.
    pub subject: String,
    /// The client that it concerns, if it is one client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Why, as a text for operators.
    pub detail: String,
}

/// The beginning or the end of a condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its number in this run of the host, from 1.
    pub number: u64,
    /// When it was seen, RFC 3339.
    pub time: String,
    /// Whether the condition begins. Otherwise it has ended.
    pub begins: bool,
    /// The condition. Its detail is the one of its beginning, or a newer one.
    #[serde(flatten)]
    pub condition: Condition,
}

/// Takes changes. It is called by the task that compares, so it must not wait.
pub trait ConditionListener: Send + Sync {
    /// Takes a change.
    fn changed(&self, change: &Change);
}

/// The conditions that hold and the last changes.
pub struct Conditions {
    state: Mutex<State>,
    listeners: Vec<Arc<dyn ConditionListener>>,
}

#[derive(Default)]
struct State {
    holding: BTreeMap<(ConditionKind, String), Ongoing>,
    changes: VecDeque<Change>,
    numbered: u64,
}

struct Ongoing {
    since: SystemTime,
    /// The number of its beginning.
    number: u64,
    /// Whether listeners know of it.
    is_reported: bool,
    condition: Condition,
}

/// A condition that holds, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// When it was first seen, RFC 3339.
    pub since: String,
    /// The condition.
    #[serde(flatten)]
    pub condition: Condition,
}

impl Conditions {
    /// No conditions, with those who take changes.
    pub fn new(listeners: Vec<Arc<dyn ConditionListener>>) -> Self {
        Self {
            state: Mutex::default(),
            listeners,
        }
    }

    /// Takes all conditions that hold now. What differs from the last call becomes changes.
    pub fn update(&self, now: SystemTime, conditions: Vec<Condition>) {
        self.update_where(now, conditions, |_| true);
    }

    /// The same, while listeners are told only of conditions that are news. They are told of
    /// another one once it is news, if it still holds.
    pub fn update_where(
        &self,
        now: SystemTime,
        conditions: Vec<Condition>,
        is_news: impl Fn(&Condition) -> bool,
    ) {
        let reported = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.update(now, conditions, is_news)
        };
        for change in &reported {
            for listener in &self.listeners {
                listener.changed(change);
            }
        }
    }

    /// The conditions that hold, by kind and subject.
    pub fn holding(&self) -> Vec<Holding> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ongoing = state.holding.values();
        ongoing
            .map(|ongoing| Holding {
                since: rfc3339(ongoing.since),
                condition: ongoing.condition.clone(),
            })
            .collect()
    }

    /// The changes with numbers above `after` that are kept.
    pub fn changes(&self, after: u64) -> Vec<Change> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = state.changes.iter();
        changes.filter(|it| it.number > after).cloned().collect()
    }
}

impl State {
    /// Keeps all changes, and returns those that listeners are told of.
    fn update(
        &mut self,
        now: SystemTime,
        conditions: Vec<Condition>,
        is_news: impl Fn(&Condition) -> bool,
    ) -> Vec<Change> {
        let mut before = std::mem::take(&mut self.holding);
        let mut counts = BTreeMap::<ConditionKind, usize>::new();
        let mut reported = Vec::new();
        for condition in conditions {
            let count = counts.entry(condition.kind).or_default();
            *count = count.saturating_add(1);
            let key = (condition.kind, condition.subject.clone());
            if *count > MAX_OF_KIND || self.holding.contains_key(&key) {
                continue;
            }
            let mut ongoing = match before.remove(&key) {
                Some(ongoing) => Ongoing {
                    condition,
                    ..ongoing
                },
                None => Ongoing {
                    since: now,
                    number: self.keep(now, true, condition.clone()).number,
                    is_reported: false,
                    condition,
                },
            };
            if !ongoing.is_reported && is_news(&ongoing.condition) {
                ongoing.is_reported = true;
                reported.push(ongoing.beginning());
            }
            self.holding.insert(key, ongoing);
        }
        for ongoing in before.into_values() {
            let is_reported = ongoing.is_reported;
            let change = self.keep(now, false, ongoing.condition);
            reported.extend(is_reported.then_some(change));
        }
        reported
    }

    /// Numbers and keeps a change.
    fn keep(&mut self, now: SystemTime, begins: bool, condition: Condition) -> Change {
        self.numbered = self.numbered.saturating_add(1);
        let change = Change {
            number: self.numbered,
            time: rfc3339(now),
            begins,
            condition,
        };
        if self.changes.len() >= KEPT_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(change.clone());
        change
    }
}

impl Ongoing {
    fn beginning(&self) -> Change {
        Change {
            number: self.number,
            time: rfc3339(self.since),
            begins: true,
            condition: self.condition.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::UNIX_EPOCH;

    use super::*;

    fn unready(model: &str) -> Condition {
        Condition {
            kind: ConditionKind::ModelUnready,
            subject: model.to_owned(),
            client: None,
            detail: "no answer".to_owned(),
        }
    }

    #[test]
    fn what_begins_and_ends_is_a_change_once() {
        let conditions = Conditions::new(Vec::new());
        let seen = |after| {
            let changes = conditions.changes(after);
            let described = |it: Change| (it.number, it.begins, it.condition.subject);
            changes.into_iter().map(described).collect::<Vec<_>>()
        };
        conditions.update(UNIX_EPOCH, vec![unready("a"), unready("b")]);
        conditions.update(UNIX_EPOCH, vec![unready("b"), unready("a")]);
        assert_eq!(seen(0), [(1, true, "a".into()), (2, true, "b".into())]);
        conditions.update(UNIX_EPOCH, vec![unready("b")]);
        assert_eq!(seen(2), [(3, false, "a".into())]);
        assert_eq!(conditions.holding().len(), 1);
    }

    #[test]
    fn what_is_no_news_is_kept_and_reported_once_it_is() {
        #[derive(Default)]
        struct Reported(Mutex<Vec<(u64, bool)>>);
        impl ConditionListener for Reported {
            fn changed(&self, change: &Change) {
                self.0.lock().unwrap().push((change.number, change.begins));
            }
        }
        let reported = Arc::new(Reported::default());
        let conditions = Conditions::new(vec![
            Arc::<Reported>::clone(&reported) as Arc<dyn ConditionListener>
        ]);
        let update = |found: &[&str], is_news: bool| {
            let found = found.iter().map(|model| unready(model)).collect();
            conditions.update_where(UNIX_EPOCH, found, |_| is_news);
            std::mem::take(&mut *reported.0.lock().unwrap())
        };
        assert!(update(&["a", "b"], false).is_empty());
        assert!(update(&["b"], false).is_empty(), "no news, no end");
        assert_eq!(update(&["b"], true), [(2, true)]);
        assert!(update(&["b"], true).is_empty());
        assert_eq!(update(&[], true), [(4, false)]);
        assert_eq!(conditions.changes(0).len(), 4);
    }

    #[test]
    fn conditions_and_changes_are_bounded() {
        let conditions = Conditions::new(Vec::new());
        for round in 0..4 {
            let all = (0..1_000).map(|it| unready(&format!("{round}-{it}")));
            conditions.update(UNIX_EPOCH, all.collect());
        }
        assert_eq!(conditions.holding().len(), MAX_OF_KIND);
        assert_eq!(conditions.changes(0).len(), KEPT_CHANGES);
    }
}
