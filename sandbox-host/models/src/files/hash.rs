//! Hashes the files of a model, or their shards, in parallel, and copies them if that is wanted.
//!
//! A hash is computed in order, so a whole file takes one thread, and the shards of a file as many
//! as there are. SHA-256 is that of the crate `sha2`, which uses the processor's own instructions
//! on x86-64 if a look at run time finds them. Those of other processors are not used.

use std::cmp::Reverse;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tensorgate_artifact::model_signing::{MAX_RESOURCES, Manifest, Pieces, Resource, shard_ranges};

use super::copy;
use super::fault::Fault;
use super::open_folder::FILE;
use super::tree::Tree;
use super::walk::FoundFile;

/// Bytes that a thread reads at once: enough that system calls cost nothing beside the hash.
const BLOCK_BYTES: usize = 1 << 20;
/// How often the progress is reported at least.
const INTERVAL: Duration = Duration::from_millis(200);

/// Starts a report of the progress, which gets the bytes that were hashed and those of all files.
pub type Progress = fn() -> Box<dyn FnMut(u64, u64)>;

/// How a model is read.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that hash.
    pub threads: NonZeroUsize,
    /// What reports the progress.
    pub progress: Option<Progress>,
    /// When hashing ends with a fault, if it has not ended before.
    pub deadline: Option<Instant>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            progress: None,
            deadline: None,
        }
    }
}

/// What is hashed, and how.
pub struct Settings<'a> {
    /// Where the files are.
    pub tree: &'a Tree,
    /// What a digest is over.
    pub pieces: Pieces,
    /// What the files are compared with. In shards, only a file of the signed length is read,
    /// because the signer may have chosen shards of one byte.
    pub manifest: Option<&'a Manifest>,
    /// A folder that gets a copy of exactly the bytes that are hashed.
    pub copy_to: Option<BorrowedFd<'a>>,
    /// The threads.
    pub options: &'a Options,
}

/// A file or shard to hash.
struct Job<'a> {
    file: &'a FoundFile,
    range: Range<u64>,
}

/// What all threads use.
struct Shared<'a> {
    settings: &'a Settings<'a>,
    jobs: Vec<Job<'a>>,
    /// The first job that no thread has taken.
    next: AtomicUsize,
    /// Bytes that were hashed.
    bytes: AtomicU64,
    /// Whether results are not taken any more.
    is_stopped: AtomicBool,
}

/// Hashes files. Returns a resource for each file or shard, in any order.
pub fn hash(settings: &Settings<'_>, files: &[FoundFile]) -> Result<Vec<Resource>, Fault> {
    let mut resources = Vec::new();
    let mut jobs = jobs(settings, files, &mut resources)?;
    // The last thread to end should not be one that has just begun with a large file.
    jobs.sort_by_key(|job| Reverse(job.bytes()));
    let options = settings.options;
    let threads = options.threads.get().min(jobs.len());
    let shared = Shared {
        settings,
        jobs,
        next: AtomicUsize::new(0),
        bytes: AtomicU64::new(0),
        is_stopped: AtomicBool::new(false),
    };
    let (send, results) = channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (shared, send) = (&shared, send.clone());
            scope.spawn(move || shared.work(&send));
        }
        drop(send);
        let progress = options.progress.map(|start| start());
        let collected = shared.collect(&results, &mut resources, progress);
        shared.is_stopped.store(true, Ordering::Relaxed);
        collected
    })?;
    Ok(resources)
}

/// The jobs of files. A file of another length than is expected gets a resource that equals no
/// signed one instead.
fn jobs<'a>(
    settings: &Settings<'_>,
    files: &'a [FoundFile],
    different: &mut Vec<Resource>,
) -> Result<Vec<Job<'a>>, Fault> {
    let mut jobs = Vec::new();
    for file in files {
        let bytes = file.bytes();
        let job = |range| Job { file, range };
        match settings.pieces {
            Pieces::Files => jobs.push(job(0..bytes)),
            Pieces::Shards(_)
                if (settings.manifest)
                    .is_some_and(|it| it.sharded_bytes(&file.path) != Some(bytes)) =>
            {
                different.push(Resource::shard(file.path.clone(), 0..bytes, [0; 32]));
            }
            Pieces::Shards(shard_bytes) => {
                let room = MAX_RESOURCES.saturating_sub(jobs.len());
                let mut ranges = shard_ranges(shard_bytes, bytes);
                jobs.extend(ranges.by_ref().take(room).map(job));
                if ranges.next().is_some() {
                    return Err(Fault::Resources);
                }
            }
        }
    }
    if jobs.len() > MAX_RESOURCES {
        return Err(Fault::Resources);
    }
    Ok(jobs)
}

