//! JavaScript modules and globals that a component lacks, and what it offers instead.

use crate::build_error::hint::{COMPILED, Hint, NO_NETWORK, NO_SYSTEM};

/// Why a component lacks a part of Node.js or the web platform. `{}` is its name.
const NO_PLATFORM: &str = "a component has neither Node.js nor the web platform, so no {}";

/// The hints, by the package of an import (without `node:`), or by the name of a global.
pub const JS: &[Hint] = &[
    Hint {
        modules: &[
            "sharp",
            "jimp",
            "canvas",
            "pngjs",
            "jpeg-js",
            "opencv4nodejs",
        ],
        why: COMPILED,
        instead: "decode a picture with `decodeImage` of kit.js, then use `resize` and `planes` of its array",
    },
    Hint {
        modules: &[
            "onnxruntime-node",
            "onnxruntime-web",
            "@tensorflow/tfjs",
            "@tensorflow/tfjs-node",
            "@xenova/transformers",
            "@huggingface/transformers",
        ],
        why: COMPILED,
        instead: "a model server runs the model, which the policy names as `backend`. `NdArray` of kit.js has the operations around it",
    },
    Hint {
        modules: &[
            "Buffer",
            "buffer",
            "TextEncoder",
            "TextDecoder",
            "atob",
            "btoa",
        ],
        why: NO_PLATFORM,
        instead: "use Uint8Array, and `bytes` and `text` of tensorgate.js for UTF-8",
    },
    Hint {
        modules: &[
            "fetch",
            "net",
            "tls",
            "dns",
            "http",
            "http2",
            "https",
            "axios",
            "node-fetch",
            "undici",
            "ws",
            "XMLHttpRequest",
            "WebSocket",
        ],
        why: NO_NETWORK,
        instead: "request files with `fetch` and features with `lookup` of reach.js, which the policy grants",
    },
    Hint {
        modules: &["fs", "fs/promises", "path", "os", "process"],
        why: NO_SYSTEM,
        instead: "put data into a module of the project, and settings into the policy's `config`",
    },
    Hint {
        modules: &[
            "child_process",
            "worker_threads",
            "cluster",
            "Worker",
            "setTimeout",
            "setInterval",
            "setImmediate",
            "queueMicrotask",
            "timers",
        ],
        why: NO_SYSTEM,
        instead: "compute in the call itself and return its result, because the host runs many calls at once, each within `timeout_ms`",
    },
    Hint {
        modules: &["require", "module", "exports", "__dirname", "__filename"],
        why: NO_PLATFORM,
        instead: "use `import` and `export` of ES modules",
    },
    Hint {
        modules: &["crypto", "WebAssembly", "zlib", "stream", "util", "URL"],
        why: NO_PLATFORM,
        instead: "put a package of plain JavaScript into `node_modules` beside handler.js",
    },
];
