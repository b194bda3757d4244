//! The listener's certificates while it runs: judged when their files change, and laid before Envoy as a file of its own each. What does not fit is told
//! and not laid, so that what was laid before goes on serving: a list that is emptied by accident revokes as before. The gate's own certificate and
//! the clients' authorities stand for themselves: a key that does not fit keeps no revocation back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tensorgate_policy::policy::Tls;
use tokio::time::{Instant, sleep};

use super::envoy::{SecretCounts, secret_counts};
use super::probe::Target;
use super::watch::Watch;
use crate::Failure;
use crate::certificates::{self, Authorities, Identity, Unfit};
use crate::render::envoy::tls::{self, SecretFile};
use crate::replace::{Mode, replace};

/// A key is its owner's.
const MODE: u32 = 0o600;
/// Time for Envoy to take a secret up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The files, and what was laid of them.
#[derive(Debug)]
pub struct Certificates {
    tls: Tls,
    /// What the files' names are relative to.
    root: PathBuf,
    /// Where Envoy looks.
    folder: PathBuf,
    identity: Laid<Identity>,
    authorities: Option<Laid<Authorities>>,
}

#[derive(Debug)]
struct Laid<T> {
    watch: Watch,
    in_force: T,
}

/// What became of files that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// They are in force.
    Taken {
        /// Which.
        what: What,
        /// Certificates that are revoked, where it is authorities that changed.
        revoked: Option<usize>,
    },
    /// They are laid, and whether Envoy has taken them nobody knows.
    Laid {
        /// Which.
        what: What,
        /// Why.
        why: String,
    },
    /// They cannot be used, or not in the place of those before, which stay in force.
    Kept {
        /// Which.
        what: What,
        /// Why.
        why: String,
    },
}

/// Why a secret is not known to be in force.
enum Doubt {
    /// It is not.
    Refused(String),
    /// Envoy has not said.
    Silence(String),
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The gate's own certificate.
    Identity,
    /// The clients' authorities.
    Authorities,
}

