//! One check of a model's files, and the states of the files that the result is about.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Stat, statat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tensorgate_artifact::model_signing::{Manifest, Resource};
use tensorgate_base::unix_time::now_unix_s;
use tensorgate_models::files::file_state::{is_same_or_absent, wait_for_next_tick};
use tensorgate_models::files::open_folder::FILE;
use tensorgate_models::files::{
    Fault, FolderStates, FoundFile, FoundModel, Ignored, Options, check_found, find_signed,
    folder_and_name, path_beneath,
};
use tensorgate_models::scan::folder::scan_in_folder;
use tensorgate_models::scan::messages::FileReport;
use tensorgate_models::scan::scan_input::ScanInput;
use tensorgate_models::scan::supervisor::ScannerSupervisor;
use tensorgate_policy::policy::ModelArtifact;
use tensorgate_policy::values::safe_text::printable;

use crate::acceptance::{ScannedFile, accept};
use crate::beside::SignedFolder;
use crate::first_digests::FirstDigests;
use crate::lock::lock;
use crate::status::{Accepted, Cause, Identity, Status};
use crate::trust::{Trusted, trust_file, trusted};

/// Cores of this many are left to requests.
const CORES_PER_HASHER: usize = 2;
/// The time to hash and scan a model without its bytes. A check that takes longer ends, and is
/// repeated later, so that others have their turn.
const TIME_LIMIT: Duration = Duration::from_secs(120);
/// Bytes of a model for which there is one more second: a slow disk, and a slow scan.
const BYTES_PER_SECOND: u64 = 20_000_000;
/// The most bytes of a model: 2 TiB. A file may say that it has more than any disk, and would have
/// as much time.
const MAX_MODEL_BYTES: u64 = 2 << 40;

/// Verifies the files of models.
#[derive(Debug)]
pub struct Checker {
    /// The folder for relative paths of the policy.
    root: PathBuf,
    /// The scanner processes, or why there are none.
    scanner: Result<Arc<ScannerSupervisor>, String>,
    first_digests: Mutex<FirstDigests>,
}

/// The states of a model's files and of its signature.
#[derive(Debug)]
struct States {
    /// `None` if there is no such file.
    trust: Option<Stat>,
    files: FolderStates,
}

/// What a check, or a look, was about.
#[derive(Debug, Default)]
pub(crate) struct Baseline {
    manifest: Option<Manifest>,
    /// `None` before the first look, or if it failed.
    states: Option<States>,
}

impl States {
    /// What is new, missing or different since `before`.
    fn change_since(&self, before: &Self) -> Option<String> {
        if !is_same_or_absent(before.trust.as_ref(), self.trust.as_ref()) {
            return Some("its signature or manifest".to_owned());
        }
        let path = self.files.change_since(&before.files)?;
        Some(if path.is_empty() {
            "its file or folder".to_owned()
        } else {
            format!("{:?} of its files", printable(&path))
        })
    }
}

impl Baseline {
    /// Whether the states of the files are known.
    pub(crate) const fn is_known(&self) -> bool {
        self.states.is_some()
    }

    /// The bytes of all files. `None` if they are not known.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.states.as_ref().map(|states| states.files.bytes)
    }

    /// What is new, missing or different since an earlier look. A look that failed tells nothing:
    /// the next one is compared with the one before.
    pub(crate) fn change_since(&self, before: &Self) -> Option<String> {
        let before = before.states.as_ref()?;
        self.states.as_ref()?.change_since(before)
    }
}

impl Checker {
    /// A checker of files below `root`. Without a scanner each model is rejected.
    pub const fn new(
        root: PathBuf,
        scanner: Result<Arc<ScannerSupervisor>, String>,
        first_digests: FirstDigests,
    ) -> Self {
        Self {
            root,
            scanner,
            first_digests: Mutex::new(first_digests),
        }
    }

