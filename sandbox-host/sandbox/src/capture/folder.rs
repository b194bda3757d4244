//! The folder of captured calls. Only its owner may read it. The number of files and bytes is
//! limited, and the oldest file is removed first.
//!
//! The name of a file starts with a stamp, so that files sort in the order of writing. All access
//! is relative to the opened folder, by plain names, and follows no link. So a folder or file that
//! is replaced by a link leads nowhere else.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use tensorgate_base::files::at_most;

/// The suffix of a captured call.
const SUFFIX: &str = ".capture";
/// The suffix of a file that is being written. An unfinished file counts and is removed like any
/// other.
const UNFINISHED: &str = ".capture-new";
/// The folder is listed again after this many files, because other processes, or the captures of
/// another policy, may write to it.
const LOOK_EVERY: usize = 64;
/// The longest name that a caller may choose, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// The digits of a stamp. All stamps have the same length, so that names sort like numbers.
const STAMP_DIGITS: usize = 16;
/// The largest stamp with that many digits. As a time it is in the year 2286.
const MAX_STAMP: u64 = 9_999_999_999_999_999;

/// The folder.
#[derive(Debug)]
pub struct Folder {
    folder: OwnedFd,
    keep: usize,
    keep_bytes: u64,
    /// Names and sizes, the oldest first.
    files: VecDeque<(String, u64)>,
    /// The largest known stamp.
    newest: u64,
    bytes: u64,
    since_look: usize,
}

impl Folder {
    /// Opens the folder, or creates it.
    ///
    /// # Errors
    /// Returns an error if it cannot be created, is a link, belongs to another user, or is
    /// accessible by others.
    pub fn open(path: &Path, keep: usize, keep_bytes: u64) -> io::Result<Self> {
        let mut make = std::fs::DirBuilder::new();
        // An existing folder is checked below.
        if let Err(error) = make.mode(0o700).create(path)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        let folder = opened(path)?;
        let stat = rustix::fs::fstat(&folder)?;
        let mode = stat.st_mode & 0o7777;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            let cause = format!("it belongs to user {}, not to this process", stat.st_uid);
            return Err(io::Error::other(cause));
        }
        if mode & 0o077 != 0 {
            let cause = format!("it has mode {mode:04o}: only its owner may have access (0700)");
            return Err(io::Error::other(cause));
        }
        let mut folder = Self {
            folder,
            keep,
            keep_bytes,
            files: VecDeque::new(),
            newest: 0,
            bytes: 0,
            since_look: 0,
        };
        folder.look()?;
        folder.prune();
        Ok(folder)
    }

    /// Writes a file whose name sorts after all earlier ones, and removes the oldest files beyond
    /// the limits.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written. Nothing of it is left then.
    pub fn write(&mut self, at_unix_ms: u64, name: &str, content: &[u8]) -> io::Result<()> {
        let stamp = self.stamp(at_unix_ms);
        let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
        let name: String = name.chars().filter(plain).take(MAX_NAME_BYTES).collect();
        let name = format!("{stamp:0STAMP_DIGITS$}-{name}");
        let (beside, file) = (format!("{name}{UNFINISHED}"), format!("{name}{SUFFIX}"));
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let opened = rustix::fs::openat(&self.folder, &beside, flags, mode)?;
        let written = File::from(opened).write_all(content).and_then(|()| {
            // A link with this name is replaced, not followed.
            Ok(rustix::fs::renameat(
                &self.folder,
                &beside,
                &self.folder,
                &file,
            )?)
        });
        if let Err(error) = written {
            let _ = rustix::fs::unlinkat(&self.folder, &beside, AtFlags::empty());
            return Err(error);
        }
        let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
        self.files.push_back((file, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
        self.since_look = self.since_look.saturating_add(1);
        if self.since_look >= LOOK_EVERY {
            self.look()?;
        }
        self.prune();
        Ok(())
    }

    /// The stamp of the next file: the time in microseconds, or the newest stamp plus one if the
    /// clock has not advanced. A restart continues after existing files. Two writers of one folder
    /// each keep their own order.
    fn stamp(&mut self, at_unix_ms: u64) -> u64 {
        let next = self.newest.saturating_add(1);
        let stamp = at_unix_ms.saturating_mul(1_000).max(next).min(MAX_STAMP);
        self.newest = stamp;
        stamp
    }

    /// Lists the folder's files, also those of other writers.
    fn look(&mut self) -> io::Result<()> {
        let ours = |name: &str| name.ends_with(SUFFIX) || name.ends_with(UNFINISHED);
        let mut files: Vec<_> = listed(&self.folder)?
            .into_iter()
            .filter(|(name, _)| ours(name))
            .map(|(name, stat)| (name, u64::try_from(stat.st_size).unwrap_or(0)))
            .collect();
        files.sort_unstable();
        let stamps = files.iter().filter_map(|(name, _)| stamp_of(name));
        self.newest = stamps.fold(self.newest, u64::max);
        self.bytes = (files.iter()).fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes));
        self.files = files.into();
        self.since_look = 0;
        Ok(())
    }

    fn prune(&mut self) {
        while self.files.len() > self.keep || self.bytes > self.keep_bytes {
            let Some((oldest, bytes)) = self.files.pop_front() else {
                return;
            };
            // Another writer may have removed the file.
            let _ = rustix::fs::unlinkat(&self.folder, &oldest, AtFlags::empty());
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }
}