impl What {
    /// The fields of a policy.
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
    /// Reads a listener's files and lays them where Envoy will look. `root` is what their names are relative to.
    ///
    /// # Errors
    /// One of them cannot be used: every reason.
    pub fn lay(listener: &Tls, root: &Path, folder: &Path) -> Result<Self, Failure> {
        let watch = |names: [Option<&str>; 2]| {
            Watch::new(names.into_iter().flatten().map(|name| root.join(name)))
        };
        // From before they are read.
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
                return Err(Failure::Input(told(&faults)));
            }
        };
        let laid = Self {
            tls: listener.clone(),
            root: root.to_owned(),
            folder: folder.to_owned(),
            identity: Laid {
                watch: own,
                in_force: identity,
            },
            authorities: authorities.map(|in_force| Laid {
                watch: clients,
                in_force,
            }),
        };
        laid.put(&tls::identity(&laid.identity.in_force))?;
        if let Some(authorities) = &laid.authorities {
            laid.put(&tls::authorities(&authorities.in_force))?;
        }
        Ok(laid)
    }

    fn put(&self, (name, secret): &SecretFile) -> Result<(), Failure> {
        let file = self.folder.join(name);
        replace(&file, secret.to_yaml(), Mode::Of(MODE))
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", file.display())))
    }

    /// Whether Envoy took what was laid for it at its start.
    ///
    /// # Errors
    /// It refuses one of them, or says nothing of it in time.
    pub async fn taken(&self, envoy: &Target) -> Result<(), String> {
        let authorities = self.authorities.as_ref().map(|_| What::Authorities);
        for what in std::iter::once(What::Identity).chain(authorities) {
            let arrived = arrived(envoy, what, SecretCounts::default()).await;
            arrived.map_err(|(Doubt::Refused(why) | Doubt::Silence(why))| why)?;
        }
        Ok(())
    }

    /// Waits until files of one of the two are others, and have stopped changing. Cancelled, it has lost nothing.
    pub async fn changed(&mut self) -> What {
        let clients = async {
            match &mut self.authorities {
                Some(authorities) => authorities.watch.settled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.identity.watch.settled() => What::Identity,
            _ = clients => What::Authorities,
        }
    }

    /// Reads the files of one of the two, and has Envoy take them if they fit and are others than those in force.
    /// Authorities that do not fit keep no revocation list back that does.
    pub async fn renew(&mut self, what: What, envoy: &Target) -> Vec<News> {
        let kept = |why: String| vec![News::Kept { what, why }];
        let mut unfit_authorities = None;
        let (fresh, before, revoked) = match what {
            What::Identity => {
                self.identity.watch.begin();
                let read = certificates::identity(&self.tls, &self.root);
                if !self.identity.watch.stands() {
                    return Vec::new();
                }
                let fresh = match read {
                    Ok(fresh) => fresh,
                    Err(unfit) => return kept(told(&[unfit])),
                };
                let before = std::mem::replace(&mut self.identity.in_force, fresh);
                let laid = tls::identity(&self.identity.in_force);
                (laid, Before::Identity(before), None)
            }
            What::Authorities => {
                let Some(laid) = &mut self.authorities else {
                    return Vec::new();
                };
                laid.watch.begin();
                let read = certificates::authorities(&self.tls, &self.root);
                let lists = laid.in_force.with_lists(&self.tls, &self.root);
                if !laid.watch.stands() {
                    return Vec::new();
                }
                let fresh = match (read, lists) {
                    (Some(Ok(fresh)), _) => fresh,
                    (Some(Err(unfit)), Some(lists)) => {
                        unfit_authorities = Some(told(&unfit));
                        lists
                    }
                    (Some(Err(unfit)), None) => return kept(told(&unfit)),
                    (None, _) => return Vec::new(),
                };
                if let Err(unfit) = fresh.may_follow(&laid.in_force, &self.tls, &self.root) {
                    return kept(told(&[unfit]));
                }
                let revoked = fresh.crl.is_some().then(|| fresh.revoked());
                let before = std::mem::replace(&mut laid.in_force, fresh);
                let fresh = tls::authorities(&laid.in_force);
                (fresh, Before::Authorities(before), revoked)
            }
        };
        let unfit = unfit_authorities.map(|why| News::Kept { what, why });
        let old = before.laid();
        if old == fresh {
            return unfit.into_iter().collect();
        }
        let counts = secret_counts(envoy, what.secret()).await;
        let arrived = match (self.put(&fresh), counts) {
            (Err(failure), _) => Err(Doubt::Refused(failure.to_string())),
            (Ok(()), Some(counts)) => arrived(envoy, what, counts).await,
            // Without what it said before, what it says now tells nothing.
            (Ok(()), None) => {
                let why = "Envoy does not answer";
                Err(Doubt::Silence(format!("{}: {why}", what.fields())))
            }
        };
        let news = match arrived {
            Ok(()) => News::Taken { what, revoked },
            // It may take them at any moment: those before would let in again whom these keep out.
            Err(Doubt::Silence(why)) => News::Laid { what, why },
            Err(Doubt::Refused(why)) => self.put_back(what, before, &old, why),
        };
        std::iter::once(news).chain(unfit).collect()
    }

    /// Envoy goes on with what it has; a listener that is made later reads the file anew.
    fn put_back(&mut self, what: What, before: Before, old: &SecretFile, why: String) -> News {
        let why = match self.put(old) {
            Ok(()) => why,
            Err(failure) => format!("{why}\n{failure}"),
        };
        match before {
            Before::Identity(before) => self.identity.in_force = before,
            Before::Authorities(before) => {
                if let Some(laid) = &mut self.authorities {
                    laid.in_force = before;
                }
            }
        }
        News::Kept { what, why }
    }

    /// Reads all of them, whether they changed or not.
    pub async fn renew_all(&mut self, envoy: &Target) -> Vec<News> {
        let authorities = self.authorities.as_ref().map(|_| What::Authorities);
        let mut news = Vec::new();
        for what in std::iter::once(What::Identity).chain(authorities) {
            news.extend(self.renew(what, envoy).await);
        }
        news
    }
}

/// What was in force.
enum Before {
    Identity(Identity),
    Authorities(Authorities),
}

impl Before {
    fn laid(&self) -> SecretFile {
        match self {
            Self::Identity(identity) => tls::identity(identity),
            Self::Authorities(authorities) => tls::authorities(authorities),
        }
    }
}

/// Waits until Envoy has said of a secret more than it had before.
async fn arrived(envoy: &Target, what: What, before: SecretCounts) -> Result<(), Doubt> {
    let give_up = Instant::now().checked_add(PATIENCE);
    loop {
        if let Some(counts) = secret_counts(envoy, what.secret()).await {
            if counts.rejected > before.rejected {
                let why = "Envoy refuses what was read: its log says why";
                return Err(Doubt::Refused(format!("{}: {why}", what.fields())));
            }
            if counts.taken > before.taken {
                return Ok(());
            }
        }
        if give_up.is_none_or(|give_up| Instant::now() >= give_up) {
            let why = "Envoy did not take what was read in time";
            return Err(Doubt::Silence(format!("{}: {why}", what.fields())));
        }
        sleep(LOOK_EVERY).await;
    }
}

fn told(faults: &[Unfit]) -> String {
    let lines: Vec<_> = faults
        .iter()
        .map(|unfit| format!("{unfit} ({})", unfit.fix))
        .collect();
    lines.join("\n")
}
