//! Compiles components in separate processes. Components are untrusted, and one may make the
//! compiler run forever, take all memory, or worse. So the compiler has limits on both, can open no
//! file and no socket, and is killed when it is late.
//!
//! Three processes of one program take part. The host, or `tensorgate handler`, sends requests over
//! a pipe to a supervisor. The supervisor starts one worker for each component, several in parallel
//! if the host asks for that. The supervisor starts before the host drops the right to start
//! programs, and never parses what passes through it. One that ends is replaced: by another one, or
//! by a spare that was started with it.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Resource, Rlimit, Signal};
use tensorgate_os_sandbox as os_sandbox;
use tensorgate_settings::system_memory::system_memory_bytes;
use wasmtime::CacheStore;

use super::functions::{Functions, joined, parted};
use super::mode::Mode;
use super::supervisor_connection::{
    CompileResult, STATUS_COMPILED, STATUS_REJECTED, Supervisor, receive, send,
};
use crate::engine;
use crate::fixed_limits::{
    COMPILE_CPU, COMPILE_MEMORY_BYTES, COMPILE_TIMEOUT, LOW_PRIORITY_NICENESS, MAX_COMPILED_BYTES,
    MAX_COMPILERS, MAX_MESSAGE_BYTES,
};
use crate::structure::code_digest;

/// The first argument of the supervisor and of a worker. No verb of a program has such a name.
const SUPERVISOR_ARG: &str = "compiler-supervisor";
/// The same for a supervisor that takes the place of another one. The thread that starts it may end
/// before it does.
const REPLACEMENT_ARG: &str = "compiler-supervisor-replacement";
const WORKER_ARG: &str = "compiler-worker";
/// Attempts at a component. A supervisor parses nothing, so its end says nothing of the component.
const ATTEMPTS: usize = 2;
/// Supervisors that wait for the end of the first, in a process that cannot start more of them.
const SPARES: usize = 2;
/// The path of this program's own executable, even if its file was replaced.
const SELF: &str = "/proc/self/exe";

/// What a compiler made of a component.
pub(super) struct Compiled {
    pub(super) code: Vec<u8>,
    /// Its functions, if none were known. Only a compiler for authors returns them.
    pub(super) functions: Vec<u8>,
}

/// The compiler: a supervisor, and how to replace it.
#[derive(Debug)]
pub struct CompilerProcess {
    program: PathBuf,
    mode: Mode,
    current: Mutex<Current>,
    max_parallel: usize,
}

/// The supervisor in use, and those that are ready to take its place.
#[derive(Debug)]
struct Current {
    supervisor: Arc<Supervisor>,
    spares: Vec<Arc<Supervisor>>,
}

/// The number of concurrent compilers: limited by the cores, and by the memory that each may use of
/// the machine or of the control group.
fn compilers() -> usize {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let fit = (system_memory_bytes().unwrap_or(0)).div_euclid(COMPILE_MEMORY_BYTES);
    let fit = usize::try_from(fit).unwrap_or(usize::MAX);
    cores.min(fit).clamp(1, MAX_COMPILERS)
}

impl CompilerProcess {
    /// Starts the supervisor from this program's own executable. With `sandboxed`, nothing is
    /// compiled if the kernel does not support the complete OS sandbox for compilers.
    ///
    /// # Errors
    /// Returns the error of the operating system.
    pub fn start(sandboxed: bool) -> std::io::Result<Self> {
        Self::start_program(Path::new(SELF), sandboxed)
    }

    /// Starts the supervisor from another executable of this program.
    ///
    /// # Errors
    /// Returns the error of the operating system.
    pub fn start_program(program: &Path, sandboxed: bool) -> std::io::Result<Self> {
        let mode = if sandboxed {
            Mode::Sandboxed
        } else {
            Mode::Plain
        };
        Self::start_mode(program, mode)
    }

    /// Starts the supervisor for authors: code that was compiled before is not compiled again when
    /// only a handler's memory has changed. The OS sandbox may be incomplete.
    ///
    /// # Errors
    /// Returns the error of the operating system.
    pub fn start_reusing() -> std::io::Result<Self> {
        Self::start_mode(Path::new(SELF), Mode::Reusing)
    }

    fn start_mode(program: &Path, mode: Mode) -> std::io::Result<Self> {
        Ok(Self {
            program: program.to_owned(),
            mode,
            current: Mutex::new(Current {
                supervisor: Arc::new(Supervisor::start(program, SUPERVISOR_ARG, mode)?),
                spares: Vec::new(),
            }),
            // Behind the OS sandbox the size of the memory cannot be read.
            max_parallel: compilers(),
        })
    }

