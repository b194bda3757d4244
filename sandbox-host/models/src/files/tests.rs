//! Hashing and comparing small models in folders of their own.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{File, create_dir, create_dir_all, remove_dir_all, remove_file, write};
use std::num::{NonZeroU64, NonZeroUsize};
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use tensorgate_artifact::model_signing::{Exclusions, ManifestFault};

use super::*;

/// A folder for a model, which is deleted when it is dropped.
struct Folder {
    root: PathBuf,
    parent: PathBuf,
}

/// The number of folders that were created.
static FOLDERS: AtomicU32 = AtomicU32::new(0);

impl Folder {
    fn new() -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("tg-model-files-{}-{number}", std::process::id());
        let parent = std::env::temp_dir().join(name);
        let root = parent.join("model");
        create_dir_all(&root).unwrap();
        Self { root, parent }
    }

    fn path(&self) -> &Path {
        &self.root
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = remove_dir_all(&self.parent);
    }
}

/// The model `a-b`, `a/b`, `empty` in a new folder.
fn model() -> Folder {
    let folder = Folder::new();
    create_dir(folder.path().join("a")).unwrap();
    write(folder.path().join("a-b"), "hello").unwrap();
    write(folder.path().join("a/b"), "y").unwrap();
    write(folder.path().join("empty"), "").unwrap();
    folder
}

fn rules(pieces: Pieces, follow_links: bool, ignored: &[&str]) -> Rules {
    let ignored = ignored.iter().copied().map(str::to_owned);
    Rules {
        pieces,
        follow_links,
        exclusions: Exclusions::new(ignored).unwrap(),
    }
}

fn options() -> Options {
    Options {
        threads: NonZeroUsize::new(3).unwrap(),
        progress: None,
        deadline: None,
    }
}

fn hashed(root: &Path, rules: Rules) -> Result<Hashed, Fault> {
    hash_folder(root, "model".to_owned(), rules, &options())
}

fn of_files(root: &Path) -> Manifest {
    hashed(root, rules(Pieces::Files, false, &[]))
        .unwrap()
        .manifest
}

fn checked(root: &Path, manifest: &Manifest) -> Result<Checked, Fault> {
    check_folder(root, manifest, &Ignored::default(), &options(), None)
}

fn names(manifest: &Manifest) -> Vec<String> {
    manifest.resources().iter().map(Resource::name).collect()
}

#[test]
fn a_model_is_the_one_that_was_hashed() {
    let folder = model();
    let manifest = of_files(folder.path());
    assert_eq!(names(&manifest), ["a-b", "a/b", "empty"]);
    let checked = checked(folder.path(), &manifest).unwrap();
    assert!(checked.differences.is_empty());
    let first = SignedFile {
        path: "a-b".to_owned(),
        bytes: 5,
        sha256: Some(Sha256::digest("hello").into()),
    };
    assert_eq!(checked.signed.first(), Some(&first));
    assert_eq!(checked.signed.len(), 3);
}

#[test]
fn hashing_ends_at_its_deadline() {
    let folder = model();
    let options = Options {
        deadline: Some(Instant::now()),
        ..options()
    };
    let rules = rules(Pieces::Files, false, &[]);
    let late = hash_folder(folder.path(), "model".to_owned(), rules, &options);
    assert!(matches!(late, Err(Fault::Late)), "{late:?}");
}

/// A change of a model, and the fault that it is.
type Change<'a> = (&'a dyn Fn(&Path), &'a str);

#[test]
fn each_change_is_a_difference() {
    let changes: [Change<'_>; 4] = [
        (
            &|root: &Path| write(root.join("a-b"), "hellO").unwrap(),
            "\"a-b\" has other content than was signed",
        ),
        (
            &|root: &Path| write(root.join("empty"), "x").unwrap(),
            "\"empty\" has other content than was signed",
        ),
        (
            &|root: &Path| remove_file(root.join("a/b")).unwrap(),
            "\"a/b\" is signed and missing",
        ),
        (
            &|root: &Path| write(root.join("a/c"), "").unwrap(),
            "\"a/c\" is not signed",
        ),
    ];
    for (change, expected) in changes {
        let folder = model();
        let manifest = of_files(folder.path());
        change(folder.path());
        let checked = checked(folder.path(), &manifest).unwrap();
        assert_eq!(checked.differences.to_string(), expected);
    }
}

