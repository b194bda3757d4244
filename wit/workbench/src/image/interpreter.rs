//! CPython in wasmtime while a handler is built: it sees three folders, which it cannot write, and
//! nothing else of this machine. Its clock and its random numbers are the same in each build.
//!
//! Fuel, memory and time are bounded. A build runs on a thread of its own, because the interpreter
//! needs a larger stack than a thread has by default.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{Builder, scope};
use std::time::{Duration, Instant};

use wasmtime::{
    Engine, Error, Instance, Linker, Memory, MemoryType, Module, Result, Store, StoreLimits,
    StoreLimitsBuilder, Trap, UpdateDeadline, WasmParams, WasmResults,
};
use wasmtime_wasi::p1::{WasiP1Ctx, add_to_linker_sync};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{
    Deterministic, FsPerms, HostMonotonicClock, HostWallClock, I32Exit, WasiCtxBuilder,
};

use crate::image::snapshot::Snapshot;

/// Maximum number of executed instructions: some minutes.
const MAX_FUEL: u64 = 1_000_000_000_000;
/// Memory limit, bytes. The policy's `memory_bytes` must allow the resulting memory.
const MAX_MEMORY_BYTES: usize = 1 << 30;
/// Time limit of one start of the interpreter.
const MAX_TIME: Duration = Duration::from_secs(300);
/// The thread's stack, bytes: that of the sandbox's WebAssembly, and ample room for the host.
const STACK_BYTES: usize = 32 << 20;
/// Maximum size of each of the two outputs, bytes. Printing more is an error of the handler.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// Memory that a call gets without growth, bytes.
const CALL_BYTES: i32 = 8 << 20;
/// Bytes of the block for the exchange with the host.
pub const EXCHANGE_BYTES: u32 = 4 << 10;
/// The time of every build: the start of 2026.
const NOW: Duration = Duration::from_secs(1_767_225_600);
/// The random numbers of every build.
const SEED: [u8; 16] = *b"tensorgate-build";
/// WASI's "function not supported": nothing of a build waits.
const NO_WAIT: i32 = 52;
/// `PyRun_StringFlags` runs a text of statements.
const STATEMENTS: i32 = 257;
/// Writes what is printed but not yet written.
const FLUSH: &str = "import sys\nsys.stdout.flush()\nsys.stderr.flush()\n";
/// `PyMemoryView_FromMemory` makes a view that can be written.
const WRITABLE: i32 = 0x200;

/// The folders that Python sees, in the order of their descriptors, which a call has, too.
pub struct Mounts<'f> {
    /// The folder of the standard library.
    pub library: &'f Path,
    /// The author's project.
    pub project: &'f Path,
    /// Packages of pure Python.
    pub packages: &'f Path,
}

/// How a script ended early.
#[derive(Default)]
pub struct Ended {
    /// Why. `None` if the interpreter has printed an exception.
    pub cause: Option<String>,
    /// What was printed to standard error.
    pub errors: String,
    /// What was printed to standard output.
    pub output: String,
}

impl Ended {
    fn by(error: &Error) -> Self {
        Self {
            cause: Some(cause(error)),
            ..Self::default()
        }
    }
}

/// What a script has left.
pub struct Finished {
    pub state: Snapshot,
    /// What was printed to standard output, then to standard error.
    pub printed: String,
}

struct State {
    wasi: WasiP1Ctx,
    limits: StoreLimits,
}

/// A clock that stands still, as in a call.
struct Still;

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_micros(1)
    }

    fn now(&self) -> Duration {
        NOW
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1_000
    }

    fn now(&self) -> u64 {
        0
    }
}

/// Runs a script of Python in `__main__`, from a state. `is_new`: CPython has not started in it.
/// Unless it is new, the script gets `_memory` and `_exchange`, and makes `entry`.
///
/// # Errors
/// The script fails, or exceeds a limit.
pub fn run(
    (engine, module): &(Engine, Module),
    mounts: &Mounts<'_>,
    from: Snapshot,
    is_new: bool,
    script: &str,
) -> Result<Finished, Ended> {
    let work = move || {
        let pipe = || MemoryOutputPipe::new(MAX_OUTPUT_BYTES);
        let (stdout, stderr) = (pipe(), pipe());
        let ran = Interpreter::start((engine, module), mounts, from, (&stdout, &stderr))
            .and_then(|interpreter| interpreter.run(is_new, script));
        let [output, errors] =
            [stdout, stderr].map(|pipe| String::from_utf8_lossy(&pipe.contents()).into_owned());
        let cause = match ran {
            Ok(Some(state)) => {
                let printed = format!("{output}{errors}");
                return Ok(Finished { state, printed });
            }
            Ok(None) => None,
            Err(error) => (!error.is::<I32Exit>()).then(|| cause(&error)),
        };
        Err(Ended {
            cause,
            errors,
            output,
        })
    };
    scope(|scope| {
        let (ended, running) = channel::<()>();
        let thread = Builder::new()
            .name("python".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, move || {
                let outcome = work();
                drop(ended);
                outcome
            })
            .map_err(|cause| Ended::by(&cause.into()))?;
        if running.recv_timeout(MAX_TIME) == Err(RecvTimeoutError::Timeout) {
            // The guest then notices that its time is over.
            engine.increment_epoch();
        }
        let lost = |_| Err(Ended::by(&Error::msg("the interpreter's thread ended")));
        thread.join().unwrap_or_else(lost)
    })
}

