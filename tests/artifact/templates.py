"""Runs chat templates in Jinja without its sandbox, and compares with what `model scan` says.

    python tests/artifact/templates.py TENSORGATE [SEED]

Bypasses are made by a grammar until each kind has enough that leave their data when they run. None
of them may be `safe`, in a file of its own, in a configuration or in GGUF. Ordinary templates and
those of `benign_templates.py` must run without leaving it, and must be safe. Random ones may not be
safe and leave it. Jinja is pinned in `tools/requirements-templates.txt`. No way to Python is
followed to a command.
"""

import pathlib
import random
import sys
import tempfile

from benign_templates import TEMPLATES
from hostile import scan
from hostile_tensors import gguf, string
from template_grammar import as_config, bypasses
from template_parts import benign
from template_run import run
from template_soup import soup

#: Of each kind of bypass.
PER_KIND = 130
#: The least number of bypasses altogether, and of each kind.
LEAST, LEAST_OF_KIND = 5000, 100
#: Attempts for one that leaves its data.
ATTEMPTS = 30
BENIGN = 1000
#: Random templates, some of them safe.
RANDOM, LEAST_SAFE = 6000, 100
#: The longest one that is run, in characters.
LONGEST = 3000
#: The least share of ordinary templates that are safe.
SHARE = 0.99


def as_gguf(template):
    """A model with this template and no tensors."""
    architecture = ("general.architecture", 8, string("llama"))
    return gguf([architecture, ("tokenizer.chat_template", 8, string(template))], data=b"")


#: The files that have templates: a name, and what is written.
FORMS = [
    ("chat_template.jinja", str.encode),
    ("tokenizer_config.json", lambda template: as_config(template).encode()),
    ("model.gguf", as_gguf),
]


def verdicts(tensorgate, templates):
    """The verdict of each template, whose files take the forms in turn."""
    with tempfile.TemporaryDirectory(prefix="templates-") as folder:
        root = pathlib.Path(folder)
        for index, template in enumerate(templates):
            name, write = FORMS[index % len(FORMS)]
            path = root / str(index)
            path.mkdir()
            (path / name).write_bytes(write(template))
        reports = scan(tensorgate, root)
        found = {pathlib.Path(r["path"]).relative_to(root).parts[0]: r for r in reports}
        return [found[str(index)] for index in range(len(templates))]


def main():
    """Prints the figures, and what is wrong."""
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    pick = random.Random(int(sys.argv[2]) if len(sys.argv) == 3 else 1)
    wrong = []

    made, skipped = [], 0
    for kind, make in bypasses(pick).items():
        seen = set()
        for _ in range(PER_KIND * ATTEMPTS):
            if len(seen) == PER_KIND:
                break
            template = make()
            if template not in seen and run(template)[0]:
                seen.add(template)
            else:
                skipped += 1
        made.extend((kind, template) for template in seen)
        print(f"{len(seen):6} {kind}")
        if len(seen) < LEAST_OF_KIND:
            wrong.append(f"only {len(seen)} bypasses of the kind {kind}")
    if len(made) < LEAST:
        wrong.append(f"only {len(made)} bypasses")
    for (kind, template), report in zip(made, verdicts(sys.argv[1], [t for _, t in made])):
        if report["verdict"] == "safe":
            wrong.append(f"safe, and leaves its data ({kind}): {template!r}")

    ordinary = []
    while len(ordinary) < BENIGN:
        ordinary.append(benign(pick))
    templates = [*TEMPLATES.values(), *ordinary]
    refused = 0
    for index, (template, report) in enumerate(zip(templates, verdicts(sys.argv[1], templates))):
        tripped, failed = run(template)
        if tripped or (failed and index >= len(TEMPLATES)):
            wrong.append(f"no ordinary template ({tripped or failed}): {template!r}")
        if report["verdict"] != "safe":
            refused += 1
            print(f"refused: {report['findings']}: {template!r}")
            if index < len(TEMPLATES):
                wrong.append(f"a published template is refused: {list(TEMPLATES)[index]}")
    if refused > BENIGN * (1 - SHARE):
        wrong.append(f"{refused} ordinary templates are refused")

    mixed = [soup(pick) for _ in range(RANDOM)]
    mixed = [template for template in mixed if len(template) < LONGEST]
    reports = verdicts(sys.argv[1], mixed)
    safe = [t for t, report in zip(mixed, reports) if report["verdict"] == "safe"]
    if len(safe) < LEAST_SAFE:
        wrong.append(f"only {len(safe)} random templates are safe")
    for template in safe:
        tripped = run(template)[0]
        if tripped:
            wrong.append(f"safe, and leaves its data ({tripped}): {template!r}")

    for line in wrong[:100]:
        print(f"WRONG  {line}")
    print(
        f"{len(made)} bypasses ({skipped} attempts more), "
        f"{len(templates)} ordinary templates ({refused} refused), "
        f"{len(mixed)} random ones ({len(safe)} safe), {len(wrong)} wrong"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
