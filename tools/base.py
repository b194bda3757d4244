#!/usr/bin/env python3
"""Compiled dependencies for a new target folder: base.py restore | save

`save` adds what cargo has compiled of the registry's packages to the user's cache folder, in one
folder for each digest of the lock file, the manifest with its profiles, and the compiler. It runs
after each stage that compiles other units of them: the build, clippy, and the tests.
`restore` copies it into a target folder that has none yet: the set of this digest, else the newest
of this compiler. Cargo checks each package as ever, and compiles what does not fit.

Packages of this repository are left out: cargo tells those of two clones apart by modification
times alone. For the same reason two clones must not share a target folder.
"""

import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "debug"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
BASES = CACHE / "tensorgate" / "base"
# Folders of a target folder that hold something of each package.
# Cargo looks at the last one first, so it is copied last: a killed copy has complete units only.
FOLDERS = ("deps", "build", ".fingerprint")
# A target folder with more units than this is in use, and needs no base.
NEW_UNITS = 50
# Number of bases that are kept. One is about 3 GB.
KEPT = 2


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def names():
    """The names of a base: of its compiler, and of its whole digest."""
    compiler = hashlib.sha256(output("rustc", "-vV")).hexdigest()[:16]
    digest = hashlib.sha256()
    for file in ("Cargo.lock", "Cargo.toml"):
        digest.update(hashlib.sha256(pathlib.Path(file).read_bytes()).digest())
    return compiler, f"{compiler}-{digest.hexdigest()[:16]}"


def own_packages():
    """The names of this repository's packages."""
    metadata = json.loads(output("cargo", "metadata", "--format-version=1", "--no-deps", "--locked"))
    return {package["name"] for package in metadata["packages"]}


def copy_new(source, target):
    """Copies a file with its modification time, which cargo compares, unless it is there."""
    if not os.path.exists(target):
        new = f"{target}.new-{os.getpid()}"
        shutil.copy2(source, new)
        os.replace(new, target)


def copy(paths, into):
    """Copies files and folders into a folder."""
    into.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if path.is_dir():
            shutil.copytree(path, into / path.name, copy_function=copy_new, dirs_exist_ok=True)
        else:
            copy_new(path, into / path.name)


def bases():
    """The folders of all bases."""
    return [base for base in BASES.iterdir() if base.is_dir()]


def save():
    _, name = names()
    own = own_packages()
    # A unit has the same hash in all folders.
    hashes = set()
    for unit in TARGET.joinpath(".fingerprint").iterdir():
        package, _, unit_hash = unit.name.rpartition("-")
        if package not in own:
            hashes.add(unit_hash)
    base = BASES / name
    for part in base.rglob("*.new-*"):
        # What a killed copy left.
        part.unlink()
    for folder in FOLDERS:
        entries = TARGET.joinpath(folder).iterdir()
        units = [path for path in entries if path.name.partition(".")[0].rpartition("-")[2] in hashes]
        copy(units, base / folder)
    os.utime(base)
    for old in sorted(bases(), key=lambda base: base.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def restore():
    units = TARGET / ".fingerprint"
    if units.exists() and len(list(units.iterdir())) > NEW_UNITS:
        return
    compiler, name = names()
    fitting = [base for base in bases() if base.name.startswith(f"{compiler}-")]
    # The one of this digest, else the newest.
    fitting.sort(key=lambda base: (base.name == name, base.stat().st_mtime))
    for base in fitting[-1:]:
        for folder in FOLDERS:
            copy(list((base / folder).iterdir()), TARGET / folder)
        print(f"base: dependencies from {base}")


def main():
    if sys.argv[1:] not in (["save"], ["restore"]):
        sys.exit(__doc__.partition("\n")[0])
    BASES.mkdir(parents=True, exist_ok=True)
    with open(BASES / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            {"save": save, "restore": restore}[sys.argv[1]]()
        except (OSError, shutil.Error) as error:
            # A build works without a base.
            print(f"base: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