impl Job<'_> {
    fn bytes(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }
}

impl Shared<'_> {
    /// Hashes until there are no more jobs, or one has a fault.
    fn work(&self, results: &Sender<Result<Resource, Fault>>) {
        let mut block = vec![0; BLOCK_BYTES];
        while let Some(job) = self.jobs.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let digest = self.digest(job, &mut block);
            let is_fault = digest.is_err();
            if results.send(digest).is_err() || is_fault {
                return;
            }
        }
    }

    /// The digest of a file or shard, which must be the file that was found, before and after.
    fn digest(&self, job: &Job<'_>, block: &mut [u8]) -> Result<Resource, Fault> {
        let Settings {
            tree,
            pieces,
            copy_to,
            ..
        } = self.settings;
        let Job { file, range } = job;
        let opened = file.open(tree, FILE)?;
        let copy = copy_to.map(|folder| copy::open(folder, &file.location));
        let sha256 = self.sha256(&opened, job, copy.transpose()?.as_ref(), block)?;
        let Some(sha256) = sha256.filter(|_| file.is_unchanged(&opened)) else {
            return Err(Fault::Changed(file.location.clone()));
        };
        let path = file.path.clone();
        Ok(match pieces {
            Pieces::Files => Resource::file(path, sha256),
            Pieces::Shards(_) => Resource::shard(path, range.clone(), sha256),
        })
    }

    /// The SHA-256 of a job's bytes, which are copied, too. `None` if the file ends before, or the
    /// hash is not needed any more.
    fn sha256(
        &self,
        file: &File,
        job: &Job<'_>,
        copy: Option<&File>,
        block: &mut [u8],
    ) -> Result<Option<[u8; 32]>, Fault> {
        let (location, range) = (&job.file.location, &job.range);
        let mut sha256 = Sha256::new();
        let mut at = range.start;
        while at < range.end {
            if self.is_stopped.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let left = usize::try_from(range.end.saturating_sub(at)).unwrap_or(usize::MAX);
            let wanted = left.min(block.len());
            let Some(wanted) = block.get_mut(..wanted) else {
                return Ok(None);
            };
            let read = match file.read_at(wanted, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|error| Fault::unreadable(location, error))?,
            };
            let Some(bytes) = wanted.get(..read).filter(|bytes| !bytes.is_empty()) else {
                return Ok(None);
            };
            sha256.update(bytes);
            if let Some(copy) = copy {
                let copied = copy.write_all_at(bytes, at);
                copied.map_err(|error| Fault::uncopied(location, error))?;
            }
            let read = u64::try_from(read).unwrap_or(u64::MAX);
            self.bytes.fetch_add(read, Ordering::Relaxed);
            at = at.saturating_add(read);
        }
        Ok(Some(sha256.finalize().into()))
    }

    /// Takes all results until the deadline, or the first fault.
    fn collect(
        &self,
        results: &Receiver<Result<Resource, Fault>>,
        resources: &mut Vec<Resource>,
        mut progress: Option<Box<dyn FnMut(u64, u64)>>,
    ) -> Result<(), Fault> {
        let total = self
            .jobs
            .iter()
            .map(Job::bytes)
            .fold(0, u64::saturating_add);
        loop {
            match results.recv_timeout(INTERVAL) {
                Ok(resource) => resources.push(resource?),
                Err(RecvTimeoutError::Timeout) => {}
                // All threads have ended.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            let deadline = self.settings.options.deadline;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Fault::Late);
            }
            if let Some(progress) = &mut progress {
                progress(self.bytes.load(Ordering::Relaxed), total);
            }
        }
    }
}
