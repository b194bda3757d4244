//! The gate of its own as a Helm chart: the objects of [`kubernetes`](super::kubernetes), with
//! values in place of what an operator sets.
//!
//! The templates are written from the same trees as the objects, so the two cannot drift apart.
//! Names become placeholders before the objects are rendered, and an object that a value changes is
//! rendered both ways. What depends on the policy is in files that templates only read, so no text
//! of a policy is ever in a template. The schema of the values holds the rules of
//! [`names`](super::names).

mod sizes;
mod values;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::Failure;
use tensorgate_policy::{Policy, hex};
use tensorgate_policy_load::load::Loaded;

use super::kubernetes::Kubernetes;
use super::names::{Image, Namespace, ObjectName, PodLabel};
use super::pod_options::PodOptions;
use super::template::{self, choose};
use super::workload::{HandlerSource, OLDEST_KUBERNETES, Workload};
use crate::render::node::{Node, list, map};
use crate::render::output::{cannot_write, create_folder, write_file};
use crate::render::source_record::{POLICY, README};
use crate::render::{Unrenderable, local_scheme};
use values::{POD_ANNOTATIONS, POD_LABELS};

/// Folder of the templates in a chart.
const TEMPLATES: &str = "templates";
/// What Helm prints after an installation.
const NOTES: &str = include_str!("chart/NOTES.txt");
/// The part of it about the files that a policy names.
const FILES_NOTE: &str = "\
- the Secret {{ .Values.secrets.files }} with the files that the policy names. A file pki/ca.pem is
  under pki.ca.pem.
";
/// Where the part about these files, the listener's port and its scheme are in it.
const FILES_MARK: &str = "@FILES@\n";
const PORT_MARK: &str = "@PORT@";
const SCHEME_MARK: &str = "@SCHEME@";
/// Hex digits of the policy's digest in the chart's version.
const VERSION_DIGITS: usize = 12;

