"""TensorFlow Lite's models, written and loaded by LiteRT."""

import numpy as np

#: Operators with one input of floats and one output of the same shape.
ELEMENTWISE = [
    "ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LOG", "LOGISTIC", "NEG",
    "RELU", "RELU6", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIN", "SQRT", "SQUARE", "TANH",
]
#: Operators with two inputs of floats, and the options that they have to have.
BINARY = {
    "ADD": "AddOptions", "DIV": "DivOptions", "FLOOR_DIV": None, "MAXIMUM": None,
    "MINIMUM": None, "MUL": "MulOptions", "POW": None, "SQUARED_DIFFERENCE": None,
    "SUB": "SubOptions",
}


class Model:
    """A model with one graph, which grows by tensors and operators."""

    def __init__(self, schema):
        self.schema = schema
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = "made for a test"
        # The first buffer is empty by custom: tensors without data name it.
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.model.subgraphs = []
        self.graph("main")

    def graph(self, name):
        """Begins a further graph, which the next calls extend."""
        graph = self.schema.SubGraphT()
        graph.name = name
        graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
        self.model.subgraphs.append(graph)

    def tensor(self, shape, kind="FLOAT32", data=None, name=None, **fields):
        """Adds a tensor, with its own buffer if it has data. Returns its number."""
        tensor = self.schema.TensorT()
        tensor.shape, tensor.type = list(shape), getattr(self.schema.TensorType, kind)
        graph = self.model.subgraphs[-1]
        tensor.name = name or f"t{len(graph.tensors)}"
        tensor.buffer = 0
        if data is not None:
            tensor.buffer = self.buffer(np.asarray(data).tobytes())
        for field, value in fields.items():
            setattr(tensor, field, value)
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    def buffer(self, data):
        """Adds a buffer with these bytes. Returns its number."""
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(data, "u1")
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def operator(self, name, inputs, outputs, options=None, **fields):
        """Adds a node with this operator. `fields` are those of its options."""
        number = getattr(self.schema.BuiltinOperator, name)
        code = self.schema.OperatorCodeT()
        # Older runtimes read the first field, where larger numbers have this one.
        code.deprecatedBuiltinCode, code.builtinCode = min(number, 127), number
        self.model.operatorCodes.append(code)
        node = self.schema.OperatorT()
        node.opcodeIndex = len(self.model.operatorCodes) - 1
        node.inputs, node.outputs = list(inputs), list(outputs)
        if options:
            node.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            node.builtinOptions = getattr(self.schema, f"{options}T")()
            for field, value in fields.items():
                setattr(node.builtinOptions, field, value)
        self.model.subgraphs[-1].operators.append(node)

    def ends(self, inputs, outputs):
        """Names the graph's inputs and outputs."""
        self.model.subgraphs[-1].inputs = list(inputs)
        self.model.subgraphs[-1].outputs = list(outputs)
        return self

    def scales(self, *scales, axis=0):
        """How a quantized tensor stands for numbers."""
        quantization = self.schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = list(scales), [0] * len(scales)
        quantization.quantizedDimension = axis
        return quantization


