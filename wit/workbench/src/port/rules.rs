//! Porting rules: a table from Python names to replacements. The longest matching name applies.

use serde::Serialize;

use super::{Framework, within};

/// How a name that a handler uses is ported. Reports use this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Becomes {
    /// Not available, and without a replacement.
    Lost,
    /// Done by the policy, the host or the model server.
    Elsewhere,
    /// Available under another name.
    Replaced,
    /// Available unchanged in Python handlers.
    Kept,
    /// Not in the table: a third-party package, or the author's own.
    Unknown,
}

impl Becomes {
    /// Heading in the report.
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Lost => "cannot be ported",
            Self::Elsewhere => "is done elsewhere",
            Self::Replaced => "has a replacement",
            Self::Kept => "works unchanged in a Python handler",
            Self::Unknown => {
                "is unknown: pure Python can move with the project, compiled parts cannot"
            }
        }
    }
}

/// An entry of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// How the name is ported.
    pub becomes: Becomes,
    /// The replacement, or why there is none.
    pub note: &'static str,
}

const NETWORK: &str = "a handler has no network: pass the data in the request, or let the host fetch it from hosts that the policy allows (`fetch`)";
const PROCESS: &str = "a handler cannot start processes";
const FILE: &str = "a handler cannot open files: put the data into a module of the project, which becomes a part of the component";
const PICKLE: &str =
    "loading a pickle runs code: keep weights in the model server, and tables in the component";
const CLOCK: &str = "a handler has no clock: its answer depends only on its input";
const THREAD: &str =
    "a call has one thread and ends with its answer: the host runs many calls in parallel";
const COMPUTED: &str = "names that are computed at run time cannot be analysed: review this code";
const FOLDED: &str =
    "Python normalises such letters (NFKC), so the name may mean anything: review this code";
const INFERENCE: &str =
    "the model server runs the model (the policy's `backend`); handlers run before and after it";
const CONFIG: &str = "`config(key)` returns the entry of the policy's `config:`";
const ARRAY: &str = "`tensorgate.array` and `Array` have numpy's names; for images of megapixels use ndarray in Rust";
const RUST: &str =
    "ndarray in a Rust handler: numpy has compiled parts, which a component cannot contain";
const IMAGE: &str = "examples/handlers/image-classifier: PNG and JPEG, resize, crop, normalise, in Rust, with Pillow's results";
const TOKENS: &str = "builtin:text-classifier with your tokenizer.json (`tensorgate handler configure`); examples/handlers/text-tokens for WordPiece in your own Rust handler";
const TABLE: &str = "examples/handlers/tabular: column order, scaling, missing values and categories from the policy's config";
const SOUND: &str =
    "examples/handlers/audio-features: WAV to log-mel, in Rust, with librosa's results";
const BOXES: &str = "examples/handlers/detection: thresholds and non-maximum suppression, in Rust";
const LABELS: &str = "examples/handlers/class-labels: softmax, top k, labels";
const HOST: &str = "the host manages routes, batches, metrics and lifetimes";
const TENSOR: &str = "`Tensor` with a name, a datatype and a shape, `BadInput` and `Fault`";
const LOG: &str = "`log.info(…)` writes a bounded line with the request's id";
const PURE: &str = "pure Python of the standard library";

use Becomes::{Elsewhere, Kept, Lost, Replaced};

