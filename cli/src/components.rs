//! Compares each handler's component with the digest that the policy names, and with the world that
//! its models need.
//!
//! The host compares them too, and never runs another component. Here a difference is reported at
//! the policy's line, before a process starts or a policy comes into force.

mod world;

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tensorgate_base::payload::Role;
use tensorgate_policy::policy::{BUILTIN, Handler};
use tensorgate_policy::{Fault, Policy, Severity, hex};
use tensorgate_policy_load::lists::Contents;
use tensorgate_policy_text::path::push_key;
use tensorgate_settings::folders;
use tensorgate_settings::folders::Folders;
use world::{FileKind, OF_BUILD};

/// The most bytes of components that are read.
const MAX_TOTAL_BYTES: usize = 1 << 30;

/// Every component that is missing, cannot be read, differs from its digest, or is none that its
/// models can call.
///
/// File names are relative to `root`. A missing file has the severity `missing`. `known` returns
/// the digest of a file that was read already; other files are read as the host reads them.
pub fn faults(
    policy: &Policy,
    root: &Path,
    missing: Severity,
    known: impl Fn(&Path) -> Option<Contents>,
) -> Vec<Fault> {
    let mut reader = Reader {
        folders: Folders::below(root),
        read: BTreeMap::new(),
        left: MAX_TOTAL_BYTES,
    };
    // Bundled handlers are installed with the host and have no file beside the policy.
    let own = policy.handlers().iter();
    let own: Vec<_> = own
        .filter(|(_, rule)| !rule.component().starts_with(BUILTIN))
        .collect();
    if own.is_empty() {
        return Vec::new();
    }
    let uses = uses(policy);
    let own = own.into_iter();
    own.filter_map(|(name, rule)| {
        let found = match known(&root.join(rule.component())) {
            Some(sha256) => Ok(Found { sha256, kind: None }),
            None => reader.find(rule.component()),
        };
        fault((name, rule), &uses, missing, found)
    })
    .collect()
}

/// A model that uses a handler, by the handler's name and role.
pub type Uses<'p> = BTreeMap<(&'p str, Role), &'p str>;

/// How models and grants use handlers. For each use the first model is enough.
pub fn uses<'p>(policy: &'p Policy) -> Uses<'p> {
    let mut uses = Uses::new();
    for model in policy.models() {
        let mut add = |role, names: &'p [String]| {
            for name in names {
                uses.entry((name.as_str(), role)).or_insert(model.name());
            }
        };
        add(Role::Preprocess, model.preprocess());
        add(Role::Postprocess, model.postprocess());
        let Some(id) = policy.model_id(model.name()) else {
            continue;
        };
        for grant in policy.grants() {
            if grant.has_own_handlers(id) {
                add(Role::Preprocess, grant.preprocess(id, model));
                add(Role::Postprocess, grant.postprocess(id, model));
            }
        }
    }
    uses
}

/// A component's file.
#[derive(Clone)]
struct Found {
    sha256: Contents,
    /// What it is; `None` if only its digest is known.
    kind: Option<FileKind>,
}

/// Why there is no component.
#[derive(Clone)]
enum Absence {
    Missing,
    Unreadable(String),
}

/// Reads each component once, and not more of them than a gate could use.
struct Reader<'p> {
    folders: Folders,
    read: BTreeMap<&'p str, Result<Found, Absence>>,
    left: usize,
}

impl<'p> Reader<'p> {
    fn find(&mut self, component: &'p str) -> Result<Found, Absence> {
        if let Some(found) = self.read.get(component) {
            return found.clone();
        }
        let found = self.read(component);
        self.read.insert(component, found.clone());
        found
    }

    fn read(&mut self, component: &str) -> Result<Found, Absence> {
        if self.left == 0 {
            let text = format!("the components before {component} have more than 1 GiB");
            return Err(Absence::Unreadable(text));
        }
        match folders::component(&self.folders, component) {
            Ok(bytes) => {
                self.left = self.left.saturating_sub(bytes.len());
                Ok(Found {
                    sha256: Sha256::digest(&bytes).into(),
                    kind: Some(FileKind::of(&bytes)),
                })
            }
            Err(_) if is_missing(&self.folders, component) => Err(Absence::Missing),
            Err(error) => Err(Absence::Unreadable(error.to_string())),
        }
    }
}