/// The names of a folder's captured calls, the oldest first. The folder's owner is not checked,
/// because a key authenticates the content.
///
/// # Errors
/// Returns an error if it cannot be read.
pub fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<_> = listed(&opened(path)?)?
        .into_iter()
        .filter(|(name, stat)| {
            let kind = FileType::from_raw_mode(stat.st_mode);
            name.ends_with(SUFFIX) && kind == FileType::RegularFile
        })
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// Reads a file of at most this many bytes. Links are not followed, and a pipe does not block.
///
/// # Errors
/// Returns an error if it cannot be read, is no file, or is larger.
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    at_most(file, max_bytes)?
        .ok_or_else(|| io::Error::other("it is larger than a captured call can be"))
}

/// The stamp at the start of a name.
fn stamp_of(name: &str) -> Option<u64> {
    let (digits, rest) = name.split_at_checked(STAMP_DIGITS)?;
    let whole = rest.starts_with('-') && digits.bytes().all(|byte| byte.is_ascii_digit());
    whole.then(|| digits.parse().ok()).flatten()
}

fn opened(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn listed(folder: &OwnedFd) -> io::Result<Vec<(String, Stat)>> {
    let entries = rustix::fs::Dir::read_from(folder.as_fd())?;
    let facts = |entry: rustix::fs::DirEntry| {
        let name = entry.file_name();
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some((name.to_str().ok()?.to_owned(), stat))
    };
    Ok(entries.flatten().filter_map(facts).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    struct TempFolder(PathBuf);

    impl TempFolder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tg-{name}-{}", std::process::id()));
            drop(fs::remove_dir_all(&path));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for TempFolder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    /// The file of a call at a millisecond.
    fn stamped(at_unix_ms: u64, name: &str) -> String {
        format!("{:016}-{name}{SUFFIX}", at_unix_ms.saturating_mul(1_000))
    }

    #[test]
    fn the_oldest_goes_first_by_number_and_by_bytes() {
        let folder_path = TempFolder::new("ring");
        let path = folder_path.0.join("captures");
        let mut folder = Folder::open(&path, 2, 1 << 20).unwrap();
        for (at, name) in [(1, "a"), (2, "b/../x"), (3, "c")] {
            folder.write(at, name, b"x").unwrap();
        }
        assert_eq!(names(&path).unwrap(), [stamped(2, "bx"), stamped(3, "c")]);
        // Files from before count, and so do unfinished ones.
        fs::write(path.join("0-z.capture-new"), "half").unwrap();
        fs::write(path.join("other"), "not ours").unwrap();
        Folder::open(&path, 1, 1 << 20).unwrap();
        let mut left: Vec<_> = fs::read_dir(&path).unwrap().flatten().collect();
        left.sort_by_key(fs::DirEntry::file_name);
        let left: Vec<_> = left.iter().map(fs::DirEntry::file_name).collect();
        assert_eq!(left, [&*stamped(3, "c"), "other"]);
        let mut folder = Folder::open(&path, 100, 10).unwrap();
        for (at, name) in [(4, "d"), (5, "e"), (6, "f")] {
            folder.write(at, name, b"4444").unwrap();
        }
        assert_eq!(names(&path).unwrap(), [stamped(5, "e"), stamped(6, "f")]);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(
            (mode(&path), mode(&path.join(stamped(6, "f")))),
            (0o700, 0o600)
        );
    }

    /// The calls of a folder in order, each by the letter that it was written with.
    fn letters(path: &Path) -> String {
        let letter = |name: String| name.strip_suffix(SUFFIX).unwrap().chars().last().unwrap();
        names(path).unwrap().into_iter().map(letter).collect()
    }

    #[test]
    fn names_keep_the_order_of_writing_whatever_the_clock_says() {
        let folder_path = TempFolder::new("order");
        let path = folder_path.0.join("captures");
        // Within one tick, and with a clock that is set back.
        let mut folder = Folder::open(&path, 5, 1 << 20).unwrap();
        for (at, name) in [(9, "z"), (9, "y"), (9, "x"), (3, "w"), (9, "v"), (10, "u")] {
            folder.write(at, name, b"x").unwrap();
        }
        assert_eq!(
            letters(&path),
            "yxwvu",
            "the first was removed as the oldest"
        );
        // A restart continues after existing files, and so does a writer that lists the folder.
        let mut other = Folder::open(&path, 1_000, 1 << 20).unwrap();
        for _ in 0..LOOK_EVERY {
            other.write(11, "t", b"x").unwrap();
        }
        let mut folder = Folder::open(&path, 5, 1 << 20).unwrap();
        folder.write(1, "s", b"x").unwrap();
        assert_eq!(letters(&path), "tttts");
        // No name prevents later ones from being written.
        for name in [
            "9999999999999999-r",
            "99999999999999999-q",
            "not-a-number-at-all",
        ] {
            fs::write(path.join(format!("{name}{SUFFIX}")), "x").unwrap();
        }
        let mut folder = Folder::open(&path, 4, 1 << 20).unwrap();
        folder.write(u64::MAX, "a", b"x").unwrap();
        folder.write(12, "b", b"x").unwrap();
        assert_eq!(names(&path).unwrap().len(), 4);
        assert!(letters(&path).contains("ab"), "{}", letters(&path));
    }

    #[test]
    fn what_others_write_there_counts_after_a_while() {
        let folder_path = TempFolder::new("two");
        let path = folder_path.0.join("captures");
        let mut own = Folder::open(&path, 10, 1 << 20).unwrap();
        let mut other = Folder::open(&path, 1_000, 1 << 20).unwrap();
        for number in 0..100 {
            other.write(number, "other", b"x").unwrap();
        }
        for number in 0..LOOK_EVERY {
            assert!(names(&path).unwrap().len() > 10, "not yet, at {number}");
            own.write(1_000, "own", b"x").unwrap();
        }
        assert_eq!(names(&path).unwrap().len(), 10);
    }

    #[test]
    fn no_link_is_followed_and_no_other_users_folder_is_used() {
        let folder_path = TempFolder::new("links");
        let (real, link) = (folder_path.0.join("real"), folder_path.0.join("link"));
        let mut folder = Folder::open(&real, 2, 1 << 20).unwrap();
        symlink(&real, &link).unwrap();
        assert!(
            Folder::open(&link, 2, 1 << 20).is_err(),
            "the folder is a link"
        );
        // A link in place of a file, unfinished or complete, is not written through.
        let target = folder_path.0.join("target");
        fs::write(&target, "untouched").unwrap();
        let (first, second) = (stamped(1, "a"), stamped(2, "a"));
        let unfinished = first.replace(SUFFIX, UNFINISHED);
        symlink(&target, real.join(unfinished)).unwrap();
        assert!(folder.write(1, "a", b"secret").is_err());
        symlink(&target, real.join(&second)).unwrap();
        folder.write(2, "a", b"secret").unwrap();
        assert_eq!(names(&real).unwrap(), [&*second]);
        fs::remove_file(real.join(second)).unwrap();
        // An existing link is not a captured call, and is removed without its target.
        symlink(&target, real.join("0.capture")).unwrap();
        assert!(names(&real).unwrap().is_empty());
        assert!(read(&real.join("0.capture"), 100).is_err());
        let mut folder = Folder::open(&real, 1, 1).unwrap();
        folder.write(2, "b", b"").unwrap();
        assert_eq!(names(&real).unwrap(), [stamped(2, "b")]);
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
        // The opened folder is written to, whatever is at its path by then.
        let mut folder = Folder::open(&real, 9, 1 << 20).unwrap();
        fs::rename(&real, folder_path.0.join("moved")).unwrap();
        symlink(&folder_path.0, &real).unwrap();
        folder.write(3, "c", b"x").unwrap();
        assert!(!folder_path.0.join(stamped(3, "c")).exists());
        assert!(folder_path.0.join("moved").join(stamped(3, "c")).exists());
        for mode in [0o755, 0o710, 0o702] {
            let open = folder_path.0.join("open");
            drop(fs::create_dir(&open));
            fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
            assert!(Folder::open(&open, 1, 1).is_err(), "{mode:o}");
        }
        assert!(Folder::open(Path::new("/proc/self"), 1, 1).is_err());
    }

    #[test]
    fn what_is_too_large_or_no_file_is_not_read() {
        let folder_path = TempFolder::new("read");
        let file = folder_path.0.join("file");
        fs::write(&file, "12345").unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        assert!(read(&file, 4).is_err());
        assert!(read(&folder_path.0, 4).is_err());
        assert!(read(Path::new("/dev/zero"), 4).is_err());
    }
}
