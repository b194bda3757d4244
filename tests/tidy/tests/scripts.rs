//! The scripts behind `make`: what the suite names, what a quick check runs, the key of the caches,
//! the features of a partial build, the lines of code, and the texts that the reference pages list.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tensorgate_tidy::{none, output, root};

/// The platform of this machine.
const NATIVE: &str = "x86_64-unknown-linux-gnu";

/// A workspace of a test's own, which is removed with it.
struct Workspace(PathBuf);

impl Workspace {
    /// A package `top` that needs a package `base`, with this tree's scripts.
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tg-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        let made = Self(folder);
        made.write(
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"top\", \"base\"]\n",
        );
        let toolchain = "rust-toolchain.toml";
        made.write(toolchain, std::fs::read(root().join(toolchain)).unwrap());
        let package = |name: &str| format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n");
        made.write("base/Cargo.toml", package("base"));
        made.write("base/src/lib.rs", "pub const ONE: u8 = 1;\n");
        let needs = "\n[dependencies]\nbase = { path = \"../base\" }\n";
        made.write("top/Cargo.toml", package("top") + needs);
        made.write("top/src/lib.rs", "pub use base::ONE;\n");
        for script in std::fs::read_dir(root().join("tools")).unwrap() {
            let script = script.unwrap().path();
            let copy = made.0.join("tools").join(script.file_name().unwrap());
            std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
            std::fs::copy(script, copy).unwrap();
        }
        made.ran("cargo", &["generate-lockfile", "--offline"]);
        made
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let file = self.0.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&self.0)
            .env("CARGO_TARGET_DIR", self.0.join("target"))
            // The stages of this workspace are none of the run that this test is a part of.
            .env_remove("STAGES_LOG");
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program, arguments).output().unwrap()
    }

    /// Standard output of a command that must succeed.
    fn ran(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn key(&self) -> String {
        self.ran("tools/inputs-key.py", &["top"])
    }

    fn covered(&self) -> Output {
        self.ran("cargo", &["build", "--offline", "--quiet"]);
        let dep_info = self.0.join("target/debug/libtop.d");
        let dep_info = dep_info.to_str().unwrap();
        self.run("tools/inputs-key.py", &["top", "--covers", dep_info])
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[test]
fn the_digest_of_the_filters_covers_all_their_sources() {
    let workspace = Workspace::new("key");
    let first = workspace.key();
    let changed = |name: &str, content: &str| {
        let before = std::fs::read(workspace.0.join(name)).ok();
        workspace.write(name, content);
        let key = workspace.key();
        match before {
            Some(before) => workspace.write(name, before),
            None => std::fs::remove_file(workspace.0.join(name)).unwrap(),
        }
        assert_eq!(workspace.key(), first, "as it was, after {name}");
        key != first
    };
    let lib = "pub const ONE: u8 = 2;\n";
    let config = "[build]\nrustflags = [\"-Copt-level=1\"]\n";
    assert!(changed("base/src/lib.rs", lib));
    assert!(changed("base/src/more.rs", ""), "another file");
    assert!(changed("base/build.rs", "fn main() {}\n"));
    assert!(changed(".cargo/config.toml", config));
    assert!(changed("tools/trim-filter.py", ""));
    let locked = std::fs::read_to_string(workspace.0.join("Cargo.lock")).unwrap();
    assert!(changed("Cargo.lock", &format!("{locked}\n")));
    assert!(!changed("base/tests/all.rs", ""), "no part of a build");
    assert!(!changed("readme.md", ""), "no part of a build");

    // A build that reads anything else is detected.
    assert!(workspace.covered().status.success());
    for outside in ["outside.txt", "base/tests/data.txt"] {
        workspace.write(outside, "1");
        let include = format!("pub const ONE: &str = include_str!(\"../../{outside}\");\n");
        workspace.write("base/src/lib.rs", include);
        let output = workspace.covered();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(outside), "{said}");
    }
}

/// How a run of the suite ended, and the list at the end of what it printed.
fn ended(output: &Output) -> (Option<i32>, Vec<String>) {
    let said = String::from_utf8_lossy(&output.stdout);
    let (_, list) = said.rsplit_once("suite: ").unwrap();
    let list = list.lines().map(|line| line.trim().to_owned()).collect();
    (output.status.code(), list)
}

fn ends(status: i32, list: &[&str]) -> (Option<i32>, Vec<String>) {
    let list = list.iter().map(|line| (*line).to_owned()).collect();
    (Some(status), list)
}

const PASSES: &str = "#[test]\nfn passes() {}\n";
/// Its output contains a list of its own, which names nothing.
const FAILS: &str = r#"
#[test]
fn passes() {}
mod inner {
    #[test]
    fn fails() {
        println!("failures:\n    a lie");
        assert_eq!(1, 2);
    }
}
"#;
/// Each of its tests fails when it runs for the first time.
const UNSTEADY: &str = r#"
fn fails_once(name: &str) {
    let first = std::fs::OpenOptions::new().write(true).create_new(true).open(name).is_ok();
    assert!(!first, "the cause of {name}");
}
mod inner {
    #[test]
    fn one() { super::fails_once("one") }
}
#[test]
#[cfg(feature = "two")]
fn two() { fails_once("two") }
"#;
/// Says that it cannot run.
const SKIPS: &str = r#"
#[test]
fn skips() {
    let file = std::env::var_os("SUITE_SKIPPED").unwrap();
    std::fs::write(file, "skips: there is no server\n").unwrap();
}
"#;
const DIES: &str = "#[test]\nfn dies() { std::process::abort(); }\n";
/// The test in the middle writes the id of the process that it waits for.
const HANGS: &str = r#"
#[test]
fn fails() {
    panic!();
}

#[test]
fn hangs() {
    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    std::fs::write("pid", child.id().to_string()).unwrap();
    child.wait().unwrap();
}

#[test]
fn later() {
    std::fs::write("later", "").unwrap();
}
"#;

#[test]
fn the_suite_continues_after_a_failure_and_ends_with_a_list() {
    let workspace = Workspace::new("suite");
    let suite = "tools/suite.py";
    workspace.write("top/tests/a.rs", PASSES);
    workspace.write("top/tests/b.rs", FAILS);
    workspace.write("top/tests/c.rs", DIES);
    workspace.write("top/tests/d.rs", FAILS);
    let output = workspace.run(suite, &["--offline", "--tests"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("top a: test passes ... ok"), "{said}");
    let list = [
        "3 failed, of 6 binaries:",
        "b inner::fails",
        "c ended before its tests did",
        "d inner::fails",
    ];
    assert_eq!(ended(&output), ends(1, &list), "{said}");

    let output = workspace.run(suite, &["--offline", "--test", "a"]);
    assert_eq!(ended(&output), ends(0, &["all passed, in 1 binaries"]));
    let printed = String::from_utf8_lossy(&output.stdout);
    let (_, slowest) = printed
        .split_once("suite: the 30 slowest tests:\n")
        .unwrap();
    assert!(
        slowest
            .lines()
            .next()
            .unwrap()
            .ends_with(" s  top a passes"),
        "{printed}"
    );
    let times = std::fs::read_to_string(workspace.0.join("target/tests.tsv")).unwrap();
    assert!(times.ends_with("\ttop a passes\n"), "{times}");
    // Names select tests, as with cargo test.
    let output = workspace.run(suite, &["--offline", "--tests", "--", "passes", "later"]);
    assert_eq!(ended(&output).0, Some(0), "{output:?}");
    let times = std::fs::read_to_string(workspace.0.join("target/tests.tsv")).unwrap();
    let mut selected = times.lines();
    assert!(times.contains("\ttop b passes\n") && selected.all(|line| line.ends_with("passes")));
    // Code that does not compile has no tests to name.
    workspace.write("top/tests/a.rs", "fn");
    let output = workspace.run(suite, &["--offline", "--test", "a"]);
    let list = ["1 failed, of 0 binaries:", "cargo test: exit status 101"];
    assert_eq!(ended(&output), ends(1, &list));
}

#[test]
fn a_test_that_fails_once_is_named_as_unsteady_and_at_most_one_is_forgiven() {
    let workspace = Workspace::new("unsteady");
    let package = std::fs::read_to_string(workspace.0.join("top/Cargo.toml")).unwrap();
    workspace.write("top/Cargo.toml", package + "\n[features]\ntwo = []\n");
    workspace.write("top/tests/a.rs", UNSTEADY);
    workspace.write("top/tests/b.rs", SKIPS);
    let suite = |strict: &str, more: &[&str]| {
        for name in ["one", "two"] {
            drop(std::fs::remove_file(workspace.0.join("top").join(name)));
        }
        let arguments = [&["--offline", "--test", "*"], more].concat();
        let mut command = workspace.command("tools/suite.py", &arguments);
        command.env("STRICT", strict).output().unwrap()
    };
    let output = suite("", &[]);
    let page = "docs/explanation/testing.md";
    let row = "| `top a inner::one` |";
    let add = format!("add to {page}: {row} SINCE | WHAT IS KNOWN |");
    let list = [
        "all passed, in 2 binaries",
        "unsteady: a inner::one",
        &add,
        "skipped: skips: there is no server",
    ];
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(ended(&output), ends(0, &list), "{said}");
    let (_, logs) = said.split_once("suite: log of a inner::one").unwrap();
    assert!(logs.contains("the cause of one"), "{said}");
    let names = std::fs::read_to_string(workspace.0.join("target/unsteady.txt")).unwrap();
    assert_eq!(names, format!("unsteady: a inner::one\n{add}\n"));
    // One that the page lists is named, without a row to add.
    workspace.write(page, format!("{row} 2026-11-26 | slow |\n"));
    let [passed, unsteady, _, skipped] = list;
    assert_eq!(
        ended(&suite("", &[])),
        ends(0, &[passed, unsteady, skipped])
    );

    let failed = |output: Output| {
        let (status, list) = ended(&output);
        (status, list.first().cloned().unwrap_or_default())
    };
    let strict = failed(suite("1", &[]));
    assert_eq!(strict, (Some(1), "1 failed, of 2 binaries:".to_owned()));
    let two = failed(suite("", &["--features", "top/two"]));
    assert_eq!(two, (Some(1), "2 failed, of 2 binaries:".to_owned()));
    // A test that fails again has failed.
    workspace.write("top/tests/a.rs", FAILS);
    let list = ["1 failed, of 1 binaries:", "a inner::fails"];
    let output = workspace.run("tools/suite.py", &["--offline", "--test", "a"]);
    assert_eq!(ended(&output), ends(1, &list));
}

#[test]
fn the_suite_stops_a_hanging_test_and_its_children_and_runs_the_others() {
    let workspace = Workspace::new("hangs");
    workspace.write("top/tests/a.rs", HANGS);
    let mut command = workspace.command("tools/suite.py", &["--offline", "--test", "a"]);
    command
        .env("SUITE_HANG_SECONDS", "10")
        .env("RUST_TEST_THREADS", "1");
    let output = command.output().unwrap();
    let list = [
        "2 failed, of 1 binaries:",
        "a fails",
        "a hangs was killed: it hung",
    ];
    assert_eq!(ended(&output), ends(1, &list), "{output:?}");
    assert!(workspace.0.join("top/later").exists());
    let pid = std::fs::read_to_string(workspace.0.join("top/pid")).unwrap();
    let stat = Path::new("/proc").join(pid).join("stat");
    // A process that has ended may still be listed, as a zombie. It ends a little after the signal.
    let gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    let began = std::time::Instant::now();
    while !gone() {
        assert!(began.elapsed().as_secs() < 30, "it goes on");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// `make quick` finds the crates that changed and those that need them, and runs their tests.
#[test]
fn a_quick_check_tests_what_changed_and_what_needs_it() {
    let workspace = Workspace::new("quick");
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
        workspace.ran("git", &[&identity, arguments].concat());
    };
    workspace.write(".gitignore", "target\n");
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "first"]);
    let quick = || {
        let output = workspace.run("tools/quick.py", &["HEAD"]);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), printed)
    };
    assert_eq!(quick(), (true, "quick: no crate has changed\n".to_owned()));

    let one = "#[test]\nfn one() { assert_eq!(ONE, 1) }\n";
    workspace.write("base/src/lib.rs", format!("pub const ONE: u8 = 1;\n{one}"));
    let (passed, printed) = quick();
    assert!(passed, "{printed}");
    for line in [
        "quick: changed: base\n",
        "quick: depend on them: top\n",
        "test one ... ok\n",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    // A crate that needs the changed one is tested with the change.
    workspace.write("top/src/lib.rs", format!("pub use base::ONE;\n{one}"));
    git(&["add", "top"]);
    git(&["commit", "--quiet", "-m", "second"]);
    workspace.write("base/src/lib.rs", "pub const ONE: u8 = 2;\n");
    let (passed, printed) = quick();
    assert!(
        !passed && printed.contains("test one ... FAILED\n"),
        "{printed}"
    );
}

