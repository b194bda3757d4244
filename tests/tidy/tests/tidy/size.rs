//! The caps on the size of the shipped code: how many tokens each wing may have, and when a cap may
//! rise. `docs/explanation/size.md` explains them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::circles::split_tests;
use crate::identifiers::word;
use crate::modules::holds_tests;
use crate::sources::tracked;
use crate::tokens::{self, Language};
use crate::{none, output, root};

/// The file with the caps and the folders of each wing.
const CAPS: &str = "tests/tidy/size-caps.txt";

/// The file with the tokens by which issues may raise a cap.
const ALLOWANCES: &str = "tests/tidy/size-allowances.txt";

/// The page that explains them.
const PAGE: &str = "docs/explanation/size.md";

/// The name in the file of caps for what is not shipped.
const NOT_SHIPPED: &str = "none";

/// How far a wing may be above its cap, per thousand tokens of the cap.
const SLACK_PER_THOUSAND: usize = 5;

/// Tokens by wing.
type Tokens<'a> = BTreeMap<&'a str, usize>;

/// A folder, or one file, that belongs to a wing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Folder<'a> {
    wing: &'a str,
    path: &'a str,
}

impl Folder<'_> {
    fn contains(&self, file: &str) -> bool {
        let rest = file.strip_prefix(self.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The file of caps.
struct Caps<'a> {
    caps: Tokens<'a>,
    folders: Vec<Folder<'a>>,
}

impl<'a> Caps<'a> {
    fn read(text: &'a str) -> Self {
        let mut caps = Tokens::new();
        let mut folders = Vec::new();
        for row in rows(text) {
            if let Some((wing, tokens)) = cap(row) {
                caps.insert(wing, tokens);
                continue;
            }
            match row.split_once(' ') {
                Some((wing, path)) if wing != "cap" => folders.push(Folder { wing, path }),
                _ => panic!("{CAPS}: `{row}` is neither `cap WING TOKENS` nor `WING FOLDER`"),
            }
        }
        Self { caps, folders }
    }

    /// The nearest folder of a file. It decides to which wing the file belongs.
    fn folder(&self, file: &str) -> Option<Folder<'a>> {
        let above = self.folders.iter().filter(|folder| folder.contains(file));
        above.max_by_key(|folder| folder.path.len()).copied()
    }

    /// What is wrong with the rows for these source files.
    fn faults(&self, files: &[String]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut used = BTreeSet::new();
        for file in files {
            match self.folder(file) {
                Some(folder) => {
                    used.insert(folder);
                }
                None if Language::of(file) == Some(Language::Plain) => {}
                None => faults.push(format!("{file} is in no wing: add a row for its folder")),
            }
        }
        for folder in &self.folders {
            let Folder { wing, path } = folder;
            if !used.contains(folder) {
                faults.push(format!("no source file is at {path}: remove its row"));
            }
            if *wing != NOT_SHIPPED && !self.caps.contains_key(wing) {
                faults.push(format!("{path} is in {wing}, which has no cap"));
            }
        }
        faults
    }

    /// The tokens of each wing in these sources, which are paths with their texts.
    fn count(&self, sources: &[(String, String)]) -> Tokens<'a> {
        let mut files = Vec::new();
        let mut test_modules = BTreeSet::new();
        for (file, text) in sources {
            let Some((folder, language)) = self.folder(file).zip(Language::of(file)) else {
                continue;
            };
            if folder.wing == NOT_SHIPPED || is_test(file) {
                continue;
            }
            let code = tokens::without_comments(language, text);
            let tokens = if language == Language::Rust {
                let split = split_tests(&code);
                test_modules.extend(declared_modules(file, &split.tests));
                tokens::count(&split.code)
            } else {
                tokens::count(&code)
            };
            files.push((Path::new(file).with_extension(""), folder.wing, tokens));
        }
        let mut counted: Tokens = self.caps.keys().map(|wing| (*wing, 0)).collect();
        for (path, wing, tokens) in files {
            if !path.ancestors().any(|above| test_modules.contains(above)) {
                let sum = counted.entry(wing).or_default();
                *sum = sum.saturating_add(tokens);
            }
        }
        counted
    }
}

