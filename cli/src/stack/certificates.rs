//! Certificates of the listener at run time.
//!
//! Files are checked whenever they change, and written as separate secret files for Envoy. Unusable
//! files are reported and not written, so the previous ones stay in force. An accidentally emptied
//! list therefore still revokes.
//!
//! The gate's own certificate and the clients' authorities are independent: an unusable key does
//! not delay a revocation.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::replace::{Mode, replace};
use tensorgate_policy::policy::Tls;
use tokio::time::{Instant, sleep};

use super::envoy::{SecretCounts, secret_counts};
use super::presence::{Presence, State};
use super::probe::Target;
use super::watch::Watch;
use crate::certificates::{self, Authorities, Identity, UnusableFile};
use crate::render::envoy::tls::{self, SecretFile};

/// Mode of secret files: owner only.
const MODE: u32 = 0o600;
/// Timeout for Envoy to load a secret.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Interval between polls of Envoy's counters.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The certificate files, and the versions in force.
#[derive(Debug)]
pub struct Certificates {
    tls: Tls,
    /// Folder that file names are relative to.
    root: PathBuf,
    /// Folder of the secret files.
    folder: PathBuf,
    identity: Active<Identity>,
    authorities: Option<Active<Authorities>>,
}

#[derive(Debug)]
struct Active<T> {
    watch: Watch,
    in_force: T,
}

/// Outcome of a change of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateEvent {
    /// The files are in force.
    Taken {
        /// The files that changed.
        what: CertificateSet,
        /// Number of revoked certificates, if the authorities changed.
        revoked: Option<usize>,
    },
    /// The files were written, but Envoy did not confirm that it loaded them.
    Unconfirmed {
        /// The files that changed.
        what: CertificateSet,
        /// The cause.
        why: String,
    },
    /// The files cannot be used, or must not replace the previous ones, which stay in force.
    Kept {
        /// The files that changed.
        what: CertificateSet,
        /// The cause.
        why: String,
    },
}

/// Why a secret is not known to be in force.
enum NotConfirmed {
    /// Envoy rejected it.
    Rejected(String),
    /// Envoy did not confirm it.
    NoAnswer(String),
}

/// One of the two independent sets of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateSet {
    /// The gate's own certificate.
    Identity,
    /// The clients' authorities.
    Authorities,
}

impl CertificateSet {
    /// The policy's keys for these files.
    pub const fn fields(self) -> &'static str {
        match self {
            Self::Identity => "listen.tls.{cert,key}",
            Self::Authorities => "listen.tls.{client_ca,client_crl}",
        }
    }

    const fn secret(self) -> &'static str {
        match self {
            Self::Identity => tls::CERTIFICATE,
            Self::Authorities => tls::AUTHORITIES,
        }
    }
}

impl Certificates {
    /// Reads a listener's files and writes the secret files. File names are relative to `root`.
    ///
    /// # Errors
    /// At least one file cannot be used; every cause is listed.
    pub fn write(listener: &Tls, root: &Path, folder: &Path) -> Result<Self, Failure> {
        let watch = |names: [Option<&str>; 2]| {
            Watch::new(names.into_iter().flatten().map(|name| root.join(name)))
        };
        // The watch starts before the files are read.
        let own = watch([Some(listener.cert()), Some(listener.key())]);
        let clients = watch([listener.client_ca(), listener.client_crl()]);
        let identity = certificates::identity(listener, root);
        let authorities = certificates::authorities(listener, root).transpose();
        let (identity, authorities) = match (identity, authorities) {
            (Ok(identity), Ok(authorities)) => (identity, authorities),
            (identity, authorities) => {
                let faults = identity.err().into_iter();
                let faults: Vec<_> = faults
                    .chain(authorities.err().unwrap_or_default())
                    .collect();
                return Err(Failure::Input(describe(&faults)));
            }
        };
        let active = Self {
            tls: listener.clone(),
            root: root.to_owned(),
            folder: folder.to_owned(),
            identity: Active {
                watch: own,
                in_force: identity,
            },
            authorities: authorities.map(|in_force| Active {
                watch: clients,
                in_force,
            }),
        };
        active.put(&tls::identity(&active.identity.in_force))?;
        if let Some(authorities) = &active.authorities {
            active.put(&tls::authorities(&authorities.in_force))?;
        }
        Ok(active)
    }