    /// Starts further supervisors now, because this process will not be able to start any once one
    /// has ended.
    ///
    /// # Errors
    /// Returns the error of the operating system.
    pub fn with_spares(self) -> std::io::Result<Self> {
        for _ in 0..SPARES {
            let spare = Supervisor::start(&self.program, SUPERVISOR_ARG, self.mode)?;
            self.current().spares.push(Arc::new(spare));
        }
        Ok(self)
    }

    /// The best number of concurrent compilations.
    pub(super) const fn max_parallel(&self) -> usize {
        self.max_parallel
    }

    /// Whether functions that were compiled before are used.
    pub(super) const fn is_reusing(&self) -> bool {
        matches!(self.mode, Mode::Reusing)
    }

    /// Compiles a component, with the functions that are known.
    pub(super) fn compile(&self, file: &[u8], functions: &[u8]) -> Result<Compiled, String> {
        if !self.is_reusing() {
            let (code, functions) = (self.answer(file)?, Vec::new());
            return Ok(Compiled { code, functions });
        }
        let answer = self.answer(&joined(functions, file))?;
        let (functions, code) = parted(&answer).ok_or("the compiler's answer is incomplete")?;
        Ok(Compiled {
            code: code.to_vec(),
            functions: functions.to_vec(),
        })
    }

    /// The answer to a request. A supervisor that ends is replaced, and the next one is asked.
    fn answer(&self, file: &[u8]) -> CompileResult {
        let mut cause = String::new();
        for _ in 0..ATTEMPTS {
            let supervisor = Arc::clone(&self.current().supervisor);
            match supervisor.answer(file) {
                Ok(answer) => return answer,
                Err(failure) => cause = format!("the compiler process has exited: {failure}"),
            }
            if let Err(error) = self.replace(&supervisor) {
                return Err(format!("{cause}; no other one starts: {error}"));
            }
        }
        Err(cause)
    }

    /// Puts another supervisor in the place of one that has ended.
    fn replace(&self, ended: &Arc<Supervisor>) -> std::io::Result<()> {
        let mut current = self.current();
        if !Arc::ptr_eq(&current.supervisor, ended) {
            // Another thread has replaced it.
            return Ok(());
        }
        // Behind the OS sandbox no program can be started.
        let next = match Supervisor::start(&self.program, REPLACEMENT_ARG, self.mode) {
            Ok(next) => Arc::new(next),
            Err(error) => current.spares.pop().ok_or(error)?,
        };
        tracing::warn!("the compiler process has exited: another one takes its place");
        current.supervisor = next;
        Ok(())
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // No code panics while it holds this lock.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the supervisor or a worker, if the arguments ask for one.
pub fn compiler_process(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let first = arguments.next()?;
    let mut mode = || Mode::of(arguments.next());
    let code = match first.to_str()? {
        SUPERVISOR_ARG => {
            // The supervisor must not outlive the host.
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            run_supervisor(mode())
        }
        REPLACEMENT_ARG => run_supervisor(mode()),
        WORKER_ARG => run_worker(mode()),
        _ => return None,
    };
    Some(code)
}

/// The supervisor: runs until its input ends, as it does with the host.
fn run_supervisor(mode: Mode) -> ExitCode {
    let mut input = std::io::stdin().lock();
    let output = Arc::new(Mutex::new(std::io::stdout()));
    loop {
        let mut number = [0; 8];
        match input.read_exact(&mut number) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return ExitCode::SUCCESS;
            }
            Err(_) => return ExitCode::FAILURE,
            Ok(()) => {}
        }
        let Ok(Some(file)) = receive(&mut input, mode.max_request_bytes()) else {
            return ExitCode::FAILURE;
        };
        let output = Arc::clone(&output);
        // The host limits the number of requests.
        let started = thread::Builder::new().spawn(move || {
            let (status, answer) = match compile_in_worker(&file, mode) {
                Ok(code) => (STATUS_COMPILED, code),
                Err(text) => (STATUS_REJECTED, text.into_bytes()),
            };
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            let told = (output.write_all(&number))
                .and_then(|()| output.write_all(&[status]))
                .and_then(|()| send(&mut *output, &answer))
                .and_then(|()| output.flush());
            if told.is_err() {
                // The host no longer reads responses.
                std::process::exit(i32::from(STATUS_REJECTED));
            }
        });
        if started.is_err() {
            return ExitCode::FAILURE;
        }
    }
}