/// A value that switches parts of objects: its condition, and how the gate is with it and without.
type Switch = (&'static str, fn(&mut Kubernetes, bool));

const SWITCHES: [Switch; 4] = [
    (CLIENTS, |gate, on| {
        gate.clients_from = on.then(|| Namespace::placeholder(CLIENTS));
    }),
    (METRICS, |gate, on| {
        gate.workload.metrics_from = on.then(|| Namespace::placeholder(METRICS));
    }),
    (MODEL_LABELS, |gate, on| {
        let labels = on.then(|| PodLabel::placeholder(MODEL_LABELS));
        gate.workload.model_servers = labels.into_iter().collect();
    }),
    (HANDLERS_CLAIM, |gate, on| {
        // A policy without components has no volume, whatever the value.
        if gate.workload.handlers.is_some() {
            let source = if on {
                HandlerSource::Claim(ObjectName::placeholder(HANDLERS_CLAIM))
            } else {
                HandlerSource::Image(Image::placeholder(".Values.handlers.image"))
            };
            gate.workload.handlers = Some(source);
        }
    }),
];

/// Namespace of the clients.
const CLIENTS: &str = ".Values.clientsFrom";
/// Namespace of the readers of metrics.
const METRICS: &str = ".Values.metricsFrom";
/// Labels of the model servers' pods.
const MODEL_LABELS: &str = ".Values.modelServers.labels";
/// Namespace of the model servers.
const MODEL_NAMESPACE: &str = "default .Release.Namespace .Values.modelServers.namespace";
/// Claim of the components' volume.
const HANDLERS_CLAIM: &str = ".Values.handlers.claim";

/// An object's tree, and the condition under which there is such an object.
struct Template {
    condition: Option<&'static str>,
    object: Node,
}

impl Template {
    const fn always(object: Node) -> Self {
        Self {
            condition: None,
            object,
        }
    }
}

/// Templates by file.
type Templates = BTreeMap<String, Template>;

/// What this target needs: the gate whose names are the default values.
#[derive(Clone, Debug)]
pub struct Helm {
    /// The gate.
    pub gate: Kubernetes,
}

impl Helm {
    /// The chart.
    ///
    /// # Errors
    /// What the target cannot enforce.
    pub fn render(&self, loaded: &Loaded) -> Result<Chart, Unrenderable> {
        let mut templates = variants(self.with_placeholders(), &SWITCHES, loaded)?;
        let mut files = BTreeMap::new();
        for (file, template) in &mut templates {
            move_data(file, &mut template.object, &mut files)?;
        }
        let deployment = templates
            .get_mut("deployment.yaml")
            .ok_or_else(|| missing("the Deployment"))?;
        let replicas = at(&mut deployment.object, &["spec", "replicas"]);
        *replicas.ok_or_else(|| missing("replicas"))? = template::value(".Values.replicas");
        sizes::fill(&mut deployment.object, &loaded.version.policy)?;
        add_pod_options(&mut deployment.object)?;

        let digest = hex(&Sha256::digest(contents(&files)));
        let version: String = digest.chars().take(VERSION_DIGITS).collect();
        files.insert("Chart.yaml".to_owned(), self.description(&version));
        files.insert("values.yaml".to_owned(), values::values(&self.gate));
        let schema = values::schema(&self.gate, loaded.divided_by)?;
        files.insert("values.schema.json".to_owned(), schema);
        files.insert(format!("{TEMPLATES}/_sizes.tpl"), sizes::template());
        files.insert(
            format!("{TEMPLATES}/NOTES.txt"),
            self.notes(&loaded.version.policy),
        );
        files.insert(".helmignore".to_owned(), format!("{README}\n{POLICY}\n"));
        for (file, template) in templates {
            let text = template::write(&template.object, template.condition)
                .map_err(Unrenderable::Other)?;
            files.insert(format!("{TEMPLATES}/{file}"), text);
        }
        Ok(Chart { files })
    }

    /// The gate with placeholders for the names that are values. Its own name stays: what another
    /// release of the chart would share with it has this name.
    fn with_placeholders(&self) -> Kubernetes {
        Kubernetes {
            workload: Workload {
                namespace: Namespace::placeholder(".Release.Namespace"),
                host_image: Image::placeholder(".Values.images.host"),
                context_secret: ObjectName::placeholder(".Values.secrets.context"),
                files_secret: ObjectName::placeholder(".Values.secrets.files"),
                model_namespace: Namespace::placeholder(MODEL_NAMESPACE),
                pod_ports: self.gate.workload.pod_ports.clone().into_chart(),
                // The templates take them from values.
                pod_options: PodOptions::default(),
                ..self.gate.workload.clone()
            },
            envoy_image: Image::placeholder(".Values.images.envoy"),
            driver: self.gate.driver,
            clients_from: None,
            monitoring: self.gate.monitoring,
        }
    }

    /// What Helm prints. Only a policy that names files has a Secret for them.
    fn notes(&self, policy: &Policy) -> String {
        let has_files = !self.gate.workload.files.secret.is_empty();
        let files = if has_files { FILES_NOTE } else { "" };
        let listen = policy.listen();
        NOTES
            .replace(FILES_MARK, files)
            .replace(PORT_MARK, &listen.address().port().to_string())
            .replace(SCHEME_MARK, local_scheme(listen.tls().is_some()))
    }

    /// `Chart.yaml`. The version changes with the policy and with this program.
    fn description(&self, policy: &str) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let name = self.gate.workload.name.as_str();
        let chart = map! {
            "apiVersion" => "v2",
            "name" => name,
            "description" => "A security gate for machine-learning model serving, with its policy",
            "type" => "application",
            "version" => format!("{version}+policy.{policy}"),
            "appVersion" => version,
            "kubeVersion" => format!(">={OLDEST_KUBERNETES}.0-0"),
        };
        chart.to_yaml()
    }
}

/// Renders the gate with and without each value that switches parts of objects, and joins the
/// results.
fn variants(
    gate: Kubernetes,
    switches: &[Switch],
    loaded: &Loaded,
) -> Result<Templates, Unrenderable> {
    let Some((&(condition, set), rest)) = switches.split_first() else {
        let objects = gate.render(loaded)?.into_files().into_iter();
        return Ok(objects
            .map(|(file, object)| (file, Template::always(object)))
            .collect());
    };
    let with = |on| {
        let mut gate = gate.clone();
        set(&mut gate, on);
        variants(gate, rest, loaded)
    };
    join(condition, with(true)?, with(false)?)
}

/// Joins the objects when a condition holds with those when it does not. An object may be absent
/// when it does not.
fn join(
    condition: &'static str,
    yes: Templates,
    mut no: Templates,
) -> Result<Templates, Unrenderable> {
    let mut joined = Templates::new();
    for (file, with) in yes {
        let template = match no.remove(&file) {
            None if with.condition.is_none() => Template {
                condition: Some(condition),
                object: with.object,
            },
            Some(without) if without.condition == with.condition => Template {
                condition: with.condition,
                object: choose(condition, with.object, without.object)
                    .map_err(|error| Unrenderable::Other(format!("{file}: {error}")))?,
            },
            _ => return Err(missing(&file)),
        };
        joined.insert(file, template);
    }
    match no.into_keys().next() {
        None => Ok(joined),
        Some(file) => Err(missing(&file)),
    }
}