/// Edges of a build, and those of a build with tests.
const BUILD: &str = "normal,build";
const BUILD_AND_TESTS: &str = "normal,build,dev";

/// The dependencies of these packages for a target, each with its features. Without packages: those
/// of the workspace's default members.
fn features<'a>(
    edges: &str,
    target: &str,
    packages: impl IntoIterator<Item = &'a str>,
) -> BTreeSet<String> {
    let mut arguments = vec!["tree", "--locked", "--prefix=none", "--no-dedupe"];
    arguments.extend(["--edges", edges, "--format={p} [{f}]", "--target", target]);
    for package in packages {
        arguments.extend(["-p", package]);
    }
    let tree = output(env!("CARGO"), &arguments);
    tree.lines().map(str::to_owned).collect()
}

/// Packages of the tree whose manifests lie in these folders.
fn packages_below(folders: &[&str]) -> Vec<String> {
    let manifests: Vec<_> = folders
        .iter()
        .map(|name| format!("{name}/*/Cargo.toml"))
        .collect();
    let mut arguments = vec!["ls-files"];
    arguments.extend(manifests.iter().map(String::as_str));
    let manifests = output("git", &arguments);
    let name = |manifest: &str| {
        let text = std::fs::read_to_string(root().join(manifest)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("name = "));
        line.unwrap().trim_matches('"').to_owned()
    };
    manifests.lines().map(name).collect()
}

