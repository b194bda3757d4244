//! Rust crates that do not build for a component, and what it offers instead.

use crate::build_error::hint::{COMPILED, Hint, NO_NETWORK, NO_SYSTEM};

/// The hints, by the crate that cargo names in its error. Often it is a dependency.
pub const RUST: &[Hint] = &[
    Hint {
        modules: &[
            "tokio",
            "mio",
            "reqwest",
            "hyper",
            "socket2",
            "ureq",
            "openssl-sys",
            "ring",
            "rustls",
            "curl-sys",
            "native-tls",
            "aws-lc-sys",
        ],
        why: NO_NETWORK,
        instead: "request files with `fetch` and features with `lookup` of tensorgate_handler, which the policy grants",
    },
    Hint {
        modules: &["opencv", "turbojpeg-sys", "mozjpeg-sys", "libwebp-sys"],
        why: COMPILED,
        instead: "decode with a crate of pure Rust, and compute with `ndarray`",
    },
    Hint {
        modules: &[
            "ndarray-linalg",
            "openblas-src",
            "lapack-sys",
            "blas-src",
            "cblas-sys",
        ],
        why: COMPILED,
        instead: "compute with `ndarray`, which tensorgate_handler has",
    },
    Hint {
        modules: &[
            "ort",
            "ort-sys",
            "tch",
            "torch-sys",
            "tensorflow-sys",
            "onnxruntime-sys",
        ],
        why: COMPILED,
        instead: "a model server runs the model, which the policy names as `backend`",
    },
    Hint {
        modules: &[
            "libsqlite3-sys",
            "rocksdb",
            "librocksdb-sys",
            "memmap2",
            "nix",
            "signal-hook",
        ],
        why: NO_SYSTEM,
        instead: "include data with `include_str!`, or give settings in the policy's `config`",
    },
    Hint {
        modules: &["getrandom"],
        why: NO_SYSTEM,
        instead: "use a later version of `getrandom`, which has random numbers from a seed of the request, or seed a generator from `config`",
    },
];
