//! The rate-limit filter as a module that a proxy loads. The code lives in
//! [`tensorgate_filter_core`]; this crate holds the entry point, for wasm only. On native targets
//! this crate is empty.

#[cfg(target_family = "wasm")]
mod entry {
    #![allow(missing_docs, reason = "the macro's own item")]

    proxy_wasm::main! {{
        tensorgate_filter_core::sdk::start(tensorgate_filter_core::filter::Filter::RateLimit);
    }}
}