#[test]
fn shards_are_hashed_by_the_signed_size() {
    let folder = model();
    let shards = Pieces::Shards(NonZeroU64::new(2).unwrap());
    let hashed = hashed(folder.path(), rules(shards, false, &[])).unwrap();
    let expected = ["a-b:0:2", "a-b:2:4", "a-b:4:5", "a/b:0:1"];
    assert_eq!(names(&hashed.manifest), expected);
    let digest: [u8; 32] = Sha256::digest("ll").into();
    let second = hashed.manifest.resources().get(1).unwrap();
    assert_eq!(second.sha256, digest);
    // An empty file has no shards.
    let same = checked(folder.path(), &hashed.manifest).unwrap();
    assert!(same.differences.is_empty());
    assert_eq!(same.excluded, ["empty"]);
    for content in ["hellO", "hello!", "hell", "", "helloo"] {
        write(folder.path().join("a-b"), content).unwrap();
        let other = checked(folder.path(), &hashed.manifest).unwrap();
        assert!(!other.differences.is_empty(), "{content}");
    }
}

#[test]
fn more_shards_than_a_signature_holds_are_not_hashed() {
    let folder = model();
    let large = File::create(folder.path().join("large")).unwrap();
    large.set_len(1 << 40).unwrap();
    let shards = Pieces::Shards(NonZeroU64::MIN);
    let fault = hashed(folder.path(), rules(shards, false, &[])).unwrap_err();
    assert!(matches!(fault, Fault::Resources), "{fault}");
    // A signer that lists shards of one byte does not make a verifier hash a terabyte in them.
    remove_file(folder.path().join("large")).unwrap();
    let manifest = hashed(folder.path(), rules(shards, false, &[]))
        .unwrap()
        .manifest;
    let grown = File::create(folder.path().join("a-b")).unwrap();
    grown.set_len(1 << 40).unwrap();
    let checked = checked(folder.path(), &manifest).unwrap();
    assert!(!checked.differences.is_empty());
}

#[test]
fn what_is_left_out_is_named() {
    let folder = model();
    let root = folder.path();
    create_dir_all(root.join(".git/objects")).unwrap();
    create_dir(root.join("cache")).unwrap();
    symlink("/etc/hostname", root.join("cache/link")).unwrap();
    symlink("/etc/hostname", root.join("link")).unwrap();
    let rules = rules(Pieces::Files, false, &["cache", "link"]);
    let hashed = hashed(root, rules).unwrap();
    assert_eq!(hashed.excluded, [".git/", "cache/", "link"]);
    let checked = checked(root, &hashed.manifest).unwrap();
    assert_eq!(checked.excluded, hashed.excluded);
    assert!(checked.differences.is_empty());
}

#[test]
fn a_caller_leaves_out_unsigned_files_alone() {
    let folder = model();
    let root = folder.path();
    let manifest = of_files(root);
    write(root.join("model.sig"), "{}").unwrap();
    create_dir(root.join("notes")).unwrap();
    write(root.join("notes/today"), "x").unwrap();
    write(root.join("a-b"), "other").unwrap();
    let paths = ["notes", "a-b"].map(str::to_owned);
    let ignored = Ignored {
        paths: Exclusions::new(paths).unwrap(),
        bundle: path_beneath(root, &root.join("model.sig")),
    };
    let checked = check_folder(root, &manifest, &ignored, &options(), None).unwrap();
    assert_eq!(checked.excluded, ["model.sig", "notes/today"]);
    let expected = "\"a-b\" has other content than was signed";
    assert_eq!(checked.differences.to_string(), expected);
}

#[test]
fn links_and_special_files_are_faults() {
    let folder = model();
    let root = folder.path();
    let manifest = of_files(root);
    for target in ["a-b", "a", "missing", "/etc"] {
        symlink(target, root.join("link")).unwrap();
        let fault = checked(root, &manifest).unwrap_err();
        assert!(
            matches!(&fault, Fault::Link(path) if path == "link"),
            "{fault}"
        );
        let fault = hashed(root, rules(Pieces::Files, false, &[])).unwrap_err();
        assert!(matches!(fault, Fault::Link(_)), "{fault}");
        remove_file(root.join("link")).unwrap();
    }
    let socket = UnixListener::bind(root.join("socket")).unwrap();
    let fault = checked(root, &manifest).unwrap_err();
    assert!(
        matches!(&fault, Fault::Special(path) if path == "socket"),
        "{fault}"
    );
    drop(socket);
}

