//! The configuration in force, as files: the host's bundle, and the resources that Envoy watches.
//! This module only writes them; [`super::reload`] checks whether they were applied.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tensorgate_base::shell;
use tensorgate_cli_common::replace::{Mode, replace};
use tensorgate_cli_common::{Failure, user_folders};
use tensorgate_policy::values::BackendKind;
use tensorgate_policy::{Compiled, HostTarget, Target};
use tensorgate_policy_compiler::Version;
use tensorgate_policy_load::load::Loaded;
use tensorgate_settings::bundle::{self as settings, BundleError, Candidate, FILE};
use tensorgate_settings::sources::Sources;

use super::options::Options;
use super::running::unusable;
use crate::render::envoy::dynamic::{Form, Kind, Resource, in_order};
use crate::render::envoy::{RenderOptions, Rendered, render};

/// Mode of configuration files: owner only. They contain names of clients and digests.
const MODE: u32 = 0o600;
/// Folder below the state folder that Envoy watches.
const DYNAMIC: &str = "dynamic";
/// Folder below the state folder with the host's bundle, which is all that the host reads there.
const BUNDLE: &str = "policy";
/// Folders below the state folder that only this process writes to.
pub const OWN_FOLDERS: [&str; 2] = [DYNAMIC, BUNDLE];

/// One version of the policy, as the processes read it.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Digest that names the version.
    pub generation: String,
    compiled: Compiled,
    rendered: Rendered,
    address: SocketAddr,
    /// File names of the listener's certificates.
    certificates: Option<[Option<String>; 4]>,
    /// Embedded backends by name, with their model folders.
    embedded: Vec<(String, Option<String>)>,
}

/// Kind of a version, relative to the version in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How<'a> {
    /// The complete policy.
    Complete,
    /// The complete policy, unless it makes a ready model unready. These models do not count,
    /// because their contracts only tighten.
    UnlessUnready(&'a [String]),
    /// The version in force with removals only.
    Tighter,
}

/// The files of one `tensorgate up`.
#[derive(Debug)]
pub struct Site {
    /// Rendering options for this machine.
    pub render_options: RenderOptions,
    state: PathBuf,
    /// The command line's listen address. Its port may be 0, unlike that of the options above.
    listen: Option<SocketAddr>,
    /// The version that the processes were started with.
    started: InForce,
}

/// Why a version needs a restart.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Restart {
    /// The listener's address changed.
    #[error(
        "listen.address: {from} cannot become {to} while the gate runs: restart `tensorgate up`"
    )]
    Address {
        /// The current address.
        from: SocketAddr,
        /// The new address.
        to: SocketAddr,
    },
    /// An embedded backend was added or moved.
    #[error(
        "backends.{0}: an embedded backend cannot be added or moved while the gate runs: restart `tensorgate up`"
    )]
    Embedded(String),
    /// Other certificate files were named. Renewed files with the same names need no restart.
    #[error(
        "listen.tls: the names of certificate files cannot change while the gate runs: replace the files, or restart `tensorgate up`"
    )]
    Certificates,
    /// A setting changed that Envoy reads only at start.
    #[error(
        "listen.limits: Envoy sizes its overload manager (connections, buffered_bytes) at its start: restart `tensorgate up`"
    )]
    Bootstrap,
}

impl Site {
    /// Writes the files of a first version.
    pub fn new(
        loaded: &Loaded,
        options: &Options,
        render_options: RenderOptions,
    ) -> Result<Self, Failure> {
        let state = options.state.clone();
        let started = in_force(&loaded.version, &render_options, (&state, options.listen))?;
        for folder in OWN_FOLDERS {
            std::fs::create_dir_all(state.join(folder))
                .map_err(|error| unusable(&state, &error))?;
        }
        let site = Self {
            render_options,
            state,
            listen: options.listen,
            started,
        };
        site.put(
            &site.envoy_file(),
            site.started.rendered.bootstrap.to_yaml(),
        )?;
        site.put_bundle(&site.started, How::Complete, &site.started.generation)?;
        site.put_sources(&Sources::default())?;
        for resource in &site.started.rendered.resources {
            site.put_resource(resource)?;
        }
        Ok(site)
    }

    /// File of the host's bundle.
    pub fn bundle_file(&self) -> PathBuf {
        bundle_file(&self.state)
    }

    /// File of Envoy's bootstrap.
    pub fn envoy_file(&self) -> PathBuf {
        self.state.join("envoy.yaml")
    }

    /// The version that the processes were started with.
    pub const fn started(&self) -> &InForce {
        &self.started
    }

    /// Renders another version.
    pub fn next(&self, version: &Version) -> Result<InForce, Failure> {
        in_force(version, &self.render_options, (&self.state, self.listen))
    }