    /// Verifies the files of an artifact, which must not change meanwhile.
    pub(crate) fn check(&self, artifact: &ModelArtifact) -> (Status, Baseline) {
        // Before anything is read, so that each later change is found.
        let before = match self.states(artifact) {
            Ok(before) => before,
            Err(cause) => {
                let failed = Status::Rejected(Cause::Other(cause));
                return (failed, Baseline::default());
            }
        };
        let (observation, manifest) = self.check_states(artifact, &before);
        let baseline = Baseline {
            manifest,
            states: Some(before),
        };
        (observation, baseline)
    }

    /// Verifies the files that were in these states a moment ago.
    fn check_states(
        &self,
        artifact: &ModelArtifact,
        before: &States,
    ) -> (Status, Option<Manifest>) {
        let bytes = before.files.bytes;
        if bytes > MAX_MODEL_BYTES {
            let cause = format!("its files have {bytes} bytes, more than {MAX_MODEL_BYTES}");
            return (Status::Rejected(Cause::Files(cause)), None);
        }
        let trusted = match trusted(&trust_file(&self.root, artifact), artifact, now_unix_s()) {
            Ok(trusted) => trusted,
            Err(cause) => return (Status::Rejected(Cause::Untrusted(cause)), None),
        };
        // Else a change right after the reading could leave the states as they are.
        wait_for_next_tick();
        let verified = self.verify(artifact, &trusted, time_limit(bytes));
        let observation = match self.states(artifact) {
            Err(cause) => Status::Rejected(Cause::Other(cause)),
            Ok(after) => match after.change_since(before) {
                Some(changed) => Status::Checking {
                    changed: Some(changed),
                },
                None => verified.map_or_else(Status::Rejected, Status::Verified),
            },
        };
        (observation, Some(trusted.manifest))
    }

    /// Starts scanner supervisors again that have ended.
    pub(crate) fn tend_scanner(&self) {
        if let Ok(scanner) = &self.scanner {
            scanner.tend();
        }
    }

    /// Looks at the files, which are not opened.
    ///
    /// # Errors
    /// Their states cannot be read, which tells nothing of a change.
    pub(crate) fn look(&self, artifact: &ModelArtifact) -> Result<Baseline, String> {
        let states = self.states(artifact)?;
        Ok(Baseline {
            manifest: None,
            states: Some(states),
        })
    }

    fn states(&self, artifact: &ModelArtifact) -> Result<States, String> {
        let path = trust_file(&self.root, artifact);
        let trust = match statat(CWD, path.as_path(), AtFlags::empty()) {
            Ok(state) => Some(state),
            Err(Errno::NOENT) => None,
            Err(error) => {
                let shown = printable(&path.to_string_lossy());
                return Err(format!("{shown}: {error}"));
            }
        };
        let files = FolderStates::look(&self.root, artifact.path())
            .map_err(|fault| format!("{}: {fault}", printable(artifact.path())))?;
        Ok(States { trust, files })
    }