/// The rows of a file, without comments.
fn rows(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The wing and the tokens of a row with a cap.
fn cap(row: &str) -> Option<(&str, usize)> {
    let (wing, tokens) = row.strip_prefix("cap ")?.split_once(' ')?;
    Some((wing, tokens.parse().ok()?))
}

/// Whether a file is below a folder of tests, or a script of tests. Of the modules of a crate,
/// those hold tests that are declared as such.
fn is_test(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or_default();
    let is_module = name.ends_with(".rs") && file.contains("/src/");
    !is_module && (holds_tests(Path::new(file)) || name.starts_with("test_"))
}

/// The paths, without an ending, of the modules that these items of a Rust file declare.
fn declared_modules(file: &str, items: &[&str]) -> Vec<PathBuf> {
    let path = Path::new(file);
    let is_crate_root = path.ends_with("lib.rs") || path.ends_with("main.rs");
    let folder = if is_crate_root {
        path.with_file_name("")
    } else {
        path.with_extension("")
    };
    let declared = |item: &&str| {
        let (_, name) = item.strip_suffix(';')?.rsplit_once("mod ")?;
        (word(name) == name).then(|| folder.join(name))
    };
    items.iter().filter_map(declared).collect()
}

/// The tokens of a wing, which are zero if it is not there.
fn tokens_of(tokens: &Tokens, wing: &str) -> usize {
    tokens.get(wing).copied().unwrap_or_default()
}

/// Wings that have more tokens than they may.
fn growth(caps: &Tokens, counted: &Tokens) -> Vec<String> {
    let fault = |(wing, tokens): (&&str, &usize)| {
        let cap = tokens_of(caps, wing);
        let slack = cap.saturating_mul(SLACK_PER_THOUSAND) / 1000;
        (*tokens > cap.saturating_add(slack)).then(|| {
            format!("{wing} has {tokens} tokens, and its cap is {cap}: remove code first ({PAGE})")
        })
    };
    counted.iter().filter_map(fault).collect()
}

/// The tokens by which caps rose while no other cap fell in the same commit, by wing. The patches
/// are those of the file of caps, oldest first, each after a line that starts with `commit`. The
/// first version of the file is no rise.
fn uncovered(patches: &str) -> BTreeMap<String, usize> {
    let mut commits: Vec<(Tokens, Tokens)> = Vec::new();
    for line in patches.lines() {
        if line.starts_with("commit") {
            commits.push((Tokens::new(), Tokens::new()));
        }
        let Some((before, after)) = commits.last_mut() else {
            continue;
        };
        before.extend(line.strip_prefix('-').map(str::trim).and_then(cap));
        after.extend(line.strip_prefix('+').map(str::trim).and_then(cap));
    }
    let mut risen = BTreeMap::<String, usize>::new();
    let changes = commits
        .iter()
        .skip_while(|(_, after)| after.is_empty())
        .skip(1);
    for (before, after) in changes {
        let mut fallen = 0_usize;
        for (wing, tokens) in before {
            fallen = fallen.saturating_add(tokens.saturating_sub(tokens_of(after, wing)));
        }
        for (wing, tokens) in after {
            let rise = tokens.saturating_sub(tokens_of(before, wing));
            let sum = risen.entry((*wing).to_owned()).or_default();
            *sum = sum.saturating_add(rise.saturating_sub(fallen));
            fallen = fallen.saturating_sub(rise);
        }
    }
    risen
}

/// The tokens by which the caps may rise, by wing, from rows `WING TOKENS ISSUE NAME`.
fn allowances(text: &str) -> Tokens<'_> {
    let mut allowed = Tokens::new();
    for row in rows(text) {
        let mut words = row.split_whitespace();
        let (wing, tokens, issue) = (words.next(), words.next(), words.next());
        let tokens = tokens.and_then(|tokens| tokens.parse::<usize>().ok());
        let issue = issue.and_then(|issue| issue.parse::<usize>().ok());
        match (wing, tokens, issue, words.next()) {
            (Some(wing), Some(tokens), Some(_), Some(_)) => {
                let sum = allowed.entry(wing).or_default();
                *sum = sum.saturating_add(tokens);
            }
            _ => panic!("{ALLOWANCES}: `{row}` is not `WING TOKENS ISSUE NAME`"),
        }
    }
    allowed
}

