//! Loads a policy file: reads, types and validates it. Every fault carries its position in the
//! text.

use std::path::{Path, PathBuf};

use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_cli_common::load_error::{LoadError, MAX_FILE_BYTES, Source};
use tensorgate_judge::budget;
use tensorgate_policy::compiled::MAX_BYTES;
use tensorgate_policy::policy::BUILTIN;
use tensorgate_policy::{Fault, Policy, Severity};
use tensorgate_policy_compiler::{Version, raw};
use tensorgate_policy_text::tree::Tree;
use tensorgate_policy_text::typed::{OmittedPath, Typed, typed};
use tensorgate_policy_text::{Located, Span, parse, path};
use tensorgate_settings::component::SUFFIX;
use tensorgate_settings::folders::Folders;
use tensorgate_settings::signed;

use crate::inline::{Inlined, inline};
use crate::lists::FileReferences;

/// A policy that can be enforced.
pub struct Loaded {
    /// Source text, for the display of warnings.
    pub source: Source,
    /// The policy, as written and validated.
    pub version: Version,
    /// Rules that make the policy weaker than it looks.
    pub warnings: Vec<Located>,
    /// Files that were read into the policy, as the policy names them.
    pub read: Vec<PathBuf>,
    /// File references that may take effect independently of the rest.
    pub named: FileReferences,
    /// The number of pods that limits with `local_share` were divided by.
    pub divided_by: Option<u32>,
}

impl Loaded {
    /// Every file that the policy consists of or names. A change of one of them may change the
    /// policy. Paths are relative to `root`.
    pub fn files(&self, root: &Path) -> Vec<PathBuf> {
        // Bundled handlers are installed with the host and do not change with a policy.
        let components = self.version.policy.handlers().values();
        let components = components.filter(|rule| !rule.component().starts_with(BUILTIN));
        let components = components.flat_map(|handler| {
            let signature = handler.signed_by().is_some();
            let signature = signature.then(|| format!("{}{SUFFIX}", handler.component()));
            [Some(handler.component().to_owned()), signature]
        });
        let components = components.flatten().map(|file| root.join(file));
        std::iter::once(self.source.file.clone())
            .chain(self.read.iter().map(|file| root.join(file)))
            .chain(components)
            .collect()
    }
}

/// Loads a policy file.
pub fn load(file: &Path) -> Result<Loaded, LoadError> {
    let bytes = read_bounded(file)?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Err(not_text(file, &error)),
    };
    if is_empty(&text) {
        return Err(LoadError::Empty(file.to_owned()));
    }
    let source = Source {
        file: file.to_owned(),
        text,
    };
    let root = file.parent().unwrap_or(Path::new(""));
    let Judged {
        version,
        warnings,
        read,
        named,
    } = match judge(&source.text, root) {
        Ok(judged) => judged,
        Err(faults) => return Err(LoadError::Faults(source, faults)),
    };
    let compiled = version.for_host();
    let bytes = compiled.to_bytes().len();
    if bytes > MAX_BYTES {
        let file = file.to_owned();
        return Err(LoadError::CompiledTooLarge {
            file,
            bytes,
            max_bytes: MAX_BYTES,
        });
    }
    Ok(Loaded {
        source,
        version,
        warnings,
        read,
        named,
        divided_by: None,
    })
}

/// Converts a tree into a policy that is not validated yet.
pub fn typed_policy(tree: &mut Tree) -> Typed<raw::Policy> {
    typed(tree, |policy: &mut raw::Policy| &mut policy.models)
}

/// The `revoked` section of a policy file, as far as it can be read despite other faults: entries,
/// and the names of lists.
pub fn revoked_section(file: &Path) -> Option<raw::Revoked> {
    let text = String::from_utf8(read_bounded(file).ok()?).ok()?;
    let mut tree = parse::parse(&text).0?;
    Some(typed_policy(&mut tree).document.revoked)
}

