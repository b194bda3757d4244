//! The bindings that `bindgen!` generates from both versions of `handler.wit`. Arguments are
//! borrowed, so tensor data is copied once into the guest's memory and once out of it.
//!
//! Tensors, bodies, config and log are the same in both versions, and have one type each.
#![allow(
    missing_docs,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    unused_qualifications,
    reason = "generated code"
)]

/// Version 0.1.
pub mod v0_1 {
    /// The world of handlers before the model.
    pub mod preprocess {
        wasmtime::component::bindgen!({
            path: "../../wit/0.1/handler.wit",
            world: "preprocess",
            ownership: Borrowing { duplicate_if_necessary: true },
        });
    }

    /// The world of handlers after the model. Its types are those of [`preprocess`].
    pub mod postprocess {
        wasmtime::component::bindgen!({
            path: "../../wit/0.1/handler.wit",
            world: "postprocess",
            ownership: Borrowing { duplicate_if_necessary: true },
            with: {
                "tensorgate:handler/types": super::preprocess::tensorgate::handler::types,
                "tensorgate:handler/config": super::preprocess::tensorgate::handler::config,
                "tensorgate:handler/log": super::preprocess::tensorgate::handler::log,
            },
        });
    }
}

/// The world of handlers before the model, in version 0.2.
pub mod preprocess {
    wasmtime::component::bindgen!({
        path: "../../wit/handler.wit",
        world: "preprocess",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "tensorgate:handler/types": super::v0_1::preprocess::tensorgate::handler::types,
            "tensorgate:handler/config": super::v0_1::preprocess::tensorgate::handler::config,
            "tensorgate:handler/log": super::v0_1::preprocess::tensorgate::handler::log,
        },
    });
}

/// The world of handlers after the model, in version 0.2. Its types are those of [`preprocess`].
pub mod postprocess {
    wasmtime::component::bindgen!({
        path: "../../wit/handler.wit",
        world: "postprocess",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "tensorgate:handler/types": super::v0_1::preprocess::tensorgate::handler::types,
            "tensorgate:handler/config": super::v0_1::preprocess::tensorgate::handler::config,
            "tensorgate:handler/log": super::v0_1::preprocess::tensorgate::handler::log,
            "tensorgate:handler/errors": super::preprocess::tensorgate::handler::errors,
            "tensorgate:handler/context": super::preprocess::tensorgate::handler::context,
            "tensorgate:handler/carry": super::preprocess::tensorgate::handler::carry,
        },
    });
}
