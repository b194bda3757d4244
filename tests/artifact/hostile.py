"""Writes a file for each known trick of hostile models, and shows what `model scan` says of it.

    python3 tests/artifact/hostile.py TENSORGATE [FOLDER]

The table has the wrong verdicts first: a hostile file that is safe, or a file of data that is not.
Exits with 1 if there is one. No file is ever loaded, and each command in them is an `echo`.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import hostile_cards
import hostile_containers
import hostile_folders
import hostile_hdf5
import hostile_pickles
import hostile_tensors

MODULES = (
    hostile_cards,
    hostile_pickles,
    hostile_containers,
    hostile_tensors,
    hostile_folders,
    hostile_hdf5,
)
SECONDS = 300


def write_file(path, content):
    """Writes a file or makes a link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind, target = content if isinstance(content, tuple) else (None, content)
    if kind == hostile_folders.LINK:
        path.symlink_to(target)
    elif kind == hostile_folders.HARD_LINK:
        outside = path.parent.parent / f"{path.parent.name}.outside"
        outside.unlink(missing_ok=True)
        outside.write_bytes(target)
        path.hardlink_to(outside)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(target)


def write_all(root):
    """Writes each fixture into a folder. Returns (family, judged file, is a control)."""
    written = []
    for module in MODULES:
        for is_control, cases in ((False, module.fixtures()), (True, module.controls())):
            for family, judged, content in cases:
                files = content if isinstance(content, dict) else {judged: content}
                for file, file_content in files.items():
                    write_file(root / family / file, file_content)
                written.append((family, judged, is_control))
    assert len({family for family, _, _ in written}) == len(written), "two families of one name"
    return written


def scan(tensorgate, path):
    """The verdicts of the files under a path, with their rules."""
    done = subprocess.run(
        [tensorgate, "model", "scan", "--json", str(path)],
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"{path}: exit {done.returncode}: {done.stderr.decode(errors='replace')}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def judge(reports, judged):
    """The worst verdict of the judged files, and the rules behind it."""
    order = ["missing", "safe", "unknown", "malformed", "executable"]
    kept = [r for r in reports if judged is None or r["path"].endswith(judged)]
    worst = max((r["verdict"] for r in kept), key=order.index, default="missing")
    rules = sorted({finding["rule"] for r in kept for finding in r["findings"]})
    return worst, rules


def main():
    """Prints the table."""
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    root = pathlib.Path(sys.argv[2] if len(sys.argv) == 3 else tempfile.mkdtemp(prefix="hostile-"))
    written = write_all(root)
    reports = {}
    for report in scan(sys.argv[1], root):
        family = pathlib.PurePath(report["path"]).relative_to(root).parts[0]
        reports.setdefault(family, []).append(report)
    rows = []
    for family, judged, is_control in written:
        verdict, rules = judge(reports.get(family, []), judged)
        is_wrong = (verdict != "safe") if is_control else (verdict in ("safe", "missing"))
        expected = "safe" if is_control else "not safe"
        rows.append((not is_wrong, family, verdict, expected, " ".join(rules)))
    for is_right, family, verdict, expected, rules in sorted(rows):
        mark = "     " if is_right else "WRONG"
        print(f"{mark}  {family:45}  {verdict:10}  {expected:8}  {rules}")
    wrong = sum(not row[0] for row in rows)
    print(f"{len(rows)} files, {wrong} wrong, in {root}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