/// The `audit` section of a policy file, or the default if it has none. Faults elsewhere do not
/// matter: a log must stay readable while the policy is edited.
///
/// # Errors
/// The file cannot be read, or the section has faults.
pub fn audit_section(file: &Path) -> Result<raw::Audit, LoadError> {
    let text = String::from_utf8(read_bounded(file)?).map_err(|error| not_text(file, &error))?;
    let (tree, mut faults) = parse::parse(&text);
    if let Some(mut tree) = tree {
        let typed = typed_policy(&mut tree);
        let in_section =
            |fault: &Located| fault.path == "audit" || fault.path.starts_with("audit.");
        faults = typed.faults.into_iter().filter(in_section).collect();
        if faults.is_empty() {
            return Ok(typed.document.audit.unwrap_or_default());
        }
    }
    let source = Source {
        file: file.to_owned(),
        text,
    };
    Err(LoadError::Faults(source, faults))
}

/// Every fault and warning of a policy's text, in text order. The text names no files.
pub fn faults(text: &str) -> Vec<Located> {
    match judge(text, Path::new("")) {
        Ok(judged) => judged.warnings,
        Err(faults) => faults,
    }
}

/// Whether a text has blank lines, comments and marks of documents only.
fn is_empty(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().map(str::trim);
    lines.all(|line| line.is_empty() || line.starts_with('#') || line == "---" || line == "...")
}

/// Reads a file of at most [`MAX_FILE_BYTES`], regardless of its metadata.
fn read_bounded(file: &Path) -> Result<Vec<u8>, LoadError> {
    read_at_most(file, MAX_FILE_BYTES)
        .map_err(|cause| LoadError::Read {
            file: file.to_owned(),
            cause,
        })?
        .ok_or_else(|| LoadError::TooLarge(file.to_owned()))
}

fn not_text(file: &Path, error: &std::string::FromUtf8Error) -> LoadError {
    let valid_text = error
        .as_bytes()
        .get(..error.utf8_error().valid_up_to())
        .unwrap_or_default();
    let valid_text = String::from_utf8_lossy(valid_text);
    let last = valid_text.rsplit('\n').next().unwrap_or_default();
    let span = Span {
        line: valid_text.matches('\n').count().saturating_add(1),
        column: last.chars().count().saturating_add(1),
        length: 1,
    };
    let fault = Located {
        severity: Severity::Error,
        span,
        path: String::new(),
        message: "not UTF-8 from here on".into(),
        fix: Some("save the file as UTF-8".into()),
    };
    LoadError::Faults(
        Source {
            file: file.to_owned(),
            text: valid_text.into_owned(),
        },
        vec![fault],
    )
}

/// Models whose answers could exceed the memory limit of all requests together. The host computes
/// the sizes.
fn beyond_budget(policy: &Policy) -> impl Iterator<Item = Fault> {
    budget::beyond_budget(policy).into_iter().map(|beyond| {
        let mut path = String::from("models");
        path::push_key(&mut path, &beyond.model);
        Fault {
            severity: Severity::Error,
            path,
            message: format!(
                "an answer within its contract can take {} bytes, and listen.limits.buffered_bytes is {}",
                beyond.needs, beyond.gives
            ),
            fix: Some(format!(
                "smaller outputs (shape, symbols, max_item_bytes), or listen.limits.buffered_bytes of at least {}",
                beyond.needs
            )),
        }
    })
}

struct Judged {
    version: Version,
    warnings: Vec<Located>,
    read: Vec<PathBuf>,
    named: FileReferences,
}

