//! Audit records of policies and handlers: which content is in use, who signed it, and what a
//! reload rejected. They are written at a start and at a reload, and never for a request.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tensorgate_audit::record::{ArtifactAction, ArtifactKind, ArtifactRecord};
use tensorgate_policy::unhex;
use tensorgate_sandbox::LoadFault;

use super::assemble::PolicyFault;
use super::policy_versions::PolicyVersion;

/// The name of a bundle that cannot be read, in records.
const UNREADABLE: &str = "unreadable";
/// The most faults that the record of a rejected policy lists.
const MAX_LISTED: usize = 16;
/// The most records about one rejected bundle: the policy, and handlers that were not verified.
const MAX_PER_BUNDLE: usize = 16;
/// The time in which equal rejections have one record, and all of them [`MAX_REJECTIONS`].
const REJECTION_WINDOW: Duration = Duration::from_secs(60);
/// The most records of rejections in this time.
const MAX_REJECTIONS: usize = 32;

/// The artifacts that a policy version uses, by kind and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Artifacts(BTreeMap<(ArtifactKind, String), Content>);

/// The content of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    digest: [u8; 32],
    signer: Option<String>,
}

impl Artifacts {
    /// The artifacts of a policy version: the policy itself, and the handlers that a model uses.
    pub(crate) fn of_version(version: &PolicyVersion) -> Self {
        let handlers = version.parts.handlers.iter().map(|((name, _), stage)| {
            let content = Content {
                digest: *stage.rule.sha256(),
                signer: stage.signer.clone(),
            };
            ((ArtifactKind::Handler, name.clone()), content)
        });
        let policy = Content {
            digest: version.digest,
            signer: None,
        };
        let policy = ((ArtifactKind::Policy, version.name().to_owned()), policy);
        Self(handlers.chain([policy]).collect())
    }

    /// The records about a change from other artifacts to these.
    pub(crate) fn changes_since(&self, before: &Self) -> Vec<ArtifactRecord> {
        let mut records = before.records_beyond(self, ArtifactAction::Unloaded);
        records.extend(self.records_beyond(before, ArtifactAction::Loaded));
        records
    }

    /// The records about artifacts that others do not have with the same content.
    fn records_beyond(&self, others: &Self, action: ArtifactAction) -> Vec<ArtifactRecord> {
        let own = self.0.iter();
        own.filter(|(key, content)| others.0.get(*key) != Some(*content))
            .map(|((kind, name), content)| {
                let record = ArtifactRecord::new(action, *kind, name).with_digest(&content.digest);
                match &content.signer {
                    Some(signer) => record.with_signer(signer),
                    None => record,
                }
            })
            .collect()
    }
}

/// The records about a rejected bundle. The first is about the policy, with the texts of its
/// faults. Further ones are about components without the required digest or signature.
pub(crate) fn rejections(
    (generation, digest): (Option<&str>, Option<&[u8; 32]>),
    faults: &[PolicyFault],
    texts: &[String],
) -> Vec<ArtifactRecord> {
    let name = generation.unwrap_or(UNREADABLE);
    let mut detail: Vec<&str> = texts.iter().map(String::as_str).collect();
    detail.truncate(MAX_LISTED);
    let detail = detail.join("; ");
    let policy = ArtifactRecord::new(ArtifactAction::Rejected, ArtifactKind::Policy, name);
    let policy = policy.with_detail(&detail);
    let mut records = vec![match digest {
        Some(digest) => policy.with_digest(digest),
        None => policy,
    }];
    for record in faults.iter().filter_map(rejected_handler) {
        // A handler may be used before and after a model, and then has its fault twice.
        if records.len() < MAX_PER_BUNDLE && !records.contains(&record) {
            records.push(record);
        }
    }
    records
}

/// The record about a component that was not verified. The digest is that of the rejected file,
/// or the one that no valid signature covers.
fn rejected_handler(fault: &PolicyFault) -> Option<ArtifactRecord> {
    let (handler, digest) = match fault {
        PolicyFault::Unsigned(fault) => (fault.handler(), Some(*fault.digest())),
        PolicyFault::Load(LoadFault::Digest { handler, found, .. }) => {
            (handler.as_str(), unhex(found.as_bytes()))
        }
        _ => return None,
    };
    let record = ArtifactRecord::new(ArtifactAction::Rejected, ArtifactKind::Handler, handler);
    let record = record.with_detail(&fault.to_string());
    Some(match digest {
        Some(digest) => record.with_digest(&digest),
        None => record,
    })
}

/// Bounds the records of rejections, because a bundle may be written again and again.
#[derive(Debug, Default)]
pub(crate) struct RejectionLimiter(Mutex<Window>);

/// The rejections that are recorded in the current time window.
#[derive(Debug, Default)]
struct Window {
    /// `None` before the first rejection.
    started: Option<Instant>,
    recorded: Vec<ArtifactRecord>,
    /// The number of different rejections that were not recorded, until a record says it.
    omitted: u64,
}

impl RejectionLimiter {
    /// The records to write.
    pub(crate) fn admit(&self, records: Vec<ArtifactRecord>, now: Instant) -> Vec<ArtifactRecord> {
        // No code panics while it holds this lock.
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let records = records.into_iter();
        records
            .filter_map(|record| window.admit(record, now))
            .collect()
    }
}

impl Window {
    fn admit(&mut self, record: ArtifactRecord, now: Instant) -> Option<ArtifactRecord> {
        let is_over = |started| now.saturating_duration_since(started) >= REJECTION_WINDOW;
        if self.started.is_none_or(is_over) {
            self.started = Some(now);
            self.recorded.clear();
        }
        if self.recorded.contains(&record) {
            return None;
        }
        if self.recorded.len() >= MAX_REJECTIONS {
            self.omitted = self.omitted.saturating_add(1);
            return None;
        }
        self.recorded.push(record.clone());
        let omitted = std::mem::take(&mut self.omitted);
        if omitted == 0 {
            return Some(record);
        }
        let detail = record.detail.as_deref().unwrap_or_default();
        let detail = format!("({omitted} earlier rejections were not recorded) {detail}");
        Some(record.with_detail(&detail))
    }
}

#[cfg(test)]
mod tests;
