//! The bindings that `bindgen!` generates from `handler.wit`. Arguments are borrowed, so tensor
//! data is copied once into the guest's memory and once out of it.
#![allow(
    missing_docs,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    unused_qualifications,
    reason = "generated code"
)]

/// The world of handlers before the model.
pub mod preprocess {
    wasmtime::component::bindgen!({
        path: "../../wit/handler.wit",
        world: "preprocess",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// The world of handlers after the model. Its types are those of [`preprocess`].
pub mod postprocess {
    wasmtime::component::bindgen!({
        path: "../../wit/handler.wit",
        world: "postprocess",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "tensorgate:handler/types": super::preprocess::tensorgate::handler::types,
            "tensorgate:handler/config": super::preprocess::tensorgate::handler::config,
            "tensorgate:handler/log": super::preprocess::tensorgate::handler::log,
        },
    });
}
