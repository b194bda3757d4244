//! The module that a proxy loads: the combined filter, or the part of it that its configuration
//! names. The code lives in `filters/core` and `filters/wasm`; this crate holds the entry point,
//! for wasm only. On native targets this crate is empty.

#[cfg(target_family = "wasm")]
mod entry {
    #![allow(missing_docs, reason = "the macro's own item")]

    proxy_wasm::main! {{
        tensorgate_filter_wasm::start();
    }}
}