/// `make demo` and `make dist` build crates with the same features as `make build`. Otherwise the
/// next `make build` would compile crates again, and handlers would have other digests.
#[test]
fn a_part_is_built_with_the_features_of_the_whole() {
    fn borrowed(names: &[String]) -> impl Iterator<Item = &str> {
        names.iter().map(String::as_str)
    }
    let listed = |script: &str| {
        let names = output(script, &["--names"]);
        names.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let programs = listed("tools/programs.sh");
    let bundled = listed("tools/builtins.sh");
    let policy = "examples/policies/digits/gate.yaml";
    let policy = std::fs::read_to_string(root().join(policy)).unwrap();
    let demo: Vec<_> = policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("component: components/"))
        .map(|file| file.trim_end_matches(".wasm").replace('_', "-"))
        .collect();
    assert!(demo.len() >= 3, "{demo:?}");
    let handlers = packages_below(&["examples/handlers", "tests/hostile"]);
    let filters = ["gate", "faulty-gate"];
    let filters = filters.map(|name| format!("tensorgate-{name}"));
    let gate = ["tensorgate-gate".to_owned()];

    let native = NATIVE;
    let component = "wasm32-unknown-unknown";
    let module = "wasm32-wasip1";
    let cases: [(&str, &[String], &[String]); 4] = [
        (native, &programs, &[]),
        (component, &demo, &handlers),
        (component, &bundled, &handlers),
        (module, &gate, &filters),
    ];
    let mut faults = Vec::new();
    for (target, part, whole) in cases {
        let whole = features(BUILD, target, borrowed(whole));
        let part = features(BUILD, target, borrowed(part));
        faults.extend(
            part.difference(&whole)
                .map(|line| format!("{target}: {line}")),
        );
    }
    none("crates that a part builds otherwise", faults);
}

