//! Kinds of code in models.

use serde::{Deserialize, Serialize};

use crate::named;

named! {
    /// A kind of code that a model may need, and that its server runs.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub enum CodeKind {
        /// Programs for Triton's Python backend: `*.py`, and a `config.pbtxt` that names it.
        TritonPython = "triton-python",
        /// Programs in TorchScript, in a zip file of torch.
        Torchscript = "torchscript",
    }
}
