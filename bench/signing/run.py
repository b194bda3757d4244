"""Measures the hashing and verification of a large model, and prints Markdown tables.

    make bench-signing
    python3 bench/signing/run.py [--program PROGRAM] [--gigabytes N] [--rounds N] [--out FILE]

Three questions:
- How fast is `model manifest` on one core, beside `openssl dgst -sha256` on the same file?
- How much longer than `model manifest`, which hashes the model, does `model verify` take, which
  also reads the signature and compares?
- How long does `model serve-verified` take when it finds the copy of an earlier start?

The programs of the first two read files that are in the page cache: the model is read once before
each comparison, and the machine needs as much free memory.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time

GB = 1_000_000_000
#: The size of the file for one core. It is enough that starting a program does not count.
FILE_BYTES = 1 * GB
#: How many files the large model has.
FILES = 20
#: The least share of openssl's throughput on one core.
MIN_SHARE = 0.8
#: How much longer than hashing verification may take.
MAX_EXTRA = 0.02
#: How long a start may take that finds its copy, in milliseconds.
MAX_START_MS = 50
#: The size of each file that is served. A start that finds its copy reads none of them.
SERVED_BYTES = 10_000_000
QUIET = {"check": True, "stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
PIECE = 1 << 24


def fill(path, size):
    """Writes bytes that differ everywhere, so that no file system stores holes."""
    piece = os.urandom(PIECE)
    with open(path, "wb") as file:
        number = 0
        while size > 0:
            part = piece[: min(size, PIECE)]
            file.write(number.to_bytes(8, "little") + part[8:])
            size -= len(part)
            number += 1


def seconds(command):
    """The time of one run, which must succeed."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def paired(rounds, first, second):
    """The times of two commands that take turns, so that a slow minute meets both."""
    times = ([], [])
    for command in (first, second):
        seconds(command)
    for number in range(rounds):
        for at, command in sorted(enumerate((first, second)), reverse=number % 2 == 1):
            times[at].append(seconds(command))
    return times


def spread(times):
    """The median with the least and the greatest, in seconds."""
    return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"


def row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def signed(program, folder, model):
    """Signs a model with a new key. Returns the files of the public key and of the signature."""
    key, public, signature = (folder / f"{model.name}.{end}" for end in ("pem", "pub", "sig"))
    curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(["openssl", "genpkey", *curve, "-out", key], **QUIET)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], **QUIET)
    options = ["--private-key", key, "--signature", signature]
    subprocess.run([program, "model", "sign", model, *options], **QUIET)
    return public, signature


def one_core(program, folder, rounds):
    """The rows that compare the throughput of one core."""
    model = folder / "one"
    model.mkdir()
    fill(model / "weights.bin", FILE_BYTES)
    pinned = ["taskset", "-c", "0"]
    ours, peer = paired(
        rounds,
        [*pinned, program, "model", "manifest", model, "--jobs", "1"],
        [*pinned, "openssl", "dgst", "-sha256", model / "weights.bin"],
    )
    share = statistics.median(theirs / own for own, theirs in zip(ours, peer))
    verdict = "met" if share >= MIN_SHARE else "**missed**"
    rate = lambda times: f"{FILE_BYTES / statistics.median(times) / 1e6:.0f}"
    return [
        row("program", "seconds", "MB/s"),
        row("---", "---:", "---:"),
        row("`openssl dgst -sha256`", spread(peer), rate(peer)),
        row("`tensorgate model manifest --jobs 1`", spread(ours), rate(ours)),
        "",
        f"Share of openssl's throughput: {share:.2f}, target at least {MIN_SHARE}: {verdict}.",
    ]


def verification(program, folder, gigabytes, rounds):
    """The rows that compare verification with hashing alone."""
    model = folder / "many"
    model.mkdir()
    for number in range(FILES):
        fill(model / f"shard-{number:02}.bin", gigabytes * GB // FILES)
    public, signature = signed(program, folder, model)
    hashing, verifying = paired(
        rounds,
        [program, "model", "manifest", model],
        [program, "model", "verify", model, "--key", public, "--signature", signature],
    )
    extra = statistics.median(mine / plain for plain, mine in zip(hashing, verifying)) - 1
    verdict = "met" if extra <= MAX_EXTRA else "**missed**"
    return [
        row("command", "seconds"),
        row("---", "---:"),
        row("`tensorgate model manifest`", spread(hashing)),
        row("`tensorgate model verify --key`", spread(verifying)),
        "",
        f"Verification takes {extra * 100:+.1f} % of the time of hashing in addition, "
        f"target at most {MAX_EXTRA * 100:.0f} %: {verdict}.",
    ]


def second_start(program, folder, rounds):
    """The line about a start that finds the copy of an earlier one."""
    model, served = folder / "served-model", folder / "served"
    model.mkdir()
    tensor = {"dtype": "U8", "shape": [SERVED_BYTES], "data_offsets": [0, SERVED_BYTES]}
    header = json.dumps({"x": tensor}).encode()
    for number in range(FILES):
        with open(model / f"shard-{number:02}.safetensors", "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header + bytes(SERVED_BYTES))
    public, signature = signed(program, folder, model)
    options = ["--key", public, "--signature", signature]
    command = [program, "model", "serve-verified", model, served, *options]
    try:
        seconds(command)
        times = [seconds(command) * 1000 for _ in range(rounds)]
    finally:
        # The copy is read-only.
        subprocess.run(["chmod", "-R", "u+w", served], check=False)
    middle = statistics.median(times)
    verdict = "met" if middle <= MAX_START_MS else "**missed**"
    return (
        f"A start takes {middle:.0f} ms ({min(times):.0f} to {max(times):.0f}), target at most "
        f"{MAX_START_MS} ms: {verdict}."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="target/release/tensorgate")
    parser.add_argument("--gigabytes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    program = pathlib.Path(arguments.program).resolve()
    peer = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as made:
        folder = pathlib.Path(made)
        lines = [
            "# Hashing and verifying models",
            "",
            "Written by `make bench-signing`; `bench/README.md` says how to read it.",
            "",
            f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}; "
            f"{peer.stdout.strip()}. Medians of {arguments.rounds} rounds, least and greatest in "
            "brackets.",
            "",
            "## One core, one file of 1 GB",
            "",
            *one_core(program, folder, arguments.rounds),
            "",
            f"## All cores, {FILES} files of {arguments.gigabytes} GB in all",
            "",
            *verification(program, folder, arguments.gigabytes, arguments.rounds),
            "",
            f"## `model serve-verified` with {FILES} files that were copied before",
            "",
            second_start(program, folder, arguments.rounds),
        ]
    text = "\n".join(lines) + "\n"
    if arguments.out:
        arguments.out.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