const TABLE_OF_RULES: &[(&str, Becomes, &str)] = &[
    ("PIL", Replaced, IMAGE),
    ("aiohttp", Lost, NETWORK),
    ("asyncio", Lost, THREAD),
    ("base64", Kept, PURE),
    ("bisect", Kept, PURE),
    ("boto3", Lost, NETWORK),
    ("botocore", Lost, NETWORK),
    ("builtins.__builtins__", Lost, COMPUTED),
    ("builtins.__import__", Lost, COMPUTED),
    ("builtins.breakpoint", Lost, "there is no terminal"),
    ("builtins.compile", Lost, COMPUTED),
    ("builtins.delattr", Lost, COMPUTED),
    ("builtins.eval", Lost, COMPUTED),
    ("builtins.exec", Lost, COMPUTED),
    ("builtins.getattr", Lost, COMPUTED),
    ("builtins.globals", Lost, COMPUTED),
    ("builtins.input", Lost, "there is no terminal"),
    ("builtins.open", Lost, FILE),
    ("builtins.print", Replaced, LOG),
    ("builtins.setattr", Lost, COMPUTED),
    ("cloudpickle", Lost, PICKLE),
    ("collections", Kept, PURE),
    ("concurrent", Lost, THREAD),
    ("context", Elsewhere, CONFIG),
    ("copy", Kept, PURE),
    ("csv", Kept, PURE),
    ("ctypes", Lost, "a component calls no native code"),
    ("cv2", Replaced, IMAGE),
    ("cv2.dnn", Replaced, BOXES),
    ("dataclasses", Kept, PURE),
    (
        "datetime",
        Kept,
        "pure Python of the standard library; without `now` and `today`",
    ),
    ("datetime.date.today", Lost, CLOCK),
    ("datetime.datetime.now", Lost, CLOCK),
    ("datetime.datetime.today", Lost, CLOCK),
    ("datetime.datetime.utcnow", Lost, CLOCK),
    ("decimal", Kept, PURE),
    ("diffusers", Elsewhere, INFERENCE),
    ("dill", Lost, PICKLE),
    ("enum", Kept, PURE),
    ("functools", Kept, PURE),
    ("fractions", Kept, PURE),
    ("glob", Lost, FILE),
    ("grpc", Lost, NETWORK),
    ("hashlib", Kept, PURE),
    ("html", Kept, PURE),
    ("http", Lost, NETWORK),
    ("httpx", Lost, NETWORK),
    ("importlib", Lost, COMPUTED),
    ("inspect", Kept, PURE),
    ("io", Kept, "`BytesIO` and `StringIO`"),
    ("io.open", Lost, FILE),
    ("itertools", Kept, PURE),
    ("joblib", Lost, PICKLE),
    ("json", Kept, PURE),
    ("keras", Elsewhere, INFERENCE),
    ("kfserving", Replaced, TENSOR),
    ("kserve", Replaced, TENSOR),
    ("kserve.Model", Elsewhere, HOST),
    ("kserve.ModelServer", Elsewhere, HOST),
    ("kserve.logging", Replaced, LOG),
    ("kserve.model_server", Elsewhere, HOST),
    ("librosa", Replaced, SOUND),
    ("logging", Replaced, LOG),
    ("math", Kept, PURE),
    ("mmap", Lost, FILE),
    ("multiprocessing", Lost, THREAD),
    ("names that are not ASCII", Lost, FOLDED),
    ("numpy", Replaced, ARRAY),
    ("numpy.fft", Replaced, RUST),
    ("numpy.linalg", Replaced, RUST),
    ("numpy.load", Lost, PICKLE),
    ("numpy.loadtxt", Lost, FILE),
    (
        "numpy.random",
        Lost,
        "a handler's answer depends only on its input",
    ),
    ("numpy.save", Lost, FILE),
    ("onnxruntime", Elsewhere, INFERENCE),
    ("operator", Kept, PURE),
    (
        "os",
        Lost,
        "a handler has no access to the operating system",
    ),
    ("os.environ", Elsewhere, CONFIG),
    ("os.getenv", Elsewhere, CONFIG),
    ("os.path", Lost, FILE),
    ("os.path.basename", Kept, PURE),
    ("os.path.join", Kept, PURE),
    ("os.path.splitext", Kept, PURE),
    ("os.popen", Lost, PROCESS),
    ("os.system", Lost, PROCESS),
    ("pandas", Replaced, TABLE),
    ("pathlib", Lost, FILE),
    ("pickle", Lost, PICKLE),
    (
        "psutil",
        Lost,
        "a handler has no access to the operating system",
    ),
    (
        "random",
        Kept,
        "the same sequence in every call: never generate secrets with it",
    ),
    ("re", Kept, PURE),
    ("redis", Lost, NETWORK),
    ("requests", Lost, NETWORK),
    ("scipy", Replaced, RUST),
    ("scipy.io.wavfile", Replaced, SOUND),
    ("scipy.signal", Replaced, SOUND),
    ("scipy.special.softmax", Replaced, LABELS),
    ("secrets", Lost, "a handler has no source of randomness"),
    ("self.model", Elsewhere, INFERENCE),
    ("shutil", Lost, FILE),
    ("sklearn", Replaced, TABLE),
    ("socket", Lost, NETWORK),
    ("soundfile", Replaced, SOUND),
    ("statistics", Kept, PURE),
    ("string", Kept, PURE),
    ("struct", Kept, PURE),
    ("subprocess", Lost, PROCESS),
    ("sys", Kept, "`exit` fails the call, and `argv` is empty"),
    ("tempfile", Lost, FILE),
    ("tensorflow", Elsewhere, INFERENCE),
    ("textwrap", Kept, PURE),
    ("threading", Lost, THREAD),
    ("time", Lost, CLOCK),
    ("tokenizers", Replaced, TOKENS),
    ("torch", Elsewhere, INFERENCE),
    ("torch.as_tensor", Replaced, ARRAY),
    ("torch.cat", Replaced, ARRAY),
    ("torch.from_numpy", Replaced, ARRAY),
    ("torch.load", Lost, PICKLE),
    ("torch.nn.functional.softmax", Replaced, LABELS),
    ("torch.softmax", Replaced, LABELS),
    ("torch.stack", Replaced, ARRAY),
    ("torch.tensor", Replaced, ARRAY),
    ("torch.topk", Replaced, LABELS),
    ("torchaudio", Replaced, SOUND),
    ("torchvision", Replaced, IMAGE),
    ("torchvision.models", Elsewhere, INFERENCE),
    ("torchvision.ops", Replaced, BOXES),
    ("transformers", Elsewhere, INFERENCE),
    ("transformers.AutoTokenizer", Replaced, TOKENS),
    ("transformers.BertTokenizer", Replaced, TOKENS),
    ("transformers.BertTokenizerFast", Replaced, TOKENS),
    ("transformers.DistilBertTokenizer", Replaced, TOKENS),
    ("transformers.DistilBertTokenizerFast", Replaced, TOKENS),
    ("triton_python_backend_utils", Replaced, TENSOR),
    (
        "triton_python_backend_utils.InferenceRequest",
        Elsewhere,
        "one model per request: a handler cannot call another model",
    ),
    (
        "triton_python_backend_utils.get_output_config_by_name",
        Elsewhere,
        "the policy declares the contract: `inputs` and `outputs`",
    ),
    ("ts.context", Elsewhere, CONFIG),
    ("ts.handler_utils", Elsewhere, HOST),
    ("ts.metrics", Elsewhere, HOST),
    ("ts.service", Elsewhere, HOST),
    ("ts.torch_handler", Elsewhere, HOST),
    ("ts.torch_handler.image_classifier", Replaced, IMAGE),
    ("ts.torch_handler.object_detector", Replaced, BOXES),
    ("ts.torch_handler.text_classifier", Replaced, TOKENS),
    ("ts.utils", Elsewhere, HOST),
    ("typing", Kept, PURE),
    ("unicodedata", Kept, PURE),
    ("urllib", Lost, NETWORK),
    ("urllib.parse", Kept, PURE),
    (
        "uuid",
        Lost,
        "a handler has no source of randomness: use the request's id",
    ),
    ("vllm", Elsewhere, INFERENCE),
    ("wave", Replaced, SOUND),
    ("xgboost", Elsewhere, INFERENCE),
    (
        "zlib",
        Kept,
        "bound the output: `decompressobj().decompress(data, max_length)`",
    ),
];

