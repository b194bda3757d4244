"""Verifies signatures by Sigstore identities that are made offline, right ones and wrong ones.

    python tests/artifact/identities.py TENSORGATE     checks `model verify`
    python tests/artifact/identities.py --write FILE   writes the cases for the unit tests

Authority, logs and signers are those of `identity_services.py`. Each wrong signature is wrong in
one thing, and must be rejected for it. The Python packages `model-signing` and `sigstore` must
accept the right ones, too; where they accept a wrong one, the output says so. Exits with 1 if
`model verify` or a right signature is not as expected.
"""

import base64
import json
import pathlib
import subprocess
import sys
import tempfile

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from model_signing import hashing, verifying

from identity_services import (
    ISSUER, LIFETIME, LOGGED_S, MAIL, OLD_PROVIDER, PROVIDER, Authority, Log, Services, Signing,
    ecdsa, encode, new_key, pae,
)

DATA = pathlib.Path(__file__).resolve().parents[2] / "artifact/tests/data/oms"
FILES = {"a-b": b"hello", "a/b": b"y", "empty": b""}
URI = "https://example.com/repository/.github/workflows/release.yml@refs/tags/v1"
SECONDS = 60


def payload():
    """The signed statement about the model with `FILES`."""
    bundle = json.loads((DATA / "written/p256.sig").read_text())
    return base64.b64decode(bundle["dsseEnvelope"]["payload"])


class Cases:
    """Bundles by name, each with the identity to ask for and a part of the reason to reject it, or
    `None` if it is right."""

    def __init__(self):
        self.services = Services()
        self.payload = payload()
        self.list = {}
        self.right()
        self.certificates()
        self.logs()
        self.entries()

    def signing(self, **changes):
        """A signature that is right but for the changes."""
        return Signing(self.services, self.payload, **changes)

    def add(self, name, reason, bundle=None, identity=MAIL, **changes):
        """Adds a case."""
        bundle = bundle or self.signing(**changes).bundle()
        self.list[name] = {"identity": identity, "reason": reason, "bundle": bundle}

    def edited(self, name, reason, edit):
        """Adds a right bundle whose entry is edited afterwards."""
        bundle = self.signing().bundle()
        edit(bundle["verificationMaterial"]["tlogEntries"][0])
        self.add(name, reason, bundle)

    def right(self):
        """Signatures to accept."""
        self.add("mail", None)
        self.add("uri", None, identity=URI, names=[x509.UniformResourceIdentifier(URI)])
        self.add("old provider", None, provider_ids=(OLD_PROVIDER,))
        self.add("first second", None, logged_s=LOGGED_S - 5)
        self.add("last second", None, logged_s=LOGGED_S - 5 + int(LIFETIME.total_seconds()))

    def certificates(self):
        """Certificates that prove another identity, or none."""
        other = "other@example.com"
        self.add("other identity", "is signed by", names=[x509.RFC822Name(other)])
        self.add("longer identity", "is signed by", names=[x509.RFC822Name(MAIL + ".net")])
        names = [x509.RFC822Name(MAIL), x509.RFC822Name(other)]
        self.add("two names", "exactly one name", names=names)
        self.add("host name", "exactly one name", names=[x509.DNSName("example.com")])
        self.add("other provider", "vouches for the signer", provider="https://example.net")
        self.add("no provider", "does not name the provider", provider_ids=())
        self.add("other authority", "no chain of certificates", authority=Authority())
        self.add("expired", "is valid from", logged_s=LOGGED_S + 600)
        self.add("not valid yet", "is valid from", logged_s=LOGGED_S - 6)
        usages = (ExtendedKeyUsageOID.SERVER_AUTH,)
        self.add("other usage", "may not sign models", usages=usages)
        self.add("authority", "is one of an authority", is_authority=True, signs_certificates=True)
        self.add("issuer", "is one of an authority", signs_certificates=True)
        self.add("authority by name only", "is one of an authority", is_authority=True)
        self.add("no timestamp", "no list of signed", certificate_timestamp="none")
        self.add("other timestamp", "is not signed by the certificate log",
                 certificate_timestamp="other")
        self.add("other certificate log", "none of the signing certificate's timestamps",
                 certificate_log=Log())

    def logs(self):
        """Entries that the trusted log does not have, or not at this time."""
        self.add("other log", "has no log with the ID", entry_log=Log())
        self.add("other promise key", "log's promise", promise_log=Log())
        self.add("other checkpoint key", "checkpoint is not signed", checkpoint_log=Log())

        def time(entry):
            entry["integratedTime"] = str(LOGGED_S + 1)

        def index(entry):
            entry["logIndex"] = "5"

        def sibling(entry):
            hashes = entry["inclusionProof"]["hashes"]
            hashes[0], hashes[1] = hashes[1], hashes[0]

        def tree_index(entry):
            entry["inclusionProof"]["logIndex"] = "3"

        def fewer(entry):
            del entry["inclusionProof"]["hashes"][-1]

        def other_tree(entry):
            other = self.signing().entry()["inclusionProof"]["checkpoint"]
            entry["inclusionProof"]["checkpoint"] = other

        def no_promise(entry):
            del entry["inclusionPromise"]

        def no_proof(entry):
            del entry["inclusionProof"]

        def no_checkpoint(entry):
            del entry["inclusionProof"]["checkpoint"]

        self.edited("changed time", "log's promise", time)
        self.edited("changed index", "log's promise", index)
        self.edited("changed siblings", "inclusion proof does not lead", sibling)
        self.edited("other place in the tree", "inclusion proof does not lead", tree_index)
        self.edited("missing sibling", "inclusion proof does not lead", fewer)
        self.edited("checkpoint of another tree", "about another tree", other_tree)
        self.edited("no promise", "inclusion promise is missing", no_promise)
        self.edited("no proof", "inclusion proof is missing", no_proof)
        self.edited("no checkpoint", "checkpoint is missing", no_checkpoint)

    def entries(self):
        """Entries about another signature, of other kinds, and too many or too few."""
        other = self.signing()
        self.add("entry of another payload", "about another payload", logged_payload=b"{}")
        self.add("entry of another signature", "about another signature",
                 logged_signature=other.signature)
        self.add("entry of another certificate", "about another certificate",
                 logged_certificate=other.certificate)
        self.add("other signer", "signature does not match",
                 signature=ecdsa(new_key(), pae(self.payload)))
        self.add("other payload", "signature does not match", signed_payload=b"{}")
        self.add("in-toto entry", 'is a "intoto 0.0.2"', kind=("intoto", "0.0.2"))
        self.add("entry of Rekor v2", 'is a "hashedrekord 0.0.2"',
                 kind=("hashedrekord", "0.0.2"))
        whole = self.signing().bundle()
        whole["verificationMaterial"]["tlogEntries"] = [other.entry()]
        self.add("entry of another bundle", "about another signature", whole)
        for name, count in {"no entry": 0, "two entries": 2}.items():
            bundle = other.bundle()
            bundle["verificationMaterial"]["tlogEntries"] *= count
            self.add(name, "exactly one entry", bundle)
        bundle = other.bundle()
        signed = bytearray(self.payload)
        signed[-2] ^= 1
        bundle["dsseEnvelope"]["payload"] = encode(signed)
        self.add("changed payload", "about another payload", bundle)


