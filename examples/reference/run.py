"""`make test-examples`: the example handlers, in the host's own sandbox, against the ordinary
Python stack.

For each handler it checks three things: the cases in `cases/` are what the reference computes,
the handler passes them, and it passes new cases with random numbers. `run.py --write`
regenerates the committed cases. Exits 0 only if every line is ok.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True

import detections
import images
import labels
import numpy as np
import sounds
import tables
import texts
import tokenizer_files
from case import differences

TOP = Path(__file__).resolve().parents[2]
EXAMPLES = [images, labels, texts, tables, sounds, detections, *tokenizer_files.EXAMPLES]
SEED = 5
# The tolerance between numbers of different processors.
DRIFT = 1e-6


def committed(example):
    return list(example.committed(np.random.default_rng(SEED)))


def write(example):
    folder = TOP / "examples/handlers" / example.HANDLER / "cases"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for case in committed(example):
        case.write(folder)


def kept(example):
    """The differences between the committed cases and the reference. Input files are read, not
    regenerated, because encoders change.
    """
    folder = TOP / "examples/handlers" / example.HANDLER / "cases"
    faults, names = [], set()
    for case in committed(example):
        names |= {f"{case.name}.json", *case.files}
        file = folder / f"{case.name}.json"
        if not file.is_file():
            faults.append(f"{file.name} is missing")
            continue
        found = differences(case.document(), json.loads(file.read_text()), DRIFT, case.name)
        faults += found[:3]
        faults += [f"{name} differs" for name, data in case.files.items() if (folder / name).read_bytes() != data]
    return faults + [f"{path.name} is not of a case" for path in folder.iterdir() if path.name not in names]


def built(project, handler):
    """The handler's component, configured with the project's tokenizer.json if it has one."""
    handler = handler.split("/")[0]
    component = TOP / "target/components" / f"{handler.replace('-', '_')}.wasm"
    file = project / "tokenizer.json"
    if not file.is_file():
        return component
    made = TOP / "target/examples" / f"{project.name}.wasm"
    made.parent.mkdir(exist_ok=True)
    subprocess.run([TOP / "target/debug/tensorgate", "--json", "handler", "configure", component, "--file", file, "-o", made], stdout=subprocess.DEVNULL, check=True)
    return made


def tested(project, handler):
    command = [TOP / "target/debug/tensorgate", "--json", "handler", "test", "--component", built(project, handler), project]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    faults = [f"{line['case']}: {'; '.join(line['faults'])[:300]}" for line in lines if not line["ok"]]
    return len(lines), faults or ([] if ran.returncode == 0 else [ran.stderr.strip()])


def fresh(example, rng):
    folder = TOP / "target/examples" / example.HANDLER
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "cases").mkdir(parents=True)
    shutil.copy(TOP / "examples/handlers" / example.HANDLER / "handler.yaml", folder)
    fresh = example.fresh(rng, folder) if hasattr(example, "train") else example.fresh(rng)
    for case in fresh:
        case.write(folder / "cases")
    return folder


def main():
    if "--write" in sys.argv:
        for example in EXAMPLES:
            write(example)
        return 0
    seed = int(time.time())
    print(f"numbers of seed {seed}")
    wrong = 0
    for example in EXAMPLES:
        source = TOP / "examples/handlers" / example.HANDLER
        checks = [("committed cases are the reference's", "", kept(example))]
        count, faults = tested(source, example.HANDLER)
        checks.append(("in the sandbox, committed", count, faults))
        count, faults = tested(fresh(example, np.random.default_rng(seed)), example.HANDLER)
        checks.append(("in the sandbox, new", count, faults))
        for name, count, faults in checks:
            wrong += bool(faults)
            print(f"{example.HANDLER:26} {name:36} {count!s:>4} {'WRONG' if faults else 'ok'}", flush=True)
            for fault in faults[:10]:
                print(f"    {fault}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
