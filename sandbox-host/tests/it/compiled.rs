//! Components that are compiled in a separate process and cached in a folder: what is taken from
//! the cache, what is compiled again, and what is never compiled.
#![allow(
    unsafe_code,
    reason = "there is no safe way to restrict a child between fork and exec"
)]

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tensorgate_base::payload::{Payload, Role};
use tensorgate_sandbox::{CompilerConfig, CompilerProcess, LoadedHandler, Sandbox, SandboxConfig};

use crate::support::guests;
use guests::{BUDGET, Budget, built, load, preprocess};

const QUIET: &str = "(call $ok (i32.const 0) (i32.const 0))";
const PATIENT: Budget = Budget {
    timeout_ms: 60_000,
    ..BUDGET
};

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tg-compiled-{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    folder
}

fn process() -> Arc<CompilerProcess> {
    let host = Path::new(env!("CARGO_BIN_EXE_tensorgate-host"));
    Arc::new(CompilerProcess::start_program(host, true).unwrap())
}

/// A host's sandbox, as another start makes it.
fn sandbox(folder: &Path, process: Option<Arc<CompilerProcess>>) -> Sandbox {
    Sandbox::new(SandboxConfig {
        compiler: CompilerConfig {
            folder: Some(folder.to_owned()),
            process,
            ..CompilerConfig::default()
        },
        ..SandboxConfig::default()
    })
    .unwrap()
}

fn handler(sandbox: &Sandbox, component: &[u8]) -> LoadedHandler {
    load(sandbox, "h", component, Role::Preprocess, PATIENT, &[]).unwrap()
}

async fn answers(handler: &LoadedHandler) {
    let called = handler
        .preprocess("request", Payload::Tensors(vec![]))
        .await;
    assert!(called.is_ok(), "{called:?}");
}

