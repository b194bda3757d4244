//! The limit on the memory of all handlers of a host, and the memory that the handlers of a policy
//! can need at most.

use tensorgate_policy::values::ByteSize;

use crate::handler_threads::{MAX_RESERVED_THREADS, shared_threads};
use crate::system_memory::system_memory_bytes;

/// The bytes of memory that an idle instance keeps. The sandbox says why.
pub const KEEP_RESIDENT_BYTES: usize = 2 << 20;
/// The stack of wasm code in bytes, which a thread has from its first deep call on.
pub const MAX_WASM_STACK_BYTES: usize = 4 << 20;
/// The part of the process's memory that handlers may have by default.
const DEFAULT_DIVISOR: u64 = 2;
/// The handlers that a fault names.
const NAMED_HANDLERS: usize = 3;
/// The bytes of a MiB.
const MIB: usize = 1 << 20;

/// The limit without `--handler-memory`: half of the memory that this process may use. If the
/// kernel does not say how much that is, there is none.
pub fn default_limit_bytes() -> usize {
    system_memory_bytes().map_or(usize::MAX, |bytes| {
        usize::try_from(bytes.div_euclid(DEFAULT_DIVISOR)).unwrap_or(usize::MAX)
    })
}

/// Parses a size as in a policy, such as `512MiB`.
///
/// # Errors
/// Returns what a size looks like.
pub fn parse_size(text: &str) -> Result<usize, String> {
    ByteSize::parse(text)
        .and_then(|size| usize::try_from(size.0).ok())
        .ok_or_else(|| "not a number of bytes such as 65536, 512MiB or 2GiB".to_owned())
}

/// The memory that the handlers of a policy can need at most, in bytes. The parts:
/// - `memory_bytes` of each handler, whose reserved thread runs one call. Only the
///   [`MAX_RESERVED_THREADS`] largest have one.
/// - the largest `memory_bytes` for each thread that handlers share.
/// - [`KEEP_RESIDENT_BYTES`] for each instance of a handler that can be idle while the others run.
/// - [`MAX_WASM_STACK_BYTES`] for each thread.
/// - the code of the components and of their runtimes.
#[derive(Clone, Debug)]
pub struct HandlerNeeds<'p> {
    /// The handlers with their `memory_bytes`, the largest first.
    handlers: Vec<(&'p str, usize)>,
    threads: usize,
    code_bytes: usize,
}

