//! Loads the native module and calls its hooks as Envoy does, without Envoy. Tools that watch a
//! process can then watch the module: Valgrind its memory, Callgrind its instructions.
//!
//! - `tensorgate-abi-driver MODULE mutated COUNT SEED`: requests of the decision vectors, mutated.
//!   Bodies arrive in any pieces, clients leave at any time, also inside each function of Envoy
//!   that may end a stream, and configurations of two files are replaced while requests run.
//! - `tensorgate-abi-driver MODULE small COUNT`: one accepted request of 1 KB, again and again;
//!   `large`: of 600 KB.
//!
//! What Envoy lends to a module is freed as early as the ABI allows, so that a later use is a fault
//! that Valgrind finds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "test support: a failure here is a failed test and says where"
)]

mod abi;
mod equal;
mod events;
mod mutated;
mod mutation;
mod random;
mod stream;

use abi::Hooks;
use equal::Size;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| -> usize { text.parse().expect("a number") };
    match arguments.as_slice() {
        [module, "mutated", count, seed] => {
            // A new version has another file; the first one's code does.
            let second =
                std::env::temp_dir().join(format!("tensorgate-abi-{}", std::process::id()));
            std::fs::copy(module, &second).expect("a folder for temporary files");
            let files = [module, second.to_str().expect("a path")].map(Hooks::load);
            std::fs::remove_file(&second).expect("the file that was just written");
            mutated::run(&files, number(count), number(seed));
        }
        [module, "small", count] => {
            equal::run(&Hooks::load(module), Size::Small, number(count));
        }
        [module, "large", count] => {
            equal::run(&Hooks::load(module), Size::Large, number(count));
        }
        _ => panic!(
            "usage: tensorgate-abi-driver MODULE mutated COUNT SEED, or small or large COUNT"
        ),
    }
}
