//! A policy file, read, typed and validated, with every fault at its place in the text.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use tensorgate_artifact::component::SUFFIX;
use tensorgate_host::config::{Folders, at_most, canonical_digest};
use tensorgate_host::signed;
use tensorgate_policy::policy::BUILTIN;
use tensorgate_policy::raw::Shared;
use tensorgate_policy::{Bundle, Fault, HeaderMode, Policy, Severity, hex, raw, validate};

use crate::files;
use crate::inline::{Inlined, inline};
use crate::lists::Named;
use crate::source::typed::Hole;
use crate::source::{Located, Span, parse, path, typed};

/// Largest policy file, bytes: as much as a filter takes as its configuration ([`Bundle::MAX_BYTES`]), of which it is most.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// A file's text, or what stands for it where there is none.
pub struct Source {
    /// As the user named it.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
}

/// A policy that can be enforced.
pub struct Loaded {
    /// Its text, for warnings.
    pub source: Source,
    /// Validated.
    pub policy: Policy,
    /// As it travels to the gate and the host.
    pub bundle: Bundle,
    /// What makes it weaker than it looks.
    pub warnings: Vec<Located>,
    /// Files that it names and that were read into the bundle, as it names them.
    pub read: Vec<PathBuf>,
    /// What it named, of what may take effect apart from the rest.
    pub named: Named,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("cannot read {}: {cause}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file is too large.
    #[error("{} is larger than {MAX_FILE_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
    /// It is, with the files that it names, more than a filter takes as its configuration.
    #[error(
        "{} and the files that it names are {bytes} bytes of configuration: a filter takes {} at most",
        file.display(), Bundle::MAX_BYTES
    )]
    BundleTooLarge {
        /// Which.
        file: PathBuf,
        /// What it is as JSON, bytes.
        bytes: usize,
    },
    /// The policy cannot be written as JSON: a number that JSON has no spelling for.
    #[error("cannot write the policy as json: {0}")]
    Json(#[from] serde_json::Error),
    /// It has faults.
    #[error("{} has faults", .0.file.display())]
    Faults(Source, Vec<Located>),
}

impl Loaded {
    /// The files that it came from, or names: a change of one of them may be a change of policy. `root` is what its paths are
    /// relative to.
    pub fn files(&self, root: &Path) -> Vec<PathBuf> {
        // What is installed with the host changes with it, not with a policy.
        let components = self.policy.handlers().values();
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

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// Loads a policy file.
pub fn load(file: &Path) -> Result<Loaded, LoadError> {
    let bytes = read_bounded(file)?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Err(not_text(file, &error)),
    };
    let source = Source {
        file: file.to_owned(),
        text,
    };
    let root = file.parent().unwrap_or(Path::new(""));
    let Judged {
        mut raw,
        policy,
        warnings,
        read,
        named,
    } = match judge(&source.text, root) {
        Ok(judged) => judged,
        Err(faults) => return Err(LoadError::Faults(source, faults)),
    };
    once(&mut raw)?;
    let bundle = Bundle {
        generation: generation(&raw)?,
        policy: raw,
        headers: HeaderMode::default(),
        tightens: None,
    };
    let bytes = written_bytes(&bundle)?;
    if bytes > Bundle::MAX_BYTES {
        let file = file.to_owned();
        return Err(LoadError::BundleTooLarge { file, bytes });
    }
    Ok(Loaded {
        source,
        policy,
        bundle,
        warnings,
        read,
        named,
    })
}

/// What a policy's file revokes, as far as that can be read, whatever else is wrong with the file: entries, and
/// the names of lists.
pub fn revoked_section(file: &Path) -> Option<raw::Revoked> {
    let text = String::from_utf8(read_bounded(file).ok()?).ok()?;
    let mut tree = parse::parse(&text).0?;
    Some(typed::typed(&mut tree).policy.revoked)
}

/// The first 16 hex digits of the SHA-256 of a policy's canonical JSON.
pub fn generation(policy: &raw::Policy) -> serde_json::Result<String> {
    let mut digits = hex(&canonical_digest(policy)?);
    digits.truncate(16);
    Ok(digits)
}

/// Holds models once that say the same, so that the bundle writes them once.
fn once(policy: &mut raw::Policy) -> serde_json::Result<()> {
    let mut places = HashMap::new();
    let mut contents: HashMap<Vec<u8>, Shared<raw::Model>> = HashMap::new();
    for model in policy.models.values_mut() {
        let one = match places.entry(model.as_ptr()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let content = serde_json::to_vec(&**model)?;
                // Its place stays taken: what it stood for until now is kept beside what it stands for from here on.
                let one = contents.entry(content).or_insert_with(|| model.clone());
                new.insert((model.clone(), one.clone()))
            }
        };
        *model = one.1.clone();
    }
    Ok(())
}

/// What a bundle is as JSON, bytes.
fn written_bytes(bundle: &Bundle) -> serde_json::Result<usize> {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, bundle)?;
    Ok(count.0)
}

/// Reads a file up to [`MAX_FILE_BYTES`], whatever its metadata say.
fn read_bounded(file: &Path) -> Result<Vec<u8>, LoadError> {
    read_at_most(file, MAX_FILE_BYTES)
        .map_err(|cause| LoadError::Read {
            file: file.to_owned(),
            cause,
        })?
        .ok_or_else(|| LoadError::TooLarge(file.to_owned()))
}

