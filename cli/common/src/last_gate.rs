//! Which state folder the last `tensorgate up` of a policy used, so that commands beside the policy
//! find its gate.
//!
//! The record is a file in the user's own state folder, and never beside the policy. An attacker
//! who can write there could otherwise send an operator's block or revocation to another gate. The
//! record counts only if no other user can write it, and a state folder only if it is the user's.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bounded_file::{is_own, read_own};
use crate::failure::Failure;
use crate::replace::update_locked;
use crate::user_folders;

/// Its name in the user's state folder.
const FILE: &str = "gates.json";
/// The most policies with a record. Those of the latest gates are kept.
const MAX_GATES: usize = 64;
/// The largest file, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Gates {
    /// The latest last.
    gates: Vec<Gate>,
}

/// A gate that was started.
#[derive(Debug, Serialize, Deserialize)]
struct Gate {
    /// The canonical path of its policy.
    policy: PathBuf,
    /// The canonical path of its state folder.
    state: PathBuf,
}

/// Records that a gate with this policy uses a state folder. A user without a home has no record.
///
/// # Errors
/// The record cannot be written, or others can write it.
pub fn record(policy: &Path, state: &Path) -> Result<(), Failure> {
    match user_folders::state() {
        Some(folder) => record_in(&folder, policy, state),
        None => Ok(()),
    }
}

/// The state folder of the last gate with a policy, if there is a record of it.
pub fn find(policy: &Path) -> Option<PathBuf> {
    find_in(&user_folders::state()?, policy)
}

fn record_in(folder: &Path, policy: &Path, state: &Path) -> Result<(), Failure> {
    let failed = |file: &Path, why: &dyn std::fmt::Display| {
        Failure::Failed(format!("{}: {why}", file.display()))
    };
    (DirBuilder::new().recursive(true).mode(0o700).create(folder))
        .map_err(|error| failed(folder, &error))?;
    if !std::fs::metadata(folder).is_ok_and(|found| is_own(&found)) {
        return Err(failed(folder, &"others can write this folder"));
    }
    let [policy, state] =
        [policy, state].map(|path| path.canonicalize().map_err(|error| failed(path, &error)));
    let gate = Gate {
        policy: policy?,
        state: state?,
    };
    // A damaged record is replaced.
    let known = |file: &Path| Ok(read(file).unwrap_or_default());
    update_locked(&folder.join(FILE), known, |known: &mut Gates| {
        let gates = &mut known.gates;
        gates.retain(|it| it.policy != gate.policy && it.policy.exists() && it.state.is_dir());
        gates.push(gate);
        let more = gates.len().saturating_sub(MAX_GATES);
        gates.drain(..more);
        Ok(())
    })
}

fn find_in(folder: &Path, policy: &Path) -> Option<PathBuf> {
    if !is_own(&std::fs::metadata(folder).ok()?) {
        return None;
    }
    let policy = policy.canonicalize().ok()?;
    let gates = read(&folder.join(FILE))?.gates;
    let state = gates.into_iter().rfind(|gate| gate.policy == policy)?.state;
    // A folder that was put in its place by someone else is not the gate's.
    let found = std::fs::symlink_metadata(&state).ok()?;
    let is_users = found.uid() == rustix::process::geteuid().as_raw();
    (found.is_dir() && is_users).then_some(state)
}

fn read(file: &Path) -> Option<Gates> {
    let text = read_own(file, MAX_BYTES).ok()??;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::private_dir::PrivateDir;

    /// A user's folder, a policy, and two state folders.
    fn scratch() -> (PrivateDir, [PathBuf; 4]) {
        let scratch = PrivateDir::new().unwrap();
        let below = |name: &str| scratch.path().canonicalize().unwrap().join(name);
        let paths = ["user", "gate.yaml", "one", "two"].map(below);
        let [_, policy, one, two] = &paths;
        std::fs::write(policy, "").unwrap();
        for folder in [one, two] {
            DirBuilder::new().mode(0o700).create(folder).unwrap();
        }
        (scratch, paths)
    }

    #[test]
    fn the_last_gate_of_a_policy_is_found() {
        let (_scratch, [user, policy, one, two]) = scratch();
        assert_eq!(find_in(&user, &policy), None);
        record_in(&user, &policy, &one).unwrap();
        assert_eq!(find_in(&user, &policy), Some(one.clone()));
        record_in(&user, &policy, &two).unwrap();
        assert_eq!(find_in(&user, &policy), Some(two));
        assert_eq!(find_in(&user, &one), None, "another policy");
    }

    #[test]
    fn what_others_can_write_counts_for_nothing() {
        let (scratch, [user, policy, one, _]) = scratch();
        let file = user.join(FILE);
        record_in(&user, &policy, &one).unwrap();
        for (path, mode) in [(&file, 0o600), (&user, 0o700)] {
            std::fs::set_permissions(path, Permissions::from_mode(mode | 0o020)).unwrap();
            assert_eq!(find_in(&user, &policy), None, "{}", path.display());
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(find_in(&user, &policy), Some(one.clone()));
        }
        // Links lead to files and folders that others may choose.
        let elsewhere = scratch.path().join("elsewhere");
        for path in [&file, &one] {
            std::fs::rename(path, &elsewhere).unwrap();
            std::os::unix::fs::symlink(&elsewhere, path).unwrap();
            assert_eq!(find_in(&user, &policy), None, "{}", path.display());
            std::fs::remove_file(path).unwrap();
            std::fs::rename(&elsewhere, path).unwrap();
        }
    }

    #[test]
    fn records_are_bounded_and_those_of_missing_files_go_first() {
        let (scratch, [user, policy, one, _]) = scratch();
        record_in(&user, &policy, &one).unwrap();
        for number in 0..MAX_GATES {
            let other = scratch.path().join(number.to_string());
            std::fs::write(&other, "").unwrap();
            record_in(&user, &other, &one).unwrap();
            if number > 0 {
                std::fs::remove_file(&other).unwrap();
            }
        }
        assert_eq!(find_in(&user, &policy), Some(one));
        let gates = read(&user.join(FILE)).unwrap().gates;
        assert!(gates.len() <= 4, "{}", gates.len());
    }
}
