//! The WASI state of a call: a context that grants nothing, the lines of stdout and stderr, and the
//! random numbers. A call that uses no WASI allocates nothing for it.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::cli::WasiCliCtx;
use wasmtime_wasi::filesystem::WasiFilesystemCtx;

use crate::output_lines::OutputLines;
use crate::random_seed::WasiInputs;

/// A stream of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// The standard output.
    Stdout,
    /// The standard error output.
    Stderr,
}

/// The WASI state of a call.
pub(super) struct WasiState {
    /// The time and the seed of the call.
    pub(super) inputs: WasiInputs,
    random: Option<ChaCha20Rng>,
    stdout: OutputLines,
    stderr: OutputLines,
    /// Without arguments and environment.
    pub(super) cli: WasiCliCtx,
    /// Without folders.
    pub(super) filesystem: WasiFilesystemCtx,
    /// Stays empty: nothing that is linked creates a resource in it.
    pub(super) table: ResourceTable,
}

impl WasiState {
    /// The state at the start of a call.
    pub(super) fn new(inputs: WasiInputs) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(0);
        Self {
            inputs,
            random: None,
            stdout: OutputLines::default(),
            stderr: OutputLines::default(),
            cli: WasiCliCtx::default(),
            filesystem: WasiFilesystemCtx::default(),
            table,
        }
    }

    /// The generator of the call.
    pub(super) fn random(&mut self) -> &mut ChaCha20Rng {
        let seed = self.inputs.seed;
        self.random
            .get_or_insert_with(|| ChaCha20Rng::from_seed(seed))
    }

    /// The time of both clocks, in Unix nanoseconds.
    pub(super) const fn unix_ns(&self) -> u64 {
        self.inputs.unix_ms.saturating_mul(1_000_000)
    }

    /// The unfinished line of a stream.
    pub(super) const fn lines(&mut self, output: Output) -> &mut OutputLines {
        match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        }
    }
}
