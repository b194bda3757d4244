//! What one `up` has in force, as files: the host's bundle and what Envoy follows. Puts another policy there and takes it back; whether
//! anybody took it up is [`super::reload`]'s to see.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tensorgate_host::sources::Sources;
use tensorgate_policy::raw::BackendKind;
use tensorgate_policy::{Bundle, Policy};

use super::plan::Options;
use super::reload::How;
use crate::Failure;
use crate::load::Loaded;
use crate::render::envoy::dynamic::{Form, Kind, Resource, in_order};
use crate::render::envoy::{Places, Rendered, render};
use crate::replace::{Mode, replace};
use crate::tighten::Version;

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
    bundle: Bundle,
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
        let started = in_force(&loaded.policy, &loaded.bundle, &places, &state)?;
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
        site.put_bundle(&site.started, None)?;
        site.put_sources(&Sources::default())?;
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

    /// Another version, as these processes would read it.
    pub fn next(&self, version: &Version) -> Result<InForce, Failure> {
        in_force(&version.policy, &version.bundle, &self.places, &self.state)
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

    /// Has the host's file say this version, and which one it only takes away from, if it does.
    pub fn put_bundle(&self, version: &InForce, tightens: Option<&str>) -> Result<(), Failure> {
        let bundle = Bundle {
            tightens: tightens.map(str::to_owned),
            ..version.bundle.clone()
        };
        self.put(&self.bundle_file(), &json(&bundle)?)
    }

    /// Has the host show this of the policy's sources.
    pub fn put_sources(&self, sources: &Sources) -> Result<(), Failure> {
        self.put(&Sources::beside(&self.bundle_file()), &json(sources)?)
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

/// Envoy's files as they stand, by name, each with whether Envoy is known to have taken it.
#[derive(Debug)]
pub struct Laid(BTreeMap<String, (Resource, bool)>);

impl Laid {
    /// The files of a version that Envoy has taken.
    pub fn taken(version: &InForce) -> Self {
        let mut laid = Self(BTreeMap::new());
        for resource in &version.rendered.resources {
            laid.put(resource, true);
        }
        laid
    }

    /// A file was written, or Envoy has taken it.
    pub fn put(&mut self, resource: &Resource, taken: bool) {
        let laid = (resource.clone(), taken);
        self.0.insert(resource.file.clone(), laid);
    }

    /// Whether Envoy is known to have all of a version.
    pub fn is(&self, version: &InForce) -> bool {
        let mut resources = version.rendered.resources.iter();
        resources.all(|resource| self.has(resource))
    }

    fn has(&self, resource: &Resource) -> bool {
        let laid = self.0.get(&resource.file);
        laid.is_some_and(|(laid, taken)| *taken && laid.says_what(resource))
    }
}

impl InForce {
    /// The files of this version that Envoy is not known to have, in the order in which they must reach it. `from`
    /// is the version that they replace. What only takes away waits for nothing: the filters come first.
    pub fn changes(&self, laid: &Laid, from: &Self, how: How) -> Vec<&Resource> {
        let resources = self.rendered.resources.iter();
        let mut changes: Vec<_> = resources.filter(|resource| !laid.has(resource)).collect();
        let shrinks = self.rendered.buffer_bytes < from.rendered.buffer_bytes;
        in_order(&mut changes, shrinks, |resource| &resource.kind);
        if how == How::Tighter {
            changes.sort_by_key(|resource| !matches!(resource.kind, Kind::Filter(_)));
        }
        changes
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))
}

fn in_force(
    policy: &Policy,
    bundle: &Bundle,
    places: &Places,
    state: &Path,
) -> Result<InForce, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
    let form = Form::Watched(&state.join(DYNAMIC));
    let rendered = render(policy, bundle, places, form).map_err(|error| failed(&error))?;
    let embedded = policy
        .backends()
        .iter()
        .filter(|(_, backend)| backend.kind() == BackendKind::Embedded)
        .map(|(name, backend)| (name.clone(), backend.models().map(str::to_owned)))
        .collect();
    let certificates = policy.listen().tls().map(|tls| {
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
        generation: bundle.generation.clone(),
        bundle: bundle.clone(),
        rendered,
        address: places.listen.unwrap_or(policy.listen().address()),
        embedded,
    })
}
