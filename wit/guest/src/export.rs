//! The traits that an author implements, and the macros that export them from the component.

use crate::bindings::preprocess::Payload;
use crate::bindings::preprocess::tensorgate::handler::errors::Error;
use crate::bindings::preprocess::tensorgate::handler::types::Tensor;

/// A handler that runs before the model.
pub trait Preprocess {
    /// Returns the model's input tensors. The host checks them against the model's `inputs`.
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error>;
}

/// A handler that runs after the model.
pub trait Postprocess {
    /// Takes the model's output tensors and returns the client's. The host checks those against the
    /// policy's `returns`.
    fn postprocess(outputs: Vec<Tensor>) -> Result<Vec<Tensor>, Error>;
}

/// Exports a type that implements [`Preprocess`] from this component. Use it once in a crate.
///
/// `arena: BYTES` after the type reserves memory in each instance for the input, the answer and
/// intermediate values. Without it the memory has to grow during the call, which the kernel does
/// page by page and undoes before the next call. Memory that is asked for as zeros, as
/// [`Tensor::fill`] does, is not cleared if no other block was there before.
///
/// The whole arena is cleared after each call, at some 10 µs a MiB. State what a usual call needs
/// (`tensorgate handler bench` prints it), not the maximum.
///
/// ```
/// # use tensorgate_handler::{Error, Payload, Preprocess, Tensor, export_preprocess};
/// # struct Normalise;
/// # impl Preprocess for Normalise {
/// #     fn preprocess(_: Payload) -> Result<Vec<Tensor>, Error> { Ok(Vec::new()) }
/// # }
/// // A photograph's bytes, and as many floats.
/// export_preprocess!(Normalise, arena: 224 * 224 * 3 * (1 + 4));
/// # fn main() {}
/// ```
///
/// `allocator: own` instead is for a crate that has a global allocator already: its own, or that of
/// the other export macro.
#[macro_export]
macro_rules! export_preprocess {
    ($handler:ty) => {
        $crate::export_preprocess!($handler, arena: 0);
    };
    ($handler:ty, arena: $bytes:expr) => {
        $crate::arena!($bytes);
        $crate::export_preprocess!($handler, allocator: own);
    };
    ($handler:ty, allocator: own) => {
        const _: () = {
            struct World;
            impl $crate::bindings::preprocess::Guest for World {
                fn preprocess(
                    input: $crate::Payload,
                ) -> ::core::result::Result<::std::vec::Vec<$crate::Tensor>, $crate::Error>
                {
                    $crate::log_panics();
                    <$handler as $crate::Preprocess>::preprocess(input)
                }
            }
            $crate::bindings::preprocess::export_preprocess_world!(
                World with_types_in $crate::bindings::preprocess
            );
        };
    };
}

/// Exports a type that implements [`Postprocess`] from this component. Use it once in a crate.
/// `arena:` and `allocator:` are those of [`export_preprocess!`].
#[macro_export]
macro_rules! export_postprocess {
    ($handler:ty) => {
        $crate::export_postprocess!($handler, arena: 0);
    };
    ($handler:ty, arena: $bytes:expr) => {
        $crate::arena!($bytes);
        $crate::export_postprocess!($handler, allocator: own);
    };
    ($handler:ty, allocator: own) => {
        const _: () = {
            struct World;
            impl $crate::bindings::postprocess::Guest for World {
                fn postprocess(
                    outputs: ::std::vec::Vec<$crate::Tensor>,
                ) -> ::core::result::Result<::std::vec::Vec<$crate::Tensor>, $crate::Error>
                {
                    $crate::log_panics();
                    <$handler as $crate::Postprocess>::postprocess(outputs)
                }
            }
            $crate::bindings::postprocess::export_postprocess_world!(
                World with_types_in $crate::bindings::postprocess
            );
        };
    };
}

