//! What becomes of what: one table. The longest name that fits counts.

use serde::Serialize;

use super::{Framework, within};

/// What becomes of a thing that a handler uses. The order is that of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Becomes {
    /// No handler has it, and nothing does it in its stead.
    Lost,
    /// The policy, the host or the model server does it.
    Elsewhere,
    /// There is another name for it.
    Replaced,
    /// It works in a handler in Python as it does now.
    Kept,
    /// Not in the table: a package of somebody's, or of the author's own.
    Unknown,
}

impl Becomes {
    /// A heading of the report.
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Lost => "cannot move",
            Self::Elsewhere => "is done elsewhere",
            Self::Replaced => "has another name",
            Self::Kept => "moves as it is, into a handler in Python",
            Self::Unknown => {
                "is not known here: pure Python moves with the project, compiled parts cannot"
            }
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// What becomes of it.
    pub becomes: Becomes,
    /// Where it is now, or why it is nowhere.
    pub note: &'static str,
}

const NETWORK: &str = "no handler reaches a network: the request brings it, or the host fetches it from where the policy allows (`fetch`)";
const PROCESS: &str = "no handler starts a process";
const FILE: &str = "no handler opens a file: put the data into a module beside it, which becomes a part of the component";
const PICKLE: &str = "what a pickle says runs as it is read: keep weights in the model server, tables in the component";
const CLOCK: &str = "no handler has a clock: its answer depends on its input alone";
const THREAD: &str =
    "a call is one thread, and ends with its answer: the host runs many calls at once";
const COMPUTED: &str =
    "what it names is computed while it runs, and cannot be read here: look at what it reaches";
const FOLDED: &str = "Python reads such a letter as another one (NFKC), and what it names may be anything: look yourself";
const INFERENCE: &str =
    "the model server runs the model: the policy's `backend`; a handler stands before and after it";
const CONFIG: &str = "`config(key)` answers what the policy's `config:` says";
const ARRAY: &str = "`tensorgate.array` and `Array` have numpy's names for it, in plain Python; ndarray in Rust for megapixels";
const RUST: &str = "ndarray in a handler in Rust: numpy has compiled parts and is in no component";
const IMAGE: &str = "examples/handlers/image-classifier: PNG and JPEG, resize, crop, normalise, in Rust, as Pillow computes them";
const TOKENS: &str = "builtin:text-classifier with the tokenizer.json of yours (`tensorgate handler configure`); examples/handlers/text-tokens for WordPiece in a Rust handler of your own";
const TABLE: &str = "examples/handlers/tabular: order, scale, missing values and categories from the policy's config";
const SOUND: &str =
    "examples/handlers/audio-features: WAV to log-mel, in Rust, as librosa computes it";
const BOXES: &str = "examples/handlers/detection: thresholds and non-maximum suppression, in Rust";
const LABELS: &str = "examples/handlers/class-labels: softmax, the best few, labels";
const HOST: &str = "the host does it: routes, batches, metrics and lifetimes are no handler's";
const TENSOR: &str = "`Tensor` with a name, a datatype and a shape, `BadInput` and `Fault`";
const LOG: &str = "`log.info(…)` writes a bounded line under the request's id";
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
        "a handler's answer depends on its input alone",
    ),
    ("numpy.save", Lost, FILE),
    ("onnxruntime", Elsewhere, INFERENCE),
    ("operator", Kept, PURE),
    ("os", Lost, "there is no system below a handler"),
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
    ("psutil", Lost, "there is no system below a handler"),
    (
        "random",
        Kept,
        "the same sequence in every call: never make a secret with it",
    ),
    ("re", Kept, PURE),
    ("redis", Lost, NETWORK),
    ("requests", Lost, NETWORK),
    ("scipy", Replaced, RUST),
    ("scipy.io.wavfile", Replaced, SOUND),
    ("scipy.signal", Replaced, SOUND),
    ("scipy.special.softmax", Replaced, LABELS),
    (
        "secrets",
        Lost,
        "a handler has no random numbers of its own",
    ),
    ("self.model", Elsewhere, INFERENCE),
    ("shutil", Lost, FILE),
    ("sklearn", Replaced, TABLE),
    ("socket", Lost, NETWORK),
    ("soundfile", Replaced, SOUND),
    ("statistics", Kept, PURE),
    ("string", Kept, PURE),
    ("struct", Kept, PURE),
    ("subprocess", Lost, PROCESS),
    (
        "sys",
        Kept,
        "`exit` ends the call as a fault, and `argv` is empty",
    ),
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
        "a model for each: a handler calls no other model",
    ),
    (
        "triton_python_backend_utils.get_output_config_by_name",
        Elsewhere,
        "the contract is the policy's: `inputs` and `outputs`",
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
        "a handler has no random numbers of its own: a request has an id",
    ),
    ("vllm", Elsewhere, INFERENCE),
    ("wave", Replaced, SOUND),
    ("xgboost", Elsewhere, INFERENCE),
    (
        "zlib",
        Kept,
        "bound what it unpacks: `decompressobj().decompress(data, max_length)`",
    ),
];

/// What becomes of a full name.
pub fn of(name: &str) -> Rule {
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

/// What becomes of a handler's own function, if the framework gives it a meaning.
pub fn of_function(framework: Framework, name: &str) -> Option<&'static str> {
    let after = "a postprocess handler";
    let before = "a preprocess handler";
    Some(match (framework, name) {
        (Framework::Unknown, _) => return None,
        (Framework::Triton, "execute") => {
            "a preprocess handler, and what follows its call of a model a postprocess handler"
        }
        (Framework::Triton | Framework::TorchServe, "initialize") | (_, "load" | "__init__") => {
            "what modules compute as they are imported (in Rust `export_init!`), run while the component is built and kept in it; the model is the server's"
        }
        (Framework::Triton, "finalize") => "nothing: a call leaves nothing behind",
        (Framework::Triton, "auto_complete_config") => "the policy's `inputs` and `outputs`",
        (_, "preprocess") => before,
        (_, "postprocess") => after,
        (_, "inference" | "predict") => "the policy's `backend`",
        (_, "handle") => "the host's own order: preprocess, model, postprocess",
        (_, "explain" | "get_insights" | "explain_handle") => {
            "nothing: no operation of a gate explains a model"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_counts_and_half_a_word_does_not() {
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
            assert_eq!(of(name).becomes, expected, "{name}");
        }
    }

    #[test]
    fn no_name_stands_twice() {
        let mut names: Vec<&str> = TABLE_OF_RULES.iter().map(|(name, ..)| *name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