/// Adds what values set for the pods. A value that is missing sets nothing, as in a release whose
/// values are of an older chart.
fn add_pod_options(deployment: &mut Node) -> Result<(), Unrenderable> {
    let mut add = |path: &[&str], entry: (String, Node)| match at(deployment, path) {
        Some(Node::Map(entries)) => {
            entries.push(entry);
            Ok(())
        }
        _ => Err(missing(&path.join("."))),
    };
    let pod = ["spec", "template", "spec"];
    for (field, _) in PodOptions::default().fields() {
        let expression = format!(".Values.{field}");
        add(&pod, template::entry_if_set(&field, &expression))?;
    }
    for (field, value) in [("labels", POD_LABELS), ("annotations", POD_ANNOTATIONS)] {
        let path = ["spec", "template", "metadata", field];
        add(&path, template::entries_of(&format!(".Values.{value}")))?;
    }
    Ok(())
}

/// Moves the data of a ConfigMap into files of the chart, which its template reads.
fn move_data(
    template: &str,
    object: &mut Node,
    files: &mut BTreeMap<String, String>,
) -> Result<(), Unrenderable> {
    // Binary data is text in base64 in both.
    for (field, suffix) in [("data", ""), ("binaryData", ".base64")] {
        let Some(Node::Map(data)) = at(object, &[field]) else {
            continue;
        };
        let folder = template
            .strip_prefix("configmap-")
            .and_then(|rest| rest.strip_suffix(".yaml"))
            .ok_or_else(|| missing(template))?;
        for (name, content) in data {
            let file = format!("files/{folder}/{name}{suffix}");
            let read = template::value(&format!(".Files.Get {}", Value::from(file.as_str())));
            let Node::Text(text) = std::mem::replace(content, read) else {
                return Err(missing(&file));
            };
            files.insert(file, text);
        }
    }
    Ok(())
}

/// The node at a path: keys of mappings, and names of items.
fn at<'a>(node: &'a mut Node, path: &[&str]) -> Option<&'a mut Node> {
    let Some((step, rest)) = path.split_first() else {
        return Some(node);
    };
    let below = match node {
        Node::Map(entries) => {
            let mut entries = entries.iter_mut();
            entries
                .find(|(key, _)| key.as_str() == *step)
                .map(|(_, value)| value)
        }
        Node::List(items) => items.iter_mut().find(|item| is_named(item, step)),
        _ => None,
    };
    at(below?, rest)
}

fn is_named(item: &Node, name: &str) -> bool {
    let named = Node::from(name);
    match item {
        Node::Map(entries) => (entries.iter()).any(|(key, value)| key == "name" && *value == named),
        _ => false,
    }
}

/// All files in one text. No name and no content can be confused with another.
fn contents(files: &BTreeMap<String, String>) -> String {
    let pairs = files.iter();
    let pairs = pairs.map(|(name, text)| list![name.as_str(), text.as_str()].to_yaml());
    pairs.collect()
}

/// A part of the objects that this module expects is not there. Every rendering finds it, so a test
/// does.
fn missing(part: &str) -> Unrenderable {
    Unrenderable::Other(format!("the chart has no place for {part}"))
}

/// The files of a chart, by path.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    files: BTreeMap<String, String>,
}

impl Chart {
    /// Number of files.
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Writes the chart into a folder. Each file is replaced atomically. A template that is not of
    /// this chart is an error, because Helm would install it too.
    ///
    /// # Errors
    /// A file cannot be written, or another chart is there.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        let templates = folder.join(TEMPLATES);
        create_folder(&templates)?;
        let failed = |error: std::io::Error| cannot_write(&templates, &error);
        let there = std::fs::read_dir(&templates).map_err(failed)?;
        for entry in there {
            let name = entry.map_err(failed)?.file_name();
            let file = format!("{TEMPLATES}/{}", name.to_string_lossy());
            if !self.files.contains_key(&file) {
                return Err(Failure::Failed(format!(
                    "{} is not of this chart, and Helm would install it: remove it, or name another folder",
                    templates.join(name).display()
                )));
            }
        }
        for (name, text) in &self.files {
            let file = folder.join(name);
            let parent = file.parent().unwrap_or(folder);
            create_folder(parent)?;
            write_file(&file, text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
