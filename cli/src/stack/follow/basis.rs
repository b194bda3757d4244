//! What a version with only removals is made of: the version in force, and what was read since.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tensorgate_policy::Fault;
use tensorgate_policy_compiler::{Version, raw};
use tensorgate_policy_load::lists::{FileReferences, KeysFile, List, Revocations, keys_left};
use tokio::time::sleep;

use crate::stack::watch::{Change, Watch};
use crate::tighten::{self, Removals};

/// How long a complete change may take before its removals are applied on their own.
const TIGHTEN_AFTER: Duration = Duration::from_millis(400);

/// Inputs for a version with only removals.
pub(super) struct Basis {
    /// Folder that the policy's paths are relative to.
    pub(super) root: PathBuf,
    /// The version in force.
    pub(super) in_force: Rc<Version>,
    /// The `revoked` section of the policy in force as written: entries, and names of lists. It is
    /// followed by the section of the current file, if that differs.
    pub(super) sections: Vec<raw::Revoked>,
    /// API key files of the policy in force.
    pub(super) keys: BTreeMap<String, KeysFile>,
    /// A valid policy that is not in force.
    pub(super) pending: Option<Pending>,
}

/// A valid policy that was read.
pub(super) struct Pending {
    /// The policy.
    pub(super) version: Rc<Version>,
    /// Its file references.
    pub(super) named: FileReferences,
    /// Its files.
    pub(super) files: Vec<PathBuf>,
}

impl Basis {
    /// The basis of a version in force, with its file references.
    pub(super) fn new(root: &Path, in_force: Version, named: FileReferences) -> Self {
        Self {
            root: root.to_owned(),
            in_force: Rc::new(in_force),
            sections: vec![named.revoked],
            keys: named.keys,
            pending: None,
        }
    }

    /// Remembers the `revoked` section of the current policy file.
    pub(super) fn note_section(&mut self, section: Option<raw::Revoked>) {
        self.sections.truncate(1);
        let news = section.filter(|section| self.sections.first() != Some(section));
        self.sections.extend(news);
    }

    /// The generation of the valid policy that is not in force.
    pub(super) fn waiting(&self) -> Option<String> {
        let pending = self.pending.as_ref()?;
        Some(pending.version.generation.clone())
    }

    /// The revocations of these sections.
    pub(super) fn revocations(&self, watch: &Watch) -> Revocations {
        Revocations::read(&self.sections, &self.root, |file, contents| {
            watch.is_whole(file, contents)
        })
    }

    /// The version in force without the current removals; `None` if nothing is removed.
    pub(super) fn tightened(&self, watch: &Watch) -> Result<Option<Version>, Vec<Fault>> {
        let revoked = self.revocations(watch).revoked;
        let lists = Removals {
            revoked: Some(&revoked),
            ..Removals::default()
        };
        let keys = match self.pending {
            Some(_) => None,
            None => Some(keys_left(&self.keys, &self.root, |file, contents| {
                watch.is_whole(file, contents)
            })),
        };
        let next = self.pending.as_ref().map(|pending| &*pending.version);
        let removals = Removals {
            keys: keys.as_ref(),
            next,
            ..lists
        };
        let all = Removals {
            contracts: next,
            ..removals
        };
        // Removals apply even if narrower contracts would leave an invalid policy, and revocation
        // lists even if the other removals would.
        let tightened = tighten::tightened(&self.in_force, all);
        let tightened = tightened.or_else(|_| tighten::tightened(&self.in_force, removals));
        tightened.or_else(|_| tighten::tightened(&self.in_force, lists))
    }

    /// The list files of a `revoked` section.
    pub(super) fn list_files(&self, section: &raw::Revoked) -> Vec<PathBuf> {
        let mut section = section.clone();
        let names = List::ALL
            .iter()
            .filter_map(|list| list.file(&mut section).take());
        names.map(|name| self.root.join(name)).collect()
    }
}

/// Waits until removals must be applied before a slow complete change. Also returns whether the
/// files changed since that change was read.
pub(super) async fn urgent(
    watch: &mut Watch,
    basis: &Basis,
    stuck: Option<&str>,
) -> (Version, bool) {
    let mut fresh = false;
    let patience = sleep(TIGHTEN_AFTER);
    tokio::pin!(patience);
    loop {
        tokio::select! {
            () = &mut patience, if !patience.is_elapsed() => {}
            change = watch.changed() => {
                if change == Change::Settled {
                    continue;
                }
                fresh = true;
            }
        }
        if let Ok(Some(version)) = basis.tightened(watch)
            && stuck != Some(version.generation.as_str())
        {
            return (version, fresh);
        }
    }
}
