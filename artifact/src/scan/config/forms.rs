//! The closed forms of configurations: what readers do with the texts under a key.
//!
//! A key that is not in the table may have any text but a reference: an import path, a repository
//! of a hub, an address, or a path beyond the folder.

use super::super::Verdict;
use super::super::names::is_plain_path;
use super::keys::is_one_of;
use super::reference::{Reference, is_import_path};

use Judgement::{Data, Found, Model, SavedPath, Unlisted};
use Readers::{
    Base, Choose, Engine, Ignore, Import, Load, Lookup, ModelClass, ModelModule, Open, OpenSaved,
    Options, Run,
};

mod table;

use table::FORMS;

/// The module of MLflow that reads an ONNX file and nothing else.
const ONNX_LOADER: &str = "mlflow.onnx";

/// What the known readers of a file do with the texts under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// None follows them.
    Ignore,
    /// The keys below are names of options or of parts of the model. Texts are as elsewhere.
    Options,
    /// They look them up in a library: no reference but with one of these beginnings.
    Lookup(&'static [&'static str]),
    /// They open them as files below the folder.
    Open,
    /// The same, but older tools wrote the path of the machine that saved the model.
    OpenSaved,
    /// They load the model that an adapter changes, whose name every adapter has. Servers are given
    /// that model, and the name is a note for them.
    Base,
    /// They import the module, which is one of a model.
    ModelModule,
    /// They build the class of this name, which is that of a model.
    ModelClass,
    /// An engine loads them, if the file is that of its arguments.
    Engine,
    /// They take words for functions of their own, and import or fetch anything else: only with one
    /// of these beginnings.
    Choose(&'static [&'static str]),
    /// They import them: only with one of these beginnings.
    Import(&'static [&'static str]),
    /// They import a module of MLflow that reads further files, and anything else is code.
    Load,
    /// They import, run, install or fetch whatever they name.
    Run,
}

/// What a text under a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// No reader follows it anywhere.
    Data,
    /// No rule is about it: no reference is allowed.
    Unlisted,
    /// It names a model, if the file is that of an engine.
    Model,
    /// It is an absolute path of the machine that saved the model.
    SavedPath,
    /// It has this verdict.
    Found(Verdict, &'static str),
}

impl Readers {
    /// Whether readers follow texts, so that no key below can say otherwise.
    pub(super) const fn follow(self) -> bool {
        matches!(self, ModelModule | Choose(_) | Import(_) | Load | Run)
    }

    /// Whether the keys of a map may be any text.
    pub(super) const fn any_keys(self) -> bool {
        matches!(self, Ignore | Options)
    }

    /// What a text is.
    pub(super) fn judge(self, text: &str) -> Judgement {
        match self {
            Ignore => Data,
            Lookup(beginnings) if begins_with(text, beginnings) => Data,
            Options | Lookup(_) => Unlisted,
            Open | OpenSaved if is_inside(text) => Data,
            Base | OpenSaved if is_saved_path(text) => SavedPath,
            Base if is_base(text) => Data,
            ModelModule if is_model_module(text) => Data,
            ModelClass | Engine | Choose(_) | Import(_) | Load | Run if text.trim().is_empty() => {
                Data
            }
            ModelClass if is_model_class(text) => Data,
            ModelClass => Found(
                Verdict::Unknown,
                "readers build it, and it is no known model",
            ),
            // A word is the name of this model in notes about it.
            Engine if !text.contains(['/', '\\']) => Model,
            Choose(beginnings) | Import(beginnings) if begins_with(text, beginnings) => Data,
            Choose(_) if !text.contains(['.', '/', ':', '\\']) => Data,
            Load if text == ONNX_LOADER => Data,
            Load if begins_with(text, &["mlflow."]) => Found(
                Verdict::Unknown,
                "readers import it, and it loads further files",
            ),
            Open | OpenSaved | Base | Engine => {
                Found(Verdict::Executable, "readers fetch or open it")
            }
            ModelModule | Choose(_) | Import(_) | Load | Run => Found(
                Verdict::Executable,
                "readers import, run, install or fetch it",
            ),
        }
    }
}

/// Whether a text is one of these names, or an import path that begins with one that ends in a dot
/// or a colon.
fn begins_with(text: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|beginning| {
        text == *beginning
            || (beginning.ends_with(['.', ':'])
                && text.starts_with(*beginning)
                && is_import_path(text))
    })
}

/// Whether a text names a file or folder below the folder of the configuration.
fn is_inside(text: &str) -> bool {
    let path = text.strip_prefix("./").unwrap_or(text);
    let path = path.strip_suffix('/').unwrap_or(path);
    matches!(path, "" | ".") || is_plain_path(path)
}

/// Whether a text names a model of a hub, or a folder beside the adapter.
fn is_base(text: &str) -> bool {
    let leaves = Reference::from_text(text).is_some_and(Reference::leaves);
    !leaves && !text.contains([':', '@', '|'])
}

/// Whether a text is a path from a root or a drive, but not upwards or on another machine.
fn is_saved_path(text: &str) -> bool {
    let mut characters = text.chars();
    let has_root = match (characters.next(), characters.next(), characters.next()) {
        (Some('/'), Some(next), _) => !matches!(next, '/' | '\\'),
        (Some(drive), Some(':'), Some('/' | '\\')) => drive.is_ascii_alphabetic(),
        _ => false,
    };
    let is_part = |part: &str| part != ".." && !part.contains(char::is_control);
    has_root && !text.contains("://") && text.split(['/', '\\']).all(is_part)
}

/// Whether a text is Transformers or one of its modules with models. The import of some others has
/// effects: one compiles code that it finds.
fn is_model_module(text: &str) -> bool {
    let name = text.rsplit('.').next().unwrap_or_default();
    begins_with(text, &["transformers", "transformers."])
        && (name == text || name.starts_with("modeling_"))
}

/// Whether a text is the name of a class of Transformers with the weights of a model. Its other
/// classes read tables, some of which are pickles.
fn is_model_class(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && ["For", "Model"].iter().any(|part| text.contains(part))
}

/// Keys whose texts readers treat alike.
#[derive(Debug)]
pub(super) struct Rule {
    keys: &'static [&'static str],
    /// Whether it applies to everything below a key, or only to its text, or to those of its list.
    pub(super) is_below: bool,
    /// What readers do.
    pub(super) readers: Readers,
}

const fn here(keys: &'static [&'static str], readers: Readers) -> Rule {
    Rule {
        keys,
        is_below: false,
        readers,
    }
}

const fn below(keys: &'static [&'static str], readers: Readers) -> Rule {
    Rule {
        keys,
        is_below: true,
        readers,
    }
}

/// Configurations of one kind.
#[derive(Debug)]
pub(super) struct Form {
    /// The names of the files in lower case, most of them without their ending.
    names: &'static [&'static str],
    rules: &'static [Rule],
}

impl Form {
    /// The form of a file, if its name has one. `name` is in lower case.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let is_named = |form: &&Self| [name, stem].iter().any(|it| form.names.contains(it));
        FORMS.iter().find(is_named)
    }

    /// The rule of a key.
    pub(super) fn rule(&self, key: &str) -> Option<&'static Rule> {
        self.rules.iter().find(|rule| is_one_of(rule.keys, key))
    }
}
