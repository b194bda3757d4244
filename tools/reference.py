#!/usr/bin/env python3
"""Generates docs/reference: reference.py [--write] [--tensorgate PROGRAM]

Policy, reasons and commands come from the program itself (target/debug/tensorgate unless given),
metrics and audit fields from the host's sources, the handler interface from its WIT file, the pages
of each language from its module (handler_reference.py), and faults and details from the texts in
the sources (message_reference.py). Without --write the pages are compared, and the exit status is 1
if one is stale. packages.md and ocsf.md are written by hand.
"""

import argparse
import functools
import json
import os
import re
import subprocess
import sys

import handler_reference
import message_reference
from handler_reference import NOTE, ROOT, cell, table

PAGES = ROOT / "docs/reference"
HOST = ROOT / "sandbox-host"


class Program:
    """Runs the command and reads its output."""

    def __init__(self, path):
        self.path = path

    def says(self, *arguments):
        command = [self.path, *arguments]
        # Help text shows values that the environment sets.
        clean = {key: value for key, value in os.environ.items() if not key.startswith("TENSORGATE_")}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=clean)
        return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


def anchor(name):
    return name.lower()


def size(count):
    """A number of bytes in its largest unit."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)


def type_of(schema):
    """Describes a schema's type, with links to definitions."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{anchor(name)})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            number = schema[key][0]
            if "maximum" in number:
                least, most = (size(number[end]) for end in ("minimum", "maximum"))
                return f"[ByteSize](#bytesize), {least} to {most}"
            types = [type_of(each) for each in schema[key] if each.get("type") != "null"]
            return " or ".join(types)
    kind = schema.get("type")
    kinds = [each for each in (kind if isinstance(kind, list) else [kind]) if each != "null"]
    if "maximum" in schema:
        return f"integer, {schema['minimum']:,} to {schema['maximum']:,}"
    if "array" in kinds:
        if "prefixItems" in schema:
            return "[" + ", ".join(type_of(each) for each in schema["prefixItems"]) + "]"
        return f"list of {type_of(schema['items'])}" if "items" in schema else "list"
    if "object" in kinds:
        each = schema.get("additionalProperties")
        if isinstance(each, dict):
            return f"by name: {type_of(each)}"
        if "properties" in schema:
            return "{" + ", ".join(f"`{name}`" for name in schema["properties"]) + "}"
        return "object"
    return " or ".join(str(each) for each in kinds if each)


def default_of(schema):
    value = schema.get("default")
    if value is None or value == {} or value == []:
        return ""
    is_size = any("maximum" in each for each in schema.get("anyOf", []))
    text = size(value) if is_size else json.dumps(value)
    return f"`{text}`" if len(text) <= 40 else "see below"


def definition(schema):
    """The text below a definition's heading."""
    text = " ".join(schema.get("description", "").split())
    if text and text[-1] not in ".:":
        text += "."
    out = [text[:1].upper() + text[1:] + "\n"] if text else []
    if "properties" in schema:
        required = schema.get("required", [])
        rows = []
        for name, each in schema["properties"].items():
            key = f"`{name}`" + (" (required)" if name in required else "")
            rows.append((key, type_of(each), default_of(each), cell(each.get("description", ""))))
        out.append(table(("key", "type", "default", "meaning"), rows))
    elif "oneOf" in schema and all("const" in each for each in schema["oneOf"]):
        rows = [(type_of(each), cell(each.get("description", ""))) for each in schema["oneOf"]]
        out.append(table(("value", "meaning"), rows))
    elif schema.get("type") != "null":
        out.append(f"One of: {type_of(schema)}.\n")
    return "\n".join(out)


def policy(program):
    schema = json.loads(program.says("schema"))
    out = ["# Policy reference\n\n", NOTE]
    out.append(
        "Every key of a policy file, from the JSON Schema that `tensorgate schema` prints. "
        "[Write a\npolicy](../how-to/write-a-policy.md) introduces it.\n\n## The whole file\n\n"
    )
    out.append(definition({**schema, "description": "Top-level keys."}))
    for name, each in sorted(schema["$defs"].items()):
        out.append(f"\n## {name}\n\n{definition(each)}")
    return "".join(out)


GRPC = {
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    16: "UNAUTHENTICATED",
}


def reasons(program):
    lines = program.says("--json", "explain", "--all").splitlines()
    rows = []
    for each in map(json.loads, lines):
        grpc = GRPC[each["grpc_status"]]
        rows.append((f"`{each['reason']}`", str(each["status"]), f"`{grpc}`", cell(each["title"])))
    return (
        "# Reasons\n\n" + NOTE + "Why a request is rejected, in order of precedence: of two causes "
        "the earlier one is given.\n\n"
        "REST answers are `application/problem+json` (RFC 9457) with `type` = `urn:tensorgate:` and "
        "the\nreason, and the `error` member that clients of the route decode. gRPC answers have the "
        "reason as\n`ErrorInfo`. The audit log has the reason and the whole cause.\n\n"
        "`backend-too-long`, `backend-rejected`, `backend-unknown-model` and `backend-busy` are client "
        "errors of\nthe model's server. They have its own status: 400, 404, 413, 422 or 429. To clients "
        "of OpenAI's API\nthe `code` of three is `context_length_exceeded`, `model_not_found` and "
        "`rate_limit_exceeded`.\n\n"
        "`overloaded` also covers failures of the gate itself. [Find out why a request was\n"
        "rejected](../how-to/rejections.md) lists what is behind each 503.\n\n"
        + table(("reason", "HTTP", "gRPC", "what the caller reads"), rows)
    )


