//! The recorded size of each crate. A crate that grows needs a new record, and a record that rises
//! needs a line in the changelog that says what the growth bought.

use std::collections::{BTreeMap, BTreeSet};

use crate::{none, output, root};

/// The page with the records.
const PAGE: &str = "docs/explanation/size.md";

/// How far a size may be from its record: percent of the record, or lines if these are more.
const MAX_CHANGE_PERCENT: usize = 3;
const MAX_CHANGE_LINES: usize = 20;

/// Code lines by crate, and those of all crates as `all`.
type Sizes<'a> = BTreeMap<&'a str, usize>;

/// A record that rose, or what a line of the changelog says of one.
#[derive(Debug, PartialEq)]
struct Rise {
    name: String,
    before: usize,
    after: usize,
}

/// The name and the record of a row. Other lines are none.
fn record(line: &str) -> Option<(&str, usize)> {
    let mut cells = line.strip_prefix("| `")?.split(" | ");
    let name = cells.next()?.strip_suffix('`')?;
    Some((name, cells.next()?.parse().ok()?))
}

/// What `tools/lines.py` prints.
fn sizes(printed: &str) -> Sizes<'_> {
    let rows = printed.lines().map(|line| line.split_once(' ').unwrap());
    rows.map(|(name, lines)| (name, lines.parse().unwrap()))
        .collect()
}

/// Records that are not those of the crates.
fn faults(records: &Sizes, sizes: &Sizes) -> Vec<String> {
    let names: BTreeSet<_> = records.keys().chain(sizes.keys()).copied().collect();
    let fault = |name: &str| match (records.get(name), sizes.get(name)) {
        (None, Some(lines)) => Some(format!("{name} has {lines} lines and no row")),
        (Some(_), None) => Some(format!("{name} is no crate: remove its row")),
        (Some(record), Some(lines)) => {
            let percent = record.saturating_mul(MAX_CHANGE_PERCENT) / 100;
            let is_near = lines.abs_diff(*record) <= percent.max(MAX_CHANGE_LINES);
            let cure = if lines > record {
                "find what is dead, or record it and say in CHANGELOG.md what it bought"
            } else {
                "record it"
            };
            (!is_near).then(|| format!("{name}: {record} lines recorded, now {lines}: {cure}"))
        }
        (None, None) => None,
    };
    names.into_iter().filter_map(fault).collect()
}

/// Every rise of a record, from patches of the page, oldest first.
fn rises(patches: &str) -> Vec<Rise> {
    let mut last = Sizes::new();
    let mut rises = Vec::new();
    for line in patches.lines() {
        let Some((name, after)) = line.strip_prefix('+').and_then(record) else {
            continue;
        };
        let before = last.insert(name, after);
        if let Some(before) = before.filter(|before| *before < after) {
            let name = name.to_owned();
            rises.push(Rise {
                name,
                before,
                after,
            });
        }
    }
    rises
}

/// What the changelog says of rises: ``- Size: `CRATE` BEFORE → AFTER lines: TEXT``.
fn explained(changelog: &str) -> Vec<Rise> {
    let words: Vec<_> = changelog.split_whitespace().collect();
    let changelog = words.join(" ");
    let entries = changelog.split("- Size: `").skip(1);
    let rise = |entry: &str| {
        let (name, rest) = entry.split_once("` ")?;
        let (numbers, text) = rest.split_once(" lines: ")?;
        let (before, after) = numbers.split_once(" → ")?;
        let says_something = !text.is_empty() && !text.starts_with(['-', '#']);
        says_something.then_some(Rise {
            name: name.to_owned(),
            before: before.parse().ok()?,
            after: after.parse().ok()?,
        })
    };
    entries.filter_map(rise).collect()
}

/// Whether a line of the changelog covers a rise.
fn covers(line: &Rise, rise: &Rise) -> bool {
    line.name == rise.name && line.before <= rise.before && rise.after <= line.after
}

/// The history of the page as patches, with changes that are not committed.
fn history() -> String {
    let patches = ["-p", "--unified=0", "--no-color", "--no-ext-diff"];
    let log = ["log", "-m", "--first-parent", "--reverse", "--format="];
    let diff = ["diff", "HEAD"];
    let page = ["--", PAGE];
    let committed = output("git", &[log.as_slice(), &patches, &page].concat());
    committed + &output("git", &[diff.as_slice(), &patches, &page].concat())
}

#[test]
fn crates_have_their_recorded_sizes() {
    let page = std::fs::read_to_string(root().join(PAGE)).unwrap();
    let records: Sizes = page.lines().filter_map(record).collect();
    let printed = output("tools/lines.py", &[]);
    none(PAGE, faults(&records, &sizes(&printed)));
}

