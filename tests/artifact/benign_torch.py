"""PyTorch's files, as zip files and in the form before release 1.6.

`tools/torch.sh` brings a PyTorch for CPUs: PYTHONPATH and LD_LIBRARY_PATH name its folders.
"""

import collections
import contextlib
import copy
import io
import itertools

#: The endings that files of weights have.
ENDINGS = ["pt", "pth", "bin", "ckpt"]


def torch_files(out):
    """Tensors, state dictionaries and checkpoints in both forms; objects, and TorchScript."""
    # It says at length that it was made for an older NumPy, and that forms of tensors are new.
    with contextlib.redirect_stderr(io.StringIO()):
        import torch

        torch.manual_seed(1)
        values = {**tensor_values(torch), **states(torch), **checkpoints(torch)}
    endings = itertools.cycle(ENDINGS)
    for (name, value), ending in zip(values.items(), endings):
        torch.save(value, out.path("torch", f"{name}.{ending}"))
        path = out.path("torch-legacy", f"{name}.{ending}")
        torch.save(value, path, _use_new_zipfile_serialization=False)
    weights = {"w": torch.rand(3, 4), "b": torch.rand(4)}
    for protocol in range(2, 6):
        path = out.path("torch", f"protocol-{protocol}.pt")
        torch.save(weights, path, pickle_protocol=protocol)
        path = out.path("torch-legacy", f"protocol-{protocol}.pt")
        torch.save(
            weights, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False
        )
    in_memory = io.BytesIO()
    torch.save(weights, in_memory)
    out.path("torch", "in-memory.pt").write_bytes(in_memory.getvalue())
    for name, value in objects(torch).items():
        torch.save(value, out.path("torch-objects", f"{name}.pt"))
        path = out.path("torch-objects", f"{name}-legacy.pt")
        torch.save(value, path, _use_new_zipfile_serialization=False)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()).eval()
    torch.jit.script(module).save(str(out.path("torch-objects", "script.pt")))
    traced = torch.jit.trace(module, torch.rand(1, 3))
    traced.save(str(out.path("torch-objects", "traced.pt")))
    torch.jit.freeze(traced).save(str(out.path("torch-objects", "frozen.pt")))


def tensor_values(torch):
    """Tensors of each type and form, and containers of them."""
    types = [
        "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
        "bool", "complex64", "complex128",
    ]
    tensors = {name: torch.arange(6).reshape(2, 3).to(getattr(torch, name)) for name in types}
    base = torch.rand(6, 8)
    leaf = torch.rand(3, requires_grad=True)
    conjugated = torch.rand(3, dtype=torch.complex64).conj()
    return {
        **{f"type-{name}": tensor for name, tensor in tensors.items()},
        "type-all": tensors,
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0),
        "empty-shape": torch.empty(2, 0, 3),
        "large": torch.zeros(300_000),
        "many-dimensions": torch.zeros([1] * 40),
        "transposed": base.t(),
        "strided": base[::2, 1::3],
        "row": base[2],
        "expanded": torch.rand(1, 3).expand(5, 3),
        "channels-last": torch.rand(1, 2, 3, 4).to(memory_format=torch.channels_last),
        "shared": {"a": base, "row": base[1], "again": base, "view": base.view(-1)},
        "gradient": leaf,
        "detached": leaf.detach(),
        "conjugated": conjugated.resolve_conj(),
        "parameter": torch.nn.Parameter(torch.rand(3)),
        "frozen-parameter": torch.nn.Parameter(torch.rand(3), requires_grad=False),
        "buffers": [torch.nn.Parameter(base), base[0], torch.nn.Parameter(base)],
        "list": [torch.rand(2), torch.rand(3), []],
        "tuple": (torch.rand(2), 1, "a", None, True, 0.5, b"bytes"),
        "nested": {"a": {"b": [{"c": (torch.rand(1), {"d": torch.rand(2)})}]}, 1: {(1, 2): "x"}},
        "ordered": collections.OrderedDict(w=torch.rand(2), inner=collections.OrderedDict()),
        "sets": {"s": {1, 2}, "f": frozenset("ab"), "c": 1 + 2j, "r": range(3)},
        "names": {"größe": torch.rand(1), "日本": torch.rand(1), "a/b c": torch.rand(1), "": 1},
        "many": {f"layers.{n}.weight": torch.rand(2) for n in range(1500)},
        "plain": {"epoch": 3, "loss": float("nan"), "big": 2**70, "history": list(range(2000))},
        "nothing": {},
        "constants": {
            "size": torch.Size([1, 2]), "dtypes": [torch.float32, torch.bfloat16, torch.int8],
            "device": torch.device("cpu"), "cuda": torch.device("cuda", 1),
        },
        "random-state": torch.get_rng_state(),
        "storage-untyped": base.storage().untyped(),
        "storage-typed": base.storage(),
        "quantized": torch.quantize_per_tensor(base, 0.1, 10, torch.quint8),
        "quantized-channels": torch.quantize_per_channel(
            base, torch.ones(6) / 10, torch.zeros(6, dtype=torch.int64), 0, torch.qint8
        ),
        "sparse": torch.eye(4).to_sparse(),
        "sparse-csr": torch.eye(4).to_sparse_csr(),
        "meta": torch.empty(3, 4, device="meta"),
        "lazily-conjugated": conjugated,
    }


