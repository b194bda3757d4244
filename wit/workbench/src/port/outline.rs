//! Outline of a Python module: imports, definitions, and uses of imported names.
//!
//! A name counts where it is imported and wherever it is used. Names computed at run time
//! (`getattr`, `exec`) cannot be analysed; the functions that compute them are reported.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::{self, Line, LocatedToken, Token};

/// Built-in functions that are reported when they are called.
const BUILTINS: [&str; 12] = [
    "__import__",
    "breakpoint",
    "compile",
    "delattr",
    "eval",
    "exec",
    "getattr",
    "globals",
    "input",
    "open",
    "print",
    "setattr",
];

/// Built-ins that are reported even without a call, because they could be called under another
/// name.
const REACHES: [&str; 9] = [
    "__builtins__",
    "__import__",
    "delattr",
    "eval",
    "exec",
    "getattr",
    "globals",
    "open",
    "setattr",
];

/// Reported name for identifiers beyond ASCII. Python normalises them to other names before lookup.
const FOLDED: &str = "names that are not ASCII";

/// Parameter names that always denote the request context.
const ARGUMENTS: [&str; 2] = ["context", "ctx"];

/// One use of an imported name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Fully qualified name.
    pub name: String,
    /// Line number, from 1.
    pub line: usize,
    /// The enclosing function; empty at module level.
    pub function: String,
    /// Whether this is only the import.
    pub import: bool,
}

/// Outline of a module.
#[derive(Debug, Default)]
pub struct Outline {
    /// Classes and their bases, by fully qualified names.
    pub classes: BTreeMap<String, Vec<String>>,
    /// Functions, including methods.
    pub functions: BTreeSet<String>,
    /// The class of each method.
    methods: BTreeMap<String, String>,
    /// Every use of an imported name, including the imports themselves.
    pub uses: Vec<Use>,
    /// Fully qualified names by local name.
    imported: BTreeMap<String, String>,
}

/// An enclosing class or function.
struct Scope {
    indent: usize,
    class: bool,
    name: String,
}

impl Outline {
    /// Analyses a module.
    ///
    /// # Errors
    /// The text is not valid Python.
    pub fn read(text: &str) -> Result<Self, String> {
        let lines = lexer::lines(text)?;
        let mut outline = Self::default();
        // Imports are collected first, because a function may precede the import that it uses.
        let statements: Vec<(usize, &[LocatedToken])> = lines.iter().flat_map(statements).collect();
        for (_, statement) in &statements {
            outline.import(statement);
        }
        let mut scopes: Vec<Scope> = Vec::new();
        for (indent, statement) in statements {
            while scopes.last().is_some_and(|scope| indent <= scope.indent) {
                scopes.pop();
            }
            outline.statement(indent, statement, &mut scopes);
        }
        Ok(outline)
    }

    /// The class that defines the most typical handler method.
    pub fn handling_class(&self) -> Option<String> {
        let wanted = [
            "preprocess",
            "handle",
            "execute",
            "predict",
            "postprocess",
            "initialize",
        ];
        let class = wanted.iter().find_map(|name| self.methods.get(*name));
        class.filter(|class| !class.is_empty()).cloned()
    }

    fn statement(&mut self, indent: usize, statement: &[LocatedToken], scopes: &mut Vec<Scope>) {
        let function = scopes.iter().rev().find(|scope| !scope.class);
        let function = function.map(|scope| scope.name.clone()).unwrap_or_default();
        let words: Vec<&str> = statement.iter().map_while(word).collect();
        if let Some(folded) = statement.iter().find(|located| is_folded(located)) {
            self.uses.push(Use {
                name: FOLDED.to_owned(),
                line: folded.line,
                function: function.clone(),
                import: false,
            });
        }
        // Number of leading tokens that define a name instead of using one.
        let mut defined = 0_usize;
        match words.as_slice() {
            ["import" | "from", ..] => {
                for (_, name, line) in imports(statement) {
                    self.uses.push(Use {
                        name,
                        line,
                        function: function.clone(),
                        import: true,
                    });
                }
                return;
            }
            ["class", name, ..] => {
                let bases = self.chains(statement.get(2..).unwrap_or_default());
                let bases = bases.into_iter().map(|(name, _)| name).collect();
                self.classes.insert((*name).to_owned(), bases);
                scopes.push(Scope {
                    indent,
                    class: true,
                    name: (*name).to_owned(),
                });
                defined = 2;
            }
            ["def", name, ..] | ["async", "def", name, ..] => {
                let class = scopes.last().filter(|scope| scope.class);
                let class = class.map(|scope| scope.name.clone()).unwrap_or_default();
                self.functions.insert((*name).to_owned());
                self.methods.entry((*name).to_owned()).or_insert(class);
                scopes.push(Scope {
                    indent,
                    class: false,
                    name: (*name).to_owned(),
                });
                defined = 2;
            }
            _ => {}
        }
        for (name, line) in self.chains(statement.get(defined..).unwrap_or_default()) {
            self.uses.push(Use {
                name,
                line,
                function: function.clone(),
                import: false,
            });
        }
    }

