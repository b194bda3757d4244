"""Signs models with `model sign` and the Python package `model-signing`, and verifies each
signature with the other.

    python tests/artifact/signing.py TENSORGATE

The package is pinned in `tools/requirements-signing.txt`. Each signature must be verified, and must
be rejected once a file is changed, added or removed. Exits with 1 if one is not. Keys and
certificates are those for tests in `artifact/tests/data/oms`, which end in 2036.
"""

import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

from model_signing import hashing, signing, verifying

DATA = pathlib.Path(__file__).resolve().parents[2] / "artifact/tests/data/oms"
CHAIN = DATA / "chains/valid.pem"
ROOT = DATA / "chains/root.pem"
SECONDS = 300
SHARD_BYTES = 1000
SEED = 38


def plain(model):
    """Names that sort in another way by components than as texts, and an empty file."""
    for path, content in {"a-b": b"hello", "a/b": b"y", "a.b": b"z", "empty": b""}.items():
        file = model / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def odd_names(model):
    """Names with spaces, colons, quotes, patterns and letters beyond ASCII."""
    names = ["a b", "c:0:1", 'd"e', "f\\g", "ä", "模型", "h*", ".hidden", "new\nline", "😀"]
    for name in names:
        (model / name).write_bytes(name.encode())


def many(model):
    """Several hundred files of random lengths, in folders within folders."""
    source = random.Random(SEED)
    for number in range(400):
        parts = [f"{source.randrange(4)}" for _ in range(source.randrange(5))]
        folder = model.joinpath(*("folder" + part for part in parts))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file-{number}").write_bytes(source.randbytes(source.randrange(5000)))


def linked(model):
    """Links to a file. The package leaves out what is in a folder behind a link."""
    plain(model)
    (model / "link").symlink_to("a/b")
    (model / "a/link").symlink_to("../a-b")


def with_cache(model):
    """A folder that is left out, and files of git."""
    plain(model)
    (model / "cache/below").mkdir(parents=True)
    (model / "cache/below/x").write_bytes(b"1")
    (model / ".gitignore").write_bytes(b"cache\n")


def single(model):
    """A model that is a file."""
    model.rmdir()
    model.write_bytes(b"weights")


def change(model):
    """Changes a byte of a signed file."""
    file = model if model.is_file() else first(model)
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


def add(model):
    """Adds a file."""
    (model / "added").write_bytes(b"x")


def remove(model):
    """Removes a signed file."""
    first(model).unlink()


def first(model):
    """The first file at the top of a model that has content."""
    files = (it for it in sorted(model.iterdir()) if it.is_file() and not it.is_symlink())
    return next(it for it in files if it.stat().st_size > 0 and it.name != ".gitignore")


class Method:
    """A way to sign: a key, or a key with its certificates."""

    def __init__(self, name, key, chain=None, public=None):
        self.name = name
        self.key = key
        self.chain = chain
        self.public = DATA / f"keys/{public or key}.pub"

    def private(self, folder):
        """A copy of the private key that only its owner may read."""
        copy = folder / f"{self.key}.pem"
        shutil.copy(DATA / f"keys/{self.key}.pem", copy)
        copy.chmod(0o600)
        return copy

    def sign_arguments(self):
        """Arguments of `model sign` beside the key."""
        return ["--certificate-chain", self.chain] if self.chain else []

    def verify_arguments(self):
        """Arguments of `model verify`."""
        if self.chain:
            return ["--certificate-chain", ROOT]
        return ["--key", self.public]

    def signer(self, private):
        """The signer of the package."""
        config = signing.Config()
        if not self.chain:
            return config.use_elliptic_key_signer(private_key=private)
        return config.use_certificate_signer(
            private_key=private,
            signing_certificate=self.chain,
            certificate_chain=[self.chain],
        )

    def verifier(self):
        """The verifier of the package."""
        config = verifying.Config()
        if self.chain:
            return config.use_certificate_verifier(certificate_chain=[ROOT])
        return config.use_elliptic_key_verifier(public_key=self.public)


