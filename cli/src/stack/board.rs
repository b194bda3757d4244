//! What the operator can ask of a policy's sources: which version is in force everywhere, which revocation lists
//! are in it, and what is held. It is a file beside the host's bundle, which the host shows.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;

use tensorgate_host::sources::{ListInForce, SourceState, Sources};
use tensorgate_policy::hex;

use super::certificates::{News, What};
use super::run::Front;
use super::site::Site;
use super::watch::Contents;
use crate::lists::List;

/// Most files that are shown as held.
const MAX_HELD: usize = 64;

/// What is shown, and where.
pub struct Board<'a, F> {
    site: &'a Site,
    front: &'a RefCell<&'a mut F>,
    policy: RefCell<Sources>,
    certificates: RefCell<BTreeMap<&'static str, SourceState>>,
    shown: RefCell<Option<Sources>>,
    /// Whether the file could not be written the last time.
    failed: Cell<bool>,
}

impl<'a, F: Front> Board<'a, F> {
    /// Shows nothing yet.
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

    /// What became of the policy's files. `refused`: why a version is not in force that only takes away.
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

    /// What became of some of the listener's certificates, or of all.
    pub fn certificates(&self, read: Option<What>, news: &[News]) {
        {
            let mut held = self.certificates.borrow_mut();
            held.retain(|field, _| read.is_some_and(|what| what.fields() != *field));
            for news in news {
                if let News::Laid { what, why } | News::Kept { what, why } = news {
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