#[test]
fn links_are_followed_within_the_model_if_the_signature_says_so() {
    let folder = model();
    let root = folder.path();
    symlink("../a-b", root.join("a/file")).unwrap();
    symlink("a", root.join("folder")).unwrap();
    let follow = || rules(Pieces::Files, true, &[]);
    let manifest = hashed(root, follow()).unwrap().manifest;
    let expected = ["a-b", "a/b", "a/file", "empty", "folder/b", "folder/file"];
    assert_eq!(names(&manifest), expected);
    assert!(checked(root, &manifest).unwrap().differences.is_empty());
    for target in ["/etc/hostname", "..", "../..", "/"] {
        symlink(target, root.join("out")).unwrap();
        let fault = hashed(root, follow()).unwrap_err();
        assert!(
            matches!(&fault, Fault::LinkOutside(path) if path == "out"),
            "{fault}"
        );
        remove_file(root.join("out")).unwrap();
    }
    symlink("missing", root.join("nowhere")).unwrap();
    let fault = hashed(root, follow()).unwrap_err();
    assert!(
        matches!(&fault, Fault::Gone(path) if path == "nowhere"),
        "{fault}"
    );
    remove_file(root.join("nowhere")).unwrap();
    for target in [".", "loop", "a/.."] {
        symlink(target, root.join("loop")).unwrap();
        let fault = hashed(root, follow()).unwrap_err();
        assert!(matches!(fault, Fault::LinkCircle(_)), "{target}: {fault}");
        remove_file(root.join("loop")).unwrap();
    }
}

#[test]
fn a_model_may_be_a_single_file() {
    let folder = model();
    let path = folder.path().join("a-b");
    let manifest = of_files(&path);
    assert_eq!(names(&manifest), ["."]);
    assert!(checked(&path, &manifest).unwrap().differences.is_empty());
    assert!(
        !checked(&folder.path().join("empty"), &manifest)
            .unwrap()
            .differences
            .is_empty()
    );
    symlink("a-b", folder.path().join("link")).unwrap();
    let fault = checked(&folder.path().join("link"), &manifest).unwrap_err();
    assert!(matches!(fault, Fault::Link(_)), "{fault}");
}

#[test]
fn an_empty_or_missing_model_and_odd_names_are_faults() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let folder = Folder::new();
    let files = || rules(Pieces::Files, false, &[]);
    let fault = hashed(folder.path(), files()).unwrap_err();
    assert!(
        matches!(fault, Fault::Manifest(ManifestFault::Empty)),
        "{fault}"
    );
    let fault = hashed(&folder.path().join("missing"), files()).unwrap_err();
    assert!(matches!(fault, Fault::Unreadable { .. }), "{fault}");
    write(folder.path().join(OsStr::from_bytes(b"a\xff")), "x").unwrap();
    let fault = hashed(folder.path(), files()).unwrap_err();
    assert!(matches!(fault, Fault::Name(_)), "{fault}");
}

#[test]
fn a_file_that_changed_after_it_was_found_is_a_fault() {
    let folder = model();
    let tree = Tree::open(folder.path(), false).unwrap();
    let rules = rules(Pieces::Files, false, &[]);
    let scope = Scope {
        rules: &rules,
        manifest: None,
        ignored: &Ignored::default(),
    };
    let files = walk(&tree, scope).unwrap().files;
    write(folder.path().join("a-b"), "hello!").unwrap();
    let options = options();
    let settings = Settings {
        tree: &tree,
        pieces: Pieces::Files,
        manifest: None,
        copy_to: None,
        options: &options,
    };
    let fault = hash(&settings, &files).unwrap_err();
    assert!(
        matches!(&fault, Fault::Changed(path) if path == "a-b"),
        "{fault}"
    );
}

#[test]
fn a_copy_has_the_bytes_of_signed_files_and_no_other_file() {
    let folder = model();
    write(folder.path().join("a/long"), vec![7_u8; 3 << 20]).unwrap();
    let shards = Pieces::Shards(NonZeroU64::new(1_000_001).unwrap());
    for (pieces, expected) in [
        (Pieces::Files, &["a-b", "a/b", "a/long", "empty"][..]),
        // An empty file has no shards.
        (shards, &["a-b", "a/b", "a/long"][..]),
    ] {
        let manifest = hashed(folder.path(), rules(pieces, false, &[])).unwrap();
        let copied = |to: &Path| {
            let ignored = Ignored::default();
            let to = File::open(to).unwrap();
            let manifest = &manifest.manifest;
            check_folder(
                folder.path(),
                manifest,
                &ignored,
                &options(),
                Some(to.as_fd()),
            )
            .unwrap()
        };
        let to = Folder::new();
        assert!(copied(to.path()).differences.is_empty());
        let hashed_copy = hashed(to.path(), rules(pieces, false, &[])).unwrap();
        let paths: Vec<_> = hashed_copy
            .files
            .iter()
            .map(|it| it.path.as_str())
            .collect();
        assert_eq!(paths, expected);
        for path in expected {
            let read = |root: &Path| std::fs::read(root.join(path)).unwrap();
            assert_eq!(read(to.path()), read(folder.path()), "{path}");
        }
        // An unsigned file is a difference and is not copied.
        write(folder.path().join("a/c"), "x").unwrap();
        let to = Folder::new();
        assert_eq!(copied(to.path()).differences.count, 1);
        assert!(!to.path().join("a/c").exists());
        remove_file(folder.path().join("a/c")).unwrap();
    }
}