def verdict(command, model, folder, case):
    """Why `model verify` rejects a case, or `None`."""
    (folder / "model.sig").write_text(json.dumps(case["bundle"]))
    run = subprocess.run(
        [command, "model", "verify", model, "--signature", folder / "model.sig",
         "--trusted-root", folder / "root.json", "--identity", case["identity"],
         "--identity-provider", ISSUER],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )
    if run.returncode == 0:
        return None
    return run.stderr if run.returncode == 1 else f"exit code {run.returncode}: {run.stderr}"


def reference(model, folder, case):
    """Why `model-signing` rejects a case, or `None`."""
    config = verifying.Config().use_sigstore_verifier(
        identity=case["identity"], oidc_issuer=ISSUER, trust_config=folder / "trust.json",
    )
    (folder / "model.sig").write_text(json.dumps(case["bundle"]))
    try:
        config.set_hashing_config(hashing.Config()).verify(model, folder / "model.sig")
    except Exception as error:
        return str(error) or repr(error)
    return None


def trust_config(root):
    """The trusted root in the form that `model-signing` reads."""
    signing = {
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "rekorTlogConfig": {"selector": "ANY"},
        "tsaConfig": {"selector": "ANY"},
    }
    return {
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": root,
        "signingConfig": signing,
    }


def check(command):
    """Checks all cases. Returns whether all are as expected."""
    cases = Cases()
    is_right = True
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model = folder / "model"
        for path, content in FILES.items():
            (model / path).parent.mkdir(parents=True, exist_ok=True)
            (model / path).write_bytes(content)
        root = cases.services.trusted_root()
        (folder / "root.json").write_text(json.dumps(root))
        (folder / "trust.json").write_text(json.dumps(trust_config(root)))
        for name, case in cases.list.items():
            expected = case["reason"]
            found = verdict(command, model, folder, case) if command else expected
            is_same = found is None if expected is None else expected in (found or "")
            other = reference(model, folder, case)
            if expected is None and other is not None:
                is_same = False
            note = "" if (expected is None) == (other is None) else " (the reference differs)"
            print(f"{'ok  ' if is_same else 'FAIL'} {name}{note}")
            if not is_same:
                print(f"  expected {expected}, found {found}; the reference: {other}")
            is_right &= is_same
    return is_right


def main():
    """Checks, or writes the cases."""
    match sys.argv[1:]:
        case ["--write", file]:
            cases = Cases()
            content = {"trusted_root": cases.services.trusted_root(), "provider": ISSUER,
                       "cases": cases.list}
            pathlib.Path(file).write_text(json.dumps(content) + "\n")
        case [command]:
            sys.exit(0 if check(command) else 1)
        case _:
            print(__doc__, file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