/// `make test` compiles no crate a second time: in `make build` each has the features that tests
/// need of it.
#[test]
fn tests_need_no_other_features() {
    let build = features(BUILD, NATIVE, []);
    let with_tests = features(BUILD_AND_TESTS, NATIVE, []);
    assert!(build.len() > 100 && with_tests.len() > build.len());
    let twice = build.difference(&with_tests).cloned().collect();
    none("crates that are compiled again for tests", twice);
}

#[test]
fn texts_of_a_source_are_read_as_the_compiler_reads_them() {
    let source = [
        r#"//! A "module's" comment."#,
        r#"/* "a /* "nested" */ comment" */"#,
        r#"#[doc = "an attribute"]"#,
        r#"#[error("{place} holds {{}} at {0:?}")]"#,
        "struct Fault<'a>(&'a str, &'static [u8]);",
        "fn check(c: char) -> String {",
        r#"    let plain = ("{not a placeholder}", b"bytes of nobody");"#,
        r##"    if c == '"' || c == '\'' { return r#"a "raw" text"#.into(); }"##,
        r#"    format!("a continued \"#,
        r#"             text \u{2026} of {c}: {}", "an argument")"#,
        "}",
        "#[cfg(test)]",
        r#"mod tests { fn only() { check("in tests") } }"#,
    ];
    let script = "import sys; sys.path.insert(0, 'tools'); import message_reference as pages\n\
                  tokens = pages.rust_literals.shipped(pages.rust_literals.tokens(sys.argv[1]))\n\
                  print(*map(pages.shown, pages.rust_literals.read(tokens)[0]), sep='\\n')";
    let printed = output("python3", &["-B", "-c", script, &source.join("\n")]);
    let expected = [
        "… holds {} at …",
        "{not a placeholder}",
        r#"a "raw" text"#,
        "a continued text … of …: …",
        "an argument",
    ];
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn tests_under_load_start_when_handlers_are_compiled() {
    let script = "import sys; sys.path.insert(0, 'tools'); import suite\n\
                  jobs = suite.Jobs([(name, None) for name in sys.argv[2:]], sys.argv[1] == 'cached')\n\
                  started = [jobs.next()[0], jobs.next()[0]]\n\
                  jobs.ended(started[0])\n\
                  print(*started, jobs.next()[0], jobs.next(), sep=', ')";
    for (caches, expected) in [
        ("cold", "wit/workbench it, cli it, tests/e2e it, None"),
        ("cached", "wit/workbench it, tests/e2e it, cli it, None"),
    ] {
        let names = ["wit/workbench it", "tests/e2e it", "cli it"];
        let started = output(
            "python3",
            &[&["-B", "-c", script, caches], &names[..]].concat(),
        );
        assert_eq!(started.trim(), expected);
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
