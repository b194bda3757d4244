//! WASI that grants nothing, linked only into components that import it.
//!
//! The bindings, the environment, the terminals and the files are those of `wasmtime-wasi`, with a
//! context that has no arguments, variables and folders. The library would start an async runtime
//! for streams and polls, and read the machine's clocks and random numbers. So these are our own:
//! - stdout and stderr become log lines, and stdin is closed;
//! - both clocks stand at the time of the request, and a wait for a later time ends the call;
//! - random numbers come from a seed that a capture stores.
//!
//! A resource of ours is a number without state. The store limits a guest's handles, so no table
//! of the host can grow. Each function copies at most [`MAX_WASI_BYTES`] to the guest.

use std::time::Duration;

use rand_chacha::rand_core::RngCore as _;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::cli::{WasiCli, WasiCliCtxView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::sync::filesystem::types as files;
use wasmtime_wasi::p2::bindings::sync::io::{error, poll, streams};
use wasmtime_wasi::p2::bindings::{cli, clocks, random};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, IoError, StreamError, StreamResult,
};

use crate::bindings::v0_1::preprocess::tensorgate::handler::log::Level;
use crate::call_state::{CallState, Stop};
use crate::fixed_limits::MAX_WASI_BYTES;
use crate::wasi_state::Output;

/// The interfaces that are linked, without version.
const INTERFACES: [&str; 20] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// Whether an import is one of WASI.
pub(super) fn is_wasi(import: &str) -> bool {
    import.starts_with("wasi:")
}

/// Whether an import of WASI is linked. All versions of WASI 0.2 are compatible.
pub(super) fn is_linked(import: &str) -> bool {
    import
        .split_once('@')
        .is_some_and(|(name, version)| version.starts_with("0.2.") && INTERFACES.contains(&name))
}

/// What to do about an import of WASI that is not linked.
pub(super) fn advice(import: &str) -> &'static str {
    if import.starts_with("wasi:sockets/") || import.starts_with("wasi:http/") {
        "a handler has no network: build it without sockets and HTTP, or use `fetch` or `lookups` of the policy"
    } else {
        "of WASI it may import cli, clocks, filesystem, io and random of version 0.2: build it for wasm32-wasip2, without more"
    }
}

/// The object on which the host functions are called.
type Host = HasSelf<CallState>;

fn host(state: &mut CallState) -> &mut CallState {
    state
}

fn cli_view(state: &mut CallState) -> WasiCliCtxView<'_> {
    WasiCliCtxView {
        ctx: &mut state.wasi.cli,
        table: &mut state.wasi.table,
    }
}

fn files_view(state: &mut CallState) -> WasiFilesystemCtxView<'_> {
    WasiFilesystemCtxView {
        ctx: &mut state.wasi.filesystem,
        table: &mut state.wasi.table,
    }
}

/// Adds WASI to a linker.
pub(super) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    error::add_to_linker::<CallState, Host>(linker, host)?;
    poll::add_to_linker::<CallState, Host>(linker, host)?;
    streams::add_to_linker::<CallState, Host>(linker, host)?;
    clocks::wall_clock::add_to_linker::<CallState, Host>(linker, host)?;
    clocks::monotonic_clock::add_to_linker::<CallState, Host>(linker, host)?;
    random::random::add_to_linker::<CallState, Host>(linker, host)?;
    random::insecure::add_to_linker::<CallState, Host>(linker, host)?;
    random::insecure_seed::add_to_linker::<CallState, Host>(linker, host)?;
    cli::exit::add_to_linker::<CallState, Host>(linker, host)?;
    cli::stdin::add_to_linker::<CallState, Host>(linker, host)?;
    cli::stdout::add_to_linker::<CallState, Host>(linker, host)?;
    cli::stderr::add_to_linker::<CallState, Host>(linker, host)?;
    cli::environment::add_to_linker::<CallState, WasiCli>(linker, cli_view)?;
    cli::terminal_input::add_to_linker::<CallState, WasiCli>(linker, cli_view)?;
    cli::terminal_output::add_to_linker::<CallState, WasiCli>(linker, cli_view)?;
    cli::terminal_stdin::add_to_linker::<CallState, WasiCli>(linker, cli_view)?;
    cli::terminal_stdout::add_to_linker::<CallState, WasiCli>(linker, cli_view)?;
    cli::terminal_stderr::add_to_linker::<CallState, WasiCli>(linker, cli_view)?;
    preopens::add_to_linker::<CallState, WasiFilesystem>(linker, files_view)?;
    files::add_to_linker::<CallState, WasiFilesystem>(linker, files_view)
}