/// Caps that rose further than the allowances.
fn rises(risen: &BTreeMap<String, usize>, allowed: &Tokens) -> Vec<String> {
    let fault = |(wing, tokens): (&String, &usize)| {
        let allowed = tokens_of(allowed, wing);
        (*tokens > allowed).then(|| {
            format!(
                "the cap of {wing} rose by {tokens} tokens, {allowed} are allowed: lower \
                 another cap by as much in the same commit ({PAGE})"
            )
        })
    };
    risen.iter().filter_map(fault).collect()
}

/// The patches of the file of caps, with changes that are not committed as the last commit.
fn history() -> String {
    let is_shallow = output("git", &["rev-parse", "--is-shallow-repository"]);
    assert_eq!(
        is_shallow.trim(),
        "false",
        "this clone lacks the history of {CAPS}: run `git fetch --unshallow`"
    );
    let log = ["log", "-m", "--first-parent", "--reverse"];
    let diff = ["diff", "HEAD"];
    let patches = ["-p", "--unified=0", "--no-color", "--no-ext-diff", "--text"];
    let file = ["--", CAPS];
    let heading = ["--format=commit %h"];
    let committed = output("git", &[log.as_slice(), &heading, &patches, &file].concat());
    let changed = output("git", &[diff.as_slice(), &patches, &file].concat());
    format!("{committed}\ncommit\n{changed}")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

#[test]
fn no_wing_is_above_its_cap() {
    let text = read(CAPS);
    let caps = Caps::read(&text);
    let mut files = tracked();
    files.retain(|file| Language::of(file).is_some());
    none(CAPS, caps.faults(&files));
    files.retain(|file| {
        let folder = caps.folder(file);
        folder.is_some_and(|folder| folder.wing != NOT_SHIPPED)
    });
    let sources: Vec<_> = files
        .into_iter()
        .map(|file| {
            let text = read(&file);
            (file, text)
        })
        .collect();
    let counted = caps.count(&sources);
    // Shown with `--nocapture`.
    for (wing, tokens) in &counted {
        println!("{wing} {tokens}");
    }
    none(CAPS, growth(&caps.caps, &counted));
}

#[test]
fn no_cap_rises_without_a_fall_or_an_allowance() {
    let text = read(ALLOWANCES);
    let risen = uncovered(&history());
    none(CAPS, rises(&risen, &allowances(&text)));
}

#[test]
fn growth_is_found() {
    let counted = |tokens| Tokens::from([("gate", tokens)]);
    let caps = Tokens::from([("gate", 1000), ("models", 5)]);
    for tokens in [0, 999, 1000, 1005] {
        assert_eq!(growth(&caps, &counted(tokens)), [""; 0], "{tokens}");
    }
    assert_eq!(
        growth(&caps, &counted(1006)),
        [
            "gate has 1006 tokens, and its cap is 1000: remove code first \
            (docs/explanation/size.md)"
        ]
    );
    assert_eq!(growth(&Tokens::new(), &counted(1)).len(), 1);
}

#[test]
fn files_belong_to_the_nearest_folder() {
    let text = "# Caps.\ncap gate 10\ncap models 10\n\ngate cli\nmodels cli/model\n\
                none cli/model/double.rs\nauthors wit\n";
    let caps = Caps::read(text);
    let wing = |file| caps.folder(file).map(|folder| folder.wing);
    assert_eq!(wing("cli/src/main.rs"), Some("gate"));
    assert_eq!(wing("cli/model/src/main.rs"), Some("models"));
    assert_eq!(wing("cli/models.rs"), Some("gate"));
    assert_eq!(wing("cli/model/double.rs"), Some(NOT_SHIPPED));
    assert_eq!(wing("client/src/main.rs"), None);
    let files = ["cli/a.rs", "cli/model/double.rs", "client/b.py"].map(str::to_owned);
    assert_eq!(
        caps.faults(&files),
        [
            "client/b.py is in no wing: add a row for its folder",
            "no source file is at cli/model: remove its row",
            "no source file is at wit: remove its row",
            "wit is in authors, which has no cap",
        ]
    );
}

#[test]
fn tests_do_not_count() {
    let text = "cap gate 0\ngate cli\nnone cli/double.rs\n";
    let caps = Caps::read(text);
    let sources = [
        ("cli/src/lib.rs", "mod a;\n#[cfg(test)]\nmod b;\n"),
        (
            "cli/src/a.rs",
            "fn c() {}\n#[cfg(all(test, unix))]\npub(crate) mod d;\n#[cfg(test)]\nmod tests {\n    \
             #[cfg(unix)]\n    fn e() { \"}\" }\n}\n#[cfg(unix)]\nfn f() {}\n",
        ),
        ("cli/src/a/d.rs", "fn g() {}\n"),
        ("cli/src/b.rs", "mod h;\n"),
        ("cli/src/b/h.rs", "fn i() {}\n"),
        // A name does not make a module one of tests.
        ("cli/src/own_tests.rs", "fn j() {}\n"),
        ("cli/src/tests.rs", "fn p() {}\n"),
        ("cli/tests/it/main.rs", "fn k() {}\n"),
        ("cli/test_l.py", "l = 1\n"),
        ("cli/double.rs", "fn m() {}\n"),
        ("cli/help.txt", "n\n"),
        ("cli/n.bin", "n\n"),
        ("cli/src/o.lua", "return 1 -- o\n"),
    ];
    let sources = sources.map(|(file, text)| (file.to_owned(), text.to_owned()));
    // `mod a`, `fn c`, `# cfg unix fn f`, `fn j`, `fn p`, `n` and `return 1`.
    assert_eq!(caps.count(&sources), Tokens::from([("gate", 16)]));
}

#[test]
fn a_raise_needs_a_fall_or_an_allowance() {
    let first = "commit a\n+++ b/size-caps.txt\n+# Caps.\n+cap gate 100\n+cap models 50\n";
    let risen = |patches: &str| uncovered(&format!("{first}{patches}"));
    let faults = |patches: &str, allowed: &str| rises(&risen(patches), &allowances(allowed)).len();
    let raise = "commit b\n-cap gate 100\n+cap gate 110\n";
    let fall = "-cap models 50\n+cap models 40\n";
    assert_eq!(faults("", ""), 0);
    assert_eq!(faults(raise, ""), 1);
    assert_eq!(faults(&format!("{raise}{fall}"), ""), 0);
    assert_eq!(faults(raise, "# Rows.\ngate 10 99 First things\n"), 0);
    assert_eq!(faults(raise, "gate 4 98 One\ngate 6 99 Two\n"), 0);
    assert_eq!(faults(raise, "gate 9 99 First things\n"), 1);
    assert_eq!(faults(raise, "models 10 99 First things\n"), 1);
    // A fall in another commit covers nothing, and neither does one that is too small.
    assert_eq!(faults(&format!("{raise}commit c\n{fall}"), ""), 1);
    assert_eq!(faults(&format!("commit c\n{fall}{raise}"), ""), 1);
    // Blanks around a row.
    assert_eq!(faults("commit b\n-cap gate 100\n+ cap gate 110 \n", ""), 1);
    let small = "-cap models 50\n+cap models 43\n";
    assert_eq!(risen(&format!("{raise}{small}")).get("gate"), Some(&3));
    // A part of a wing that becomes a wing, and a cap that is removed and comes back.
    let split = "commit b\n-cap gate 100\n+cap gate 70\n+cap watch 30\n";
    assert_eq!(faults(split, ""), 0);
    let removed = "commit b\n-cap gate 100\ncommit c\n+cap gate 120\n";
    assert_eq!(risen(removed).get("gate"), Some(&120));
    // Rises of several commits add up.
    let more = "commit c\n-cap gate 110\n+cap gate 115\n";
    assert_eq!(risen(&format!("{raise}{more}")).get("gate"), Some(&15));
}
