"""Scans files of models that other projects publish, and shows which verdicts are wrong.

    python3 tests/artifact/corpora.py TENSORGATE FOLDER

FOLDER holds a checkout of each repository under its name, without the owner's, and `pypi` with
the packages. The command names what is missing, and how to get it. No file is ever loaded.

The table has the wrong verdicts first: a file of an attack that is safe, or another one that is
not, unless `corpora_list.py` has the reason. Exits with 1 if there is a wrong one.
"""

import collections
import fnmatch
import json
import pathlib
import subprocess
import sys

from corpora_list import CORPORA, PACKAGES

VERDICTS = ("safe", "unknown", "malformed", "executable")
SECONDS = 600


def folder_of(corpus):
    """The name of the folder of a corpus."""
    return corpus.source.rpartition("/")[2]


def missing(root):
    """The commands that bring what the folder lacks."""
    commands = {}
    for corpus in CORPORA:
        name = folder_of(corpus)
        if (root / name).is_dir():
            continue
        if corpus.commit:
            commands[name] = (
                f"git clone https://github.com/{corpus.source} {root / name}\n"
                f"git -C {root / name} checkout {corpus.commit}"
            )
        else:
            commands[name] = f"pip install --no-deps --target {root / name} {' '.join(PACKAGES)}"
    return list(commands.values())


def scan(tensorgate, folder, patterns):
    """The reports of the files that a pattern names, by path. `!` leaves a pattern's out."""
    found = set()
    for pattern in patterns:
        found.update(folder.glob(pattern) if pattern[0] != "!" else ())
    for pattern in patterns:
        found.difference_update(folder.glob(pattern[1:]) if pattern[0] == "!" else ())
    files = sorted(path for path in found if path.is_file() and not path.is_symlink())
    if not files:
        raise SystemExit(f"{folder}: no file matches {' '.join(patterns)}")
    done = subprocess.run(
        [tensorgate, "model", "scan", "--json", *(str(file) for file in files)],
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode not in (0, 1) or len(reports) != len(files):
        counts = f"{len(files)} files, {len(reports)} reports, exit {done.returncode}"
        raise SystemExit(f"{folder}: {counts}: {done.stderr.decode(errors='replace')}")
    return {str(pathlib.Path(r["path"]).relative_to(folder)): r for r in reports}


def reason(corpus, path, report):
    """Why a verdict is as it should be. None if it is wrong."""
    if (report["verdict"] == "safe") != corpus.is_attack:
        return ""
    known = [(rule, text) for rule, of, text in corpus.known if fnmatch.fnmatchcase(path, of)]
    rules = {finding["rule"] for finding in report["findings"]} or {""}
    if all(any(fnmatch.fnmatchcase(rule, of) for of, _ in known) for rule in rules):
        return next(text for of, text in known if fnmatch.filter(rules, of))
    return None


def cell(text):
    """A text in a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def main():
    """Prints the tables."""
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    tensorgate, root = (pathlib.Path(path).resolve() for path in sys.argv[1:])
    if commands := missing(root):
        raise SystemExit("\n".join(commands))
    rows, wrong, known = [], [], collections.Counter()
    for corpus in CORPORA:
        counts = collections.Counter()
        for path, report in scan(tensorgate, root / folder_of(corpus), corpus.patterns).items():
            verdict = report["verdict"]
            counts[verdict] += 1
            why = reason(corpus, path, report)
            if why is None:
                counts["wrong"] += 1
                causes = "".join(f"; {f['rule']}: {f['detail']}" for f in report["findings"][:3])
                wrong.append(f"- {corpus.title}: `{path}` is {verdict}{causes}")
            elif why:
                known[corpus.title, verdict, why] += 1
        rows.append((corpus, counts))

    print("| corpus | commit | files | safe | unknown | malformed | executable | wrong |")
    print("|---|---|---|---|---|---|---|---|")
    for corpus, counts in sorted(rows, key=lambda row: -row[1]["wrong"]):
        title = corpus.title + (" (attacks: none is safe)" if corpus.is_attack else "")
        figures = [str(counts[name]) for name in VERDICTS]
        total = sum(counts[name] for name in VERDICTS)
        cells = [title, corpus.commit[:10] or "PyPI", str(total), *figures, str(counts["wrong"])]
        print("| " + " | ".join(cells) + " |")
    print("\nWrong verdicts:\n")
    print("\n".join(wrong) or "None.")
    print("\nVerdicts with a reason:\n")
    print("| corpus | verdict | files | reason |")
    print("|---|---|---|---|")
    for (title, verdict, why), count in known.items():
        print(f"| {title} | {verdict} | {count} | {cell(why)} |")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
