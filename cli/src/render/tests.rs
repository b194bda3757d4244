//! Names cannot break out of what is rendered: hostile names in every policy and flag that take
//! names.
//!
//! Each target is rendered with marks as names and with hostile names. Both results are read back.
//! The hostile one has to be the other one with names in place of marks, and nothing else. So it
//! has the same keys, and a name stands only where a mark stood.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod limits;
pub mod names;
mod reading;
mod targets;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tensorgate_cli_common::load_error::LoadError;
use tensorgate_client::run::Scratch;
use tensorgate_policy_load::load::{Loaded, load};

use super::cluster::policy_files::PolicyFiles;
use names::{Names, Numbers, marks};
use reading::{difference, documents, marked};
use targets::{FLAGS, Render};

/// A policy that every mesh and every control plane takes.
const IN_A_MESH: &str = include_str!("tests/cluster.json");
/// A policy with a listener that ends TLS.
const WITH_TLS: &str = include_str!("tests/listener.json");

/// The targets of each policy.
const TARGETS: [(&str, &[Render]); 2] = [
    (
        IN_A_MESH,
        &[
            targets::envoy,
            targets::envoy_of_istio,
            targets::envoy_of_gateway,
            targets::in_sidecar,
            targets::in_ingress,
            targets::at_gateway,
        ],
    ),
    (
        WITH_TLS,
        &[
            targets::envoy_with_remote_host,
            targets::in_kubernetes,
            targets::chart,
        ],
    ),
];

/// Keys of rendered documents below which names stand as they are: addresses, paths and names of
/// objects. A key is listed once it is clear that no program interprets the text below it.
const PLAIN: [&str; 36] = [
    "address",
    "app.kubernetes.io/instance",
    "args",
    "authority",
    "claim",
    "claimName",
    "clientsFrom",
    "cluster_name",
    "context",
    "exact",
    "filename",
    "files",
    "gateway.envoyproxy.io/owning-gateway-name",
    "gateway.envoyproxy.io/owning-gateway-namespace",
    "gateways",
    "host",
    "hostname",
    "hostnames",
    "hosts",
    "image",
    "imagePullSecret",
    "key",
    "kubernetes.io/metadata.name",
    "metricsFrom",
    "name",
    "namespace",
    "path",
    "principals",
    "priorityClassName",
    "repository",
    "secretName",
    "sectionName",
    "serviceAccountName",
    "sni",
    "topologyKey",
    "url",
];

/// Keys of texts that a program interprets: a JSONPath, in which names are in quotes, and actions
/// of Go templates. Names in them have no special character.
const INTERPRETED: [&str; 2] = ["jsonPath", "actions"];

/// A policy with marks, and what its targets render from it.
struct Marked {
    policy: Value,
    rendered: Vec<(Render, BTreeMap<String, Value>)>,
}

impl Marked {
    fn new(text: &str, targets: &[Render]) -> Self {
        let policy: Value = serde_json::from_str(text).unwrap();
        let names = Names::default();
        let loaded = loaded(&names, &policy).unwrap();
        let rendered = |target: &Render| (*target, read(*target, &names, &loaded));
        Self {
            rendered: targets.iter().map(rendered).collect(),
            policy,
        }
    }

    /// Hostile names for the marks of the policy and of flags, as far as they are accepted.
    fn hostile_names(&self, numbers: &mut Numbers) -> Names {
        let mut names = Names::default();
        let policy = self.policy.to_string();
        for mark in marks(&policy) {
            names.replace(&mark, numbers, |names| {
                // A volume cannot bring a file of any name, so clusters refuse some.
                loaded(names, &self.policy)
                    .is_ok_and(|loaded| PolicyFiles::of(&loaded.version.policy).is_ok())
            });
        }
        for (flag, takes) in FLAGS {
            for mark in marks(flag) {
                // Targets leave out a namespace that is that of the release.
                names.replace(&mark, numbers, |names| {
                    takes(&names.in_text(flag)) && names.differ("namespace")
                });
            }
        }
        names
    }

    /// Renders every target with these names, and compares.
    fn check(&self, names: &Names) {
        let loaded = loaded(names, &self.policy).unwrap();
        for (target, expected) in &self.rendered {
            let read = read(*target, names, &loaded);
            assert_eq!(read.len(), expected.len());
            for (file, expected) in expected {
                let expected = names.in_document(expected);
                let difference = difference(file, &read[file], &expected);
                assert_eq!(difference, None, "{names:?}");
            }
        }
    }
}

/// The policy with names in place of marks, loaded from a file.
fn loaded(names: &Names, policy: &Value) -> Result<Loaded, LoadError> {
    // YAML rejects some characters, so JSON's escapes stand for all that is not ASCII.
    let escape = |c: char| match c {
        '\0'..='~' => c.to_string(),
        _ => format!("\\u{:04x}", u32::from(c)),
    };
    let text = names.in_document(policy).to_string();
    let text: String = text.chars().map(escape).collect();
    let scratch = Scratch::in_memory();
    load(&scratch.file("gate.yaml", text))
}

fn read(target: Render, names: &Names, loaded: &Loaded) -> BTreeMap<String, Value> {
    let files = target(names, loaded).unwrap_or_else(|error| panic!("{error:?}: {names:?}"));
    documents(&files, &loaded.version.generation)
}

#[test]
fn a_hostile_name_stays_a_value_in_every_target() {
    let is_long = std::env::var_os("TENSORGATE_LONG").is_some();
    let rounds = if is_long { 50 } else { 1 };
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for (policy, targets) in TARGETS {
        let marked = Marked::new(policy, targets);
        for _ in 0..rounds {
            let names = marked.hostile_names(&mut numbers);
            // Most marks stand where many names are accepted, so few are left.
            let flags = FLAGS.iter().map(|(flag, _)| marks(flag).len());
            let most = marks(policy).len() + flags.sum::<usize>();
            assert!(names.count() > most / 4 * 3, "{names:?}");
            marked.check(&names);
        }
    }
}

#[test]
fn a_name_is_in_no_text_that_a_program_interprets() {
    let mut found = BTreeSet::new();
    for (policy, targets) in TARGETS {
        let policy = Marked::new(policy, targets);
        for document in policy.rendered.iter().flat_map(|(_, files)| files.values()) {
            let mut texts = BTreeSet::new();
            marked(document, "", &mut texts);
            let own = |key: &str| marks(key).is_empty();
            let texts = texts.into_iter().filter(|(key, _)| own(key));
            found.extend(texts.map(|(key, text)| (key.to_owned(), text.to_owned())));
        }
    }
    let interpreted = |key: &str| INTERPRETED.contains(&key);
    for (key, text) in &found {
        assert!(
            interpreted(key) || PLAIN.contains(&key.as_str()),
            "{key}: {text}"
        );
    }
    let texts = found.iter().filter(|(key, _)| interpreted(key));
    let marks: BTreeSet<String> = texts.flat_map(|(_, text)| marks(text)).collect();
    assert!(!marks.is_empty());
    let mut numbers = Numbers(1);
    let special = |name: &str| name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    for (flag, takes) in FLAGS {
        for mark in &marks {
            if !flag.contains(mark.as_str()) {
                continue;
            }
            for _ in 0..1_000 {
                let name = numbers.text();
                let taken = takes(&flag.replace(mark.as_str(), &name));
                assert!(!taken || !special(&name), "{flag}: {name}");
            }
        }
    }
}
