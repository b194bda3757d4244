//! How Envoy runs the filters.

use clap::ValueEnum;
use tensorgate_policy::policy::Client;
use tensorgate_policy::{Fault, Policy, Severity};
use tensorgate_policy_text::path::below;

/// The major and minor number of a version of Envoy: `1.40.0`.
pub fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What Envoy loads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// A WebAssembly module, which Envoy contains.
    #[default]
    Wasm,
    /// A native module of Envoy 1.38 to 1.40. It costs less, and a fault in it can end Envoy.
    Module,
}

impl Driver {
    /// File name of the module. Every filter is this module with another configuration.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Wasm => "gate.wasm",
            Self::Module => "libtensorgate_gate.so",
        }
    }

    /// The releases of Envoy that it is tested in; `None`: all that the gate supports.
    pub const fn releases(self) -> Option<&'static [(u32, u32)]> {
        match self {
            Self::Wasm => None,
            Self::Module => Some(&[(1, 38), (1, 39), (1, 40)]),
        }
    }

    /// The releases that it is tested in, for a message. Empty: all.
    pub fn listed_releases(self) -> String {
        let releases = self.releases().into_iter().flatten();
        let releases: Vec<_> = releases
            .map(|(major, minor)| format!("{major}.{minor}"))
            .collect();
        releases.join(", ")
    }

    /// The release in the tag of an Envoy image, if it is not one that the driver is for:
    /// `v1.37.0`, `distroless-v1.37-latest`, `1.37.0-debian-12`.
    pub fn unsuitable_release(self, tag: &str) -> Option<(u32, u32)> {
        let release = tag.split('-').find_map(|part| {
            let version = part
                .strip_prefix('v')
                .or(part.starts_with("1.").then_some(part))?;
            release(version)
        })?;
        let is_for = |releases: &[_]| releases.contains(&release);
        (!self.releases().is_none_or(is_for)).then_some(release)
    }

    /// What it cannot do of a policy whose filter has a host behind it. Envoy would reject the
    /// filter's configuration.
    pub fn faults(self, policy: &Policy) -> Vec<Fault> {
        let nested = |client: &&Client| {
            let rule = client.metadata();
            self == Self::Module && rule.is_some_and(|rule| rule.claim().len() > 1)
        };
        let clients = policy.clients().iter().filter(nested);
        clients
            .map(|client| Fault {
                severity: Severity::Error,
                path: below("clients", &[client.name(), "metadata", "claim"]),
                message: "a native module sees only the top level of another filter's metadata"
                    .to_owned(),
                fix: Some("the wasm module: leave out --driver module".to_owned()),
            })
            .collect()
    }

    /// Name of Envoy's logger that has the filter's lines.
    pub const fn logger(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Module => "dynamic_modules",
        }
    }
}