/// Parses and validates a text. Returns the policy with its warnings, or every fault in text order.
/// `root` is the folder of the files that it names.
fn judge(text: &str, root: &Path) -> Result<Judged, Vec<Located>> {
    let (tree, mut faults) = parse::parse(text);
    let Some(mut tree) = tree else {
        return Err(faults);
    };
    let Typed {
        document: mut raw,
        faults: mistyped,
        mut omitted,
    } = typed_policy(&mut tree);
    faults.extend(mistyped);
    let Inlined {
        read,
        faults: unread,
        named,
    } = inline(&mut raw, root);
    omitted.extend(
        unread
            .iter()
            .map(|fault| OmittedPath::below(path::parent(&fault.path))),
    );
    faults.extend(unread.into_iter().map(|fault| locate(&tree, fault)));
    let (version, found) = match Version::new(raw) {
        Ok(version) => {
            let warnings = version.warnings.clone();
            let found = warnings.into_iter().chain(beyond_budget(&version.policy));
            let found = found.collect();
            (Some(version), found)
        }
        Err(faults) => (None, faults),
    };
    let consequence = |fault: &Fault| omitted.iter().any(|path| path.explains(&fault.path));
    faults.extend(
        found
            .into_iter()
            .filter(|fault| !consequence(fault))
            .map(|fault| locate(&tree, fault)),
    );
    faults.sort_by(|a, b| (a.span, &a.path, &a.message).cmp(&(b.span, &b.path, &b.message)));
    match version {
        Some(version)
            if faults
                .iter()
                .all(|fault| fault.severity == Severity::Warning) =>
        {
            Ok(Judged {
                version,
                warnings: faults,
                read,
                named,
            })
        }
        _ => Err(faults),
    }
}

impl Loaded {
    /// Verifies the signature of every component that must be signed. Paths are relative to `root`.
    ///
    /// # Errors
    /// Every missing or rejected signature, located at the handler's `signed_by`.
    pub fn verify_signatures(self, root: &Path) -> Result<Self, LoadError> {
        let folders = Folders::below(root);
        let handlers = self.version.policy.handlers().iter();
        let faults = handlers.filter_map(|(name, rule)| {
            let unsigned = signed::verify(name, rule, &folders).err()?;
            let mut path = String::from("handlers");
            path::push_key(&mut path, name);
            path.push_str(".signed_by");
            Some(Fault {
                severity: Severity::Error,
                path,
                message: unsigned.cause(),
                fix: Some(format!("tensorgate handler sign {}", rule.component())),
            })
        });
        let faults = faults.collect();
        self.unless(faults)
    }

    /// Adds `faults` to the warnings. Fails if one of them is an error.
    ///
    /// # Errors
    /// The faults, located in the text, and the warnings.
    pub fn unless(mut self, faults: Vec<Fault>) -> Result<Self, LoadError> {
        if faults.is_empty() {
            return Ok(self);
        }
        let mut faults = self.located(faults);
        faults.append(&mut self.warnings);
        faults.sort_by(|a, b| (a.span, &a.path, &a.message).cmp(&(b.span, &b.path, &b.message)));
        let is_error = |fault: &Located| fault.severity == Severity::Error;
        if faults.iter().any(is_error) {
            return Err(LoadError::Faults(self.source, faults));
        }
        self.warnings = faults;
        Ok(self)
    }

    /// Locates faults in the text.
    pub fn located(&self, faults: Vec<Fault>) -> Vec<Located> {
        let tree = parse::parse(&self.source.text).0;
        let faults = faults.into_iter().map(|fault| match &tree {
            Some(tree) => locate(tree, fault),
            // Unreachable: the same text was parsed when the policy was loaded.
            None => Located {
                severity: fault.severity,
                span: Span::default(),
                path: fault.path,
                message: fault.message,
                fix: fault.fix,
            },
        });
        faults.collect()
    }
}

/// Locates a validation fault in the text. The span is the value, or the key where the value is a
/// collection or lacks a member.
fn locate(tree: &Tree, fault: Fault) -> Located {
    let target = tree.follow(&fault.path);
    let span = match target.key {
        Some(key) if !target.whole || tree.is_collection(target.node) => key.span,
        _ => tree.span(target.node),
    };
    Located {
        severity: fault.severity,
        span,
        path: fault.path,
        message: fault.message,
        fix: fault.fix,
    }
}