/// Reads a file; `None` if it is larger.
pub fn read_at_most(file: &Path, max_bytes: u64) -> std::io::Result<Option<Vec<u8>>> {
    at_most(std::fs::File::open(file)?, max_bytes)
}

fn not_text(file: &Path, error: &std::string::FromUtf8Error) -> LoadError {
    let good = error
        .as_bytes()
        .get(..error.utf8_error().valid_up_to())
        .unwrap_or_default();
    let good = String::from_utf8_lossy(good);
    let last = good.rsplit('\n').next().unwrap_or_default();
    let span = Span {
        line: good.matches('\n').count().saturating_add(1),
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
            text: good.into_owned(),
        },
        vec![fault],
    )
}

/// Models whose answers would not fit into what all requests together may hold: the host says how large they get.
fn beyond_budget(policy: &Policy) -> impl Iterator<Item = Fault> {
    tensorgate_host::beyond_budget(policy).into_iter().map(|beyond| {
        let mut path = String::from("models");
        path::push_key(&mut path, &beyond.model);
        Fault {
            severity: Severity::Error,
            path,
            message: format!(
                "an answer within its contract can take {} bytes, and all requests together hold {}",
                beyond.needs, beyond.gives
            ),
            fix: Some(format!(
                "smaller outputs (shape, symbols, max_item_bytes), or listen.limits.buffered_bytes from {} on",
                beyond.needs
            )),
        }
    })
}

struct Judged {
    raw: raw::Policy,
    policy: Policy,
    warnings: Vec<Located>,
    read: Vec<PathBuf>,
    named: Named,
}

/// Text to a policy and its warnings, or every fault in the order of the text. `root`: the folder of the files that it names.
fn judge(text: &str, root: &Path) -> Result<Judged, Vec<Located>> {
    let (tree, mut faults) = parse::parse(text);
    let Some(mut tree) = tree else {
        return Err(faults);
    };
    let typed::Typed {
        policy: mut raw,
        faults: mistyped,
        mut holes,
    } = typed::typed(&mut tree);
    faults.extend(mistyped);
    let Inlined {
        read,
        faults: unread,
        named,
    } = inline(&mut raw, root);
    holes.extend(
        unread
            .iter()
            .map(|fault| Hole::below(path::parent(&fault.path))),
    );
    faults.extend(unread.into_iter().map(|fault| locate(&tree, fault)));
    let (policy, found) = match validate::validate(&raw) {
        Ok((policy, warnings)) => (Some(policy), warnings),
        Err(faults) => (None, faults),
    };
    let found = match &policy {
        Some(policy) => found.into_iter().chain(beyond_budget(policy)).collect(),
        None => found,
    };
    let consequence = |fault: &Fault| holes.iter().any(|hole| hole.explains(&fault.path));
    faults.extend(
        found
            .into_iter()
            .filter(|fault| !consequence(fault))
            .map(|fault| locate(&tree, fault)),
    );
    faults.sort_by(|a, b| (a.span, &a.path, &a.message).cmp(&(b.span, &b.path, &b.message)));
    match policy {
        Some(policy)
            if faults
                .iter()
                .all(|fault| fault.severity == Severity::Warning) =>
        {
            Ok(Judged {
                raw,
                policy,
                warnings: faults,
                read,
                named,
            })
        }
        _ => Err(faults),
    }
}

impl Loaded {
    /// The same, if every component that must be signed is. `root` is what its paths are relative to.
    ///
    /// # Errors
    /// Every signature that is missing or does not let its component in, at the handler's `signed_by`.
    pub fn signed(self, root: &Path) -> Result<Self, LoadError> {
        let folders = Folders::below(root);
        let handlers = self.policy.handlers().iter();
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

    /// The same, if the files can be used that it names and that are not in its bundle: certificates, keys, passwords.
    ///
    /// # Errors
    /// Every one that cannot, where the policy names it.
    pub fn fitting(self, root: &Path) -> Result<Self, LoadError> {
        let faults = files::faults(&self.policy, root);
        self.unless(faults)
    }

    /// The same, if nothing is wrong.
    fn unless(self, faults: Vec<Fault>) -> Result<Self, LoadError> {
        if faults.is_empty() {
            return Ok(self);
        }
        let tree = parse::parse(&self.source.text).0;
        let faults = faults.into_iter().map(|fault| match &tree {
            Some(tree) => locate(tree, fault),
            // It was read a moment ago, so there is one.
            None => Located {
                severity: fault.severity,
                span: Span::default(),
                path: fault.path,
                message: fault.message,
                fix: fault.fix,
            },
        });
        let mut faults: Vec<_> = faults.chain(self.warnings).collect();
        faults.sort_by(|a, b| (a.span, &a.path, &a.message).cmp(&(b.span, &b.path, &b.message)));
        Err(LoadError::Faults(self.source, faults))
    }
}

/// Puts a fault of the validated policy at its place: the value, or the key of a collection or of what lacks something.
fn locate(tree: &crate::source::Tree, fault: Fault) -> Located {
    let place = path::follow(tree, &fault.path);
    let span = match place.key {
        Some(key) if !place.whole || tree.is_collection(place.node) => key.span,
        _ => tree.span(place.node),
    };
    Located {
        severity: fault.severity,
        span,
        path: fault.path,
        message: fault.message,
        fix: fault.fix,
    }
}
