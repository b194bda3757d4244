//! Python modules that a component lacks, and what it offers instead.

use crate::build_error::hint::{COMPILED, Hint, NO_NETWORK, NO_SYSTEM};

/// The hints, by the top-level module of an import.
pub const PYTHON: &[Hint] = &[
    Hint {
        modules: &[
            "numpy",
            "torch",
            "tensorflow",
            "jax",
            "jaxlib",
            "numba",
            "cupy",
        ],
        why: COMPILED,
        instead: "use the tensor kit, which tensorgate/__init__.py of the project describes. `array` and `Array` have numpy's names, and the model itself belongs behind `backend`",
    },
    Hint {
        modules: &["scipy", "skimage", "einops"],
        why: COMPILED,
        instead: "`Array` of tensorgate has the operations of the tensor kit, among them `softmax`, `resize` and `topk`",
    },
    Hint {
        modules: &[
            "PIL",
            "cv2",
            "torchvision",
            "imageio",
            "pillow_simd",
            "wand",
        ],
        why: COMPILED,
        instead: "decode a picture with `decode_image` of tensorgate, then use `resize` and `planes` of its array",
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
        instead: "decode a WAV with `decode_wav` of tensorgate, or take the ready handler `audio-features`",
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
        modules: &["pandas", "sklearn", "polars", "pyarrow", "joblib"],
        why: COMPILED,
        instead: "take the ready handler `tabular` for scaled and coded columns, or compute with `Array` of tensorgate",
    },
    Hint {
        modules: &["pydantic", "pydantic_core", "msgspec", "fastapi", "kserve"],
        why: COMPILED,
        instead: "the policy's `inputs` check names, shapes and ranges before the handler is called. Raise `BadInput` for what it cannot check",
    },
    Hint {
        modules: &[
            "orjson",
            "ujson",
            "rapidjson",
            "simdjson",
            "_msgpack",
            "_yaml",
        ],
        why: COMPILED,
        instead: "use `json` of the standard library, or copy a package of pure Python into the project's folder",
    },
    Hint {
        modules: &["regex", "re2", "hyperscan"],
        why: COMPILED,
        instead: "use `re` of the standard library",
    },
    Hint {
        modules: &["lxml", "_elementtree", "pyexpat"],
        why: COMPILED,
        instead: "search text with `re`, or copy a parser of pure Python into the project's folder",
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
        modules: &[
            "lzma",
            "_lzma",
            "bz2",
            "_bz2",
            "zstandard",
            "brotli",
            "lz4",
            "snappy",
        ],
        why: COMPILED,
        instead: "`zlib` of the standard library is there",
    },
    Hint {
        modules: &["ctypes", "_ctypes", "cffi", "_cffi_backend", "cython"],
        why: COMPILED,
        instead: "write it in Python with `Array` of tensorgate, or write the handler in Rust (`tensorgate handler new --lang rust`)",
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
        modules: &[
            "fcntl", "mmap", "resource", "termios", "pwd", "grp", "tkinter",
        ],
        why: NO_SYSTEM,
        instead: "put data into a module of the project or into the policy's `config`, or request it with `fetch` and `lookup`",
    },
];
