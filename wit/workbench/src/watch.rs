//! Finds changes of a project's files, for `handler test --watch`.
//!
//! The files are polled: a project is small, and every file system has modification times.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tensorgate_cli_common::Failure;

use crate::case;
use crate::copy::{CACHE, LEFT, MAX_DEPTH, MAX_ENTRIES, too_large};
use crate::project::{Language, MANIFEST, Project, World};

/// Interval between two looks at the files.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// What tells that a file was written, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    bytes: u64,
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            modified: found.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            bytes: found.len(),
        }
    }
}

/// The files of a project at one time, by their paths below its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    files: BTreeMap<PathBuf, Stamp>,
    /// A component that is tested in place of the built one.
    component: Option<Stamp>,
}

impl Snapshot {
    /// Looks at the files of a project, and at a component that is tested in place of the built
    /// one. Build outputs, and what editors write beside a file, are left out.
    ///
    /// # Errors
    /// The folder cannot be read, or has too many files.
    pub fn take(project: &Path, component: Option<&Path>) -> Result<Self, Failure> {
        let mut files = BTreeMap::new();
        let mut entries = 0_usize;
        let mut folders = vec![(PathBuf::new(), 0_usize)];
        while let Some((below, depth)) = folders.pop() {
            let listed = match std::fs::read_dir(project.join(&below)) {
                Ok(listed) => listed,
                // A folder below the project's own may be removed at any time.
                Err(_) if depth > 0 => continue,
                Err(cause) => {
                    return Err(Failure::Input(format!(
                        "cannot read {}: {cause}",
                        project.display()
                    )));
                }
            };
            for entry in listed.flatten() {
                let name = entry.file_name();
                let Ok(found) = entry.metadata() else {
                    continue;
                };
                if is_ignored(&name, depth) {
                    continue;
                }
                entries = entries.saturating_add(1);
                if entries > MAX_ENTRIES || depth >= MAX_DEPTH {
                    return Err(too_large(project));
                }
                let path = below.join(&name);
                if found.is_dir() {
                    folders.push((path, depth.saturating_add(1)));
                } else {
                    files.insert(path, Stamp::of(&found));
                }
            }
        }
        let component = component.and_then(|file| std::fs::metadata(file).ok());
        Ok(Self {
            files,
            component: component.as_ref().map(Stamp::of),
        })
    }

    /// Whether the project's component was built after the last change of its sources.
    pub fn is_built(&self, project: &Project) -> bool {
        let mut sources = self.files.iter().filter(|(path, _)| !is_case(path));
        build_time(project).is_some_and(|built| sources.all(|(_, stamp)| stamp.modified < built))
    }

    /// Whether a source was changed after the project's component was built. The manifest is left
    /// out, because each run reads its limits and configuration.
    pub fn has_newer_source(&self, project: &Project) -> bool {
        let mut sources = self.sources();
        build_time(project).is_some_and(|built| sources.any(|(_, stamp)| stamp.modified > built))
    }

    /// The files that are built, which cases and the manifest are not.
    fn sources(&self) -> impl Iterator<Item = (&PathBuf, &Stamp)> {
        let files = self.files.iter();
        files.filter(|(path, _)| !is_case(path) && path.as_path() != Path::new(MANIFEST))
    }

    /// Waits until the files differ from these and have settled.
    ///
    /// # Errors
    /// `take`, which looks at the files, fails.
    pub fn changed(&self, take: impl Fn() -> Result<Self, Failure>) -> Result<Self, Failure> {
        let mut latest = None;
        loop {
            std::thread::sleep(POLL_INTERVAL);
            let now = take()?;
            if self.has_settled(latest.as_ref(), &now) {
                return Ok(now);
            }
            latest = Some(now);
        }
    }

    /// Whether the files differ from these, and two looks at them agree. An editor may write
    /// several files, or one in several steps.
    fn has_settled(&self, latest: Option<&Self>, now: &Self) -> bool {
        now != self && latest == Some(now)
    }
}

/// What a component is built from. Cases, limits and configuration are not among it.
#[derive(Debug, PartialEq, Eq)]
pub struct BuildInputs {
    sources: BTreeMap<PathBuf, Stamp>,
    name: String,
    language: Language,
    world: World,
    has_fetch: bool,
    has_lookups: bool,
}

impl BuildInputs {
    /// The inputs of a project whose files were just looked at.
    pub fn of(project: &Project, files: &Snapshot) -> Self {
        let sources = files.sources();
        Self {
            sources: sources
                .map(|(path, stamp)| (path.clone(), *stamp))
                .collect(),
            name: project.name.clone(),
            language: project.language,
            world: project.world,
            has_fetch: project.has_fetch(),
            has_lookups: project.has_lookups(),
        }
    }
}

/// When the project's component was written; `None` if there is none.
fn build_time(project: &Project) -> Option<SystemTime> {
    let found = std::fs::metadata(project.component()).ok()?;
    found.modified().ok()
}

fn is_case(path: &Path) -> bool {
    path.starts_with(case::FOLDER)
}