    fn import(&mut self, statement: &[LocatedToken]) {
        for (local, full, _) in imports(statement) {
            self.imported.insert(local, full);
        }
    }

    /// The dotted names in a statement that start with a known name, fully qualified.
    fn chains(&self, statement: &[LocatedToken]) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        let mut at = 0_usize;
        while let Some(located) = statement.get(at) {
            let before = at.checked_sub(1).and_then(|at| statement.get(at));
            let belongs = before.is_some_and(|before| before.token == Token::Sign('.'));
            let Token::Name(first) = &located.token else {
                at = at.saturating_add(1);
                continue;
            };
            let (parts, next) = dotted(statement, at);
            at = next;
            let called = statement
                .get(next)
                .is_some_and(|after| after.token == Token::Sign('('));
            // The name of a keyword argument is not a use.
            let named = parts.is_empty()
                && located.depth > 0
                && statement
                    .get(next)
                    .is_some_and(|after| after.token == Token::Sign('='));
            if belongs || named {
                continue;
            }
            let full = match self.imported.get(first) {
                Some(full) => full.clone(),
                None if first == "self"
                    && parts.first().is_some_and(|part| *part == "model")
                    && called =>
                {
                    "self".to_owned()
                }
                None if ARGUMENTS.contains(&first.as_str()) && !parts.is_empty() => {
                    "context".to_owned()
                }
                None if BUILTINS.contains(&first.as_str()) && called && parts.is_empty() => {
                    format!("builtins.{first}")
                }
                None if REACHES.contains(&first.as_str()) => format!("builtins.{first}"),
                None => continue,
            };
            let name = parts
                .iter()
                .fold(full, |name, part| format!("{name}.{part}"));
            found.push((name, located.line));
        }
        found
    }
}

/// The attributes after the first name of a chain, and the index after the chain.
fn dotted(statement: &[LocatedToken], from: usize) -> (Vec<&str>, usize) {
    let mut parts = Vec::new();
    let mut at = from.saturating_add(1);
    while statement
        .get(at)
        .is_some_and(|located| located.token == Token::Sign('.'))
    {
        let Some(name) = statement.get(at.saturating_add(1)).and_then(word) else {
            break;
        };
        parts.push(name);
        at = at.saturating_add(2);
    }
    (parts, at)
}

/// Splits a line at semicolons and colons, so that `if x: import y` is found.
fn statements(line: &Line) -> impl Iterator<Item = (usize, &[LocatedToken])> {
    let ends = |located: &LocatedToken| {
        located.depth == 0 && matches!(located.token, Token::Sign(';' | ':'))
    };
    let indent = line.indent;
    // Text after a colon is nested in the text before it.
    line.tokens
        .split(ends)
        .enumerate()
        .filter_map(move |(at, part)| {
            let indent = indent.saturating_add(usize::from(at > 0));
            (!part.is_empty()).then_some((indent, part))
        })
}