    fn put(&self, (name, secret): &SecretFile) -> Result<(), Failure> {
        let file = self.folder.join(name);
        replace(&file, secret.to_yaml(), Mode::Exact(MODE))
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", file.display())))
    }

    /// Waits until Envoy has loaded the secrets that it was started with.
    ///
    /// # Errors
    /// Envoy rejected a secret, or did not confirm it in time.
    pub async fn taken(&self, (envoy, presence): (&Target, &Presence)) -> Result<(), String> {
        let authorities = self
            .authorities
            .as_ref()
            .map(|_| CertificateSet::Authorities);
        for what in std::iter::once(CertificateSet::Identity).chain(authorities) {
            let before = (presence.starts(), SecretCounts::default());
            let arrived = arrived((envoy, presence), what, before).await;
            arrived.map_err(|(NotConfirmed::Rejected(why) | NotConfirmed::NoAnswer(why))| why)?;
        }
        Ok(())
    }

    /// Waits until files of one set have changed and settled. Cancellation-safe.
    pub async fn changed(&mut self) -> CertificateSet {
        let clients = async {
            match &mut self.authorities {
                Some(authorities) => authorities.watch.settled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.identity.watch.settled() => CertificateSet::Identity,
            _ = clients => CertificateSet::Authorities,
        }
    }

    /// Reads one set of files, and writes its secret if it is valid and differs from the one in
    /// force. Invalid authorities do not delay valid revocation lists. An Envoy that is down reads
    /// the secret when it starts.
    pub async fn renew(
        &mut self,
        what: CertificateSet,
        (envoy, presence): (&Target, &Presence),
    ) -> Vec<CertificateEvent> {
        let kept = |why: String| vec![CertificateEvent::Kept { what, why }];
        let mut unfit_authorities = None;
        let (fresh, before, revoked) = match what {
            CertificateSet::Identity => {
                self.identity.watch.begin();
                let read = certificates::identity(&self.tls, &self.root);
                if !self.identity.watch.is_unchanged() {
                    return Vec::new();
                }
                let fresh = match read {
                    Ok(fresh) => fresh,
                    Err(unfit) => return kept(describe(&[unfit])),
                };
                let before = std::mem::replace(&mut self.identity.in_force, fresh);
                let active = tls::identity(&self.identity.in_force);
                (active, Previous::Identity(before), None)
            }
            CertificateSet::Authorities => {
                let Some(active) = &mut self.authorities else {
                    return Vec::new();
                };
                active.watch.begin();
                let read = certificates::authorities(&self.tls, &self.root);
                let lists = active.in_force.with_lists(&self.tls, &self.root);
                if !active.watch.is_unchanged() {
                    return Vec::new();
                }
                let fresh = match (read, lists) {
                    (Some(Ok(fresh)), _) => fresh,
                    (Some(Err(unfit)), Some(lists)) => {
                        unfit_authorities = Some(describe(&unfit));
                        lists
                    }
                    (Some(Err(unfit)), None) => return kept(describe(&unfit)),
                    (None, _) => return Vec::new(),
                };
                if let Err(unfit) = fresh.may_follow(&active.in_force, &self.tls, &self.root) {
                    return kept(describe(&[unfit]));
                }
                let revoked = fresh.crl.is_some().then(|| fresh.revoked());
                let before = std::mem::replace(&mut active.in_force, fresh);
                let fresh = tls::authorities(&active.in_force);
                (fresh, Previous::Authorities(before), revoked)
            }
        };
        let unfit = unfit_authorities.map(|why| CertificateEvent::Kept { what, why });
        let old = before.secret_file();
        if old == fresh {
            return unfit.into_iter().collect();
        }
        let counts = counts_now((envoy, presence), what.secret()).await;
        let starts = presence.starts();
        let arrived = match (self.put(&fresh), counts) {
            (Err(failure), _) => Err(NotConfirmed::Rejected(failure.to_string())),
            (Ok(()), Some(counts)) => arrived((envoy, presence), what, (starts, counts)).await,
            // Without earlier counters, later ones prove nothing.
            (Ok(()), None) => {
                let why = "Envoy does not respond";
                Err(NotConfirmed::NoAnswer(format!("{}: {why}", what.fields())))
            }
        };
        let news = match arrived {
            Ok(()) => CertificateEvent::Taken { what, revoked },
            // Envoy may still load the new secret. Restoring the old one could admit revoked
            // clients.
            Err(NotConfirmed::NoAnswer(why)) => CertificateEvent::Unconfirmed { what, why },
            Err(NotConfirmed::Rejected(why)) => self.put_back(what, before, &old, why),
        };
        std::iter::once(news).chain(unfit).collect()
    }

    /// Restores a secret file. Envoy keeps its secret, but a later listener would read the file.
    fn put_back(
        &mut self,
        what: CertificateSet,
        before: Previous,
        old: &SecretFile,
        why: String,
    ) -> CertificateEvent {
        let why = match self.put(old) {
            Ok(()) => why,
            Err(failure) => format!("{why}\n{failure}"),
        };
        match before {
            Previous::Identity(before) => self.identity.in_force = before,
            Previous::Authorities(before) => {
                if let Some(active) = &mut self.authorities {
                    active.in_force = before;
                }
            }
        }
        CertificateEvent::Kept { what, why }
    }

    /// Reads all files, changed or not.
    pub async fn renew_all(&mut self, envoy: (&Target, &Presence)) -> Vec<CertificateEvent> {
        let authorities = self
            .authorities
            .as_ref()
            .map(|_| CertificateSet::Authorities);
        let mut news = Vec::new();
        for what in std::iter::once(CertificateSet::Identity).chain(authorities) {
            news.extend(self.renew(what, envoy).await);
        }
        news
    }
}

/// The previous version of a secret.
enum Previous {
    Identity(Identity),
    Authorities(Authorities),
}

impl Previous {
    fn secret_file(&self) -> SecretFile {
        match self {
            Self::Identity(identity) => tls::identity(identity),
            Self::Authorities(authorities) => tls::authorities(authorities),
        }
    }
}

/// Envoy's counters for a secret before it is replaced. None are counted for one that is down. One
/// that starts may have read the file, so it is waited for.
async fn counts_now((envoy, presence): (&Target, &Presence), secret: &str) -> Option<SecretCounts> {
    let give_up = Instant::now().checked_add(TIMEOUT);
    while give_up.is_some_and(|give_up| Instant::now() < give_up) {
        let before = presence.state();
        match before {
            State::Down => return Some(SecretCounts::default()),
            State::Starting => sleep(POLL_INTERVAL).await,
            State::Up(_) => {
                let counts = secret_counts(envoy, secret).await;
                if counts.is_none() {
                    // Its end is noticed meanwhile.
                    sleep(POLL_INTERVAL).await;
                }
                if presence.state() == before {
                    return counts;
                }
            }
        }
    }
    None
}

/// Waits until Envoy's counters for a secret increase. `before` has the number of its starts, and
/// its counters then. They begin again with each start.
async fn arrived(
    (envoy, presence): (&Target, &Presence),
    what: CertificateSet,
    before: (u64, SecretCounts),
) -> Result<(), NotConfirmed> {
    let (starts, before) = before;
    let give_up = Instant::now().checked_add(TIMEOUT);
    loop {
        if let Some(counts) = secret_counts(envoy, what.secret()).await {
            let same = presence.starts() == starts;
            let before = if same {
                before
            } else {
                SecretCounts::default()
            };
            if counts.rejected > before.rejected {
                let why = "Envoy rejects the files: see its log";
                return Err(NotConfirmed::Rejected(format!("{}: {why}", what.fields())));
            }
            if counts.taken > before.taken {
                return Ok(());
            }
        }
        if give_up.is_none_or(|give_up| Instant::now() >= give_up) {
            let why = "Envoy did not load the files in time";
            return Err(NotConfirmed::NoAnswer(format!("{}: {why}", what.fields())));
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn describe(faults: &[UnusableFile]) -> String {
    let lines: Vec<_> = faults
        .iter()
        .map(|unfit| format!("{unfit} ({})", unfit.fix))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests;
