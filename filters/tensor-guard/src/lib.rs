//! The tensor-guard filter as a module that a proxy loads. All of it lives in [`tensorgate_glue`]; here is the entry point only, and only
//! for wasm: on the machine itself this crate is empty.

#[cfg(target_family = "wasm")]
mod entry {
    #![allow(missing_docs, reason = "the macro's own item")]

    proxy_wasm::main! {{
        tensorgate_glue::sdk::start(tensorgate_glue::filter::Filter::TensorGuard);
    }}
}