/// Whether a build leaves this name out, or an editor made the file. Other hidden files are part of
/// a build, such as `.cargo/config.toml`.
fn is_ignored(name: &OsStr, depth: usize) -> bool {
    let bytes = name.as_encoded_bytes();
    let is_of_editor = bytes.starts_with(b".#")
        || [&b"~"[..], b".swp", b".swx"]
            .iter()
            .any(|end| bytes.ends_with(end));
    name == CACHE || is_of_editor || (depth == 0 && LEFT.iter().any(|left| name == *left))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tensorgate_client::run::Scratch;

    use super::*;

    /// A project of two sources and a case.
    fn project() -> Scratch {
        let scratch = Scratch::new();
        std::fs::create_dir_all(scratch.path().join("cases")).unwrap();
        std::fs::create_dir_all(scratch.path().join("build")).unwrap();
        scratch.file(
            MANIFEST,
            "name: a\nlanguage: python\nworld: preprocess\nlimits: {fuel: 5}\n",
        );
        scratch.file("handler.py", "one");
        scratch.file("cases/one.json", "{}");
        scratch
    }

    fn look(scratch: &Scratch) -> Snapshot {
        Snapshot::take(scratch.path(), None).unwrap()
    }

    fn inputs(scratch: &Scratch) -> BuildInputs {
        BuildInputs::of(&Project::open(scratch.path()).unwrap(), &look(scratch))
    }

    #[test]
    fn a_written_file_is_a_change_and_a_source_is_built_again() {
        for (file, text, changes, builds) in [
            ("handler.py", "longer", true, true),
            ("table.json", "{}", true, true),
            ("cases/one.json", "{\"longer\": 1}", true, false),
            ("cases/two.json", "{}", true, false),
            (
                MANIFEST,
                "name: a\nlanguage: python\nworld: preprocess\nlimits: {fuel: 500}\n",
                true,
                false,
            ),
            (
                MANIFEST,
                "name: a\nlanguage: python\nworld: postprocess\n",
                true,
                true,
            ),
            ("build/a.wasm", "component", false, false),
            (".handler.py.swp", "editor", false, false),
            (".hidden.json", "{}", true, true),
            ("handler.py~", "editor", false, false),
        ] {
            let scratch = project();
            let (before, built) = (look(&scratch), inputs(&scratch));
            assert_eq!(look(&scratch), before, "{file}");
            scratch.file(file, text);
            assert_eq!(look(&scratch) != before, changes, "{file}");
            assert_eq!(inputs(&scratch) != built, builds, "{file}");
        }
    }

    #[test]
    fn a_change_counts_once_two_looks_agree() {
        let scratch = project();
        let before = look(&scratch);
        scratch.file("handler.py", "longer");
        let first = look(&scratch);
        scratch.file("handler.py", "longer still");
        let second = look(&scratch);
        for (latest, now, settled) in [
            (None, &before, false),
            (Some(&before), &before, false),
            (None, &first, false),
            (Some(&before), &first, false),
            (Some(&first), &second, false),
            (Some(&second), &second, true),
        ] {
            assert_eq!(before.has_settled(latest, now), settled);
        }
    }

    #[test]
    fn a_component_is_current_if_it_is_newer_than_every_source() {
        let scratch = project();
        let opened = Project::open(scratch.path()).unwrap();
        assert!(!look(&scratch).is_built(&opened), "no component");
        assert!(!look(&scratch).has_newer_source(&opened), "no component");
        let component = std::fs::File::create(opened.component()).unwrap();
        let touch = |seconds: u64| {
            let time = SystemTime::now().checked_add(Duration::from_secs(seconds));
            component.set_modified(time.unwrap()).unwrap();
        };
        touch(60);
        assert!(look(&scratch).is_built(&opened));
        let case = std::fs::File::create(scratch.path().join("cases/one.json")).unwrap();
        let later = SystemTime::now().checked_add(Duration::from_secs(120));
        case.set_modified(later.unwrap()).unwrap();
        assert!(look(&scratch).is_built(&opened), "a case is no source");
        let manifest = std::fs::File::open(scratch.path().join(MANIFEST)).unwrap();
        manifest.set_modified(later.unwrap()).unwrap();
        assert!(!look(&scratch).is_built(&opened), "it has the world");
        assert!(!look(&scratch).has_newer_source(&opened), "limits are read");
        manifest.set_modified(SystemTime::now()).unwrap();
        assert!(look(&scratch).is_built(&opened));
        let source = std::fs::File::create(scratch.path().join("handler.py")).unwrap();
        source.set_modified(later.unwrap()).unwrap();
        assert!(!look(&scratch).is_built(&opened));
        assert!(look(&scratch).has_newer_source(&opened));
    }

    #[test]
    fn a_component_that_a_flag_names_is_watched() {
        let scratch = project();
        let component = scratch.file("build/other.wasm", "one");
        let take = || Snapshot::take(scratch.path(), Some(&component)).unwrap();
        let before = take();
        scratch.file("build/other.wasm", "longer");
        assert_ne!(take(), before);
        assert!(Snapshot::take(Path::new("/no/such/folder"), None).is_err());
    }
}
