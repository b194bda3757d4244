//! Status of a policy's sources, for operators: the version in force everywhere, its revocation
//! lists, and held changes. It is a file beside the host's bundle, which the host serves.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;

use tensorgate_policy::hex;
use tensorgate_policy_load::lists::{Contents, List};
use tensorgate_settings::sources::{ListInForce, SourceState, Sources};

use super::certificates::{CertificateEvent, CertificateSet};
use super::front::Front;
use super::site::Site;

/// Maximum number of held files in the status.
const MAX_HELD: usize = 64;

/// Writes the status file when something changes.
pub struct StatusFile<'a, F> {
    site: &'a Site,
    front: &'a RefCell<&'a mut F>,
    policy: RefCell<Sources>,
    certificates: RefCell<BTreeMap<&'static str, SourceState>>,
    shown: RefCell<Option<Sources>>,
    /// Whether the last write failed.
    failed: Cell<bool>,
}

impl<'a, F: Front> StatusFile<'a, F> {
    /// A status without content, which is not written yet.
    pub fn new(site: &'a Site, front: &'a RefCell<&'a mut F>) -> Self {
        Self {
            site,
            front,
            policy: RefCell::default(),
            certificates: RefCell::default(),
            shown: RefCell::default(),
            failed: Cell::new(false),
        }
    }

    /// Updates the status of the policy's files. `refused` says why a version with only removals is
    /// not in force.
    pub fn policy(
        &self,
        in_force: &str,
        lists: BTreeMap<PathBuf, (List, Contents)>,
        held: Vec<SourceState>,
        refused: Option<&str>,
    ) {
        let lists = lists
            .into_iter()
            .map(|(file, (list, contents))| ListInForce {
                field: list.field().to_owned(),
                file,
                sha256: hex(&contents),
            });
        self.policy.replace(Sources {
            policy: Some(self.front.borrow().policy().to_owned()),
            in_force: Some(in_force.to_owned()),
            lists: lists.collect(),
            held,
            revocations_held: refused.map(str::to_owned),
        });
        self.show();
    }

    /// Updates the status of some or all of the listener's certificate files.
    pub fn certificates(&self, read: Option<CertificateSet>, news: &[CertificateEvent]) {
        {
            let mut held = self.certificates.borrow_mut();
            held.retain(|field, _| read.is_some_and(|what| what.fields() != *field));
            for news in news {
                if let CertificateEvent::Unconfirmed { what, why }
                | CertificateEvent::Kept { what, why } = news
                {
                    held.insert(what.fields(), SourceState::new(what.fields(), why));
                }
            }
        }
        self.show();
    }

    fn show(&self) {
        let mut sources = self.policy.borrow().clone();
        let certificates = self.certificates.borrow();
        sources.held.extend(certificates.values().cloned());
        sources.held.truncate(MAX_HELD);
        let before = self.shown.replace(Some(sources.clone()));
        if before.as_ref() == Some(&sources) && !self.failed.get() {
            return;
        }
        let written = self.site.put_sources(&sources);
        let mut front = self.front.borrow_mut();
        if let Err(failure) = &written
            && !self.failed.get()
        {
            front.failed(failure);
        }
        self.failed.set(written.is_err());
        let before = before.map(|before| before.held).unwrap_or_default();
        if before != sources.held {
            front.held(&sources.held);
        }
    }
}