/// The one file of the cache.
fn kept(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "cwasm"))
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[tokio::test]
async fn compiled_components_are_cached_across_starts() {
    for apart in [false, true] {
        let folder = folder(if apart { "apart" } else { "here" });
        let component = preprocess(QUIET);
        let compiler = apart.then(process);
        let mut took = Vec::new();
        for (start, compiled) in [1, 0, 0].into_iter().enumerate() {
            let sandbox = sandbox(&folder, compiler.clone());
            let started = Instant::now();
            let handler = handler(&sandbox, &component);
            took.push(started.elapsed());
            assert_eq!(
                sandbox.compilations(),
                compiled,
                "start {start}, apart: {apart}"
            );
            answers(&handler).await;
        }
        println!(
            "apart: {apart}: compiled in {:?}, loaded in {:?}",
            took[0], took[1]
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[tokio::test]
async fn a_changed_cache_file_is_compiled_again() {
    let folder = folder("touched");
    let component = preprocess(QUIET);
    let made = |expected: u64, what: &str| {
        let sandbox = sandbox(&folder, None);
        let handler = handler(&sandbox, &component);
        assert_eq!(sandbox.compilations(), expected, "{what}");
        handler
    };
    answers(&made(1, "the first")).await;
    let whole = std::fs::read(kept(&folder)).unwrap();
    let middle = whole.len() / 2;
    for (what, content) in [
        (
            "a byte",
            [&whole[..middle], &[whole[middle] ^ 1], &whole[middle + 1..]].concat(),
        ),
        ("its end", whole[..middle].to_vec()),
        ("nothing of it", Vec::new()),
        ("what another program made", b"\x7fELF".repeat(1_000)),
    ] {
        std::fs::write(kept(&folder), content).unwrap();
        answers(&made(1, what)).await;
        answers(&made(0, "and is there again")).await;
    }
    // What one host compiled from another component, under this one's name.
    let other = preprocess("(drop (i32.const 7)) (call $ok (i32.const 0) (i32.const 0))");
    let elsewhere = self::folder("other");
    drop(handler(&sandbox(&elsewhere, None), &other));
    std::fs::copy(kept(&elsewhere), kept(&folder)).unwrap();
    answers(&made(1, "another host's")).await;
    for folder in [folder, elsewhere] {
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[tokio::test]
async fn a_component_compiled_in_another_process_burns_the_same_fuel() {
    let folder = folder("built");
    let component = built("png_digits");
    let compiler = process();
    let mut fuel = Vec::new();
    for sandbox in [
        sandbox(&folder, Some(compiler)),
        sandbox(&folder, None),
        Sandbox::new(SandboxConfig::default()).unwrap(),
    ] {
        let handler = load(&sandbox, "h", &component, Role::Preprocess, PATIENT, &[]).unwrap();
        let raw = Payload::Raw {
            content_type: "image/png".into(),
            data: bytes::Bytes::from_static(b"no png"),
        };
        fuel.push(format!("{:?}", handler.preprocess("request", raw).await));
    }
    assert!(fuel.iter().all(|one| *one == fuel[0]), "{fuel:?}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_component_that_does_not_compile_is_rejected_with_the_cause_and_the_next_compiles() {
    let folder = folder("refused");
    let sandbox = sandbox(&folder, Some(process()));
    let large = format!(
        "(component (core module (func {})))",
        "nop ".repeat(1 << 20)
    );
    for (component, expected) in [
        (b"no component".to_vec(), "not a valid component"),
        (
            wat::parse_str("(component (core module $m (memory i64 1)))").unwrap(),
            "memory64",
        ),
        (wat::parse_str(large).unwrap(), "bytes of one function"),
    ] {
        let fault = load(&sandbox, "h", &component, Role::Preprocess, PATIENT, &[])
            .map(drop)
            .unwrap_err();
        assert!(fault.to_string().contains(expected), "{fault}");
    }
    drop(handler(&sandbox, &preprocess(QUIET)));
    std::fs::remove_dir_all(folder).unwrap();
}

/// A compiler as the host starts it, under a kernel without Landlock.
#[test]
fn without_a_complete_os_sandbox_a_compiler_runs_only_if_none_is_required() {
    for (sandboxed, made) in [(false, true), (true, false)] {
        let mut compiler = Command::new(env!("CARGO_BIN_EXE_tensorgate-host"));
        compiler
            .arg("compiler-worker")
            .args(sandboxed.then_some("sandboxed"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let filter = without_landlock();
        // SAFETY: between fork and exec it makes two system calls with values from before, and
        // allocates nothing.
        unsafe {
            compiler.pre_exec(move || {
                seccompiler::apply_filter(&filter).map_err(|_| std::io::ErrorKind::Other.into())
            });
        }
        let mut compiler = compiler.spawn().unwrap();
        let mut input = compiler.stdin.take().unwrap();
        // A compiler that rejects reads nothing.
        let _ = input.write_all(&preprocess(QUIET));
        drop(input);
        let output = compiler.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), made, "{said}");
        assert_eq!(!output.stdout.is_empty(), made, "{said}");
        assert_eq!(said.contains("the OS sandbox is required"), !made, "{said}");
    }
}

fn without_landlock() -> seccompiler::BpfProgram {
    let filter = seccompiler::SeccompFilter::new(
        [(libc::SYS_landlock_create_ruleset, Vec::new())].into(),
        seccompiler::SeccompAction::Allow,
        seccompiler::SeccompAction::Errno(libc::ENOSYS.cast_unsigned()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    filter.unwrap().try_into().unwrap()
}

/// Starts a program in place of the compiler. Its output counts as the compiler's answer.
fn stand_in(program: &Path, script: &str) -> Arc<CompilerProcess> {
    std::fs::write(program, format!("#!/bin/sh\n{script}")).unwrap();
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o700)).unwrap();
    loop {
        match CompilerProcess::start_program(program, false) {
            Ok(process) => return Arc::new(process),
            // A child of another test still holds it open, because its own program has not begun.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Both of two are rejected with a cause, the second first, once both were requested. A caller that
/// waited for the first before it requests the second would wait forever.
#[test]
fn two_components_are_with_the_compiler_at_once_and_each_gets_its_own_answer() {
    let folder = folder("at-once");
    let component = preprocess(QUIET);
    let asked = component.len().saturating_add(16).saturating_mul(2);
    let answers = "\\001\\000\\000\\000\\000\\000\\000\\000\\001\\005\\000\\000\\000\\000\\000\\000\\000pears\\000\\000\\000\\000\\000\\000\\000\\000\\001\\006\\000\\000\\000\\000\\000\\000\\000apples";
    let script = format!(
        "timeout 30 head -c {asked} >/dev/null || exit; printf '{answers}'; cat >/dev/null"
    );
    let program = folder.with_extension("compiler");
    let process = stand_in(&program, &script);
    let told = std::thread::scope(|scope| {
        let one = || {
            let sandbox = sandbox(&folder, Some(Arc::clone(&process)));
            let loaded = load(&sandbox, "h", &component, Role::Preprocess, PATIENT, &[]);
            loaded.map(drop).unwrap_err().to_string()
        };
        let (one, other) = (scope.spawn(one), scope.spawn(one));
        [one.join().unwrap(), other.join().unwrap()]
    });
    for name in ["apples", "pears"] {
        let said = told.iter().filter(|told| told.contains(name));
        assert_eq!(said.count(), 1, "{name}: {told:?}");
    }
    std::fs::remove_file(program).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

/// A compiler that is killed fails only the component that it was compiling.
#[test]
fn a_dying_compiler_fails_only_its_load() {
    let process = Arc::new(CompilerProcess::start_program(Path::new("/bin/true"), false).unwrap());
    let sandbox = sandbox(&folder("dies"), Some(process));
    for _ in 0..2 {
        let started = Instant::now();
        let fault = load(
            &sandbox,
            "h",
            &preprocess(QUIET),
            Role::Preprocess,
            PATIENT,
            &[],
        )
        .map(drop)
        .unwrap_err();
        assert!(
            fault
                .to_string()
                .contains("the compiler process has exited"),
            "{fault}"
        );
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}

/// The first compiler ends before it compiles anything. Another one compiles: one that is started
/// then, or a spare if this process cannot start programs any more, as behind the OS sandbox.
#[test]
fn a_compiler_that_has_ended_is_replaced() {
    for has_spares in [false, true] {
        let folder = folder(&format!("replaced-{has_spares}"));
        std::fs::create_dir(&folder).unwrap();
        let (first, program) = (folder.join("first"), folder.join("compiler"));
        let script = format!(
            "mkdir {first} 2>/dev/null && exit; : >{folder}/ready.$$; exec {host} \"$@\"",
            first = first.display(),
            folder = folder.display(),
            host = env!("CARGO_BIN_EXE_tensorgate-host"),
        );
        let process = stand_in(&program, &script);
        let until = |what: &str, is_so: &dyn Fn() -> bool| {
            let started = Instant::now();
            while !is_so() {
                assert!(started.elapsed() < Duration::from_secs(30), "{what}");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        until("the first one runs", &|| first.exists());
        let mut process = Arc::into_inner(process).unwrap();
        if has_spares {
            process = process.with_spares().unwrap();
            until("the spares run", &|| {
                let files = std::fs::read_dir(&folder).unwrap().flatten();
                let is_ready =
                    |file: &std::fs::DirEntry| file.file_name().to_string_lossy().contains("ready");
                files.filter(is_ready).count() == 2
            });
            std::fs::remove_file(&program).unwrap();
        }
        let sandbox = sandbox(&folder.join("cache"), Some(Arc::new(process)));
        for component in [QUIET, "(call $ok (i32.const 0) (i32.const 0)) (nop)"] {
            handler(&sandbox, &preprocess(component));
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