def commands(program, path=()):
    """The help of a command and of its subcommands."""
    text = program.says(*path, "--help").rstrip()
    out = [f"\n## tensorgate {' '.join(path)}".rstrip() + f"\n\n```text\n{text}\n```\n"]
    listed = re.search(r"^Commands:\n((?:  .*\n)+)", text + "\n", re.M)
    for line in (listed.group(1) if listed else "").splitlines():
        name = line.split()[0] if re.match(r"^  \S", line) else "help"
        if name != "help":
            out += commands(program, (*path, name))
    return out


def cli(program):
    text = "# Commands\n\n" + NOTE + "What `--help` prints, for each command.\n"
    blocks = commands(program)
    return text + "".join(blocks)


@functools.cache
def sources():
    """The source files of the host's crates, with their texts."""
    return {path: path.read_text() for path in sorted(HOST.rglob("src/**/*.rs"))}


def metrics(_):
    texts = sources()
    whole = "\n".join(texts.values())
    labels = {}
    for name, body in re.findall(r"pub struct (\w+Labels) \{(.*?)\n\}", whole, re.S):
        labels[name] = re.findall(r"^    pub (?:r#)?(\w+):", body, re.M)
    home = next(text for text in texts.values() if "\nmetrics! {" in text)
    aliases = dict(re.findall(r"^type (\w+) = (.*);", home, re.M))
    rows = []
    for kind, name, meaning in re.findall(r'^    \w+: ([^;]*?),\s+"(\w+)", "([^"]*)";', home, re.M):
        kind = aliases.get(kind.split(" = ")[0], kind)
        form = next((each for each in ("Counter", "Gauge", "Histogram") if each in kind), "")
        of = re.search(r"\w+Labels", kind)
        by = ", ".join(f"`{each}`" for each in labels.get(of.group(0), [])) if of else ""
        rows.append((f"`{name}{'_total' * (form == 'Counter')}`", form.lower(), by, cell(meaning)))
    assert len(rows) > 40, f"only {len(rows)} metrics found"
    return (
        "# Metrics\n\n" + NOTE + "What the host serves at `/metrics` of its admin port. Histograms have "
        "`_bucket`, `_sum` and `_count`.\n[Scrape metrics](../how-to/metrics.md) says which to alert on, "
        "and names the filter's in Envoy.\n\n"
        + table(("metric", "type", "labels", "meaning"), sorted(rows))
    )


def audit(_):
    folder = HOST / "audit/src/record"
    files = [folder.with_suffix(".rs"), *sorted(folder.glob("*.rs"))]
    text = "\n".join(file.read_text() for file in files)
    out = ["# Audit fields\n\n", NOTE]
    out.append(
        "The fields of a line in the audit log. Fields that are unknown or do not apply are absent. "
        "[Read and\nverify the audit log](../how-to/audit-log.md) introduces it.\n"
    )
    every = (
        ("v", "The version of these fields."),
        ("seq", "The line's number, from 1, without a gap."),
        ("time", "RFC 3339, UTC, microseconds: a request's beginning, or the moment of writing."),
        ("type", "What the line is: one of the sections below, or `policy`, `dropped`, `lost`, `checkpoint`, `stop`."),
        ("prev", "With `chain`: the hash of the line before."),
        ("signature", "Of signed lines."),
        ("hash", "SHA-256 of all that is before it in the line."),
    )
    rows = [(f"`{field}`", meaning) for field, meaning in every]
    out.append("\n## Every line\n\n" + table(("field", "meaning"), rows))
    kinds = (
        ("decision", "Decision"),
        ("amend", "Amend"),
        ("copy", "Copied"),
        ("cut-off", "CutOff"),
        ("artifact", "ArtifactRecord"),
        ("alert", "AlertRecord"),
        ("block", "Block"),
        ("rejections", "Rejections"),
        ("open", "Open"),
    )
    for kind, name in kinds:
        body = re.search(rf"pub struct {name} \{{\n(.*?)\n\}}", text, re.S).group(1)
        rows, said, skipped = [], [], False
        for line in body.splitlines():
            line = line.strip()
            if line.startswith("///"):
                said.append(line[3:].strip())
            elif line == "#[serde(skip)]":
                skipped = True
            elif found := re.match(r"pub (?:r#)?(\w+):", line):
                meaning = re.sub(r"\[`(\w+)`\]", r"`\1`", " ".join(said))
                if not skipped:
                    rows.append((f"`{found.group(1)}`", cell(meaning)))
                said, skipped = [], False
        out.append(f"\n## `{kind}`\n\n" + table(("field", "meaning"), rows))
    return "".join(out)


def handler(_):
    wit = (ROOT / "wit/handler.wit").read_text().rstrip()
    return (
        "# Handler interface\n\n" + NOTE + "What a handler can receive, return and ask for: "
        "`wit/handler.wit`. A page for each language has\nthe names that it uses: "
        "[Rust](handlers/rust.md), [Python](handlers/python.md),\n[JavaScript]"
        "(handlers/javascript.md).\n\n"
        f"```wit\n{wit}\n```\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--tensorgate", default=str(ROOT / "target/debug/tensorgate"))
    arguments = parser.parse_args()
    program = Program(arguments.tensorgate)
    pages = {
        "policy": policy,
        "reasons": reasons,
        "cli": cli,
        "metrics": metrics,
        "audit": audit,
        "handler": handler,
        **{
            name: lambda _, page=page: page()
            for module in (handler_reference, message_reference)
            for name, page in module.PAGES.items()
        },
    }
    stale = []
    for name, page in pages.items():
        file = PAGES / f"{name}.md"
        text = page(program)
        if file.is_file() and file.read_text() == text:
            continue
        if arguments.write:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        else:
            stale.append(str(file.relative_to(ROOT)))
    if stale:
        print(f"stale: {', '.join(stale)}; run tools/reference.py --write", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