/// Why the interpreter did not end by itself.
fn cause(error: &Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => format!("it was not done after {MAX_FUEL} instructions"),
        Some(Trap::StackOverflow) => "its calls were nested too deeply".to_owned(),
        _ => error.root_cause().to_string(),
    }
}

/// A running interpreter.
struct Interpreter {
    store: Store<State>,
    memory: Memory,
    instance: Instance,
    from: Snapshot,
}

impl Interpreter {
    /// An instance whose memory is that of a state. The state's own memory is then empty.
    fn start(
        (engine, module): (&Engine, &Module),
        mounts: &Mounts<'_>,
        mut from: Snapshot,
        (stdout, stderr): (&MemoryOutputPipe, &MemoryOutputPipe),
    ) -> Result<Self> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(stdout.clone())
            .stderr(stderr.clone())
            .allow_blocking_current_thread(true)
            .secure_random(Deterministic::new(SEED.to_vec()))
            .wall_clock(Still)
            .monotonic_clock(Still)
            .preopened_dir(mounts.library, "/usr/local/lib", FsPerms::ReadOnly)?
            .preopened_dir(mounts.project, "/project", FsPerms::ReadOnly)?
            .preopened_dir(mounts.packages, "/packages", FsPerms::ReadOnly)?;
        let state = State {
            wasi: wasi.build_p1(),
            limits: StoreLimitsBuilder::new()
                .memory_size(MAX_MEMORY_BYTES)
                .build(),
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.limits);
        store.set_fuel(MAX_FUEL)?;
        let started = Instant::now();
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            if started.elapsed() < MAX_TIME {
                return Ok(UpdateDeadline::Continue(1));
            }
            Err(Error::msg(format!(
                "it was not done after {} seconds",
                MAX_TIME.as_secs()
            )))
        });
        let pages = u32::try_from(from.memory.len() >> 16)?;
        let memory = Memory::new(&mut store, MemoryType::new(pages, None))?;
        memory.write(&mut store, 0, &std::mem::take(&mut from.memory))?;
        let mut linker: Linker<State> = Linker::new(engine);
        add_to_linker_sync(&mut linker, |state: &mut State| &mut state.wasi)?;
        linker.allow_shadowing(true).func_wrap(
            "wasi_snapshot_preview1",
            "poll_oneoff",
            |_: i32, _: i32, _: i32, _: i32| NO_WAIT,
        )?;
        // There is no request yet.
        linker.func_wrap("host", "call", |_: i32, _: i32, _: i32, _: i32| -1_i32)?;
        linker.define(&store, "image", "memory", memory)?;
        let instance = linker.instantiate(&mut store, module)?;
        Ok(Self {
            store,
            memory,
            instance,
            from,
        })
    }

    /// Runs the script. `None` if it has raised an exception, which is printed.
    fn run(mut self, is_new: bool, script: &str) -> Result<Option<Snapshot>> {
        if is_new {
            self.call::<_, ()>("_initialize", ())?;
            self.call::<_, ()>("wizer.initialize", ())?;
        }
        let main = self.text("__main__")?;
        let main: i32 = self.call("PyImport_AddModule", main)?;
        let globals: i32 = self.call("PyModule_GetDict", main)?;
        let mut script = script.to_owned();
        if !is_new {
            let block: i32 = self.call("malloc", EXCHANGE_BYTES.cast_signed())?;
            self.from.exchange = block.cast_unsigned();
            script.insert_str(0, &format!("_exchange = {}\n", self.from.exchange));
            // No object is at address 0, of which CPython makes no view.
            let view: i32 = self.call("PyMemoryView_FromMemory", (1_i32, i32::MAX, WRITABLE))?;
            let name = self.text("_memory")?;
            let _: i32 = self.call("PyDict_SetItemString", (globals, name, view))?;
        }
        let is_done = self.statements(&script, globals)?;
        if !is_done {
            self.call::<_, ()>("PyErr_Print", ())?;
        }
        // Otherwise the first call would print it.
        self.statements(FLUSH, globals)?;
        if !is_done {
            return Ok(None);
        }
        if !is_new {
            let name = self.text("entry")?;
            let entry: i32 = self.call("PyDict_GetItemString", (globals, name))?;
            self.from.entry = entry.cast_unsigned();
            let room: i32 = self.call("malloc", CALL_BYTES)?;
            self.call::<_, ()>("free", room)?;
        }
        let mut state = self.from;
        state.memory = self.memory.data(&self.store).to_vec();
        Ok(Some(state))
    }

    /// Runs statements; `false` if they have raised an exception.
    fn statements(&mut self, statements: &str, globals: i32) -> Result<bool> {
        let text = self.text(statements)?;
        let arguments = (text, STATEMENTS, globals, globals, 0_i32);
        let done: i32 = self.call("PyRun_StringFlags", arguments)?;
        self.call::<_, ()>("free", text)?;
        Ok(done != 0)
    }

    /// Calls an exported function.
    fn call<P: WasmParams, R: WasmResults>(&mut self, name: &str, arguments: P) -> Result<R> {
        let function = (self.instance).get_typed_func::<P, R>(&mut self.store, name)?;
        function.call(&mut self.store, arguments)
    }

    /// Puts a text into the memory, ended by a zero.
    fn text(&mut self, text: &str) -> Result<i32> {
        let bytes = [text.as_bytes(), &[0]].concat();
        let at: i32 = self.call("malloc", i32::try_from(bytes.len())?)?;
        if at == 0 {
            return Err(Error::msg("no memory is left"));
        }
        let address = usize::try_from(at.cast_unsigned())?;
        self.memory.write(&mut self.store, address, &bytes)?;
        Ok(at)
    }
}
