//! The status of a model version's files, and how it changes.

use crate::audit::record::ArtifactAction;

/// What verified files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The digest of the model's manifest.
    pub digest: [u8; 32],
    /// The signer's name in the policy. `None` if the policy has the digest of the manifest.
    pub signer: Option<String>,
}

/// Why files are not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// They are not what they must be. The verdict stands until they change.
    Files(String),
    /// Something else has failed, such as the scanner process. The check is repeated.
    Other(String),
}

/// The status of a model version's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// They are not verified yet, or not since they changed.
    Checking {
        /// What has changed. `None` at the start.
        changed: Option<String>,
    },
    /// They are the verified ones.
    Verified(Identity),
    /// They are not to be served.
    Rejected(Cause),
}

/// What was observed about the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A file is new, missing or another one: `"a/b" of its files`, or its signature or folder.
    Changed(String),
    /// They were verified, and did not change meanwhile.
    Passed(Identity),
    /// They cannot be verified.
    Failed(Cause),
}

impl Cause {
    /// The text for users.
    pub fn text(&self) -> &str {
        match self {
            Self::Files(text) | Self::Other(text) => text,
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
    /// The status after an observation.
    #[must_use]
    pub fn after(observation: Observation) -> Self {
        match observation {
            Observation::Changed(changed) => Self::Checking {
                changed: Some(changed),
            },
            Observation::Passed(identity) => Self::Verified(identity),
            Observation::Failed(cause) => Self::Rejected(cause),
        }
    }

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

    /// What the audit log has to say about a change to `next`, in this order.
    pub const fn actions(&self, next: &Self) -> &'static [ArtifactAction] {
        use ArtifactAction::{Loaded, Rejected, Scanned, Unloaded, Verified};
        match (self, next) {
            (Self::Verified(_), Self::Checking { .. }) => &[Unloaded],
            (Self::Verified(_), Self::Rejected(_)) => &[Unloaded, Rejected],
            (Self::Verified(_), Self::Verified(_)) | (_, Self::Checking { .. }) => &[],
            (_, Self::Verified(_)) => &[Scanned, Verified, Loaded],
            (_, Self::Rejected(_)) => &[Rejected],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ArtifactAction::{Loaded, Rejected, Scanned, Unloaded, Verified};

    #[test]
    fn a_model_is_ready_only_while_its_files_are_verified() {
        let identity = Identity {
            digest: [1; 32],
            signer: Some("release".to_owned()),
        };
        let start = Status::Checking { changed: None };
        let changed = || Observation::Changed("a".to_owned());
        let failed = || Observation::Failed(Cause::Files("no".to_owned()));
        let passed = || Observation::Passed(identity.clone());
        let observed: [(Observation, bool, &[ArtifactAction]); 7] = [
            (failed(), false, &[Rejected]),
            (changed(), false, &[]),
            (passed(), true, &[Scanned, Verified, Loaded]),
            (changed(), false, &[Unloaded]),
            (changed(), false, &[]),
            (passed(), true, &[Scanned, Verified, Loaded]),
            (failed(), false, &[Unloaded, Rejected]),
        ];
        let mut status = start;
        assert!(status.unready().is_some());
        for (observation, is_ready, actions) in observed {
            let next = Status::after(observation);
            assert_eq!(next.unready().is_none(), is_ready, "{next:?}");
            assert_eq!(status.actions(&next), actions, "{status:?} to {next:?}");
            status = next;
        }
    }

    #[test]
    fn a_change_is_described_as_it_was_observed() {
        for changed in ["\"a/b\" of its files", "its signature or manifest"] {
            let status = Status::after(Observation::Changed(changed.to_owned()));
            let cause = format!("{changed} changed: its files are being verified again");
            assert_eq!(status.unready(), Some(cause));
        }
    }
}