#[test]
fn a_copy_follows_no_link() {
    let folder = model();
    let manifest = of_files(folder.path());
    for link in ["a", "a-b"] {
        let (to, outside) = (Folder::new(), Folder::new());
        let target = outside.path().join(link);
        create_dir_all(outside.path().join("a")).unwrap();
        symlink(&target, to.path().join(link)).unwrap();
        let opened = File::open(to.path()).unwrap();
        let ignored = Ignored::default();
        let copied = check_folder(
            folder.path(),
            &manifest,
            &ignored,
            &options(),
            Some(opened.as_fd()),
        );
        let fault = copied.unwrap_err();
        assert!(matches!(fault, Fault::Uncopied { .. }), "{fault}");
        assert!(!outside.path().join("a/b").exists());
        assert!(!outside.path().join("a-b").exists());
    }
}

#[test]
fn a_models_file_that_is_left_out_is_a_fault() {
    let folder = model();
    let root = folder.path();
    create_dir_all(root.join("cache/below")).unwrap();
    create_dir_all(root.join(".git/lfs")).unwrap();
    write(root.join("cache/below/notes.txt"), "x").unwrap();
    write(root.join(".git/lfs/a.safetensors"), "x").unwrap();
    let manifest = hashed(root, rules(Pieces::Files, false, &["cache"])).unwrap();
    let manifest = manifest.manifest;
    assert!(checked(root, &manifest).unwrap().differences.is_empty());
    for file in [
        "cache/below/pytorch_model.BIN",
        "cache/variables.data-00000-of-00001",
        "cache/weights.safetensors",
    ] {
        write(root.join(file), "x").unwrap();
        for fault in [
            checked(root, &manifest).unwrap_err(),
            hashed(root, rules(Pieces::Files, false, &["cache"])).unwrap_err(),
        ] {
            assert!(
                matches!(&fault, Fault::LeftOut(path) if path == file),
                "{fault}"
            );
        }
        remove_file(root.join(file)).unwrap();
    }
    // One that the caller leaves out.
    write(root.join("more.onnx"), "x").unwrap();
    let ignored = Ignored {
        paths: Exclusions::new(["more.onnx".to_owned()]).unwrap(),
        bundle: None,
    };
    let fault = check_folder(root, &manifest, &ignored, &options(), None).unwrap_err();
    assert!(matches!(fault, Fault::LeftOut(_)), "{fault}");
    // The signature may have any name.
    let ignored = Ignored {
        paths: Exclusions::default(),
        bundle: Some("more.onnx".to_owned()),
    };
    check_folder(root, &manifest, &ignored, &options(), None).unwrap();
}

#[test]
fn what_the_signer_leaves_out_is_uncovered_unless_the_caller_does() {
    let folder = model();
    let root = folder.path();
    create_dir(root.join("cache")).unwrap();
    for file in ["cache/x", "model.sig", "digits.sig", ".gitignore"] {
        write(root.join(file), "x").unwrap();
    }
    let left_out = ["cache", "model.sig", "digits.sig"];
    let manifest = hashed(root, rules(Pieces::Files, false, &left_out)).unwrap();
    let uncovered = |ignored: &[&str]| {
        let ignored = Ignored {
            paths: rules(Pieces::Files, false, ignored).exclusions,
            bundle: Some("digits.sig".to_owned()),
        };
        let checked = check_folder(root, &manifest.manifest, &ignored, &options(), None).unwrap();
        assert_eq!(checked.excluded.len(), 4);
        checked.uncovered
    };
    assert_eq!(uncovered(&[]), ["cache/"]);
    assert!(uncovered(&["cache"]).is_empty());
    assert_eq!(uncovered(&["cache/x"]), ["cache/"]);
    // A signature is a file.
    remove_file(root.join("model.sig")).unwrap();
    create_dir(root.join("model.sig")).unwrap();
    write(root.join("model.sig/x"), "x").unwrap();
    assert_eq!(uncovered(&["cache"]), ["model.sig/"]);
}
