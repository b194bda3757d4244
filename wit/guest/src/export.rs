//! What an author implements, and the macros that make it a component's export.

use crate::{Error, Payload, Tensor};

/// A handler before the model.
pub trait Preprocess {
    /// Makes the model's input tensors. They are checked against the model's `inputs` before they go anywhere.
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error>;
}

/// A handler after the model.
pub trait Postprocess {
    /// Makes the client's output tensors of the model's. They are checked against the policy's `returns`
    /// before they go anywhere.
    fn postprocess(outputs: Vec<Tensor>) -> Result<Vec<Tensor>, Error>;
}

/// Makes a type that implements [`Preprocess`] this component's export. Once in a crate.
///
/// `arena: BYTES` after the type is memory that each instance has from its start for what is larger than 4 KiB: its input, its answer and what lies between. What does not fit makes memory
/// grow, which the kernel does page by page and takes back before the next call. All of it is cleared after each call, some 10 µs a MiB: say what a usual call takes,
/// which `tensorgate handler bench` tells, not what the greatest may.
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
/// `allocator: own` in its place is for a crate that has a global allocator already: of its own, or by the other export macro.
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

/// Makes a type that implements [`Postprocess`] this component's export. Once in a crate. `arena:` and `allocator:` are those of [`export_preprocess!`].
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

/// What a crate allocates from, in an instance. For the macros that make an export.
#[doc(hidden)]
#[macro_export]
macro_rules! arena {
    ($bytes:expr) => {
        const _: () = {
            // Of another name than an author's: items of a macro are not its own.
            #[cfg(target_arch = "wasm32")]
            #[global_allocator]
            static ARENA_OF_TENSORGATE: $crate::Arena<{ $bytes }> = $crate::Arena::new();
            #[cfg(not(target_arch = "wasm32"))]
            const _: usize = $bytes;
        };
    };
}

/// Has a function run once, while `tensorgate handler build` makes the component: what it leaves in statics is what each instance begins with, so that a
/// vocabulary or a table costs a call nothing. Once in a crate.
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
/// It has no host: [`crate::config`] there fails the build, lines of [`crate::log`] are told if it fails. Where something else makes the component, or in a
/// unit test, it does not run: what a call needs must come by itself then, as it does of a `LazyLock`.
#[macro_export]
macro_rules! export_init {
    ($function:path) => {
        const _: () = {
            #[cfg(target_arch = "wasm32")]
            #[unsafe(export_name = "tensorgate-init")]
            extern "C" fn run_init_of_tensorgate() {
                // Of another name than an author's: items of a macro are not its own.
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

/// Makes a component one that is fitted to its user by `tensorgate handler configure`. The function is called then, once: [`crate::config`] answers with the
/// files that the user names, and the bytes that it makes of them are what [`crate::configured`] gives in each call, at no cost to it, or its text says
/// why there are none. Nothing else of that run is left. A host takes such a component only once it is configured. Once in a crate.
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
                OUTCOME.get_or_init(|| $crate::told($function()));
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

/// From here on a panic writes its message and place to the operator's log before it traps: a trap alone carries
/// neither. The export macros call this.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|info| crate::log::error(info.to_string())));
}
