//! The status of a model version's files, and how it changes.

use tensorgate_audit::record::ArtifactAction;
use tensorgate_policy::FileException;

/// What verified files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The digest of the model's manifest.
    pub digest: [u8; 32],
    /// The signer's name in the policy. `None` if the policy has the digest of the manifest.
    pub signer: Option<String>,
    /// Their files that are not safe.
    pub accepted: Accepted,
}

/// The files of a model that are not safe, and that the policy accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Those with code of an allowed kind.
    pub code: usize,
    /// Those that an exception accepts.
    pub excepted: usize,
    /// The exception of one of them that ends first.
    pub ends_first: Option<FileException>,
}

/// Why files are not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// They are not what they must be. The verdict stands until they change.
    Files(String),
    /// No manifest says what they must be. The check is repeated.
    Untrusted(String),
    /// They are as they must be, and an exception for one of them has ended. The verdict stands
    /// until they or the policy change.
    Ended(String),
    /// Something else has failed, such as the scanner process. The check is repeated.
    Other(String),
}

/// The status of a model version's files, and what a look or a check has found about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// They are not verified yet, or not since they changed.
    Checking {
        /// What is new, missing or another one: `"a/b" of its files`, or its signature or folder.
        /// `None` at the start, and if nothing is known to have changed.
        changed: Option<String>,
    },
    /// They are the verified ones.
    Verified(Identity),
    /// They are not to be served.
    Rejected(Cause),
}

impl Accepted {
    /// Adds a file that an exception accepts.
    pub(crate) fn add_excepted(&mut self, exception: &FileException) {
        self.excepted = self.excepted.saturating_add(1);
        let is_first = |known: &FileException| exception.end_unix_s() < known.end_unix_s();
        if self.ends_first.as_ref().is_none_or(is_first) {
            self.ends_first = Some(exception.clone());
        }
    }

    /// Whether an exception that accepts one of them has ended at this time.
    pub(crate) fn has_ended(&self, now_unix_s: u64) -> bool {
        let has_expired = |first: &FileException| first.has_expired(now_unix_s);
        self.ends_first.as_ref().is_some_and(has_expired)
    }

    /// What the audit log says of them. `None` if there are none.
    pub(crate) fn detail(&self) -> Option<String> {
        let excepted = self.ends_first.as_ref().map(|first| {
            let (count, until) = (self.excepted, first.until());
            format!("files accepted by exceptions: {count}, until {until} at least")
        });
        let code = (self.code > 0).then(|| format!("files with allowed code: {}", self.code));
        let details: Vec<_> = excepted.into_iter().chain(code).collect();
        (!details.is_empty()).then(|| details.join("; "))
    }
}

impl Cause {
    /// The text for users.
    pub fn text(&self) -> &str {
        match self {
            Self::Files(text) | Self::Untrusted(text) | Self::Ended(text) | Self::Other(text) => {
                text
            }
        }
    }
}

/// A fault without a verdict on the files. [`Cause::Files`] is always named, so a fault of which no
/// one has thought only has the check repeated.
impl From<String> for Cause {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

impl Status {
    /// Why the model version is not ready. `None` if it is.
    pub fn unready(&self) -> Option<String> {
        match self {
            Self::Verified(_) => None,
            Self::Checking { changed: None } => Some("its files are being verified".to_owned()),
            Self::Checking {
                changed: Some(changed),
            } => Some(format!(
                "{changed} changed: its files are being verified again"
            )),
            Self::Rejected(cause) => Some(format!("its files are rejected: {}", cause.text())),
        }
    }

    /// Whether the files are the verified ones.
    pub const fn is_verified(&self) -> bool {
        matches!(self, Self::Verified(_))
    }
}

/// A change of a version: its files, and whether it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The status before.
    pub before: Status,
    /// Whether requests were sent to its servers before.
    pub was_served: bool,
    /// The status from now on.
    pub next: Status,
    /// Whether requests are sent to its servers from now on.
    pub is_served: bool,
    /// Whether the files are the same again after a change that no one published.
    pub is_alert: bool,
}

impl Change {
    /// What the audit log has to say about it, in this order.
    pub fn actions(&self) -> Vec<ArtifactAction> {
        use ArtifactAction::{Loaded, Rejected, Scanned, Unloaded, Verified};
        let mut actions = Vec::new();
        if self.was_served && !self.is_served {
            actions.push(Unloaded);
        }
        if matches!(self.next, Status::Rejected(_)) && self.next != self.before {
            actions.push(Rejected);
        }
        if self.next.is_verified() && !self.before.is_verified() {
            actions.extend([Scanned, Verified]);
        }
        if self.is_alert {
            actions.push(Rejected);
        }
        if self.is_served && !self.was_served {
            actions.push(Loaded);
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::type_complexity, clippy::unwrap_used, reason = "tests")]
    use super::*;
    use ArtifactAction::{Loaded, Rejected, Scanned, Unloaded, Verified};

    #[test]
    fn the_audit_log_says_what_was_verified_and_what_is_served() {
        let verified = Status::Verified(Identity {
            digest: [1; 32],
            signer: Some("release".to_owned()),
            accepted: Accepted::default(),
        });
        let checking = Status::Checking { changed: None };
        let rejected = Status::Rejected(Cause::Files("no".to_owned()));
        let cases: [(&Status, bool, &Status, bool, bool, &[ArtifactAction]); 8] = [
            (&checking, false, &rejected, false, false, &[Rejected]),
            (&rejected, false, &checking, false, false, &[]),
            (
                &checking,
                false,
                &verified,
                true,
                false,
                &[Scanned, Verified, Loaded],
            ),
            (&verified, true, &checking, false, false, &[Unloaded]),
            (
                &verified,
                true,
                &rejected,
                false,
                false,
                &[Unloaded, Rejected],
            ),
            // Files that were put back, and a load of them.
            (
                &checking,
                false,
                &verified,
                false,
                true,
                &[Scanned, Verified, Rejected],
            ),
            (&verified, false, &verified, true, false, &[Loaded]),
            (&verified, false, &checking, false, false, &[]),
        ];
        for (before, was_served, next, is_served, is_alert, actions) in cases {
            let change = Change {
                before: before.clone(),
                was_served,
                next: next.clone(),
                is_served,
                is_alert,
            };
            assert_eq!(change.actions(), actions, "{change:?}");
        }
    }

    #[test]
    fn the_exception_that_ends_first_counts() {
        let exception = |until: &str| FileException::new("a", "known", until).unwrap();
        let mut accepted = Accepted::default();
        assert_eq!(accepted.detail(), None);
        assert!(!accepted.has_ended(u64::MAX));
        for until in ["2027-02-01", "2027-01-31", "2027-03-01"] {
            accepted.add_excepted(&exception(until));
        }
        accepted.code = 2;
        let end_unix_s = exception("2027-01-31").end_unix_s();
        assert!(!accepted.has_ended(end_unix_s.saturating_sub(1)));
        assert!(accepted.has_ended(end_unix_s));
        let detail = "files accepted by exceptions: 3, until 2027-01-31 at least; \
                      files with allowed code: 2";
        assert_eq!(accepted.detail().as_deref(), Some(detail));
    }

    #[test]
    fn a_change_is_described_as_it_was_observed() {
        for changed in ["\"a/b\" of its files", "its signature or manifest"] {
            let status = Status::Checking {
                changed: Some(changed.to_owned()),
            };
            let cause = format!("{changed} changed: its files are being verified again");
            assert_eq!(status.unready(), Some(cause));
        }
    }
}
