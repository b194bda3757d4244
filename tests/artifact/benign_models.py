"""Models in one file: ONNX, GGUF, XGBoost, LightGBM and Keras."""

import itertools
import os

import numpy as np

from benign_files import SHAPES, array
from benign_templates import TEMPLATES


def onnx_files(out):
    """ONNX models: one of each standard operator of several releases, and forms of tensors."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def save(name, nodes, initializers=(), opsets=(("", 21),), **rest):
        info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, "n", 3])
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "g", [info], [output], list(initializers))
        imports = [helper.make_opsetid(domain, version) for domain, version in opsets]
        model = helper.make_model(graph, opset_imports=imports, **rest)
        onnx.save(model, out.path("onnx", f"{name}.onnx"))

    schemas = onnx.defs.get_all_schemas()
    for schema in schemas:
        domain = schema.domain
        node = helper.make_node(schema.name, ["x"], ["y"], domain=domain)
        name = f"op-{domain.replace('.', '_') or 'default'}-{schema.name}"
        save(name, [node], opsets=[(domain, schema.since_version)])
    types = ["float32", "float64", "float16", "int8", "int64", "uint8", "bool", "complex64"]
    for dtype in types:
        tensors = [numpy_helper.from_array(array(dtype, s), f"t{n}") for n, s in enumerate(SHAPES)]
        save(f"tensor-{dtype}", [helper.make_node("Identity", ["t4"], ["y"])], tensors)
    texts = helper.make_tensor("t", TensorProto.STRING, [2], [b"a", "ä".encode()])
    values = helper.make_tensor("t", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    constant = helper.make_node("Constant", [], ["y"], value=values)
    save("tensor-text", [helper.make_node("Identity", ["t"], ["y"])], [texts])
    save("tensor-typed", [helper.make_node("Identity", ["t"], ["y"])], [values])
    for kind in ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2", "INT4", "UINT4", "FLOAT4E2M1"]:
        size = {"BFLOAT16": 8}.get(kind, 4 if kind.startswith("FLOAT8") else 2)
        code = getattr(TensorProto, kind)
        tensor = helper.make_tensor("t", code, [4], b"\0" * size, raw=True)
        save(f"tensor-{kind.lower()}", [helper.make_node("Identity", ["t"], ["y"])], [tensor])
    branch = helper.make_graph([constant], "b", [], [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
    ])
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    save("subgraphs", [node])
    function = helper.make_function(
        "local", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 21)],
    )
    node = helper.make_node("Double", ["x"], ["y"], domain="local")
    save("function", [node], opsets=[("", 21), ("local", 1)], functions=[function])
    save("metadata", [constant], producer_name="pytorch", producer_version="2.1",
         doc_string="notes ä", domain="ai.onnx")
    save("attributes", [helper.make_node(
        "Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], auto_pad="SAME_UPPER", group=1,
        name="conv/1", doc_string="d",
    )])
    chain = [helper.make_node("Relu", [f"v{n}"], [f"v{n + 1}"]) for n in range(2000)]
    save("chain", chain)
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", TensorProto.FLOAT, [2], [1.0, 2.0]),
        helper.make_tensor("i", TensorProto.INT64, [2], [1, 5]), [10],
    )
    save("sparse", [helper.make_node("Constant", [], ["y"], sparse_value=sparse)])
    external_onnx_files(out)
    try:
        from skl2onnx import to_onnx
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        print("skl2onnx is not installed")
        return
    x, y = array("f4", (60, 4)), np.arange(60) % 3
    models = {
        "forest": RandomForestClassifier(5, random_state=1),
        "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
    }
    for name, model in models.items():
        converted = to_onnx(model.fit(x, y), x)
        out.path("onnx", f"sklearn-{name}.onnx").write_bytes(converted.SerializeToString())


def external_onnx_files(out):
    """ONNX models with external data, each in a folder, as `onnx` writes them."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    types = ["float32", "float16", "int8", "int64", "uint8", "bool"]
    tensors = [numpy_helper.from_array(array(t, (5, 7)), f"{t}.weight") for t in types]
    tensors.append(numpy_helper.from_array(np.array(12.2, "f4"), "onnx__Mul_1"))
    tensors.append(numpy_helper.from_array(np.zeros((64, 64), "f4"), "zeros"))
    value = numpy_helper.from_array(array("f4", (9,)), "value")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=value),
        helper.make_node("Identity", ["zeros"], ["y"]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 64])
    for name, options in {
        "one": {"location": "model.onnx.data", "size_threshold": 0},
        "all": {"location": "weights.bin", "size_threshold": 0, "convert_attribute": True},
        "large-only": {"location": "model.onnx_data", "size_threshold": 1_024},
        "each": {"all_tensors_to_one_file": False, "size_threshold": 0},
    }.items():
        graph = helper.make_graph(nodes, "g", [], [output], tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
        path = out.path(f"onnx-external-{name}", "model.onnx")
        onnx.save(model, str(path), save_as_external_data=True, **options)


def gguf_files(out):
    """GGUF: architectures, types of values, quantized tensors, alignments, templates."""
    from gguf import GGMLQuantizationType, GGUFEndian, GGUFWriter
    from gguf.constants import GGML_QUANT_SIZES

    def save(name, fill, **options):
        writer = GGUFWriter(out.path("gguf", f"{name}.gguf"), "llama", **options)
        fill(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def values(writer):
        writer.add_name("ä")
        writer.add_block_count(2)
        writer.add_context_length(2048)
        writer.add_rope_freq_base(10000.0)
        writer.add_bool("a.bool", True)
        for width in [8, 16, 32, 64]:
            getattr(writer, f"add_int{width}")(f"a.int{width}", -1)
            getattr(writer, f"add_uint{width}")(f"a.uint{width}", 1)
        writer.add_float64("a.float64", 0.5)
        writer.add_array("a.texts", ["a", "", "ä" * 100])
        writer.add_array("a.ints", [1, 2, 3])
        writer.add_array("a.bools", [True, False])
        writer.add_array("a.floats", [0.5])

    def tokenizer(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("llama-bpe")
        writer.add_token_list([f"t{n}" for n in range(2000)])
        writer.add_token_scores([0.0] * 2000)
        writer.add_token_types([1] * 2000)
        writer.add_token_merges(["a b", "c d"])
        writer.add_bos_token_id(1)
        writer.add_add_bos_token(True)

    def tensors(writer):
        for dtype in ["float32", "float16", "float64", "int8", "int16", "int32", "int64"]:
            for number, shape in enumerate([(1,), (3,), (32, 7), (2, 3, 4)]):
                writer.add_tensor(f"{dtype}.{number}", array(dtype, shape))

    save("values", values)
    save("tokenizer", tokenizer)
    save("tensors", tensors)
    save("nothing", lambda writer: None)
    save("all", lambda writer: (values(writer), tokenizer(writer), tensors(writer)))
    for alignment in [8, 16, 32, 64, 4096]:
        save(f"alignment-{alignment}", lambda writer: (
            writer.add_custom_alignment(alignment), tensors(writer)))
    save("big-endian", lambda writer: (values(writer), tensors(writer)),
         endianess=GGUFEndian.BIG)
    for name, template in TEMPLATES.items():
        save(f"template-{name}", lambda writer: writer.add_chat_template(template))
    save("templates", lambda writer: writer.add_chat_template(
        [{"name": "default", "template": TEMPLATES["chatml"]},
         {"name": "tool_use", "template": TEMPLATES["llama-3.1"]}]))
    for kind in GGMLQuantizationType:
        block, size = GGML_QUANT_SIZES[kind]
        if kind.name in {"F64", "F32", "F16", "I8", "I16", "I32", "I64"}:
            continue
        data = np.zeros((4, size * 2), dtype="u1")
        save(f"type-{kind.name.lower()}", lambda writer: writer.add_tensor(
            "blk.0.attn_q.weight", data, raw_dtype=kind))


def boosters(out):
    """XGBoost's JSON and UBJSON and LightGBM's texts: objectives, boosters, categories."""
    x, y = array("f4", (80, 5)), np.arange(80) % 2
    try:
        import xgboost

        objectives = [
            "binary:logistic", "reg:squarederror", "multi:softprob", "count:poisson", "rank:ndcg",
            "reg:quantileerror", "survival:cox", "reg:absoluteerror",
        ]
        for objective, booster in itertools.product(objectives, ["gbtree", "dart", "gblinear"]):
            extra = {"num_class": 3} if "multi" in objective else {}
            if "quantile" in objective:
                extra["quantile_alpha"] = 0.5
            data = xgboost.DMatrix(x, label=y, feature_names=[f"f {n}" for n in "abcdä"])
            if "rank" in objective:
                data.set_group([40, 40])
            parameters = {"objective": objective, "booster": booster, "max_depth": 3, **extra}
            try:
                model = xgboost.train(parameters, data, 3)
            except xgboost.core.XGBoostError as error:
                print(f"xgboost: {objective} {booster}: {str(error).splitlines()[0][:80]}")
                continue
            name = f"{objective.replace(':', '-')}-{booster}"
            model.set_attr(best_iteration="2", note="ä\"\\")
            model.save_model(out.path("xgboost", f"{name}.json"))
            model.save_model(out.path("xgboost", f"{name}.ubj"))
        model = xgboost.XGBClassifier(n_estimators=4, early_stopping_rounds=2)
        model.fit(x, y, eval_set=[(x, y)], verbose=False)
        model.save_model(out.path("xgboost", "classifier.json"))
        model.save_model(out.path("xgboost", "classifier.ubj"))
    except ImportError:
        print("xgboost is not installed")
    try:
        import lightgbm

        cases = {
            "binary": {"objective": "binary"}, "regression": {"objective": "regression"},
            "multiclass": {"objective": "multiclass", "num_class": 2},
            "dart": {"objective": "binary", "boosting": "dart"},
            "forest": {"objective": "binary", "boosting": "rf", "bagging_freq": 1,
                       "bagging_fraction": 0.5},
            "linear": {"objective": "regression", "linear_tree": True},
            "quantile": {"objective": "quantile", "alpha": 0.3},
            "tweedie": {"objective": "tweedie"},
        }
        for name, parameters in cases.items():
            data = lightgbm.Dataset(x.astype("f8"), y, categorical_feature=[4])
            parameters = {"verbosity": -1, "min_data_in_leaf": 5, **parameters}
            model = lightgbm.train(parameters, data, 3)
            model.save_model(out.path("lightgbm", f"{name}.txt"))
    except ImportError:
        print("lightgbm is not installed")


def keras_files(out):
    """Keras archives and HDF5 files of models with layers of many kinds."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras
    from keras import layers

    def write(name, model):
        for ending in ["keras", "h5"]:
            model.save(out.path("keras", f"{name}.{ending}"))
        model.save_weights(out.path("keras", f"{name}.weights.h5"))

    def save(name, *stack, shape=(16, 16, 3), compiled=False):
        try:
            model = keras.Sequential([keras.Input(shape), *stack])
            if compiled:
                model.compile(optimizer="adam", loss="mse", metrics=["mae"])
            write(name, model)
        except Exception as error:  # A layer that this backend has not.
            print(f"keras: {name}: {type(error).__name__}: {str(error)[:80]}")

    image = {
        "conv": layers.Conv2D(2, 3, activation="relu"), "depthwise": layers.DepthwiseConv2D(3),
        "separable": layers.SeparableConv2D(2, 3), "transpose": layers.Conv2DTranspose(2, 3),
        "max-pooling": layers.MaxPooling2D(), "mean": layers.GlobalAveragePooling2D(),
        "normalization": layers.BatchNormalization(), "group": layers.GroupNormalization(1),
        "flatten": layers.Flatten(), "padding": layers.ZeroPadding2D(),
        "cropping": layers.Cropping2D(), "up": layers.UpSampling2D(), "flip": layers.RandomFlip(),
        "rescaling": layers.Rescaling(1 / 255), "resizing": layers.Resizing(8, 8),
        "spatial": layers.SpatialDropout2D(0.2), "noise": layers.GaussianNoise(0.1),
    }
    for name, layer in image.items():
        save(f"image-{name}", layer)
    sequence = {
        "lstm": layers.LSTM(3), "gru": layers.GRU(3, return_sequences=True),
        "rnn": layers.SimpleRNN(3), "both": layers.Bidirectional(layers.LSTM(3)),
        "time": layers.TimeDistributed(layers.Dense(2)), "conv": layers.Conv1D(2, 3),
        "pooling": layers.GlobalMaxPooling1D(), "norm": layers.LayerNormalization(),
        "permute": layers.Permute((2, 1)), "reshape": layers.Reshape((32,)),
    }
    for name, layer in sequence.items():
        save(f"sequence-{name}", layer, shape=(8, 4))
    flat = {
        "dense": layers.Dense(3, kernel_regularizer="l2", bias_constraint="non_neg"),
        "dropout": layers.Dropout(0.5), "prelu": layers.PReLU(), "leaky": layers.LeakyReLU(),
        "elu": layers.ELU(), "softmax": layers.Softmax(), "activation": layers.Activation("gelu"),
        "repeat": layers.RepeatVector(3), "masking": layers.Reshape((4, 2)),
        "initializer": layers.Dense(2, kernel_initializer=keras.initializers.HeNormal(seed=1)),
    }
    for name, layer in flat.items():
        save(f"flat-{name}", layer, shape=(8,))
    save("embedding", layers.Embedding(10, 4), layers.Dense(1), shape=(5,))
    save("compiled", layers.Dense(3), layers.Dense(1), shape=(4,), compiled=True)
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    both = layers.Concatenate()([a, b])
    total = layers.Add()([layers.Dense(8)(both), both])
    try:
        write("functional", keras.Model([a, b], total))
        q = keras.Input((6, 8))
        write("attention", keras.Model(q, layers.MultiHeadAttention(2, 4)(q, q)))
        # Older formats have no operations between layers.
        keras.Model(a, keras.ops.relu(a) + 1).save(out.path("keras", "operations.keras"))
        keras.config.set_dtype_policy("bfloat16")
        save("bfloat16", layers.Dense(3), layers.Normalization(), shape=(4,))
        keras.config.set_dtype_policy("float32")
    except Exception as error:  # As above.
        print(f"keras: functional: {type(error).__name__}: {str(error)[:80]}")