/// The rule for a fully qualified name.
pub fn lookup(name: &str) -> Rule {
    let fits = TABLE_OF_RULES
        .iter()
        .filter(|(known, ..)| within(name, known));
    let best = fits.max_by_key(|(known, ..)| known.len());
    best.map_or(
        Rule {
            becomes: Becomes::Unknown,
            note: "",
        },
        |(_, becomes, note)| Rule {
            becomes: *becomes,
            note,
        },
    )
}

/// The replacement of a handler's own function, if the framework gives it a meaning.
pub fn function_replacement(framework: Framework, name: &str) -> Option<&'static str> {
    let after = "a postprocess handler";
    let before = "a preprocess handler";
    Some(match (framework, name) {
        (Framework::Unknown, _) => return None,
        (Framework::Triton, "execute") => {
            "a preprocess handler, and a postprocess handler for the code after the model call"
        }
        (Framework::Triton | Framework::TorchServe, "initialize") | (_, "load" | "__init__") => {
            "module-level code (in Rust `export_init!`), which runs at build time and whose result is kept in the component; the model server loads the model"
        }
        (Framework::Triton, "finalize") => "nothing: calls keep no state",
        (Framework::Triton, "auto_complete_config") => "the policy's `inputs` and `outputs`",
        (_, "preprocess") => before,
        (_, "postprocess") => after,
        (_, "inference" | "predict") => "the policy's `backend`",
        (_, "handle") => "the host's fixed order: preprocess, model, postprocess",
        (_, "explain" | "get_insights" | "explain_handle") => {
            "nothing: a gate has no operation for explanations"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_match_applies_and_partial_words_do_not_match() {
        for (name, expected) in [
            ("os", Lost),
            ("os.path.join", Kept),
            ("os.path.exists", Lost),
            ("os.environ.get", Elsewhere),
            ("osmium", Becomes::Unknown),
            ("torch.load", Lost),
            ("torch.jit.load", Elsewhere),
            ("torchvision.transforms.Resize", Replaced),
            ("numpy.array", Replaced),
            ("json.loads", Kept),
            ("..secret", Becomes::Unknown),
        ] {
            assert_eq!(lookup(name).becomes, expected, "{name}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = TABLE_OF_RULES.iter().map(|(name, ..)| *name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
