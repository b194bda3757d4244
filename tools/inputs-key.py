#!/usr/bin/env python3
"""Digest of the inputs of wasm modules, for the caches of filters.sh, components.sh, kit.sh.

`inputs-key.py PACKAGE...` prints a digest of all that decides a module's bytes: the files of each
local package that it is built of, the lock file, the scripts of builds, cargo's configuration files
and the compiler. Packages of a registry are in the lock file by their digests. `--with PACKAGE` adds
the sources of a program that takes part in the build.

`inputs-key.py PACKAGE... --covers DEP_INFO...` fails if a build read a local file that the digest
leaves out. DEP_INFO are the files of that name that cargo writes beside modules.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

# Folders of a package that its library does not use.
UNUSED = {"tests", "examples", "vectors", "benches", "target"}
SCRIPTS = ["components.sh", "filters.sh", "inputs-key.py", "kept.sh", "kit.sh", "remap.sh", "trim-filter.py"]
# Other files that handlers are built of, if they are there.
SETTINGS = ["wit/guest/profile.toml", "wit/handler.wit", "wit/kit.wit"]


def output(*command):
    """Runs a command and returns its standard output."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def read_metadata(target):
    """Cargo's description of the workspace, for one target."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={target}"]
    return json.loads(output(*command))


def local_folders(metadata, packages):
    """The folders of the local packages that these packages depend on."""
    by_id = {package["id"]: package for package in metadata["packages"]}
    needs = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    left = [id for id in metadata["workspace_members"] if by_id[id]["name"] in packages]
    if len(left) != len(packages):
        sys.exit(f"inputs-key: not all of {', '.join(packages)} are packages of this tree")
    found = set()
    while left:
        package = left.pop()
        if package not in found:
            found.add(package)
            for need in needs[package]["deps"]:
                # Dependencies of tests alone are not part of a build.
                if any(kind["kind"] != "dev" for kind in need["dep_kinds"]):
                    left.append(need["pkg"])
    local = [by_id[package] for package in found if by_id[package]["source"] is None]
    return sorted(Path(package["manifest_path"]).parent for package in local)


def sources(folder):
    """The files of a package that the build of its library may read."""
    for path, folders, files in os.walk(folder):
        if Path(path) == folder:
            folders[:] = [name for name in folders if name not in UNUSED]
        yield from (Path(path) / name for name in files)


def configuration():
    """The files that cargo reads settings from."""
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    folders = [folder / ".cargo" for folder in [Path.cwd(), *Path.cwd().parents]] + [home]
    files = [folder / name for folder in folders for name in ("config", "config.toml")]
    return [file for file in files if file.is_file()]


def key(metadata, packages):
    """The digest: of files in the repository with their names, of other files by content alone."""
    top, digest = Path.cwd(), hashlib.sha256()

    def add(name, content):
        digest.update(b"%d %s %d " % (len(name), name, len(content)) + content)

    files = [file for folder in local_folders(metadata, packages) for file in sources(folder)]
    files += [top / name for name in ("Cargo.toml", "Cargo.lock", "rust-toolchain.toml")]
    files += [top / "tools" / name for name in SCRIPTS]
    files += [top / name for name in SETTINGS if (top / name).is_file()]
    for file in sorted(files):
        add(os.fsencode(os.path.relpath(file, top)), file.read_bytes())
    for file in configuration():
        add(b"configuration", file.read_bytes())
    add(b"packages", " ".join(packages).encode())
    add(b"compiler", output("rustc", "-vV"))
    return digest.hexdigest()


def left_out(metadata, packages, dep_infos):
    """Local files that a build has read and that the digest does not cover."""
    known = {os.path.abspath(file) for folder in local_folders(metadata, packages) for file in sources(folder)}
    known |= {os.path.abspath(name) for name in SETTINGS}
    found = set()
    for dep_info in dep_infos:
        _, _, names = dep_info.read_text().partition(": ")
        # A space in a name is escaped with a backslash.
        for name in names.splitlines()[0].replace("\\ ", "\0").split():
            path = Path(os.path.abspath(name.replace("\0", " ")))
            # A build script may name a whole folder.
            found |= set(map(str, sources(path) if path.is_dir() else [path]))
    # What a build script wrote there is made of the package's own files.
    built = os.path.abspath(os.environ.get("CARGO_TARGET_DIR", "target")) + os.sep
    return sorted(file for file in found - known if not file.startswith(built))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("packages", nargs="+")
    parser.add_argument("--target", default="wasm32-wasip1")
    parser.add_argument("--with", dest="program", action="append", default=[])
    parser.add_argument("--covers", nargs="+", type=Path)
    arguments = parser.parse_args()
    metadata = read_metadata(arguments.target)
    packages = arguments.packages + arguments.program
    if arguments.covers:
        if missing := left_out(metadata, packages, arguments.covers):
            sys.exit(f"inputs-key: built of {', '.join(missing)}, which the digest leaves out")
    else:
        print(key(metadata, packages))


if __name__ == "__main__":
    main()