#[test]
fn the_changelog_says_what_growth_bought() {
    let changelog = std::fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let explained = explained(&changelog);
    let mut rises = rises(&history());
    rises.retain(|rise| !explained.iter().any(|line| covers(line, rise)));
    let lines = rises.into_iter().map(|rise| {
        let Rise {
            name,
            before,
            after,
        } = rise;
        format!("- Size: `{name}` {before} → {after} lines: what it bought.")
    });
    none("CHANGELOG.md lacks", lines.collect());
}

#[test]
fn sizes_that_are_far_from_their_records_are_found() {
    let found = |record, lines| faults(&Sizes::from([("a", record)]), &Sizes::from([("a", lines)]));
    for (record, lines) in [(1000, 1030), (1000, 970), (100, 120), (7, 27), (5, 0)] {
        assert_eq!(found(record, lines), [""; 0], "{record} {lines}");
    }
    for (record, lines) in [(1000, 1031), (1000, 969), (100, 121), (21, 0)] {
        assert_eq!(found(record, lines).len(), 1, "{record} {lines}");
    }
    let one = Sizes::from([("a", 1)]);
    assert_eq!(faults(&Sizes::new(), &one), ["a has 1 lines and no row"]);
    assert_eq!(
        faults(&one, &Sizes::new()),
        ["a is no crate: remove its row"]
    );
    assert_eq!(sizes("cli 10\ncli/common 2\n").get("cli/common"), Some(&2));
}

#[test]
fn a_rise_needs_a_line_that_names_both_records() {
    let rise = |name: &str, before, after| Rise {
        name: name.to_owned(),
        before,
        after,
    };
    let patches = "+++ b/size.md\n-| `a` | 90 | x |\n+| `a` | 100 | x |\n+| `b` | 50 | x |\n\
                   -| `b` | 50 | x |\n+| `b` | 40 | x |\n+| `a` | 110 | x |\n+| `a` | 110 | y |\n\
                   -| `a` | 110 | y |\n+| `a` | 120 | y |\n+| crate | lines | what |\n";
    let rises = rises(patches);
    assert_eq!(rises, [rise("a", 100, 110), rise("a", 110, 120)]);
    let is_covered = |line: &str| {
        let lines = explained(line);
        rises
            .iter()
            .all(|rise| lines.iter().any(|line| covers(line, rise)))
    };
    assert!(is_covered("- Size: `a` 100 → 120\n  lines: a table.\n"));
    assert!(is_covered(
        "- Size: `a` 110 → 120 lines: b.\n- Size: `a` 100 → 110 lines: c."
    ));
    for line in [
        "",
        "- Size: `a` 100 → 110 lines: a table.",
        "- Size: `b` 100 → 120 lines: a table.",
        "- Size: `a` 105 → 120 lines: a table.",
        "- Size: `a` 100 → 120 lines:\n",
        "- Size: `a` 100 → 120 lines:\n- Size: `c` 1 → 2 lines: a table.",
    ] {
        assert!(!is_covered(line), "{line}");
    }
}

#[test]
fn lines_of_code_are_counted_without_comments_and_tests() {
    let source = "//! Head.\n\nuse a;\n// b\n#[cfg(test)]\n#[path = \"x.rs\"]\nmod c;\nstruct D {\n\
                  \x20   #[cfg(test)]\n    e: u8,\n    f: u8,\n}\n#[cfg(test)]\nmod tests {\n\
                  \x20   fn g() {\n    }\n}\nfn h() {}\n";
    let script = "import sys; sys.path.insert(0, 'tools'); import lines\n\
                  print(lines.code_lines(sys.argv[1]))";
    let printed = output("python3", &["-B", "-c", script, source]);
    // The lines of `use`, of `D` without a field, and of `h`.
    assert_eq!(printed.trim(), "5");
}

#[test]
fn files_of_test_modules_are_known() {
    let source = "mod a;\n#[cfg(test)]\nmod day;\n#[cfg(test)]\n#[allow(b)]\npub(crate) mod c;\n";
    let script = "import sys; sys.path.insert(0, 'tools'); import lines, pathlib\n\
                  modules = lambda file: lines.test_modules(pathlib.Path(file), sys.argv[1])\n\
                  print(*sorted(map(str, modules('x/src/lib.rs') | modules('x/src/y.rs'))))";
    let printed = output("python3", &["-B", "-c", script, source]);
    assert_eq!(printed.trim(), "x/src/c x/src/day x/src/y/c x/src/y/day");
}