fn fault(
    (name, rule): (&str, &Handler),
    uses: &Uses<'_>,
    missing: Severity,
    found: Result<Found, Absence>,
) -> Option<Fault> {
    let component = rule.component();
    let at = |field: &str| {
        let mut path = String::from("handlers");
        push_key(&mut path, name);
        push_key(&mut path, field);
        path
    };
    let found = match found {
        Ok(found) => found,
        Err(Absence::Missing) => {
            return Some(Fault {
                severity: missing,
                path: at("component"),
                message: format!("component {component} is missing"),
                fix: Some("build it, or correct the path, which is relative to the policy".into()),
            });
        }
        Err(Absence::Unreadable(message)) => {
            return Some(Fault {
                severity: Severity::Error,
                path: at("component"),
                message,
                fix: Some(OF_BUILD.into()),
            });
        }
    };
    if found.sha256 != *rule.sha256() {
        let is_wasm = found.kind.as_ref().is_some_and(FileKind::is_wasm);
        return Some(Fault {
            severity: Severity::Error,
            path: at("sha256"),
            message: format!("component {component} differs from its sha256"),
            // The digest of another file is not printed: it may be a link to a secret.
            fix: Some(if is_wasm {
                format!(
                    "sha256: \"{}\", if this is the component that you tested",
                    hex(&found.sha256)
                )
            } else {
                OF_BUILD.into()
            }),
        });
    }
    let kind = found.kind?;
    let roles = [Role::Preprocess, Role::Postprocess].into_iter();
    let mut unfit = roles.filter_map(|role| {
        let model = uses.get(&(name, role))?;
        kind.unfit((component, name), (role, model))
    });
    unfit.next().map(|unfit| Fault {
        severity: Severity::Error,
        path: at("component"),
        message: unfit.message,
        fix: Some(unfit.fix),
    })
}

fn is_missing(folders: &Folders, component: &str) -> bool {
    (folders.file(component)).is_ok_and(|file| matches!(file.try_exists(), Ok(false)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tensorgate_cli_common::private_dir::PrivateDir;
    use tensorgate_policy_load::load::load;

    use super::*;

    /// The SHA-256 digest of `abc` (FIPS 180-2, appendix B.1).
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    /// `severity path: message` of each fault, for a folder that `prepare` filled.
    fn check(
        prepare: impl Fn(&Path),
        missing: Severity,
        known: Option<Contents>,
        expected: &[(Severity, &str, &str)],
    ) {
        let folder = PrivateDir::new().unwrap();
        let root = folder.path();
        let text = format!(
            "version: 1\nhandlers:\n  a.b: {{component: x/a.wasm, sha256: \"{ABC}\"}}\n  \
             bundled: {{component: \"builtin:tabular\", sha256: \"{}\"}}\n",
            "0".repeat(64)
        );
        std::fs::write(root.join("gate.yaml"), text).unwrap();
        std::fs::create_dir(root.join("x")).unwrap();
        prepare(&root.join("x/a.wasm"));
        let policy = load(&root.join("gate.yaml")).unwrap().version.policy;
        let found = faults(&policy, root, missing, |file| {
            assert_eq!(file, root.join("x/a.wasm"));
            known
        });
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (fault, (severity, path, text)) in found.iter().zip(expected) {
            assert_eq!((fault.severity, &*fault.path), (*severity, *path));
            let shown = format!("{} {:?}", fault.message, fault.fix);
            assert!(shown.contains(text), "{shown}");
        }
    }

    #[test]
    fn a_component_is_compared_with_its_digest() {
        use Severity::{Error, Warning};
        const COMPONENT: &str = r#"handlers."a.b".component"#;
        const SHA256: &str = r#"handlers."a.b".sha256"#;
        let write = |text: &'static str| move |file: &Path| std::fs::write(file, text).unwrap();
        let no_file = |_: &Path| {};
        check(write("abc"), Error, None, &[]);
        let differs = "component x/a.wasm differs from its sha256";
        check(write("abd"), Warning, None, &[(Error, SHA256, differs)]);
        // Only a component's digest is printed: here that of `\\0asm`.
        let found = "cd5d4935a48c0672cb06407bb443bc0087aff947c6b864bac886982c73b3027f";
        check(write("\0asm"), Warning, None, &[(Error, SHA256, found)]);
        let rebuild = "Some(\"a file that `tensorgate handler build` wrote\")";
        check(write("abd"), Warning, None, &[(Error, SHA256, rebuild)]);
        for severity in [Warning, Error] {
            let missing = (severity, COMPONENT, "component x/a.wasm is missing");
            check(no_file, severity, None, &[missing]);
        }
        let folder = |file: &Path| std::fs::create_dir(file).unwrap();
        let irregular = (Error, COMPONENT, "not a regular file");
        check(folder, Warning, None, &[irregular]);
        // A known digest is used instead of the file.
        check(no_file, Error, Some(Sha256::digest("abc").into()), &[]);
        let fault = (Error, SHA256, differs);
        check(write("abc"), Error, Some([0; 32]), &[fault]);
    }
}