/// The global allocator of an instance. For the export macros.
#[doc(hidden)]
#[macro_export]
macro_rules! arena {
    ($bytes:expr) => {
        const _: () = {
            // A name that does not clash with the author's: macros do not scope their items.
            #[cfg(target_arch = "wasm32")]
            #[global_allocator]
            static ALLOCATOR_OF_TENSORGATE: $crate::Allocator = {
                static ARENA: $crate::Arena<{ $bytes + $crate::LEAST_BYTES }> =
                    $crate::Arena::new();
                $crate::allocator(&ARENA)
            };
            #[cfg(not(target_arch = "wasm32"))]
            const _: usize = $bytes;
        };
    };
}

/// Runs a function once, while `tensorgate handler build` makes the component. Its statics become
/// the initial state of each instance, so a vocabulary or a table costs a call nothing. Use it once
/// in a crate.
///
/// ```
/// use std::sync::LazyLock;
///
/// static SQUARES: LazyLock<Vec<u64>> = LazyLock::new(|| (0..100_000).map(|n| n * n).collect());
///
/// fn init() {
///     LazyLock::force(&SQUARES);
/// }
///
/// tensorgate_handler::export_init!(init);
/// # fn main() {}
/// ```
///
/// There is no host at that time: a call of [`crate::config`] fails the build, and lines of
/// [`crate::log`] are printed only if the build fails. Other build tools and unit tests do not run
/// the function. Then calls must compute what they need themselves, as a `LazyLock` does.
#[macro_export]
macro_rules! export_init {
    ($function:path) => {
        const _: () = {
            #[cfg(target_arch = "wasm32")]
            #[unsafe(export_name = "tensorgate-init")]
            extern "C" fn run_init_of_tensorgate() {
                // A name that does not clash with the author's: macros do not scope their items.
                $crate::before_calls(|| {
                    $crate::log_panics();
                    $function();
                });
            }
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn() = $function;
        };
    };
}

/// Makes a component that must be configured by `tensorgate handler configure` before a host
/// accepts it. Use it once in a crate.
///
/// The command calls the function once. [`crate::config`] returns the content of the files that the
/// user names. The bytes that the function returns are stored, and [`crate::configured`] returns
/// them in each call at no cost. If it returns an error, its text is reported. No other state of
/// that run is kept.
///
/// ```
/// use tensorgate_handler::{config, export_configure};
///
/// fn sorted() -> Result<Vec<u8>, String> {
///     let words = config("words.txt").ok_or("no words.txt")?;
///     let mut words: Vec<&str> = words.lines().collect();
///     words.sort_unstable();
///     Ok(words.join("\n").into_bytes())
/// }
///
/// export_configure!(sorted);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export_configure {
    ($function:path) => {
        const _: () = {
            #[cfg(target_arch = "wasm32")]
            static OUTCOME: ::std::sync::OnceLock<&'static [usize; 3]> =
                ::std::sync::OnceLock::new();
            #[cfg(target_arch = "wasm32")]
            #[unsafe(export_name = "tensorgate-configure")]
            extern "C" fn run_configure_of_tensorgate() {
                $crate::log_panics();
                OUTCOME.get_or_init(|| $crate::outcome_words($function()));
            }
            #[cfg(target_arch = "wasm32")]
            #[unsafe(export_name = "tensorgate-made")]
            extern "C" fn outcome_of_tensorgate() -> usize {
                OUTCOME.get().map_or(0, |outcome| outcome.as_ptr().addr())
            }
            #[cfg(target_arch = "wasm32")]
            #[unsafe(export_name = "tensorgate-keep")]
            extern "C" fn room_of_tensorgate(bytes: usize) -> usize {
                $crate::keep(bytes)
            }
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn() -> ::core::result::Result<::std::vec::Vec<u8>, ::std::string::String> =
                $function;
        };
    };
}

/// Installs a panic hook that writes the message and the location to the operator's log before the
/// trap, which carries neither. The export macros call this.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|info| crate::host::log::error(info.to_string())));
}
