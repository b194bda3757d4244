//! Bindings that `wit-bindgen` generates from `handler.wit`. Authors use the crate's root; only the
//! export macros refer to this module.
#![allow(
    missing_docs,
    clippy::missing_safety_doc,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated code; which of these it trips differs by target"
)]

/// The world of handlers that run before the model.
pub mod preprocess {
    wit_bindgen::generate!({
        path: "../handler.wit",
        world: "preprocess",
        pub_export_macro: true,
        export_macro_name: "export_preprocess_world",
        default_bindings_module: "tensorgate_handler::bindings::preprocess",
    });
}

/// Interfaces that a handler may import if its policy grants them.
pub mod granted {
    wit_bindgen::generate!({
        path: "../handler.wit",
        world: "granted",
    });
}

/// The world of handlers that run after the model. Its types are those of [`preprocess`].
pub mod postprocess {
    wit_bindgen::generate!({
        path: "../handler.wit",
        world: "postprocess",
        pub_export_macro: true,
        export_macro_name: "export_postprocess_world",
        default_bindings_module: "tensorgate_handler::bindings::postprocess",
        with: {
            "tensorgate:handler/types@0.2.0": super::preprocess::tensorgate::handler::types,
            "tensorgate:handler/errors@0.2.0": super::preprocess::tensorgate::handler::errors,
            "tensorgate:handler/config@0.2.0": super::preprocess::tensorgate::handler::config,
            "tensorgate:handler/log@0.2.0": super::preprocess::tensorgate::handler::log,
            "tensorgate:handler/context@0.2.0": super::preprocess::tensorgate::handler::context,
            "tensorgate:handler/carry@0.2.0": super::preprocess::tensorgate::handler::carry,
        },
    });
}