/// The number of a pollable that is ready.
const READY: u32 = 0;
/// The number of a pollable for a later time, which never comes.
const LATER: u32 = 1;

/// The number of the standard input, and of the standard output.
const STDIN: u32 = 0;
const STDOUT: u32 = 0;
/// The number of the standard error output.
const STDERR: u32 = 1;

/// A length that the host may copy.
fn bounded(bytes: u64) -> Result<usize, Stop> {
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes <= MAX_WASI_BYTES)
        .ok_or(Stop::WasiBytes)
}

fn trap(stop: Stop) -> StreamError {
    StreamError::Trap(stop.into())
}

/// Adds output of the guest, and logs each line that it completes.
fn write_output(
    state: &mut CallState,
    stream: &Resource<DynOutputStream>,
    bytes: &[u8],
) -> Result<(), Stop> {
    state.check_may_continue()?;
    if bytes.len() > MAX_WASI_BYTES {
        return Err(Stop::WasiBytes);
    }
    let output = if stream.rep() == STDERR {
        Output::Stderr
    } else {
        Output::Stdout
    };
    let mut lines = std::mem::take(state.wasi.lines(output));
    lines.write(bytes, |line, bytes| log_output(state, output, line, bytes));
    *state.wasi.lines(output) = lines;
    Ok(())
}

/// Logs the unfinished lines of a call that is over.
pub(super) fn finish_output(state: &mut CallState) {
    for output in [Output::Stdout, Output::Stderr] {
        let mut lines = std::mem::take(state.wasi.lines(output));
        lines.finish(|line, bytes| log_output(state, output, line, bytes));
    }
}

fn log_output(state: &mut CallState, output: Output, line: &str, bytes: usize) {
    match output {
        Output::Stdout => state.log_line(Level::Info, line, bytes),
        Output::Stderr => {
            state.log.keep_stderr(line);
            state.log_line(Level::Warn, line, bytes);
        }
    }
}

fn random_bytes(state: &mut CallState, bytes: u64) -> wasmtime::Result<Vec<u8>> {
    state.check_may_continue()?;
    let mut random = vec![0; bounded(bytes)?];
    state.wasi.random().fill_bytes(&mut random);
    Ok(random)
}

impl error::Host for CallState {}

impl error::HostError for CallState {
    // No stream of ours fails with an error that has details.
    fn to_debug_string(&mut self, _: Resource<IoError>) -> wasmtime::Result<String> {
        Ok(String::new())
    }

    fn drop(&mut self, _: Resource<IoError>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl poll::Host for CallState {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.check_may_continue()?;
        let ready: Vec<u32> = (0_u32..)
            .zip(&pollables)
            .filter(|(_, pollable)| pollable.rep() == READY)
            .map(|(index, _)| index)
            .collect();
        if ready.is_empty() {
            Err(Stop::Wait.into())
        } else {
            Ok(ready)
        }
    }
}

impl poll::HostPollable for CallState {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        Ok(pollable.rep() == READY)
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        if pollable.rep() == READY {
            Ok(())
        } else {
            Err(Stop::Wait.into())
        }
    }