class Case:
    """A model and the rules by which it is signed."""

    def __init__(self, make, shards=False, links=False, ignored=(), options=()):
        self.options = options
        self.make = make
        self.shards = shards
        self.links = links
        self.ignored = ignored

    def directions(self, command, package):
        """Who signs and who verifies. The package writes another name of the algorithm for shards
        than the specification has, and rejects that of the specification."""
        return [(package, command)] if self.shards else [(command, package), (package, command)]

    @property
    def name(self):
        """The name in the table."""
        return self.make.__name__ + (", shards" if self.shards else "")

    def arguments(self):
        """Arguments of `model sign`."""
        arguments = ["--shard-bytes", str(SHARD_BYTES)] if self.shards else []
        arguments += self.options
        arguments += ["--follow-links"] if self.links else []
        for path in self.ignored:
            arguments += ["--ignore-path", path]
        return arguments

    def hashing(self, model, signature):
        """The configuration of the package."""
        config = hashing.Config()
        ignored = [*(model / path for path in self.ignored), signature]
        config.set_ignored_paths(paths=ignored, ignore_git_paths=True)
        config.set_allow_symlinks(self.links)
        if self.shards:
            return config.use_shard_serialization(shard_size=SHARD_BYTES)
        return config.use_file_serialization()


METHODS = [
    Method("P-256", "p256"),
    Method("P-384", "p384"),
    Method("P-521", "p521"),
    Method("P-256, SEC 1", "p256-sec1", public="p256"),
    Method("certificate", "p256", CHAIN),
]
CASES = [
    Case(plain),
    Case(plain, shards=True),
    Case(odd_names),
    Case(many),
    Case(many, shards=True),
    Case(linked, links=True),
    Case(with_cache, ignored=["cache"]),
    Case(single, options=["--subject", "another name"]),
]


class Command:
    """The command."""

    name = "tensorgate"

    def __init__(self, program):
        self.program = program

    def run(self, *arguments):
        """Runs a verb. Returns the exit code and what it printed."""
        command = [self.program, "model", *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def sign(self, case, method, model, private, signature):
        """Signs a model."""
        more = [*method.sign_arguments(), *case.arguments(), "--signature", signature]
        code, text = self.run("sign", model, "--private-key", private, *more)
        if code != 0:
            raise SystemExit(f"{case.name}, {method.name}: not signed: {text}")

    def verify(self, _case, method, model, signature):
        """Whether a model is verified, and why it is not."""
        more = [*method.verify_arguments(), "--signature", signature]
        code, text = self.run("verify", model, *more)
        if code not in (0, 1):
            raise SystemExit(f"{method.name}: exit code {code}: {text}")
        return code == 0, text


class Package:
    """The Python package."""

    name = "model-signing"

    def sign(self, case, method, model, private, signature):
        """Signs a model."""
        config = method.signer(private)
        config.set_hashing_config(case.hashing(model, signature)).sign(model, signature)

    def verify(self, case, method, model, signature):
        """Whether a model is verified, and why it is not."""
        config = method.verifier()
        if case.links or case.shards:
            # The package cannot apply these rules as it reads them from a signature.
            config.set_hashing_config(case.hashing(model, signature))
        try:
            config.verify(model, signature)
        except Exception as error:  # pylint: disable=broad-exception-caught
            return False, f"{type(error).__name__}: {error}"
        return True, ""


def check(signer, verifier, case, method):
    """The faults of one direction."""
    faults = []
    # Nothing can be added to a file.
    spoils = (None, change) if case.make is single else (None, change, add, remove)
    for spoil in spoils:
        with tempfile.TemporaryDirectory(prefix="signing-") as name:
            folder = pathlib.Path(name)
            model = folder / "model"
            model.mkdir()
            case.make(model)
            signature = folder / "model.sig"
            signer.sign(case, method, model, method.private(folder), signature)
            if spoil:
                spoil(model)
            is_verified, text = verifier.verify(case, method, model, signature)
        if is_verified != (spoil is None):
            what = spoil.__name__ if spoil else "as signed"
            faults.append(f"{what}: {text.strip() or 'verified'}")
    return faults


def main():
    """Prints the table."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    command, package = Command(os.path.abspath(sys.argv[1])), Package()
    count, wrong = 0, 0
    for method in METHODS:
        for case in CASES:
            for signer, verifier in case.directions(command, package):
                faults = check(signer, verifier, case, method)
                count += 1
                wrong += bool(faults)
                mark = "WRONG" if faults else "     "
                direction = f"{signer.name} to {verifier.name}"
                print(f"{mark}  {method.name:12}  {case.name:16}  {direction}")
                for fault in faults:
                    print(f"         {fault}")
    print(f"{count} directions, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