/// Compiles one component in a worker process.
fn compile_in_worker(file: &[u8], mode: Mode) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot start a compiler: {error}");
    let mut child = Command::new(SELF)
        .arg(WORKER_ARG)
        .args(mode.argument())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (done, end) = channel();
    let (code, said, late) = thread::scope(|scope| {
        scope.spawn(move || {
            // A worker that ends early does not read everything.
            input.map(|mut input| input.write_all(file));
        });
        let said = scope.spawn(move || read_bounded(errors, MAX_MESSAGE_BYTES).unwrap_or_default());
        let made = scope.spawn(move || {
            let made = read_bounded(output, MAX_COMPILED_BYTES);
            // The receiver is gone if the worker is late.
            let _ = done.send(());
            made
        });
        let late = end.recv_timeout(COMPILE_TIMEOUT).is_err();
        if late {
            let _ = child.kill();
        }
        (
            made.join().ok().flatten(),
            said.join().unwrap_or_default(),
            late,
        )
    });
    let ended = child.wait().map_err(failed)?;
    match code {
        _ if late => Err(format!(
            "it was not compiled within {} s",
            COMPILE_TIMEOUT.as_secs()
        )),
        Some(code) if ended.success() => Ok(code),
        _ if ended.code() == Some(i32::from(STATUS_REJECTED)) => {
            Err(String::from_utf8_lossy(&said).into_owned())
        }
        _ => Err(format!(
            "its compiler ended ({ended}): it may take {} MiB of memory and {} s of CPU time",
            COMPILE_MEMORY_BYTES >> 20,
            COMPILE_CPU.as_secs()
        )),
    }
}

/// Reads to the end, up to a limit.
fn read_bounded(from: Option<impl Read>, max_bytes: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(max_bytes).ok()?.checked_add(1)?;
    from?.take(most).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= max_bytes).then_some(bytes)
}

/// The worker: compiles its input and can do nothing else.
fn run_worker(mode: Mode) -> ExitCode {
    match compile_confined(mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprint!("{text}");
            ExitCode::from(STATUS_REJECTED)
        }
    }
}

fn compile_confined(mode: Mode) -> Result<(), String> {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // Requests have priority over compilation. Where an author waits for it there are none.
    if mode != Mode::Reusing {
        let _ = rustix::process::getpriority_process(None).and_then(|now| {
            rustix::process::setpriority_process(None, now.saturating_add(LOW_PRIORITY_NICENESS))
        });
    }
    for (resource, most) in [
        // Memory that is reserved but not written is not limited, because engines reserve much of
        // it.
        (Resource::Data, COMPILE_MEMORY_BYTES),
        (Resource::Cpu, COMPILE_CPU.as_secs()),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
    ] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        rustix::process::setrlimit(resource, limit)
            .map_err(|error| format!("no bound: {error}"))?;
    }
    // The operator chooses the host's own OS sandbox, but not this one. It is as complete as the
    // kernel allows, and fully complete if required.
    let os_sandbox = os_sandbox::apply_to_compiler();
    if mode == Mode::Sandboxed && !os_sandbox.is_full() {
        return Err(format!(
            "nothing is compiled: the OS sandbox is required, and the compiler's is incomplete: {}",
            os_sandbox.describe()
        ));
    }
    let mut file = Vec::new();
    let most = u64::try_from(mode.max_request_bytes()).unwrap_or(u64::MAX);
    (std::io::stdin().lock().take(most))
        .read_to_end(&mut file)
        .map_err(|error| error.to_string())?;
    let answer = if mode == Mode::Reusing {
        let (functions, component) = parted(&file).ok_or("the request is incomplete")?;
        let functions = Arc::new(Functions::of(functions));
        // Others are not kept, and those of a runtime have 500 MB.
        let store = code_digest(component).map(|_| Arc::clone(&functions) as Arc<dyn CacheStore>);
        let code = precompiled(component, store)?;
        joined(&functions.added(), &code)
    } else {
        precompiled(&file, None)?
    };
    let mut output = std::io::stdout().lock();
    (output.write_all(&answer))
        .and_then(|()| output.flush())
        .map_err(|error| error.to_string())
}

fn precompiled(component: &[u8], known: Option<Arc<dyn CacheStore>>) -> CompileResult {
    engine::compiler(known)
        .and_then(|engine| engine.precompile_component(component))
        .map_err(|error| crate::cause::describe(&error))
}
