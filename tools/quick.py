#!/usr/bin/env python3
"""Checks the crates that differ from a base: quick.py [BASE]

Changed are files of the commits since BASE (origin/main, else main), of the work tree, and new
ones. Clippy and all tests run for the crates that they belong to. Of the crates that depend on
these directly, the unit tests run, and the vectors. `make quick` checks text rules first.

What it leaves out: end-to-end tests, crates that depend on a changed one through another, and
crates that are built for wasm alone. It names the changed files that it does not check.
"""

import json
import os
import pathlib
import subprocess
import sys

STAGE = "tools/stage.sh"
# Files that crates of other folders read, and these crates.
READERS = {
    "Makefile": ["tensorgate-tidy"],
    "envoy/": ["tensorgate"],
    "examples/policies/": ["tensorgate", "tensorgate-demo"],
    "policy/vectors/": ["tensorgate", "tensorgate-vectors"],
    # Its tests run the rooms together: containment, the audit log, verified models.
    "sandbox-host/": ["tensorgate-host"],
    "tools/": ["tensorgate-tidy"],
    "wit/0.1/handler.wit": ["tensorgate-host", "tensorgate-sandbox", "tensorgate-workbench"],
    "wit/guest/src/": ["tensorgate-kit"],
    "wit/handler.wit": ["tensorgate-handler", "tensorgate-sandbox", "tensorgate-workbench"],
    "wit/js/": ["tensorgate-workbench"],
    "wit/kit.wit": ["tensorgate-kit", "tensorgate-workbench"],
    "wit/kit/kit.wasm.gz": ["tensorgate-workbench"],
    "wit/python/": ["tensorgate-workbench"],
    "wit/templates/": ["tensorgate-workbench"],
    "wit/tools/": ["tensorgate-workbench"],
}
# Files that every crate is built with.
EVERYTHING = ("Cargo.toml", "Cargo.lock", "rust-toolchain.toml")
# What text rules check.
TEXT = (".md", ".gitignore")
# Crates whose tests need Envoy and a build of everything.
END_TO_END = {"tensorgate-tests"}
# Crates whose tests load components and filters that are built before.
LOADS = {"tensorgate", "tensorgate-host", "tensorgate-workbench"}
# Crates that decide about requests, and the test that plays all vectors through the filter's code.
DECIDE = {
    "tensorgate-filter-core",
    "tensorgate-identity",
    "tensorgate-kernels",
    "tensorgate-policy",
    "tensorgate-values",
    "tensorgate-vectors",
    "tensorgate-wire",
}
VECTORS = ["-p", "tensorgate-conformance"]
LIBRARIES = {"cdylib", "lib", "proc-macro", "rlib"}


def output(*command):
    """Standard output of a command that must succeed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def base(named):
    """The commit that this work began at."""
    for name in [named] if named else ["origin/main", "main"]:
        command = ["git", "merge-base", name, "HEAD"]
        found = subprocess.run(command, capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.strip()
    sys.exit(f"quick: {named or 'origin/main'} is not a commit of this repository; set BASE=")


def changed_files(commit):
    """Files that differ from a commit, and new ones. A file that moved has both names."""
    names = output("git", "diff", "--name-only", "--no-renames", "-z", commit)
    names += output("git", "ls-files", "--others", "--exclude-standard", "-z")
    return sorted(set(filter(None, names.split("\0"))))


def crates():
    """The crates that are tested on this machine: folder, direct dependencies, kinds of targets."""
    command = ["cargo", "metadata", "--format-version=1", "--no-deps", "--locked"]
    metadata = json.loads(output(*command))
    tested = set(metadata["workspace_default_members"])
    found = {}
    for package in metadata["packages"]:
        if package["id"] in tested:
            targets = (target for target in package["targets"] if target["test"])
            found[package["name"]] = {
                "folder": os.path.relpath(pathlib.Path(package["manifest_path"]).parent),
                "needs": {each["name"] for each in package["dependencies"] if each.get("path")},
                "kinds": {kind for target in targets for kind in target["kind"]},
            }
    return found


def owners(file, all_crates):
    """The crates whose tests a file may change: that of the longest folder, and its readers."""
    inside = [name for name, crate in all_crates.items() if file.startswith(crate["folder"] + "/")]
    found = {max(inside, key=lambda name: len(all_crates[name]["folder"]))} if inside else set()
    for prefix, readers in READERS.items():
        if file.startswith(prefix):
            found.update(readers)
    return found & set(all_crates)


def selected(files, all_crates):
    """The crates that changed, those that depend on them directly, and files of no crate."""
    if any(file in EVERYTHING for file in files):
        return set(all_crates), set(), []
    owned = {file: owners(file, all_crates) for file in files}
    changed = set().union(*owned.values())
    needing = {name for name, crate in all_crates.items() if crate["needs"] & changed}
    left = [file for file, found in owned.items() if not found and not file.endswith(TEXT)]
    return changed, needing - changed, left


def stage(name, *command):
    """Runs a stage, and ends with it if it fails."""
    if status := subprocess.run([STAGE, name, *command]).returncode:
        sys.exit(status)


def packages(names):
    return [argument for name in sorted(names) for argument in ("-p", name)]


def main():
    files = changed_files(base(sys.argv[1] if len(sys.argv) > 1 else ""))
    all_crates = crates()
    changed, dependants, left = selected(files, all_crates)
    if not changed:
        print("quick: no crate has changed")
    else:
        print(f"quick: changed: {', '.join(sorted(changed))}")
        print(f"quick: depend on them: {', '.join(sorted(dependants)) or 'none'}", flush=True)
        check(changed, dependants, all_crates)
    for file in left:
        print(f"quick: not checked: {file}")
    for name in sorted(changed & END_TO_END):
        print(f"quick: not checked: {name}, which needs make test")


def check(changed, dependants, all_crates):
    """Lints and tests these crates."""
    # The slow tests of few crates wait for processes and deadlines.
    os.environ.setdefault("RUST_TEST_THREADS", "4")
    lint = ["cargo", "clippy", "--quiet", "--locked", *packages(changed), "--", "-D", "warnings"]
    stage("clippy", *lint)
    suite = ["tools/suite.py", "--locked"]
    tested = changed - END_TO_END
    if tested & LOADS:
        subprocess.run(["make", "--no-print-directory", "filters", "components"], check=True)
    if tested:
        stage("tests", *suite, *packages(tested))
    kinds = {name: all_crates[name]["kinds"] for name in dependants - END_TO_END}
    with_units = {name for name in kinds if kinds[name] & (LIBRARIES | {"bin"})}
    # Cargo rejects a kind of target that none of the packages has.
    units = ["--lib"] if any(kinds[name] & LIBRARIES for name in with_units) else []
    units += ["--bins"] if any("bin" in kinds[name] for name in with_units) else []
    if with_units:
        stage("dependants", *suite, *packages(with_units), *units)
    if changed & DECIDE:
        stage("vectors", *suite, *VECTORS)


if __name__ == "__main__":
    main()