/// The names that an import binds: local name, fully qualified name, line.
fn imports(statement: &[LocatedToken]) -> Vec<(String, String, usize)> {
    let Some(first) = statement.first() else {
        return Vec::new();
    };
    let rest = statement.get(1..).unwrap_or_default();
    match word(first) {
        Some("import") => rest
            .split(|located| located.token == Token::Sign(','))
            .filter_map(|part| {
                let (parts, next) = dotted(part, 0);
                let root = word(part.first()?)?;
                let full = parts
                    .iter()
                    .fold(root.to_owned(), |name, part| format!("{name}.{part}"));
                let local = renamed(part, next);
                Some(match local {
                    Some(local) => (local, full, first.line),
                    None => (root.to_owned(), root.to_owned(), first.line),
                })
            })
            .collect(),
        Some("from") => {
            let Some(at) = rest
                .iter()
                .position(|located| word(located) == Some("import"))
            else {
                return Vec::new();
            };
            let (module, names) = rest.split_at(at);
            let module: String = module
                .iter()
                .map(|located| word(located).unwrap_or("."))
                .collect();
            let names = names.get(1..).unwrap_or_default();
            names
                .split(|located| located.token == Token::Sign(','))
                .filter_map(|part| {
                    let at = part.iter().position(|located| word(located).is_some())?;
                    let name = word(part.get(at)?)?;
                    let local = renamed(part, at.saturating_add(1));
                    let full = format!("{module}.{name}");
                    Some((local.unwrap_or_else(|| name.to_owned()), full, first.line))
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The name after `as`.
fn renamed(part: &[LocatedToken], at: usize) -> Option<String> {
    let (keyword, name) = (part.get(at)?, part.get(at.saturating_add(1))?);
    (word(keyword)? == "as").then(|| word(name).map(str::to_owned))?
}

fn is_folded(located: &LocatedToken) -> bool {
    match &located.token {
        Token::Name(name) => !name.is_ascii(),
        Token::Sign(sign) => !sign.is_ascii(),
        Token::Value => false,
    }
}

fn word(located: &LocatedToken) -> Option<&str> {
    match &located.token {
        Token::Name(name) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(text: &str) -> Vec<String> {
        let outline = Outline::read(text).unwrap_or_default();
        let uses = outline.uses.iter();
        uses.map(|one| format!("{}:{} {}", one.line, one.function, one.name))
            .collect()
    }

    #[test]
    fn a_name_is_reported_by_its_qualified_name() {
        let text = "import numpy as np, os.path\nfrom PIL import (Image as I,\n  ImageOps)\n\
                    def f(x):\n    y = np.array(I.open(x)) + os.path.join(x)\n    return ImageOps\n";
        assert_eq!(
            uses(text),
            [
                "1: numpy",
                "1: os",
                "2: PIL.Image",
                "2: PIL.ImageOps",
                "5:f numpy.array",
                "5:f PIL.Image.open",
                "5:f os.path.join",
                "6:f PIL.ImageOps"
            ]
        );
    }

    #[test]
    fn other_names_are_not_reported() {
        for text in [
            "x.numpy.array(1)\n",
            "def open(self): pass\n",
            "a.open(1)\n",
            "f(open=1)\n",
            "# eval(x)\n'exec(y)'\n",
        ] {
            let found = uses(text);
            assert!(found.is_empty(), "{text}: {found:?}");
        }
        assert_eq!(uses("import json\nf(json=1)\n"), ["1: json"]);
    }

    #[test]
    fn renamed_built_ins_are_reported() {
        for (text, expected) in [
            ("o = open\n", "1: builtins.open"),
            ("[eval][0]('1')\n", "1: builtins.eval"),
            ("__builtins__['exec']('x')\n", "1: builtins.__builtins__"),
            ("\u{1d4f8}pen('x')\n", "1: names that are not ASCII"),
            ("import \u{1d4f8}s\n", "1: names that are not ASCII"),
            ("f\"{open('x')}\"\n", "1: builtins.open"),
            ("# a\ropen('x')\n", "2: builtins.open"),
        ] {
            assert!(uses(text).contains(&expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn nested_imports_are_found() {
        let text = "def f():\n    if a: import os; os.system('x')\n    try:\n        from . import secret\n    except E: pass\n";
        let found = uses(text);
        assert_eq!(
            found,
            ["2:f os", "2:f os.system", "4:f ..secret"],
            "{found:?}"
        );
    }

    #[test]
    fn methods_belong_to_their_class() {
        let text = "class H(Base):\n    def preprocess(self, d):\n        def inner(): pass\n        return open(d)\n\ndef free(): pass\n";
        let outline = Outline::read(text).unwrap_or_default();
        assert_eq!(outline.handling_class().as_deref(), Some("H"));
        assert!(outline.functions.contains("free"));
        assert_eq!(uses(text), ["4:preprocess builtins.open"]);
    }
}
