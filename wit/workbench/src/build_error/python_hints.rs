//! Python modules that the runtime lacks, and what it offers instead.

use crate::build_error::hint::{COMPILED, Hint, NO_NETWORK, NO_SYSTEM};

/// The hints, by the top-level module of an import.
pub const PYTHON: &[Hint] = &[
    Hint {
        modules: &["torch", "tensorflow", "jax", "jaxlib", "numba", "cupy"],
        why: COMPILED,
        instead: "use numpy, and let the model itself run behind `backend`",
    },
    Hint {
        modules: &[
            "cv2",
            "torchvision",
            "imageio",
            "skimage",
            "pillow_simd",
            "wand",
        ],
        why: COMPILED,
        instead: "decode a picture with `decode_image` of tensorgate, then use PIL, numpy and scipy",
    },
    Hint {
        modules: &[
            "soundfile",
            "librosa",
            "torchaudio",
            "av",
            "audioread",
            "soxr",
        ],
        why: COMPILED,
        instead: "read a WAV with `decode_wav` of tensorgate, and compute with numpy and scipy",
    },
    Hint {
        modules: &[
            "transformers",
            "tokenizers",
            "sentencepiece",
            "tiktoken",
            "safetensors",
        ],
        why: COMPILED,
        instead: "take the ready handler `text-classifier` with your tokenizer.json, or pad lists of tokens with `pad_tokens`",
    },
    Hint {
        modules: &[
            "onnxruntime",
            "onnx",
            "openvino",
            "tensorrt",
            "xgboost",
            "lightgbm",
            "catboost",
        ],
        why: COMPILED,
        instead: "a model server runs the model, which the policy names as `backend`, and the handler only prepares its input",
    },
    Hint {
        modules: &["polars", "pyarrow"],
        why: COMPILED,
        instead: "use pandas with a table from CSV or JSON, or take the ready handler `tabular`",
    },
    Hint {
        modules: &["pydantic", "pydantic_core", "msgspec", "fastapi", "kserve"],
        why: COMPILED,
        instead: "the policy's `inputs` check names, shapes and ranges before the handler is called. Raise `BadInput` for what it cannot check",
    },
    Hint {
        modules: &["orjson", "ujson", "rapidjson", "simdjson", "_msgpack"],
        why: COMPILED,
        instead: "use `json` of the standard library, or copy a package of pure Python into the project's folder",
    },
    Hint {
        modules: &["re2", "hyperscan"],
        why: COMPILED,
        instead: "use `re` of the standard library, or the package regex",
    },
    Hint {
        modules: &["cryptography", "Crypto", "nacl", "bcrypt"],
        why: COMPILED,
        instead: "`hashlib` has digests. Credentials are the gate's work, which the policy's `clients` describe",
    },
    Hint {
        modules: &["google", "grpc", "tritonclient", "grpc_tools"],
        why: COMPILED,
        instead: "the gate decodes requests and calls the `backend`: a handler gets and returns a list of `Tensor`",
    },
    Hint {
        modules: &["zstandard", "brotli", "lz4", "snappy"],
        why: COMPILED,
        instead: "the standard library has `zlib`, bz2 and lzma",
    },
    Hint {
        modules: &["cffi", "_cffi_backend", "cython"],
        why: COMPILED,
        instead: "use numpy, or write the handler in Rust (`tensorgate handler new --lang rust`)",
    },
    Hint {
        modules: &[
            "ssl",
            "_ssl",
            "requests",
            "httpx",
            "urllib3",
            "aiohttp",
            "boto3",
            "redis",
            "psycopg2",
            "pymongo",
            "websockets",
            "uvloop",
        ],
        why: NO_NETWORK,
        instead: "request files with `fetch` and features with `lookup`, which the policy grants",
    },
    Hint {
        modules: &[
            "_multiprocessing",
            "_posixsubprocess",
            "ray",
            "gevent",
            "greenlet",
            "psutil",
        ],
        why: NO_SYSTEM,
        instead: "compute in the call itself, because the host runs many calls at once. What is the same for all calls belongs at the top of a module, and numbers in the policy's `config`",
    },
    Hint {
        modules: &["fcntl", "resource", "termios", "pwd", "grp", "tkinter"],
        why: NO_SYSTEM,
        instead: "put data into a module of the project or into the policy's `config`, or request it with `fetch` and `lookup`",
    },
];