def modules(torch):
    """One module of each kind of layer."""
    nn = torch.nn
    return {
        "linear": nn.Linear(3, 4),
        "linear-no-bias": nn.Linear(3, 4, bias=False),
        "bilinear": nn.Bilinear(2, 3, 4),
        "conv1d": nn.Conv1d(2, 3, 3),
        "conv2d": nn.Conv2d(2, 4, 3, groups=2),
        "conv3d": nn.Conv3d(1, 2, 2),
        "transposed": nn.ConvTranspose2d(2, 3, 3),
        "lstm": nn.LSTM(3, 4, num_layers=2, bidirectional=True),
        "lstm-projection": nn.LSTM(3, 4, proj_size=2),
        "gru": nn.GRU(3, 4),
        "rnn-cell": nn.RNNCell(3, 4),
        "embedding": nn.Embedding(50, 4, padding_idx=0),
        "embedding-bag": nn.EmbeddingBag(50, 4),
        "batch-norm": nn.BatchNorm2d(3),
        "instance-norm": nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
        "layer-norm": nn.LayerNorm([3, 4]),
        "group-norm": nn.GroupNorm(2, 4),
        "prelu": nn.PReLU(3),
        "attention": nn.MultiheadAttention(8, 2),
        "transformer": nn.Transformer(8, 2, 1, 1, 16),
        "encoder": nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2),
        "lists": nn.ModuleDict({"a": nn.ModuleList([nn.Linear(2, 2), nn.ReLU()]), "b": nn.ELU()}),
        "parameters": nn.ParameterList([nn.Parameter(torch.rand(2)), nn.Parameter(torch.rand(3))]),
        "nothing": nn.ReLU(),
        "cnn": nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
        ),
        "weight-norm": nn.utils.weight_norm(nn.Linear(3, 4)),
        "spectral-norm": nn.utils.spectral_norm(nn.Linear(3, 4)),
        "half": nn.Linear(3, 4).half(),
        "bfloat16": nn.Linear(3, 4).bfloat16(),
        "double": nn.Linear(3, 4).double(),
    }


def states(torch):
    """State dictionaries of modules."""
    made = {f"state-{name}": module.state_dict() for name, module in modules(torch).items()}
    first, second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    second.weight = first.weight
    made["state-tied"] = torch.nn.Sequential(first, second).state_dict()
    module = torch.nn.Linear(3, 4)
    made["state-kept-parameters"] = module.state_dict(keep_vars=True)
    made["state-dictionary"] = dict(module.state_dict())
    prepared = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    quantized = torch.quantization.quantize_dynamic(prepared, {torch.nn.Linear})
    made["state-quantized"] = quantized.state_dict()
    return made


def checkpoints(torch):
    """What training writes: a model, an optimizer after some steps, a schedule and numbers."""
    made = {}
    optimizers = {
        "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
        "adam": lambda p: torch.optim.Adam(p, amsgrad=True),
        "adamw": torch.optim.AdamW,
        "adagrad": torch.optim.Adagrad,
        "rmsprop": lambda p: torch.optim.RMSprop(p, centered=True),
        "lbfgs": torch.optim.LBFGS,
        "rprop": torch.optim.Rprop,
    }
    for name, make in optimizers.items():
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        optimizer = make(model.parameters())
        for _ in range(2):
            optimizer.step(lambda: backward(torch, model, optimizer))
        made[f"optimizer-{name}"] = optimizer.state_dict()
        schedules = {
            "step": torch.optim.lr_scheduler.StepLR(optimizer, 2),
            "milestones": torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4]),
            "cosine": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10),
        }
        if name != "adam":
            continue
        for kind, schedule in schedules.items():
            made[f"checkpoint-{kind}"] = {
                "epoch": 3,
                "global_step": 1200,
                "pytorch-lightning_version": "1.9.0",
                "state_dict": copy.deepcopy(model.state_dict()),
                "optimizer_states": [copy.deepcopy(optimizer.state_dict())],
                "lr_schedulers": [schedule.state_dict()],
                "hyper_parameters": {"lr": 0.1, "layers": [3, 4], "name": "ä", "resume": None},
                "rng": torch.get_rng_state(),
            }
    scaler = torch.cuda.amp.GradScaler(enabled=False)
    made["scaler"] = scaler.state_dict()
    return made


def backward(torch, model, optimizer):
    """Computes gradients, and returns the loss."""
    optimizer.zero_grad()
    loss = model(torch.rand(5, 3)).square().mean()
    loss.backward()
    return loss


def objects(torch):
    """Objects of classes, which only code can make."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    return {
        "module": module,
        "module-in-checkpoint": {"epoch": 1, "model": module},
        "optimizer": torch.optim.SGD(module.parameters(), 0.1),
        "defaultdict": collections.defaultdict(list, a=[torch.rand(2)]),
        "function": torch.nn.functional.relu,
        "class": torch.nn.Linear,
    }
