"""Compares `model scan` with other scanners on the files of `hostile.py`.

    python3 -m venv V
    V/bin/pip install picklescan==1.0.5 modelscan==0.8.8 fickling==0.1.12 typing_extensions h5py
    python3 -m venv A
    A/bin/pip install modelaudit==0.2.54 h5py
    python3 tests/artifact/peers.py TENSORGATE V A

A file is caught if the scanner's command exits with its code for findings; hostile files are
judged alone, or with their folder where the trick needs one. `clean` means that it looked and
found nothing; `skipped` that it looked at no file; `error` that it ended in another way. Clean and
skipped files pass. Each scanner's commands run in one process, without telemetry, with a limit of
time for each.
"""

import collections
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import hostile

SECONDS = 60
# Nothing of the account or of its proxy reaches the peers, and no server is one that exists.
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": tempfile.mkdtemp(prefix="peers-"),
    "NO_ANALYTICS": "1",
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "CI": "1",
    "https_proxy": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
}


# Runs the script of a command once for each path, with its modules kept.
DRIVER = """
import faulthandler, json, logging, os, runpy, signal, sys, tempfile
script, options, codes, seconds = sys.argv[1], *json.loads(sys.argv[2])
paths = json.loads(sys.stdin.read())
answers = os.fdopen(os.dup(1), "w")
def late(*_):
    raise SystemExit("timeout")
signal.signal(signal.SIGALRM, late)
for path in paths:
    output = tempfile.TemporaryFile()
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    sys.argv = [script, *options, path]
    signal.alarm(seconds)
    # Native code does not come back to a handler.
    faulthandler.dump_traceback_later(seconds + 5, exit=True)
    try:
        runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException as error:
        status = repr(error)
    signal.alarm(0)
    faulthandler.cancel_dump_traceback_later()
    sys.stdout.flush()
    output.seek(0)
    text = output.read()
    verdict = codes.get(str(status), "error")
    if b"Traceback" in text and verdict == "caught":
        verdict = "error"
    if b"Scanned files: 0" in text and verdict == "clean":
        verdict = "skipped"
    print(json.dumps(verdict), file=answers, flush=True)
"""
CODES = {"0": "clean", "1": "caught"}
# The name, the folder of packages (0 or 1), the command, its options, and what its codes mean.
PEERS = (
    ("picklescan", 0, "picklescan", ["--path"], CODES),
    ("picklescan-strict", 0, "picklescan", ["--strict", "--path"], CODES),
    ("modelscan", 0, "modelscan", ["--path"], {**CODES, "3": "skipped"}),
    # It takes pickles, and zips of torch if it finds torch.
    ("fickling", 0, "fickling", ["--check-safety"], CODES),
    ("modelaudit", 1, "modelaudit", ["scan", "--strict", "--format", "json"], CODES),
)


def answers(peer, folders, paths):
    """The verdict of a peer on each path."""
    _, folder, command, options, codes = peer
    binaries = folders[folder] / "bin"
    arguments = json.dumps([options, codes, SECONDS])
    verdicts = []
    while len(verdicts) < len(paths):
        done = subprocess.run(
            [binaries / "python", "-c", DRIVER, binaries / command, arguments],
            input=json.dumps(paths[len(verdicts):]).encode(),
            stdout=subprocess.PIPE,
            env=ENVIRONMENT,
            # One of them writes a file of results where it runs.
            cwd=ENVIRONMENT["HOME"],
            check=False,
        )
        verdicts += [json.loads(line) for line in done.stdout.splitlines()]
        # A scanner that ends its process says nothing of the file.
        verdicts += ["error"] * (len(verdicts) < len(paths))
    return verdicts


def main():
    """Prints the table and the counts."""
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    folders = [pathlib.Path(path).resolve() for path in sys.argv[2:]]
    root = pathlib.Path(tempfile.mkdtemp(prefix="hostile-"))
    # A pipe would make a scanner wait for its other end.
    written = [case for case in hostile.write_all(root) if case[0] != "folder-fifo"]
    reports = {}
    for report in hostile.scan(sys.argv[1], root):
        family = pathlib.PurePath(report["path"]).relative_to(root).parts[0]
        reports.setdefault(family, []).append(report)
    ours = [hostile.judge(reports.get(family, []), judged)[0] for family, judged, _ in written]
    columns = [["clean" if verdict == "safe" else "caught" for verdict in ours]]
    paths = [str(root / family / (judged or "")) for family, judged, _ in written]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        columns += pool.map(lambda peer: answers(peer, folders, paths), PEERS)

    names = ["tensorgate", *(peer[0] for peer in PEERS)]
    print(f"{'':45}" + "".join(f"  {name:17}" for name in names))
    counts = collections.Counter()
    for (family, _, is_control), *verdicts in zip(written, *columns):
        print(f"{family:45}" + "".join(f"  {verdict:17}" for verdict in verdicts))
        counts.update((is_control, *pair) for pair in zip(names, verdicts))
    for is_control, title in ((False, "hostile"), (True, "data")):
        for name in names:
            kinds = ("caught", "clean", "skipped", "error")
            row = "".join(f"  {kind} {counts[is_control, name, kind]:3}" for kind in kinds)
            print(f"{title:8} {name:18}{row}")


if __name__ == "__main__":
    main()