    /// Compares all files with the manifest and scans them, within a time.
    fn verify(
        &self,
        artifact: &ModelArtifact,
        trusted: &Trusted,
        limit: Duration,
    ) -> Result<Identity, Cause> {
        let began = Instant::now();
        let late = || format!("its files were not verified within {} s", limit.as_secs());
        let model = self.root.join(artifact.path());
        // The file of the signature or manifest is no part of the model.
        let ignored = Ignored {
            bundle: path_beneath(&model, &trust_file(&self.root, artifact)),
            ..Ignored::default()
        };
        let found = FoundModel::find(&model, &trusted.manifest, &ignored)
            .map_err(|fault| format!("{}: {fault}", printable(artifact.path())))?;
        // A server could load what the manifest leaves out all the same. Git's own files and
        // signatures of the model are no part of it.
        if let Some(path) = found.uncovered.first() {
            return Err(Cause::Files(format!(
                "{:?} is in the model's folder, and its manifest leaves it out: move it elsewhere, or sign the model with it",
                printable(path)
            )));
        }
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = NonZeroUsize::new(cores.div_euclid(CORES_PER_HASHER));
        let options = Options {
            threads: threads.unwrap_or(NonZeroUsize::MIN),
            progress: None,
            deadline: began.checked_add(limit),
        };
        let checked =
            check_found(&found, &trusted.manifest, &options, None).map_err(
                |fault| match fault {
                    Fault::Late => late(),
                    fault => fault.to_string(),
                },
            )?;
        if !checked.differences.is_empty() {
            return Err(Cause::Files(checked.differences.to_string()));
        }
        let mut accepted = Accepted::default();
        for file in &found.signed {
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(Cause::Other(late()));
            }
            let report = self.scan(&found, file, left)?;
            let signed = find_signed(&checked.signed, &file.path);
            let scanned = ScannedFile {
                location: &file.location,
                sha256: signed.and_then(|it| it.sha256.as_ref()),
                report: &report,
            };
            accept(artifact, &scanned, &mut accepted, now_unix_s())?;
        }
        Ok(Identity {
            digest: trusted.manifest.digest(),
            signer: trusted.signer.clone(),
            accepted,
        })
    }

    /// Scans a file, which must still be the one that was compared.
    fn scan(
        &self,
        found: &FoundModel,
        file: &FoundFile,
        left: Duration,
    ) -> Result<FileReport, Cause> {
        let scanner = self
            .scanner
            .as_ref()
            .map_err(|cause| format!("its files cannot be scanned: {cause}"))?;
        let opened = found.open(file, FILE).map_err(|fault| fault.to_string())?;
        let (_, name) = folder_and_name(&file.location);
        let began = Instant::now();
        Ok(scan_in_folder(
            (&opened, name, file.bytes()),
            &SignedFolder::of(file, found),
            &mut |input: &ScanInput<'_>| scanner.scan(input, left.saturating_sub(began.elapsed())),
        ))
    }

    /// What a check has found about one of the versions that have these files. The digest of a
    /// version that is verified for the first time is kept.
    pub(crate) fn of_version(
        &self,
        (model, version): (&str, &str),
        observation: &Status,
        checked: &Baseline,
    ) -> Status {
        let (Status::Verified(_), Some(manifest)) = (observation, &checked.manifest) else {
            return observation.clone();
        };
        let digest = version_digest(manifest, version);
        match lock(&self.first_digests).check(model, version, &digest) {
            Ok(()) => observation.clone(),
            Err(cause) => Status::Rejected(cause),
        }
    }

    /// Whether the servers of a version may have loaded other files before this host started.
    /// `None` if that cannot be read.
    pub(crate) fn awaits_load(&self, model: &str, version: &str) -> Option<bool> {
        lock(&self.first_digests).awaits_load(model, version)
    }

    /// Keeps whether the servers of a version may have loaded other files. The answer is asked for
    /// while no other thread can keep one, so that the last one that is kept is the latest.
    pub(crate) fn keep_awaits_load(
        &self,
        model: &str,
        version: &str,
        awaits_load: impl FnOnce() -> bool,
    ) -> Result<(), Cause> {
        let mut first = lock(&self.first_digests);
        first.set_awaits_load(model, version, awaits_load())
    }
}

/// The time that the files of a model may take, of this many bytes.
fn time_limit(bytes: u64) -> Duration {
    let more = Duration::from_secs(bytes.div_euclid(BYTES_PER_SECOND));
    TIME_LIMIT.saturating_add(more)
}

/// The digest of a version's files: those in the folder with the version's name, if there is one,
/// because a folder with several versions gets new ones.
fn version_digest(manifest: &Manifest, version: &str) -> [u8; 32] {
    let below = |resource: &&Resource| {
        let below = resource.path.strip_prefix(version);
        below.is_some_and(|path| path.starts_with('/'))
    };
    let mut files = manifest.resources().iter().filter(below).peekable();
    if files.peek().is_none() {
        return manifest.digest();
    }
    let mut digest = Sha256::new();
    for file in files {
        // A name has no NUL, so no two lists of files are alike.
        digest.update(file.name());
        digest.update([0]);
        digest.update(file.sha256);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests;