    /// Every reason why a version needs a restart.
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

    /// Writes the host's bundle. `in_force` is the version that this one replaces.
    pub fn put_bundle(
        &self,
        version: &InForce,
        how: How<'_>,
        in_force: &str,
    ) -> Result<(), Failure> {
        let (tightens, hold) = match how {
            How::Complete => (None, None),
            How::UnlessUnready(tightened) => (None, Some(tightened.to_vec())),
            How::Tighter => (Some(in_force.to_owned()), None),
        };
        let bundle = Compiled {
            target: Target::Host(HostTarget { tightens, hold }),
            ..version.compiled.clone()
        };
        self.put(&self.bundle_file(), bundle.to_bytes())
    }

    /// The state folder.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The command that accepts a version, with the state folder if it is not the default.
    pub fn accept_command(&self, generation: &str) -> String {
        let command = format!("tensorgate reload --accept {generation}");
        if user_folders::state().is_some_and(|default| default == self.state) {
            return command;
        }
        format!("{command} --state {}", shell::quoted(&self.state))
    }

    /// Writes the status of the policy's sources.
    pub fn put_sources(&self, sources: &Sources) -> Result<(), Failure> {
        self.put(&Sources::beside(&self.bundle_file()), json(sources)?)
    }

    /// Writes one of Envoy's resource files.
    pub fn put_resource(&self, resource: &Resource) -> Result<(), Failure> {
        let file = self.state.join(DYNAMIC).join(&resource.file);
        self.put(&file, resource.response().to_yaml())
    }

    fn put(&self, file: &Path, content: impl AsRef<[u8]>) -> Result<(), Failure> {
        replace(file, content, Mode::Exact(MODE))
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", file.display())))
    }
}

/// Envoy's resource files by name, each with whether Envoy is known to have applied it.
#[derive(Debug)]
pub struct EnvoyFiles(BTreeMap<String, (Resource, bool)>);

impl EnvoyFiles {
    /// The files of a version that Envoy has applied.
    pub fn taken(version: &InForce) -> Self {
        let mut known = Self(BTreeMap::new());
        for resource in &version.rendered.resources {
            known.put(resource, true);
        }
        known
    }

    /// Records that a file was written, or that Envoy has applied it.
    pub fn put(&mut self, resource: &Resource, taken: bool) {
        let known = (resource.clone(), taken);
        self.0.insert(resource.file.clone(), known);
    }

    /// Whether Envoy is known to have all resources of a version.
    pub fn has_all(&self, version: &InForce) -> bool {
        let mut resources = version.rendered.resources.iter();
        resources.all(|resource| self.has(resource))
    }

    fn has(&self, resource: &Resource) -> bool {
        let known = self.0.get(&resource.file);
        known.is_some_and(|(known, taken)| *taken && known.same_content(resource))
    }
}

impl InForce {
    /// The resources of this version that Envoy is not known to have, in the order of their
    /// application. `from` is the version that they replace. For removals, filters come first.
    pub fn changes(&self, known: &EnvoyFiles, from: &Self, how: How<'_>) -> Vec<&Resource> {
        let resources = self.rendered.resources.iter();
        let mut changes: Vec<_> = resources.filter(|resource| !known.has(resource)).collect();
        let shrinks = self.rendered.buffer_bytes < from.rendered.buffer_bytes;
        in_order(&mut changes, shrinks, |resource| &resource.kind);
        if how == How::Tighter {
            changes.sort_by_key(|resource| !matches!(resource.kind, Kind::Filter(_)));
        }
        changes
    }
}

/// File of the host's bundle below a state folder.
pub fn bundle_file(state: &Path) -> PathBuf {
    state.join(BUNDLE).join(FILE)
}

/// The host's bundle below a state folder, if it can be read.
///
/// # Errors
/// It is there, and this release cannot load it.
pub fn bundle(state: &Path) -> Result<Option<Candidate>, Failure> {
    match settings::bundle(&bundle_file(state)) {
        Ok(candidate) => Ok(Some(candidate)),
        Err(BundleError::File { .. }) => Ok(None),
        Err(error) => Err(Failure::Input(error.to_string())),
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))
}

fn in_force(
    version: &Version,
    render_options: &RenderOptions,
    (state, listen): (&Path, Option<SocketAddr>),
) -> Result<InForce, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
    let form = Form::Watched(&state.join(DYNAMIC));
    let rendered = render(version, render_options, form).map_err(|error| failed(&error))?;
    let policy = &version.policy;
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
        generation: version.generation.clone(),
        compiled: version.for_host(),
        rendered,
        address: listen.unwrap_or(policy.listen().address()),
        embedded,
    })
}
