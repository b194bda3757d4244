//! Python packages that the shared runtime lacks although it has numpy, and what it offers instead.
//! What it lacks like every component is in the table of Python.

use crate::build_error::hint::{COMPILED, Hint};

/// Modules in the table of Python that the shared runtime has, or that are pure Python.
pub const PRESENT: [&str; 12] = [
    "PIL", "bz2", "einops", "joblib", "lxml", "lzma", "mmap", "numpy", "pandas", "regex", "scipy",
    "sklearn",
];

/// The hints, by the top-level module of an import.
pub const RUNTIME: &[Hint] = &[
    Hint {
        modules: &["torch", "tensorflow", "jax", "numba", "cupy"],
        why: COMPILED,
        instead: "use numpy, and let the model itself run behind `backend`",
    },
    Hint {
        modules: &["cv2", "torchvision", "imageio", "skimage"],
        why: COMPILED,
        instead: "use PIL, numpy and scipy",
    },
    Hint {
        modules: &["soundfile", "librosa", "torchaudio"],
        why: COMPILED,
        instead: "read a WAV with `decode_wav` of tensorgate, and compute with numpy and scipy",
    },
    Hint {
        modules: &["polars", "pyarrow"],
        why: COMPILED,
        instead: "use pandas, and read a table from CSV or JSON",
    },
    Hint {
        modules: &["ctypes", "_ctypes", "cffi", "cython"],
        why: COMPILED,
        instead: "use numpy, or write the handler in Rust (`tensorgate handler new --lang rust`)",
    },
];