def tflite_files(out):
    """Models that LiteRT's interpreter loads: operators, quantization, branches, signatures."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.tools import flatbuffer_utils

    models = {f"one-{name.lower()}": one(schema, name) for name in ELEMENTWISE}
    for name, options in BINARY.items():
        models[f"two-{name.lower()}"] = two(schema, name, options)
    for make in [dense, convolution, pooling, shapes, quantized, branches, signature, metadata,
                 variable, types, chain, sparse]:
        models[make.__name__] = make(schema)
    for name, model in models.items():
        path = out.path("tflite", f"{name}.tflite")
        flatbuffer_utils.write_model(model.model, str(path))
        Interpreter(str(path)).allocate_tensors()
    # Not loaded: the file that it names is not there.
    path = out.path("tflite", "external.tflite")
    flatbuffer_utils.write_model(external(schema).model, str(path))


def one(schema, name):
    """One input and one output."""
    model = Model(schema)
    a, b = model.tensor([2, 3]), model.tensor([2, 3])
    options = {"GELU": "GeluOptions"}.get(name)
    model.operator(name, [a], [b], options)
    return model.ends([a], [b])


def two(schema, name, options):
    """An input, a constant and an output."""
    model = Model(schema)
    a, b = model.tensor([2, 3]), model.tensor([3], data=np.float32([1, 2, 3]))
    c = model.tensor([2, 3])
    model.operator(name, [a, b], [c], options)
    return model.ends([a], [c])


def dense(schema):
    """Two layers, the second without a bias: the input that it leaves out has the number -1."""
    model = Model(schema)
    a, b = model.tensor([1, 4], shapeSignature=[-1, 4]), model.tensor([1, 3])
    kernel = model.tensor([3, 4], data=np.ones((3, 4), "f4"), name="dense/MatMul")
    bias = model.tensor([3], data=np.zeros(3, "f4"), name="größe")
    model.operator("FULLY_CONNECTED", [a, kernel, bias], [b], "FullyConnectedOptions",
                   fusedActivationFunction=schema.ActivationFunctionType.RELU)
    last = model.tensor([2, 3], data=np.ones((2, 3), "f4"))
    c = model.tensor([1, 2])
    model.operator("FULLY_CONNECTED", [b, last, -1], [c], "FullyConnectedOptions")
    return model.ends([a], [c])


def convolution(schema):
    """Convolutions, plain and by channel."""
    model = Model(schema)
    image = model.tensor([1, 8, 8, 2])
    kernel = model.tensor([3, 3, 3, 2], data=np.ones((3, 3, 3, 2), "f4"))
    bias = model.tensor([3], data=np.zeros(3, "f4"))
    middle = model.tensor([1, 8, 8, 3])
    strides = {"strideW": 1, "strideH": 1}
    model.operator("CONV_2D", [image, kernel, bias], [middle], "Conv2DOptions", **strides)
    depth = model.tensor([1, 3, 3, 3], data=np.ones((1, 3, 3, 3), "f4"))
    last = model.tensor([1, 8, 8, 3])
    model.operator("DEPTHWISE_CONV_2D", [middle, depth, bias], [last], "DepthwiseConv2DOptions",
                   depthMultiplier=1, **strides)
    return model.ends([image], [last])


def pooling(schema):
    """Pooling, a mean and a softmax."""
    model = Model(schema)
    image, pooled = model.tensor([1, 8, 8, 2]), model.tensor([1, 4, 4, 2])
    sizes = {"strideW": 2, "strideH": 2, "filterWidth": 2, "filterHeight": 2}
    model.operator("MAX_POOL_2D", [image], [pooled], "Pool2DOptions", **sizes)
    axes, mean = model.tensor([2], "INT32", np.int32([1, 2])), model.tensor([1, 2])
    model.operator("MEAN", [pooled, axes], [mean], "ReducerOptions")
    last = model.tensor([1, 2])
    model.operator("SOFTMAX", [mean], [last], "SoftmaxOptions", beta=1.0)
    return model.ends([image], [last])


def shapes(schema):
    """Operators that change shapes."""
    model = Model(schema)
    a, flat, turned = model.tensor([2, 3]), model.tensor([6]), model.tensor([3, 2])
    target = model.tensor([1], "INT32", np.int32([-1]))
    model.operator("RESHAPE", [a, target], [flat], "ReshapeOptions", newShape=[-1])
    order = model.tensor([2], "INT32", np.int32([1, 0]))
    model.operator("TRANSPOSE", [a, order], [turned], "TransposeOptions")
    both = model.tensor([12])
    model.operator("CONCATENATION", [flat, flat], [both], "ConcatenationOptions", axis=0)
    rows = model.tensor([3, 2])
    which = model.tensor([3], "INT32", np.int32([0, 2, 1]))
    model.operator("GATHER", [turned, which], [rows], "GatherOptions")
    return model.ends([a], [both, rows])


def quantized(schema):
    """Bytes with scales, for a tensor and for each channel."""
    model = Model(schema)
    a, b = model.tensor([1, 4]), model.tensor([1, 4], "INT8", quantization=model.scales(0.1))
    model.operator("QUANTIZE", [a], [b])
    kernel = model.tensor([3, 4], "INT8", np.ones((3, 4), "i1"),
                          quantization=model.scales(0.1, 0.2, 0.3))
    bias = model.tensor([3], "INT32", np.zeros(3, "i4"),
                        quantization=model.scales(0.01, 0.02, 0.03))
    c = model.tensor([1, 3], "INT8", quantization=model.scales(0.5))
    model.operator("FULLY_CONNECTED", [b, kernel, bias], [c], "FullyConnectedOptions")
    d = model.tensor([1, 3])
    model.operator("DEQUANTIZE", [c], [d])
    return model.ends([a], [d])


def branches(schema):
    """A condition, with a graph for each case."""
    model = Model(schema)
    condition, a, b = model.tensor([1], "BOOL"), model.tensor([2]), model.tensor([2])
    model.operator("IF", [condition, a], [b], "IfOptions",
                   thenSubgraphIndex=1, elseSubgraphIndex=2)
    model.ends([condition, a], [b])
    for name, operator in [("then", "RELU"), ("else", "NEG")]:
        model.graph(name)
        a, b = model.tensor([2]), model.tensor([2])
        model.operator(operator, [a], [b])
        model.ends([a], [b])
    return model


def signature(schema):
    """Names for inputs and outputs, as converters write them."""
    model = one(schema, "TANH")
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    maps = []
    for name, index in [("x", 0), ("y", 1)]:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        maps.append([entry])
    signature.inputs, signature.outputs = maps
    model.model.signatureDefs = [signature]
    return model


def metadata(schema):
    """Texts in buffers, as converters write them."""
    model = one(schema, "RELU")
    entries = [("min_runtime_version", b"1.5.0".ljust(16, b"\0")), ("notes", "ä".encode())]
    model.model.metadata = []
    for name, data in entries:
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, model.buffer(data)
        model.model.metadata.append(entry)
    return model


def variable(schema):
    """A variable that an operator keeps between calls."""
    model = Model(schema)
    a, feature = model.tensor([1, 4]), model.tensor([2, 4], data=np.ones((2, 4), "f4"))
    time = model.tensor([2, 3], data=np.ones((2, 3), "f4"))
    state, b = model.tensor([1, 6], isVariable=True), model.tensor([1, 2])
    model.operator("SVDF", [a, feature, time, -1, state], [b], "SVDFOptions", rank=1)
    return model.ends([a], [b])


def types(schema):
    """Constants of most types, as outputs."""
    model = Model(schema)
    kinds = {
        "FLOAT32": "f4", "FLOAT16": "f2", "FLOAT64": "f8", "INT8": "i1", "INT16": "i2",
        "INT32": "i4", "INT64": "i8", "UINT8": "u1", "UINT16": "u2", "UINT32": "u4",
        "UINT64": "u8", "BOOL": "?", "COMPLEX64": "c8", "COMPLEX128": "c16", "BFLOAT16": "u2",
        "INT4": "u1",
    }
    outputs = [
        model.tensor([1, 2] if kind == "INT4" else [1], kind, np.zeros(1, dtype))
        for kind, dtype in kinds.items()
    ]
    # A number of texts, their offsets and their ends.
    texts = np.int32([1, 12, 13]).tobytes() + b"a"
    outputs.append(model.tensor([1], "STRING", np.frombuffer(texts, "u1")))
    return model.ends([], outputs)


def chain(schema):
    """Many operators in a row."""
    model = Model(schema)
    first = last = model.tensor([2])
    for _ in range(1000):
        before, last = last, model.tensor([2])
        model.operator("NEG", [before], [last])
    return model.ends([first], [last])


def sparse(schema):
    """A matrix of which only the numbers that are not zero are stored."""
    model = Model(schema)
    form = schema.SparsityParametersT()
    form.traversalOrder = [0, 1]
    rows, columns = schema.DimensionMetadataT(), schema.DimensionMetadataT()
    rows.format, rows.denseSize = schema.DimensionType.DENSE, 3
    columns.format = schema.DimensionType.SPARSE_CSR
    vectors = []
    for values in [[0, 1, 2, 2], [0, 3]]:
        vector = schema.Int32VectorT()
        vector.values = values
        vectors.append(vector)
    columns.arraySegmentsType = columns.arrayIndicesType = schema.SparseIndexVector.Int32Vector
    columns.arraySegments, columns.arrayIndices = vectors
    form.dimMetadata = [rows, columns]
    kernel = model.tensor([3, 4], data=np.float32([1, 2]), sparsity=form)
    a, dense_kernel, b = model.tensor([1, 4]), model.tensor([3, 4]), model.tensor([1, 3])
    model.operator("DENSIFY", [kernel], [dense_kernel])
    model.operator("FULLY_CONNECTED", [a, dense_kernel, -1], [b], "FullyConnectedOptions")
    return model.ends([a], [b])


def external(schema):
    """A constant in another file."""
    model = two(schema, "ADD", "AddOptions")
    group, buffer = schema.ExternalBufferGroupT(), schema.ExternalBufferT()
    group.name, buffer.id, buffer.length = "weights.bin", 1, 12
    model.model.externalBufferGroups, model.model.externalBuffers = [group], [buffer]
    constant = model.model.subgraphs[0].tensors[1]
    constant.buffer, constant.externalBuffer = 0, 1
    return model
