#!/usr/bin/env python3
"""Prints the shipped code lines of each crate as `FOLDER LINES`, and those of all: lines.py

Code lines are neither blank nor a comment. Counted are the Rust files in `src` of the shipped
crates, without test files (`tests/`, `tests.rs`, `*_tests.rs`) and without items below
`#[cfg(test)]`, files of modules included. A file belongs to the nearest folder above it that has a
Cargo.toml.
"""

import collections
import pathlib
import re
import subprocess

# Bench, fuzz targets, examples and tests are not shipped.
SHIPPED = ["artifact", "cli", "filters", "identity", "policy", "sandbox-host", "wire", "wit"]
TESTS = re.compile(r"/tests/|(/|_)tests?\.rs$")
# A module of tests in a file of its own.
TEST_MODULE = re.compile(r"#\[cfg\(test\)\]\n(?:#\[.*\]\n)*(?:pub(?:\([a-z]+\))? )?mod (\w+);")


def code_lines(text):
    """The code lines of a source."""
    count = 0
    # Where an item of tests ends, while one is read: `head` is before its brace, `body` behind it.
    skipped, indent = None, 0
    for line in text.splitlines():
        code = line.strip()
        own_indent = len(line) - len(line.lstrip())
        if code == "#[cfg(test)]":
            skipped, indent = "head", own_indent
        elif skipped == "head":
            # An item ends at its semicolon or closing brace, a field at its comma.
            if code.endswith("{"):
                skipped = "body"
            elif code.endswith((";", "}")) or code.endswith(",") and own_indent == indent:
                skipped = None
        elif skipped == "body":
            if own_indent == indent and code.startswith("}"):
                skipped = None
        elif code and not code.startswith("//"):
            count += 1
    return count


def test_modules(file, text):
    """The paths, without a suffix, of the modules of tests that a source declares."""
    folder = file.parent if file.name in ("lib.rs", "main.rs") else file.with_suffix("")
    return {folder / name for name in TEST_MODULE.findall(text)}


def tracked(*patterns):
    """Tracked files that exist."""
    command = ["git", "ls-files", "-z", "--", *patterns]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [path for name in listed.split("\0")[:-1] if (path := pathlib.Path(name)).is_file()]


def main():
    crates = {manifest.parent for manifest in tracked("*Cargo.toml")}
    lines = collections.Counter()
    texts = {file: file.read_text() for file in tracked(*SHIPPED) if file.suffix == ".rs" and "/src/" in str(file)}
    tests = set().union(*(test_modules(file, text) for file, text in texts.items()))
    for file, text in texts.items():
        is_test = TESTS.search(str(file)) or not tests.isdisjoint([file.with_suffix(""), *file.parents])
        if not is_test:
            crate = next(folder for folder in file.parents if folder in crates)
            lines[str(crate)] += code_lines(text)
    for crate in sorted(lines):
        print(crate, lines[crate])
    print("all", lines.total())


if __name__ == "__main__":
    main()
