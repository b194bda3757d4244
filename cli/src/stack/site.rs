//! What one `up` has in force, as files: the host's bundle and what Envoy follows. Puts another policy there and takes it back; whether
//! anybody took it up is [`super::reload`]'s to see.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tensorgate_policy::raw::BackendKind;

use super::plan::Options;
use crate::Failure;
use crate::load::Loaded;
use crate::render::envoy::dynamic::{Form, Resource, in_order};
use crate::render::envoy::{Places, Rendered, render};
use crate::replace::{Mode, replace};

/// Configuration names clients and digests: it is its owner's.
const MODE: u32 = 0o600;
/// The folder that Envoy follows, in the state's.
const DYNAMIC: &str = "dynamic";
/// The folder of the host's bundle there: all of it that the host reads.
const BUNDLE: &str = "policy";
/// Folders in the state's that nobody writes to but us.
pub const ENVOYS: [&str; 2] = [DYNAMIC, BUNDLE];

/// One policy, as the processes read it.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Its name.
    pub generation: String,
    bundle: String,
    rendered: Rendered,
    address: SocketAddr,
    /// The names of the listener's files of certificates.
    certificates: Option<[Option<String>; 4]>,
    /// Embedded servers, by name, and their folders of models.
    embedded: Vec<(String, Option<String>)>,
}

/// Where it stands.
#[derive(Debug)]
pub struct Site {
    /// Where things are on this machine.
    pub places: Places,
    state: PathBuf,
    /// What the processes were started with.
    started: InForce,
}

/// Why a policy needs other processes than those that run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Restart {
    /// The listener's address.
    #[error(
        "listen.address: {from} cannot become {to} while the gate runs: restart `tensorgate up`"
    )]
    Address {
        /// Where it listens.
        from: SocketAddr,
        /// Where it should.
        to: SocketAddr,
    },
    /// A process that does not run.
    #[error(
        "backends.{0}: an embedded backend cannot be added or moved while the gate runs: restart `tensorgate up`"
    )]
    Embedded(String),
    /// Other certificates. The same ones renewed need nothing.
    #[error(
        "listen.tls: other files of certificates cannot be named while the gate runs: put them in the place of those that are, or restart `tensorgate up`"
    )]
    Certificates,
    /// What Envoy reads at its start only.
    #[error(
        "listen.limits: Envoy sizes its overload manager (connections, buffered_bytes) at its start: restart `tensorgate up`"
    )]
    Bootstrap,
}

impl Site {
    /// Writes a first policy down.
    pub fn new(loaded: &Loaded, options: &Options, places: Places) -> Result<Self, Failure> {
        let state = options.state.clone();
        let started = in_force(loaded, &places, &state)?;
        for folder in ENVOYS {
            std::fs::create_dir_all(state.join(folder)).map_err(|error| {
                Failure::Failed(format!("cannot use {}: {error}", state.display()))
            })?;
        }
        let site = Self {
            places,
            state,
            started,
        };
        site.put(
            &site.envoy_file(),
            &site.started.rendered.bootstrap.to_yaml(),
        )?;
        site.put_bundle(&site.started)?;
        for resource in &site.started.rendered.resources {
            site.put_resource(resource)?;
        }
        Ok(site)
    }

    /// The host's bundle.
    pub fn bundle_file(&self) -> PathBuf {
        self.state.join(BUNDLE).join("bundle.json")
    }

    /// Envoy's bootstrap.
    pub fn envoy_file(&self) -> PathBuf {
        self.state.join("envoy.yaml")
    }

    /// What the processes were started with.
    pub const fn started(&self) -> &InForce {
        &self.started
    }

    /// Another policy, as these processes would read it.
    pub fn next(&self, loaded: &Loaded) -> Result<InForce, Failure> {
        in_force(loaded, &self.places, &self.state)
    }

    /// Why these processes cannot take it, every reason.
    pub fn obstacles(&self, next: &InForce) -> Vec<Restart> {
        let started = &self.started;
        let mut obstacles = Vec::new();
        if next.address != started.address {
            obstacles.push(Restart::Address {
                from: started.address,
                to: next.address,
            });
        }
        let more = next
            .embedded
            .iter()
            .filter(|backend| !started.embedded.contains(backend));
        obstacles.extend(more.map(|(name, _)| Restart::Embedded(name.clone())));
        if next.certificates != started.certificates {
            obstacles.push(Restart::Certificates);
        }
        if next.rendered.bootstrap != started.rendered.bootstrap {
            obstacles.push(Restart::Bootstrap);
        }
        obstacles
    }

    /// Has the host's file say this policy.
    pub fn put_bundle(&self, policy: &InForce) -> Result<(), Failure> {
        self.put(&self.bundle_file(), &policy.bundle)
    }

    /// Has one of Envoy's files say this.
    pub fn put_resource(&self, resource: &Resource) -> Result<(), Failure> {
        let file = self.state.join(DYNAMIC).join(&resource.file);
        self.put(&file, &resource.response().to_yaml())
    }

    fn put(&self, file: &Path, text: &str) -> Result<(), Failure> {
        replace(file, text, Mode::Of(MODE))
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", file.display())))
    }
}

impl InForce {
    /// Envoy's files that say something else than another policy's, in the order in which they must reach it, each with what
    /// stands there now.
    pub fn changes<'a>(&'a self, from: &'a Self) -> Vec<(&'a Resource, Option<&'a Resource>)> {
        let before = |resource: &Resource| {
            let resources = from.rendered.resources.iter();
            resources.clone().find(|old| old.file == resource.file)
        };
        let resources = self.rendered.resources.iter();
        let mut changes: Vec<_> = resources
            .map(|resource| (resource, before(resource)))
            .filter(|(resource, before)| !before.is_some_and(|old| old.says_what(resource)))
            .collect();
        let shrinks = self.rendered.buffer_bytes < from.rendered.buffer_bytes;
        in_order(&mut changes, shrinks, |(resource, _)| &resource.kind);
        changes
    }
}

fn in_force(loaded: &Loaded, places: &Places, state: &Path) -> Result<InForce, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
    let form = Form::Watched(&state.join(DYNAMIC));
    let rendered =
        render(&loaded.policy, &loaded.bundle, places, form).map_err(|error| failed(&error))?;
    let embedded = loaded
        .policy
        .backends()
        .iter()
        .filter(|(_, backend)| backend.kind() == BackendKind::Embedded)
        .map(|(name, backend)| (name.clone(), backend.models().map(str::to_owned)))
        .collect();
    let certificates = loaded.policy.listen().tls().map(|tls| {
        let files = [
            Some(tls.cert()),
            Some(tls.key()),
            tls.client_ca(),
            tls.client_crl(),
        ];
        files.map(|file| file.map(str::to_owned))
    });
    Ok(InForce {
        certificates,
        generation: loaded.bundle.generation.clone(),
        bundle: serde_json::to_string(&loaded.bundle).map_err(|error| failed(&error))?,
        rendered,
        address: places.listen.unwrap_or(loaded.policy.listen().address()),
        embedded,
    })
}
