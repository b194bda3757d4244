//! What the verbs for signatures of models read: the model itself, certificates, paths to leave
//! out.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use tensorgate_artifact::model_signing::{Certificate, Exclusions, Pieces, Rules};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::printable;
use tensorgate_models::files::{Hashed, Options, hash_folder, signature_file};

use super::jobs;
use crate::progress_line::ProgressLine;
use crate::text::{self, shown};

/// The largest file with keys or certificates, bytes.
const MAX_PEM_BYTES: u64 = 2 << 20;
/// The unit of the progress line.
const MEGABYTE: u64 = 1_000_000;
/// Paths that a text names before it counts the others.
const MAX_NAMED: usize = 20;

/// A model that is hashed, and how.
#[derive(Args)]
pub struct ModelToHash {
    /// Folder of the model, or its only file.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Name of the model in the signature, which a verifier can require [default: the last
    /// component of MODEL].
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    subject: Option<String>,
    /// Leave out this path, relative to the model's folder, with everything below it. The
    /// signature records that. Repeatable.
    #[arg(long, value_name = "PATH")]
    ignore_path: Vec<String>,
    /// Hash shards of this many bytes, in parallel also within a file [default: whole files].
    #[arg(long, value_name = "BYTES")]
    shard_bytes: Option<NonZeroU64>,
    /// Follow symbolic links that stay within the model's folder, instead of rejecting them.
    #[arg(long)]
    follow_links: bool,
    /// Files or shards that are hashed at the same time [default: one a core].
    #[arg(long, value_name = "N", value_parser = jobs)]
    pub jobs: Option<NonZeroUsize>,
}

impl ModelToHash {
    /// Hashes the model. `unsigned` are further paths to leave out.
    pub fn hash(&self, unsigned: Option<String>) -> Result<Hashed, Failure> {
        let paths = self.ignore_path.iter().cloned().chain(unsigned);
        let rules = Rules {
            pieces: self.shard_bytes.map_or(Pieces::Files, Pieces::Shards),
            follow_links: self.follow_links,
            exclusions: exclusions(paths)?,
        };
        let name = match &self.subject {
            Some(subject) => subject.clone(),
            None => name(&self.model)?,
        };
        hash_folder(&self.model, name, rules, &options(self.jobs))
            .map_err(|fault| Failure::Input(format!("{}: {fault}", shown(&self.model))))
    }
}

/// The file of a model's signature: the named one, or the one that the host looks for by default.
pub fn signature(named: Option<&Path>, model: &Path) -> PathBuf {
    named.map_or_else(|| signature_file(model), Path::to_owned)
}

/// How a model is read with this `--jobs`.
pub fn options(jobs: Option<NonZeroUsize>) -> Options {
    let defaults = Options::default();
    Options {
        threads: jobs.unwrap_or(defaults.threads),
        progress: Some(hashing),
        ..defaults
    }
}

/// The line on a terminal that says how much is hashed.
fn hashing() -> Box<dyn FnMut(u64, u64)> {
    let mut line = ProgressLine::new();
    Box::new(move |done, total| {
        line.show(|seconds| {
            let (done, total) = (done.div_euclid(MEGABYTE), total.div_euclid(MEGABYTE));
            format!("{done} of {total} MB hashed in {seconds} s")
        });
    })
}

/// The paths of `--ignore-path`. A shell completes the name of a folder with a slash.
pub fn exclusions(paths: impl IntoIterator<Item = String>) -> Result<Exclusions, Failure> {
    let paths = paths.into_iter();
    let paths = paths.map(|path| path.strip_suffix('/').map(str::to_owned).unwrap_or(path));
    Exclusions::new(paths).map_err(|(path, fault)| {
        Failure::Input(format!(
            "the path to leave out {:?} {fault}",
            printable(&path)
        ))
    })
}

/// The certificates of PEM files, in their order.
pub fn certificates(files: &[PathBuf]) -> Result<Vec<Certificate>, Failure> {
    let mut certificates = Vec::new();
    for file in files {
        let text = read_text(file)?;
        let read = Certificate::from_pem(&text)
            .map_err(|fault| Failure::Input(format!("{} {fault}", shown(file))))?;
        certificates.extend(read);
    }
    Ok(certificates)
}

/// A file of keys or certificates that are no secret.
pub fn read_text(file: &Path) -> Result<String, Failure> {
    text::read(file, MAX_PEM_BYTES, "is no PEM file")
}

/// Paths for a terminal, with the number of those that are too many to name.
pub fn named(paths: &[String]) -> String {
    let named: Vec<_> = paths
        .iter()
        .take(MAX_NAMED)
        .map(|path| printable(path))
        .collect();
    let text = named.join(", ");
    match paths.len().saturating_sub(named.len()) {
        0 => text,
        others => format!("{text}, and {others} more"),
    }
}

/// The name of a model in its statement: the last component of its path.
fn name(model: &Path) -> Result<String, Failure> {
    let unnamed = |why: &str| Failure::Input(format!("{} {why}", shown(model)));
    let name = match model.file_name() {
        Some(name) => Some(name.to_owned()),
        // It ends in a dot, or in two.
        None => (model.canonicalize().ok()).and_then(|path| path.file_name().map(Into::into)),
    };
    let name =
        name.ok_or_else(|| unnamed("has no name: give the path of a folder that has one"))?;
    name.into_string()
        .map_err(|_| unnamed("is not UTF-8: rename the model"))
}
