//! The folder that the OS sandbox opens for a file, or only the file if others' are there too.

use std::path::{Component, Path, PathBuf};

/// The parents of folders that belong to many users, or hold all files of one user.
const SHARED_IN: [&str; 2] = ["/", "/home"];

/// The folder of a path.
#[must_use]
pub fn beside(path: &Path) -> PathBuf {
    path.parent()
        .filter(|folder| *folder != Path::new(""))
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// The folders of a file that is replaced while the host runs, as written and with links resolved.
/// Only the file where its folder must not be accessible. In a folder that Kubernetes mounts, the
/// file is a link into a subfolder; a later version is in another subfolder of it.
#[must_use]
pub fn renewed(file: &Path) -> Vec<PathBuf> {
    let home = home();
    let written = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let leads = written.canonicalize().ok();
    (std::iter::once(written).chain(leads))
        .map(|file| folder(&file, home.as_deref()))
        .collect()
}

/// The home folder of the user.
#[must_use]
pub fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

/// The folder of a file. Only the file if the folder is a system's, holds all files of a user, or
/// is hidden.
#[must_use]
pub fn folder(file: &Path, home: Option<&Path>) -> PathBuf {
    let folder = beside(file);
    let shared = folder
        .parent()
        .is_none_or(|above| (SHARED_IN.iter()).any(|shared| above == Path::new(shared)));
    let home = home.filter(|home| home.parent().is_some());
    let of_home = home.is_some_and(|home| {
        let hidden = |part: Component<'_>| {
            let name = part.as_os_str().as_encoded_bytes();
            name.starts_with(b".")
        };
        home.starts_with(&folder)
            || (folder.strip_prefix(home)).is_ok_and(|below| below.components().any(hidden))
    });
    if shared || of_home {
        file.to_owned()
    } else {
        folder
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_file_is_reached_by_the_folder_that_a_secret_is_mounted_at() {
        let there = std::env::temp_dir().join(format!("tg-reach-renewed-{}", std::process::id()));
        std::fs::create_dir_all(there.join("..1")).unwrap();
        let there = there.canonicalize().unwrap();
        std::fs::write(there.join("..1/context.key"), "").unwrap();
        std::os::unix::fs::symlink("..1", there.join("..data")).unwrap();
        let file = there.join("context.key");
        std::os::unix::fs::symlink("..data/context.key", &file).unwrap();
        assert_eq!(renewed(&file), [there.clone(), there.join("..1")]);
        // Before it exists, the kernel's rules already cover its folder.
        assert_eq!(renewed(&there.join("tls.crt")), [there.as_path()]);
        assert_eq!(
            renewed(Path::new("/etc/context.key")),
            [Path::new("/etc/context.key")]
        );
        std::fs::remove_dir_all(there).unwrap();
    }

    #[test]
    fn a_folder_of_everything_is_not_reached_for_one_file() {
        let at = |text: &str| PathBuf::from(text.replace('~', SHARED_IN[1]));
        let home = Some("~/ann");
        for (file, home, expected) in [
            ("~/ann/ca.pem", home, "~/ann/ca.pem"),
            ("~/ann/gate/ca.pem", home, "~/ann/gate"),
            ("~/ann/.ssh/ca.pem", home, "~/ann/.ssh/ca.pem"),
            ("~/bob/ca.pem", home, "~/bob/ca.pem"),
            ("/etc/ca.pem", home, "/etc/ca.pem"),
            ("/etc/pki/ca.pem", None, "/etc/pki"),
            ("/ca.pem", None, "/ca.pem"),
            (
                "/srv/users/ann/ca.pem",
                Some("/srv/users/ann"),
                "/srv/users/ann/ca.pem",
            ),
            (
                "/srv/users/ca.pem",
                Some("/srv/users/ann"),
                "/srv/users/ca.pem",
            ),
            ("/srv/gate/ca.pem", Some("/"), "/srv/gate"),
        ] {
            let found = folder(&at(file), home.map(at).as_deref());
            assert_eq!(found, at(expected), "{file}");
        }
    }
}
