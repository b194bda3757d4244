//! Where captured calls lie: a folder that only its owner may read, with so many files and bytes at most. The oldest goes first. Everything is done by the
//! opened folder and by plain names in it, and no link is followed: what is put into its place, or into it, leads nowhere else.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use crate::config::at_most;

/// What a captured call's file is called by.
const SUFFIX: &str = ".capture";
/// What it is called by while it is written. One that was never finished counts and goes as any other.
const UNFINISHED: &str = ".capture-new";
/// Files after which the folder is looked at again: another process, or another policy's rule, may write there too.
const LOOK_EVERY: usize = 64;
/// The longest name, bytes.
const MAX_NAME_BYTES: usize = 128;

/// The folder.
#[derive(Debug)]
pub struct Folder {
    folder: OwnedFd,
    keep: usize,
    keep_bytes: u64,
    /// From the oldest on, by name: names begin with the time.
    files: VecDeque<(String, u64)>,
    bytes: u64,
    since_look: usize,
}

impl Folder {
    /// Makes it if it is not there.
    ///
    /// # Errors
    /// If it cannot be made, is a link, is another's, or others may look into it.
    pub fn open(path: &Path, keep: usize, keep_bytes: u64) -> io::Result<Self> {
        let mut make = std::fs::DirBuilder::new();
        // What is there already is looked at below.
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
            let cause = format!("it has mode {mode:04o}, and must be for its owner alone (0700)");
            return Err(io::Error::other(cause));
        }
        let mut folder = Self {
            folder,
            keep,
            keep_bytes,
            files: VecDeque::new(),
            bytes: 0,
            since_look: 0,
        };
        folder.look()?;
        folder.prune();
        Ok(folder)
    }

    /// Writes one, and removes what is too much.
    ///
    /// # Errors
    /// If it cannot be written; nothing of it is left then.
    pub fn write(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
        let name: String = name.chars().filter(plain).take(MAX_NAME_BYTES).collect();
        let (beside, file) = (format!("{name}{UNFINISHED}"), format!("{name}{SUFFIX}"));
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let opened = rustix::fs::openat(&self.folder, &beside, flags, mode)?;
        let written = File::from(opened).write_all(content).and_then(|()| {
            // A link of this name is replaced, not followed.
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

    /// What lies there, whoever wrote it.
    fn look(&mut self) -> io::Result<()> {
        let ours = |name: &str| name.ends_with(SUFFIX) || name.ends_with(UNFINISHED);
        let mut files: Vec<_> = listed(&self.folder)?
            .into_iter()
            .filter(|(name, _)| ours(name))
            .map(|(name, stat)| (name, u64::try_from(stat.st_size).unwrap_or(0)))
            .collect();
        files.sort_unstable();
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
            // One that somebody else has removed is gone as well.
            let _ = rustix::fs::unlinkat(&self.folder, &oldest, AtFlags::empty());
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }
}

/// The captured calls of a folder by their names, the oldest first. Whose folder it is is not asked: what lies there has to be opened by a key.
///
/// # Errors
/// If it cannot be read.
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

/// One file of at most so many bytes. A link is not followed, and a pipe keeps nobody waiting.
///
/// # Errors
/// If it cannot be read, is no file, or is larger.
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    at_most(file, max_bytes)?
        .ok_or_else(|| io::Error::other("it is larger than a captured call can be"))
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

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tg-{name}-{}", std::process::id()));
            drop(fs::remove_dir_all(&path));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn the_oldest_goes_first_by_number_and_by_bytes() {
        let place = Place::new("ring");
        let path = place.0.join("captures");
        let mut folder = Folder::open(&path, 2, 1 << 20).unwrap();
        for name in ["1-a", "2-b/../x", "3-c"] {
            folder.write(name, b"x").unwrap();
        }
        assert_eq!(names(&path).unwrap(), ["2-bx.capture", "3-c.capture"]);
        // What lies there from before counts, and so does what nobody finished.
        fs::write(path.join("0-z.capture-new"), "half").unwrap();
        fs::write(path.join("other"), "not ours").unwrap();
        Folder::open(&path, 1, 1 << 20).unwrap();
        let mut left: Vec<_> = fs::read_dir(&path).unwrap().flatten().collect();
        left.sort_by_key(fs::DirEntry::file_name);
        let left: Vec<_> = left.iter().map(fs::DirEntry::file_name).collect();
        assert_eq!(left, ["3-c.capture", "other"]);
        let mut folder = Folder::open(&path, 100, 10).unwrap();
        for name in ["4-d", "5-e", "6-f"] {
            folder.write(name, b"4444").unwrap();
        }
        assert_eq!(names(&path).unwrap(), ["5-e.capture", "6-f.capture"]);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(
            (mode(&path), mode(&path.join("6-f.capture"))),
            (0o700, 0o600)
        );
    }

    #[test]
    fn what_others_write_there_counts_after_a_while() {
        let place = Place::new("two");
        let path = place.0.join("captures");
        let mut own = Folder::open(&path, 10, 1 << 20).unwrap();
        let mut other = Folder::open(&path, 1_000, 1 << 20).unwrap();
        for number in 0..100 {
            other.write(&format!("{number:04}-other"), b"x").unwrap();
        }
        for number in 0..LOOK_EVERY {
            assert!(names(&path).unwrap().len() > 10, "not yet, at {number}");
            own.write(&format!("1{number:04}-own"), b"x").unwrap();
        }
        assert_eq!(names(&path).unwrap().len(), 10);
    }

    #[test]
    fn no_link_is_followed_and_nobody_elses_folder_is_used() {
        let place = Place::new("links");
        let (real, link) = (place.0.join("real"), place.0.join("link"));
        let mut folder = Folder::open(&real, 2, 1 << 20).unwrap();
        symlink(&real, &link).unwrap();
        assert!(
            Folder::open(&link, 2, 1 << 20).is_err(),
            "the folder is a link"
        );
        // A link in the place of a file, half written or whole, is not written through.
        let target = place.0.join("target");
        fs::write(&target, "untouched").unwrap();
        symlink(&target, real.join(format!("1-a{UNFINISHED}"))).unwrap();
        assert!(folder.write("1-a", b"secret").is_err());
        symlink(&target, real.join(format!("2-a{SUFFIX}"))).unwrap();
        folder.write("2-a", b"secret").unwrap();
        assert_eq!(names(&real).unwrap(), ["2-a.capture"]);
        fs::remove_file(real.join("2-a.capture")).unwrap();
        // One that lies there is none of the calls, and goes without what it leads to.
        symlink(&target, real.join("0.capture")).unwrap();
        assert!(names(&real).unwrap().is_empty());
        assert!(read(&real.join("0.capture"), 100).is_err());
        Folder::open(&real, 1, 1)
            .unwrap()
            .write("2-b", b"")
            .unwrap();
        assert_eq!(names(&real).unwrap(), ["2-b.capture"]);
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
        // The folder that was opened is written to, whatever is in its place by then.
        let mut folder = Folder::open(&real, 9, 1 << 20).unwrap();
        fs::rename(&real, place.0.join("moved")).unwrap();
        symlink(&place.0, &real).unwrap();
        folder.write("3-c", b"x").unwrap();
        assert!(!place.0.join("3-c.capture").exists());
        assert!(place.0.join("moved/3-c.capture").exists());
        for mode in [0o755, 0o710, 0o702] {
            let open = place.0.join("open");
            drop(fs::create_dir(&open));
            fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
            assert!(Folder::open(&open, 1, 1).is_err(), "{mode:o}");
        }
        assert!(Folder::open(Path::new("/proc/self"), 1, 1).is_err());
    }

    #[test]
    fn what_is_too_large_or_no_file_is_not_read() {
        let place = Place::new("read");
        let file = place.0.join("file");
        fs::write(&file, "12345").unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        assert!(read(&file, 4).is_err());
        assert!(read(&place.0, 4).is_err());
        assert!(read(Path::new("/dev/zero"), 4).is_err());
    }
}
