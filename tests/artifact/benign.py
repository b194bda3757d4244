"""Makes several hundred benign model files with the libraries that write them, and scans them.

    python tests/artifact/benign.py FOLDER [--tensorgate PROGRAM] [--also FOLDER]...

Each file holds data alone, so a verdict other than `safe` is a false refusal, and the script
lists it with its findings and exits with 1. `EXPECTED` has the exceptions. `--also` scans
further folders, such as installed packages that carry weights; there only refusals of model
files are listed.

The libraries are pinned in `tools/requirements-benign.txt`, and `tools/torch.sh` brings PyTorch.
One that is not installed is named, and its formats are left out.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from benign_arrays import joblib_files, numpy_files, pickles, safetensors_files
from benign_documents import documents, pictures, sentencepiece_files, vocabularies
from benign_files import Writer
from benign_folders import hugging_face
from benign_hdf5 import hdf5_files
from benign_models import boosters, gguf_files, keras_files, onnx_files
from benign_tflite import tflite_files
from benign_torch import torch_files

#: The functions that write files, in the order of their calls.
MAKERS = [
    numpy_files, pickles, joblib_files, safetensors_files, hugging_face, onnx_files, gguf_files,
    boosters, keras_files, hdf5_files, tflite_files, documents, vocabularies,
    sentencepiece_files, pictures, torch_files,
]

#: Endings of files of `--also` that are models; the others there are programs and notes.
MODEL_ENDINGS = {
    ".bin", ".gguf", ".h5", ".hdf5", ".jinja", ".joblib", ".json", ".keras", ".npy", ".npz",
    ".onnx", ".pb", ".pickle", ".pkl", ".pt", ".pth", ".safetensors", ".tflite", ".ubj",
}

#: Files with another verdict than `safe`, by a pattern of their path, and why.
EXPECTED = [
    # Objects of classes.
    ("estimators/*", "executable"),
    # The layout of structures in pickles is not checked.
    ("joblib/structure.joblib", "executable"),
    ("pickle/np-structure-*.pkl", "unknown"),
    # Its data is one line of more than a megabyte.
    ("pickle/np-large-0.pkl", "unknown"),
    # Only little-endian files, and types that tensors are stored in.
    ("gguf/big-endian.gguf", "unknown"),
    ("gguf/type-q8_1.gguf", "unknown"),
    # A dictionary that makes empty lists.
    ("torch-objects/defaultdict*", "safe"),
    # Whole modules, optimizers and functions, and TorchScript.
    ("torch-objects/*", "executable"),
    # PyTorch does not compare their shape with the storage, or indices with the shape.
    ("torch*/quantized*", "unknown"),
    ("torch*/state-quantized.*", "unknown"),
    ("torch*/sparse-csr.*", "executable"),
    ("torch*/sparse*", "unknown"),
    # Only the protocol that PyTorch writes by itself is known in its older form.
    ("torch-legacy/protocol-[345].pt", "executable"),
    # It has weights in another file.
    ("tflite/external.tflite", "unknown"),
    # Servers may install what it lists before they load the model.
    ("huggingface/requirements.txt", "unknown"),
]


def scan(program, paths):
    """The reports of all files below these paths."""
    command = [program, "model", "scan", "--json", *map(str, paths)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"{command[:4]} ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def expected(path):
    """The verdict that a file should have."""
    return next((verdict for pattern, verdict in EXPECTED if path.match(pattern)), "safe")


def main():
    """Makes the files, scans them, and prints what is refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tensorgate", default="tensorgate")
    parser.add_argument("--also", type=pathlib.Path, action="append", default=[])
    arguments = parser.parse_args()
    if arguments.folder.exists() and any(arguments.folder.iterdir()):
        sys.exit(f"{arguments.folder} is not empty")
    out = Writer(arguments.folder)
    for make in MAKERS:
        try:
            make(out)
        except ImportError as error:
            print(f"{make.__name__}: {error}")
    for format, count in sorted(out.counts.items()):
        print(f"{count:5} {format}")
    reports = scan(arguments.tensorgate, [arguments.folder, *arguments.also])
    wrong = 0
    for report in reports:
        path = pathlib.Path(report["path"])
        is_own = path.is_relative_to(arguments.folder)
        if not is_own and path.suffix not in MODEL_ENDINGS:
            continue
        if report["verdict"] == (expected(path) if is_own else "safe"):
            continue
        wrong += 1
        print(f"{report['verdict']}: {path} ({report['format']})")
        for finding in report["findings"][:3]:
            print(f"    {finding['rule']} at {finding['offset']}: {finding['detail']}")
    print(f"{len(reports)} files, {wrong} with another verdict than expected")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
