"""Verifies signatures by Sigstore identities that are made offline, right ones and wrong ones.

    python tests/artifact/identities.py TENSORGATE     checks `model verify`
    python tests/artifact/identities.py --write FILE   writes the cases for the unit tests
    python tests/artifact/identities.py --conformance DIR FILE
        writes the bundles of Rekor v2 from sigstore-conformance, `test/assets/bundle-verify`

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
    BUNDLE_TYPE, PAYLOAD_TYPE,
    ISSUER, LIFETIME, LOGGED_S, MAIL, OLD_PROVIDER, PROVIDER, Authority, Log, Signing, ecdsa,
    encode, new_key, pae,
)
from identity_stamps import Log2, Signing2, StampAuthority, StampedServices, stamped

DATA = pathlib.Path(__file__).resolve().parents[2] / "artifact/tests/data/oms"
FILES = {"a-b": b"hello", "a/b": b"y", "empty": b""}
URI = "https://example.com/repository/.github/workflows/release.yml@refs/tags/v1"
SECONDS = 60
# Of sigstore 4.5.1, which reads no such entry.
REFERENCE_REJECTS = {"envelope in Rekor v2"}
# Bundles of sigstore-conformance with an entry of Rekor v2 or a time stamp. Others of their kind
# differ in nothing that is read here.
CONFORMANCE = [
    "bundle-with-sct-with-extensions", "rekor2-checkpoint-missing-log-signature_fail",
    "rekor2-checkpoint-missing-origin_fail", "rekor2-checkpoint-no-matching-signature_fail",
    "rekor2-checkpoint-origin-not-first", "rekor2-checkpoint-two-sigs-from-origin",
    "rekor2-dsse-happy-path", "rekor2-dsse-invalid-sig_fail", "rekor2-dsse-mismatch-envelope_fail",
    "rekor2-dsse-mismatch-sig_fail", "rekor2-happy-path", "rekor2-no-inclusion-proof_fail",
    "rekor2-no-timestamp_fail", "rekor2-timestamp-outside-trust-root-tsa-validity_fail",
    "rekor2-timestamp-outside-tsa-cert-validity_fail", "rekor2-timestamp-payload-mismatch_fail",
    "rekor2-timestamp-untrusted-tsa-with-embedded-cert_fail",
    "rekor2-timestamp-with-embedded-cert", "rekor2-timestamp-with-expired-cert-chain",
    "rekor2-timestamp-with-incorrect-time_fail", "trust-root-tsa-validity-end-inclusive",
]


def payload():
    """The signed statement about the model with `FILES`."""
    bundle = json.loads((DATA / "written/p256.sig").read_text())
    return base64.b64decode(bundle["dsseEnvelope"]["payload"])


class Cases:
    """Bundles by name, each with the identity to ask for and a part of the reason to reject it, or
    `None` if it is right."""

    def __init__(self):
        self.services = StampedServices()
        self.payload = payload()
        self.list = {}
        self.right()
        self.certificates()
        self.logs()
        self.entries()
        self.entries_without_time()
        self.stamps()

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
        self.add("entry of another version", 'is a "hashedrekord 0.0.1"',
                 kind=("hashedrekord", "0.0.1"))
        self.add("time and promise in Rekor v2", "has a time, which such an entry does not have",
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

    def add2(self, name, reason, **changes):
        """Adds a case with an entry of Rekor v2."""
        self.add(name, reason, Signing2(self.services, self.payload, **changes).bundle())

    def entries_without_time(self):
        """Entries of Rekor v2, right ones and wrong ones."""
        self.add2("Rekor v2", None)
        self.add2("envelope in Rekor v2", None, kind=("dsse", "0.0.2"))
        self.add2("witness in Rekor v2", None, has_witness=True)
        other = self.signing()
        self.add2("Rekor v2, other log", "has no log with the ID", log2=Log2("other.example.com"))
        self.add2("Rekor v2, other origin", "checkpoint is about \"other.example.com\"",
                  checkpoint_log2=Log2("other.example.com"))
        self.add2("Rekor v2, other checkpoint key", "checkpoint is not signed",
                  checkpoint_log2=Log2())
        self.add2("Rekor v2, time", "has a time", more={"integratedTime": str(LOGGED_S)})
        promise = {"inclusionPromise": {"signedEntryTimestamp": encode(b"x")}}
        self.add2("Rekor v2, promise", "has a promise", more=promise)
        for kind in (("hashedrekord", "0.0.2"), ("dsse", "0.0.2")):
            text = f"{kind[0]} in Rekor v2, other"
            self.add2(f"{text} payload", "about another payload", kind=kind, logged_payload=b"{}")
            self.add2(f"{text} signature", "about another signature", kind=kind,
                      logged_signature=other.signature)
            self.add2(f"{text} certificate", "about another certificate", kind=kind,
                      logged_certificate=other.certificate)
        claimed = {"kindVersion": {"kind": "dsse", "version": "0.0.2"}}
        self.add2("Rekor v2, other kind", "about another kind", more=claimed)

    def stamps(self):
        """Time stamps, right ones and wrong ones."""
        services = self.services

        def add(name, reason, *stamps):
            """Adds a case of Rekor v2 with these time stamps over a signature."""
            signing = Signing2(services, self.payload)
            signing.stamps = [stamp(signing.signature) for stamp in stamps]
            self.add(name, reason, signing.bundle())

        def at(time_s, authority=services.stamps, **changes):
            return lambda signature: authority.stamp(signature, time_s, **changes)

        right, unknown = at(LOGGED_S), at(LOGGED_S, StampAuthority())
        late = LOGGED_S + int(LIFETIME.total_seconds())
        self.add2("no time stamp", "the bundle has no time stamp", stamps=[])
        add("two time stamps", None, at(LOGGED_S + 1), right)
        add("unknown and right time stamp", None, unknown, right)
        add("time stamp of an unknown authority", "of no time stamp authority", unknown)
        add("late time stamp", "is valid from", at(late))
        add("early time stamp", "is valid from", at(LOGGED_S - 10))
        add("right and late time stamp", "is valid from", right, at(late))
        add("time stamp of another signature", "is about another signature",
            lambda _: services.stamps.stamp(b"other"))
        add("time stamp by another key", "is not signed by the authority",
            at(LOGGED_S, key=new_key()))
        add("changed time stamp", "another content", at(LOGGED_S, changes_content=True))
        add("time stamp before its authority", "may not stamp it",
            at(LOGGED_S, services.later_stamps))
        add("time stamp of a code signer", "may not stamp times",
            at(LOGGED_S, services.code_stamps))
        add("cut time stamp", "is not a response", lambda signature: right(signature)[:-1])
        for text, reason, stamp in [
            ("right", None, right), ("unknown", None, unknown), ("late", "is valid from", at(late)),
        ]:
            signing = self.signing()
            bundle = stamped(signing.bundle(), [stamp(signing.signature)])
            self.add(f"log and {text} time stamp", reason, bundle)


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
            if expected is None and other is not None and name not in REFERENCE_REJECTS:
                is_same = False
            note = "" if (expected is None) == (other is None) else " (the reference differs)"
            print(f"{'ok  ' if is_same else 'FAIL'} {name}{note}")
            if not is_same:
                print(f"  expected {expected}, found {found}; the reference: {other}")
            is_right &= is_same
    return is_right


def conformance(folder):
    """Bundles of sigstore-conformance. What signs a file's digest gets an empty envelope, because
    only the statements of the services are checked then."""
    roots, cases = {}, {}
    for name in CONFORMANCE:
        root = json.loads((folder / name / "trusted_root.json").read_text())
        text = json.dumps(root, sort_keys=True)
        number = next((key for key, known in roots.items() if known == text), str(len(roots)))
        roots[number] = text
        bundle = json.loads((folder / name / "bundle.sigstore.json").read_text())
        bundle["mediaType"] = BUNDLE_TYPE
        is_envelope = "dsseEnvelope" in bundle
        if not is_envelope:
            signature = bundle.pop("messageSignature")["signature"]
            bundle["dsseEnvelope"] = {
                "payload": encode(b"{}"), "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": signature}],
            }
        cases[name] = {"root": number, "is_envelope": is_envelope, "bundle": bundle}
    roots = {key: json.loads(text) for key, text in roots.items()}
    return {"roots": roots, "cases": cases}


def main():
    """Checks, or writes the cases."""
    match sys.argv[1:]:
        case ["--write", file]:
            cases = Cases()
            content = {"trusted_root": cases.services.trusted_root(), "provider": ISSUER,
                       "cases": cases.list}
            pathlib.Path(file).write_text(json.dumps(content) + "\n")
        case ["--conformance", folder, file]:
            text = json.dumps(conformance(pathlib.Path(folder)), separators=(",", ":"))
            pathlib.Path(file).write_text(text + "\n")
        case [command]:
            sys.exit(0 if check(command) else 1)
        case _:
            print(__doc__, file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
