//! Options of every target in a cluster for the gate's pods: where they run, the credentials for
//! their images, and further labels and annotations.

use std::path::{Path, PathBuf};

use clap::Args;
use tensorgate_cli_common::bounded_file::read_at_most;

use crate::render::cluster::affinity::{self, Affinity};
use crate::render::cluster::names::{ObjectName, PodLabel};
use crate::render::cluster::pod_options::{Annotation, ExtraLabel, PodOptions, Toleration};

/// What an operator sets for the pods.
#[derive(Args)]
pub(super) struct PodArguments {
    /// Secret with the credentials for the images' registries; repeatable.
    #[arg(long = "image-pull-secret", value_name = "SECRET")]
    pull_secrets: Vec<ObjectName>,
    /// Label of the nodes that the pods may run on; repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    node_selector: Vec<PodLabel>,
    /// Taint of nodes that the pods tolerate: KEY=VALUE:EFFECT, or KEY:EFFECT with any value;
    /// repeatable.
    #[arg(long = "toleration", value_name = "KEY=VALUE:EFFECT")]
    tolerations: Vec<Toleration>,
    /// File with the `affinity` of the pods, YAML or JSON.
    #[arg(long, value_name = "FILE")]
    affinity: Option<PathBuf>,
    /// Priority class of the pods.
    #[arg(long, value_name = "NAME")]
    priority_class: Option<ObjectName>,
    /// Further label of the pods; repeatable.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<ExtraLabel>,
    /// Further annotation of the pods; repeatable.
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<Annotation>,
}

impl PodArguments {
    /// What is set for the pods.
    ///
    /// # Errors
    /// A key is given twice, or the file has no affinity.
    pub(super) fn options(&self) -> Result<PodOptions, String> {
        let options = PodOptions {
            pull_secrets: self.pull_secrets.clone(),
            node_selector: self.node_selector.clone(),
            tolerations: self.tolerations.clone(),
            affinity: self.affinity.as_deref().map(read).transpose()?,
            priority_class: self.priority_class.clone(),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
        };
        options.check_distinct()?;
        Ok(options)
    }
}

/// The affinity of a file.
fn read(file: &Path) -> Result<Affinity, String> {
    let fault = |cause: String| format!("--affinity {}: {cause}", file.display());
    let bytes = read_at_most(file, affinity::MAX_BYTES)
        .map_err(|error| fault(error.to_string()))?
        .ok_or_else(|| fault(format!("is larger than {} bytes", affinity::MAX_BYTES)))?;
    let text = String::from_utf8(bytes).map_err(|error| fault(error.to_string()))?;
    text.parse().map_err(fault)
}