impl<'p> HandlerNeeds<'p> {
    /// The needs of these handlers with their `memory_bytes`, on a host with at most `threads`
    /// concurrent calls of one handler. A handler with two roles is there twice. `code_bytes` is
    /// zero where components are not compiled.
    pub fn new(
        handlers: impl IntoIterator<Item = (&'p str, usize)>,
        threads: usize,
        code_bytes: usize,
    ) -> Self {
        let mut handlers: Vec<_> = handlers.into_iter().collect();
        handlers.sort_unstable_by(|(one, less), (other, more)| (more, one).cmp(&(less, other)));
        Self {
            handlers,
            threads,
            code_bytes,
        }
    }

    /// The memory of handlers on their reserved threads.
    pub fn reserved_bytes(&self) -> usize {
        let reserved = self.handlers.iter().take(MAX_RESERVED_THREADS);
        reserved.fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// The largest `memory_bytes`.
    pub fn largest_bytes(&self) -> usize {
        self.handlers.first().map_or(0, |(_, bytes)| *bytes)
    }

    /// The memory of instances that are idle while as many as possible run. Each handler can leave
    /// as many as the threads that handlers share, and there are slots for a fixed number.
    fn idle_bytes(&self) -> usize {
        let others = self.handlers.len().saturating_sub(1);
        let left = others.saturating_mul(shared_threads(self.threads));
        let slots = MAX_RESERVED_THREADS.saturating_sub(self.handlers.len());
        left.min(slots)
            .saturating_mul(self.largest_bytes().min(KEEP_RESIDENT_BYTES))
    }

    /// The stacks of all threads. Without handlers there are none.
    fn stack_bytes(&self) -> usize {
        match self.handlers.len().min(MAX_RESERVED_THREADS) {
            0 => 0,
            reserved => reserved
                .saturating_add(shared_threads(self.threads))
                .saturating_mul(MAX_WASM_STACK_BYTES),
        }
    }

    /// The sum of all parts.
    pub fn bytes(&self) -> usize {
        let shared = shared_threads(self.threads).saturating_mul(self.largest_bytes());
        [
            shared,
            self.idle_bytes(),
            self.stack_bytes(),
            self.code_bytes,
        ]
        .into_iter()
        .fold(self.reserved_bytes(), usize::saturating_add)
    }

    /// Checks the sum against a limit in bytes.
    ///
    /// # Errors
    /// The sum is larger.
    pub fn check(&self, limit_bytes: usize) -> Result<(), HandlerMemoryFault> {
        let bytes = self.bytes();
        if bytes <= limit_bytes {
            return Ok(());
        }
        let mib = |bytes: usize| bytes.div_ceil(MIB);
        let named = self.handlers.iter().take(NAMED_HANDLERS);
        let named: Vec<_> = named
            .map(|(name, bytes)| format!("{name} {} MiB", mib(*bytes)))
            .collect();
        let shared = shared_threads(self.threads);
        let message = format!(
            "handlers can need {} MiB of memory together, and the host gives them {} MiB: one call \
             of each handler ({} MiB), {shared} more of the largest ({} MiB), idle instances ({} \
             MiB), stacks ({} MiB) and code ({} MiB); the largest handlers are {}",
            mib(bytes),
            limit_bytes.div_euclid(MIB),
            mib(self.reserved_bytes()),
            mib(shared.saturating_mul(self.largest_bytes())),
            mib(self.idle_bytes()),
            mib(self.stack_bytes()),
            mib(self.code_bytes),
            named.join(", "),
        );
        let fix = format!(
            "lower memory_bytes of the largest handlers or --handler-threads ({}), or raise \
             --handler-memory of the host (TENSORGATE_HANDLER_MEMORY of `up`)",
            self.threads
        );
        Err(HandlerMemoryFault { message, fix })
    }
}

/// The handlers of a policy can need more memory than the host gives them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {fix}")]
pub struct HandlerMemoryFault {
    /// The sum, the limit, the parts of the sum and the largest handlers.
    pub message: String,
    /// What to change.
    pub fix: String,
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_need_is_one_call_of_each_handler_and_the_largest_on_each_shared_thread() {
        let mib = |sizes: &[usize]| -> Vec<(&'static str, usize)> {
            sizes
                .iter()
                .map(|size| ("h", size.saturating_mul(MIB)))
                .collect()
        };
        // The last number is that of the threads, each of which has a stack.
        let cases: [(&[usize], usize, usize, usize, usize); 8] = [
            (&[], 8, 0, 0, 0),
            (&[16], 1, 0, 16, 1),
            // Two threads are shared: one beside the first, and one for a client without a call.
            (&[16], 2, 3, 16 + 2 * 16 + 3, 3),
            (&[64], 8, 0, 64 + 8 * 64, 9),
            // Two idle instances beside the four that run.
            (&[16, 64], 2, 0, 80 + 2 * 64 + 2 * 2, 4),
            // An idle instance keeps no more than it may have.
            (&[1, 1], 2, 0, 2 + 2 + 2, 4),
            // No slots are left for idle instances.
            (&[8; 16], 2, 0, 16 * 8 + 2 * 8, 18),
            (&[8; 20], 2, 0, 16 * 8 + 2 * 8, 18),
        ];
        for (sizes, threads, code_mib, others_mib, stacks) in cases {
            let expected_mib = others_mib + stacks * 4;
            let needs = HandlerNeeds::new(mib(sizes), threads, code_mib * MIB);
            assert_eq!(needs.bytes(), expected_mib * MIB, "{sizes:?} {threads}");
        }
    }

    #[test]
    fn a_fault_names_the_sum_the_limit_the_largest_handlers_and_the_cure() {
        let handlers = ["a", "b", "c", "d"].map(|name| (name, 256 * MIB));
        let large = [("largest", 1_024 * MIB)];
        let needs = HandlerNeeds::new(handlers.into_iter().chain(large), 2, 5 * MIB + 1);
        let bytes = 2_048 * MIB + 2 * 1_024 * MIB + 8 * 2 * MIB + 7 * 4 * MIB + 5 * MIB + 1;
        assert_eq!(needs.bytes(), bytes);
        assert_eq!(needs.check(bytes), Ok(()));
        let expected = "handlers can need 4146 MiB of memory together, and the host gives them \
            4145 MiB: one call of each handler (2048 MiB), 2 more of the largest (2048 MiB), idle \
            instances (16 MiB), stacks (28 MiB) and code (6 MiB); the largest handlers are largest \
            1024 MiB, a 256 MiB, b 256 MiB: lower memory_bytes of the largest handlers or \
            --handler-threads (2), or raise --handler-memory of the host \
            (TENSORGATE_HANDLER_MEMORY of `up`)";
        let fault = needs.check(bytes - 1).map_err(|fault| fault.to_string());
        assert_eq!(fault, Err(expected.to_owned()));
    }

    #[test]
    fn handlers_of_usual_sizes_fit_a_machine_of_two_gib() {
        let limit = 1_024 * MIB;
        // The most handlers of one example, with compiled runtimes of languages.
        let sizes = [64, 64, 32, 16, 16, 16].map(|size| ("h", size * MIB));
        for threads in [1, 2, 4] {
            assert_eq!(
                HandlerNeeds::new(sizes, threads, 240 * MIB).check(limit),
                Ok(())
            );
        }
    }

    #[test]
    fn a_size_is_written_as_in_a_policy() {
        for (text, expected) in [
            ("65536", Some(65_536)),
            ("512MiB", Some(512 << 20)),
            ("2GiB", Some(2 << 30)),
            ("2G", None),
            ("", None),
            ("-1", None),
        ] {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
    }
}