    fn drop(&mut self, _: Resource<DynPollable>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl streams::Host for CallState {
    fn convert_stream_error(
        &mut self,
        error: StreamError,
    ) -> wasmtime::Result<streams::StreamError> {
        match error {
            StreamError::Closed => Ok(streams::StreamError::Closed),
            StreamError::LastOperationFailed(error) | StreamError::Trap(error) => Err(error),
        }
    }
}

impl streams::HostInputStream for CallState {
    fn read(&mut self, _: Resource<DynInputStream>, _: u64) -> StreamResult<Vec<u8>> {
        Err(StreamError::Closed)
    }

    fn blocking_read(&mut self, _: Resource<DynInputStream>, _: u64) -> StreamResult<Vec<u8>> {
        Err(StreamError::Closed)
    }

    fn skip(&mut self, _: Resource<DynInputStream>, _: u64) -> StreamResult<u64> {
        Err(StreamError::Closed)
    }

    fn blocking_skip(&mut self, _: Resource<DynInputStream>, _: u64) -> StreamResult<u64> {
        Err(StreamError::Closed)
    }

    fn subscribe(
        &mut self,
        _: Resource<DynInputStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        Ok(Resource::new_own(READY))
    }

    fn drop(&mut self, _: Resource<DynInputStream>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl streams::HostOutputStream for CallState {
    fn check_write(&mut self, _: Resource<DynOutputStream>) -> StreamResult<u64> {
        Ok(u64::try_from(MAX_WASI_BYTES).unwrap_or(u64::MAX))
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        write_output(self, &stream, &bytes).map_err(trap)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        write_output(self, &stream, &bytes).map_err(trap)
    }

    // A line is logged when it ends, whatever is flushed.
    fn flush(&mut self, _: Resource<DynOutputStream>) -> StreamResult<()> {
        Ok(())
    }

    fn blocking_flush(&mut self, _: Resource<DynOutputStream>) -> StreamResult<()> {
        Ok(())
    }

    fn subscribe(
        &mut self,
        _: Resource<DynOutputStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        Ok(Resource::new_own(READY))
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, bytes: u64) -> StreamResult<()> {
        let zeroes = vec![0; bounded(bytes).map_err(trap)?];
        write_output(self, &stream, &zeroes).map_err(trap)
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: u64,
    ) -> StreamResult<()> {
        streams::HostOutputStream::write_zeroes(self, stream, bytes)
    }

    // The only input is closed.
    fn splice(
        &mut self,
        _: Resource<DynOutputStream>,
        _: Resource<DynInputStream>,
        _: u64,
    ) -> StreamResult<u64> {
        Err(StreamError::Closed)
    }

    fn blocking_splice(
        &mut self,
        _: Resource<DynOutputStream>,
        _: Resource<DynInputStream>,
        _: u64,
    ) -> StreamResult<u64> {
        Err(StreamError::Closed)
    }

    fn drop(&mut self, _: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl cli::stdin::Host for CallState {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        Ok(Resource::new_own(STDIN))
    }
}

impl cli::stdout::Host for CallState {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        Ok(Resource::new_own(STDOUT))
    }
}

impl cli::stderr::Host for CallState {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        Ok(Resource::new_own(STDERR))
    }
}

impl cli::exit::Host for CallState {
    fn exit(&mut self, _: Result<(), ()>) -> wasmtime::Result<()> {
        Err(Stop::Exit.into())
    }

    fn exit_with_code(&mut self, _: u8) -> wasmtime::Result<()> {
        Err(Stop::Exit.into())
    }
}

impl clocks::wall_clock::Host for CallState {
    fn now(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(datetime(self.wasi.unix_ns()))
    }

    fn resolution(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(datetime(CLOCK_RESOLUTION_NS))
    }
}

/// The resolution of the clocks in nanoseconds.
const CLOCK_RESOLUTION_NS: u64 = 1_000_000;

fn datetime(ns: u64) -> clocks::wall_clock::Datetime {
    let time = Duration::from_nanos(ns);
    clocks::wall_clock::Datetime {
        seconds: time.as_secs(),
        nanoseconds: time.subsec_nanos(),
    }
}

impl clocks::monotonic_clock::Host for CallState {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.wasi.unix_ns())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(CLOCK_RESOLUTION_NS)
    }

    fn subscribe_instant(&mut self, when_ns: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let is_past = when_ns <= self.wasi.unix_ns();
        Ok(Resource::new_own(if is_past { READY } else { LATER }))
    }

    fn subscribe_duration(&mut self, after_ns: u64) -> wasmtime::Result<Resource<DynPollable>> {
        Ok(Resource::new_own(if after_ns == 0 { READY } else { LATER }))
    }
}

impl random::random::Host for CallState {
    fn get_random_bytes(&mut self, bytes: u64) -> wasmtime::Result<Vec<u8>> {
        random_bytes(self, bytes)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.wasi.random().next_u64())
    }
}

impl random::insecure::Host for CallState {
    fn get_insecure_random_bytes(&mut self, bytes: u64) -> wasmtime::Result<Vec<u8>> {
        random_bytes(self, bytes)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.wasi.random().next_u64())
    }
}

impl random::insecure_seed::Host for CallState {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        let random = self.wasi.random();
        Ok((random.next_u64(), random.next_u64()))
    }
}
