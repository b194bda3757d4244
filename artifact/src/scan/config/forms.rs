//! The closed forms of configurations: what readers do with the texts under a key.
//!
//! A key that is not in the table may have any text but a reference: an import path, a repository
//! of a hub, an address, or a path beyond the folder.

use super::super::Verdict;
use super::super::names::is_plain_path;
use super::reference::{Reference, is_import_path};

mod table;

use table::{FORMS, MODULE_FILES};

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
    /// They load the model that an adapter changes, whose name every adapter has. Servers are given
    /// that model, and the name is a note for them.
    Base,
    /// They take words for functions of their own, and import or fetch anything else: only with one
    /// of these beginnings.
    Choose(&'static [&'static str]),
    /// They import them: only with one of these beginnings.
    Import(&'static [&'static str]),
    /// They import them from a library that reads further files, and anything else is code.
    Load(&'static [&'static str]),
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
    /// It has this verdict.
    Found(Verdict, &'static str),
}

impl Readers {
    /// Whether readers follow texts, so that no key below can say otherwise.
    pub(super) const fn follow(self) -> bool {
        matches!(
            self,
            Self::Choose(_) | Self::Import(_) | Self::Load(_) | Self::Run
        )
    }

    /// Whether the keys of a map may be any text.
    pub(super) const fn any_keys(self) -> bool {
        matches!(self, Self::Ignore | Self::Options)
    }

    /// What a text is.
    pub(super) fn judge(self, text: &str) -> Judgement {
        let trimmed = text.trim();
        match self {
            Self::Ignore => Judgement::Data,
            Self::Lookup(beginnings) if begins_with(text, beginnings) => Judgement::Data,
            Self::Options | Self::Lookup(_) => Judgement::Unlisted,
            Self::Open if is_inside(text) => Judgement::Data,
            Self::Open => Judgement::Found(
                Verdict::Executable,
                "readers open it, and it is no path below the folder",
            ),
            Self::Base if is_base(text) => Judgement::Data,
            Self::Base => Judgement::Found(Verdict::Executable, "readers fetch or open it"),
            Self::Choose(beginnings) | Self::Import(beginnings) | Self::Load(beginnings)
                if begins_with(text, beginnings) =>
            {
                if matches!(self, Self::Load(_)) {
                    let detail = "readers import it, and it loads further files";
                    return Judgement::Found(Verdict::Unknown, detail);
                }
                Judgement::Data
            }
            Self::Choose(_) if !trimmed.contains(['.', '/', ':', '\\']) => Judgement::Data,
            Self::Choose(_) | Self::Import(_) | Self::Load(_) | Self::Run if trimmed.is_empty() => {
                Judgement::Data
            }
            Self::Choose(_) | Self::Import(_) | Self::Load(_) => {
                Judgement::Found(Verdict::Executable, "readers import or fetch it")
            }
            Self::Run => Judgement::Found(
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
    let is_elsewhere = matches!(
        Reference::from_text(text),
        Some(Reference::Url | Reference::OutsidePath)
    );
    !is_elsewhere && !text.contains([':', '@', '|'])
}

/// How far down a rule applies.
#[derive(Clone, Copy, Debug)]
enum Scope {
    /// To the text of the key, or to those of its list.
    Here,
    /// To everything below the key.
    Below,
}

/// Keys whose texts readers treat alike.
#[derive(Debug)]
pub(super) struct Rule {
    keys: &'static [&'static str],
    scope: Scope,
    /// What readers do.
    pub(super) readers: Readers,
}

impl Rule {
    /// Whether the rule applies to everything below the key.
    pub(super) const fn is_below(&self) -> bool {
        matches!(self.scope, Scope::Below)
    }
}

const fn here(keys: &'static [&'static str], readers: Readers) -> Rule {
    Rule {
        keys,
        scope: Scope::Here,
        readers,
    }
}

const fn below(keys: &'static [&'static str], readers: Readers) -> Rule {
    Rule {
        keys,
        scope: Scope::Below,
        readers,
    }
}

/// Files of these names, in lower case.
#[derive(Debug)]
pub(super) struct Form {
    names: &'static [&'static str],
    rules: &'static [Rule],
}

impl Form {
    /// The form of a file, if its name has one. `name` is in lower case.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        FORMS.iter().find(|form| form.names.contains(&name))
    }

    /// The rule of a key.
    pub(super) fn rule(&self, key: &str) -> Option<&'static Rule> {
        self.rules.iter().find(|rule| rule.keys.contains(&key))
    }
}

/// The modules that the text of a file with this name may be, if readers import it.
pub(super) fn modules_of_file(name: &str) -> Option<&'static [&'static str]> {
    let file = MODULE_FILES.iter().find(|(known, _)| *known == name);
    file.map(|(_, modules)| *modules)
}
