"""Time stamp authorities and a log of Rekor v2 for tests, beside those of `identity_services.py`.

A log of Rekor v2 signs no time, so a bundle has a time stamp (RFC 3161) over the signature.
"""

import dataclasses
import datetime
import hashlib
import json

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from identity_services import (
    END, LOGGED_S, START, Services, Signing, ecdsa, encode, leaf_hash, name, new_key, pae, spki,
    tree, usage,
)

ORIGIN = "log2026-1.rekor.example.com"
POLICY = "1.3.6.1.4.1.57264.2"
SHA256 = {"algorithm": "sha256"}


class StampAuthority:
    """An authority that stamps times, with its root."""

    def __init__(self, usages=(ExtendedKeyUsageOID.TIME_STAMPING,), critical=True, start=START):
        self.root_key, self.key = new_key(), new_key()
        builder = self.builder("stamp root", self.root_key, START)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        builder = builder.add_extension(usage(key_cert_sign=True), True)
        self.root = builder.sign(self.root_key, hashes.SHA256())
        builder = self.builder("stamps", self.key, start)
        builder = builder.add_extension(usage(digital_signature=True), True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical)
        self.leaf = builder.sign(self.root_key, hashes.SHA256())

    def builder(self, subject, key, start):
        """A certificate below the root."""
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject)).issuer_name(name("stamp root"))
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(start).not_valid_after(END)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.root_key.public_key()),
                False,
            )
        )

    def trusted(self):
        """What a trusted root says of it."""
        form = serialization.Encoding.DER
        chain = [{"rawBytes": encode(it.public_bytes(form))} for it in (self.leaf, self.root)]
        return {
            "subject": {"organization": "example.com", "commonName": "stamps"},
            "uri": "https://stamps.example.com",
            "certChain": {"certificates": chain},
            "validFor": {"start": START.isoformat().replace("+00:00", "Z")},
        }

    def stamp(self, signature, time_s=LOGGED_S, key=None, changes_content=False):
        """The response with a time stamp over a signature."""
        info = tsp.TSTInfo({
            "version": "v1",
            "policy": POLICY,
            "message_imprint": {
                "hash_algorithm": SHA256,
                "hashed_message": hashlib.sha256(signature).digest(),
            },
            "serial_number": 7,
            "gen_time": datetime.datetime.fromtimestamp(time_s, datetime.timezone.utc),
            "nonce": 5,
        })
        content = info.dump()
        certificate = asn1_x509.Certificate.load(
            self.leaf.public_bytes(serialization.Encoding.DER)
        )
        signed = cms.CMSAttributes([
            {"type": "content_type", "values": ["tst_info"]},
            {"type": "message_digest", "values": [hashlib.sha256(content).digest()]},
            {"type": "signing_certificate_v2", "values": [{
                "certs": [{"cert_hash": hashlib.sha256(certificate.dump()).digest()}],
            }]},
        ])
        if changes_content:
            info["serial_number"] = 8
        signer = cms.SignerInfo({
            "version": "v1",
            "sid": cms.SignerIdentifier({"issuer_and_serial_number": {
                "issuer": certificate.issuer, "serial_number": certificate.serial_number,
            }}),
            "digest_algorithm": algos.DigestAlgorithm(SHA256),
            "signed_attrs": signed,
            "signature_algorithm": {"algorithm": "sha256_ecdsa"},
            "signature": ecdsa(key or self.key, signed.dump()),
        })
        token = cms.ContentInfo({
            "content_type": "signed_data",
            "content": cms.SignedData({
                "version": "v3",
                "digest_algorithms": [SHA256],
                "encap_content_info": {
                    "content_type": "tst_info",
                    "content": core.ParsableOctetString(info.dump(force=True)),
                },
                "certificates": [certificate],
                "signer_infos": [signer],
            }),
        })
        response = {"status": {"status": "granted"}, "time_stamp_token": token}
        return tsp.TimeStampResp(response).dump()


class Log2:
    """A log of Rekor v2 and its Ed25519 key."""

    def __init__(self, origin=ORIGIN):
        self.origin = origin
        self.key = ed25519.Ed25519PrivateKey.generate()
        raw = self.key.public_key().public_bytes_raw()
        self.id = hashlib.sha256(origin.encode() + b"\n\1" + raw).digest()

    def line(self, text):
        """Its signature under a note."""
        signature = encode(self.id[:4] + self.key.sign(text.encode()))
        return f"\u2014 {self.origin} {signature}\n"


class StampedServices(Services):
    """All services, with a log of Rekor v2 and a time stamp authority."""

    def __init__(self):
        super().__init__()
        self.log2 = Log2()
        self.stamps = StampAuthority()
        later = START + datetime.timedelta(days=300)
        self.later_stamps = StampAuthority(start=later)
        self.code_stamps = StampAuthority(usages=(ExtendedKeyUsageOID.CODE_SIGNING,))

    def trusted_root(self):
        """What a verifier trusts."""
        root = super().trusted_root()
        valid = root["tlogs"][0]["publicKey"]["validFor"]
        root["tlogs"].append({
            "baseUrl": f"https://{self.log2.origin}",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": encode(spki(self.log2.key)),
                "keyDetails": "PKIX_ED25519",
                "validFor": valid,
            },
            "logId": {"keyId": encode(self.log2.id)},
        })
        authorities = (self.stamps, self.later_stamps, self.code_stamps)
        root["timestampAuthorities"] = [it.trusted() for it in authorities]
        return root


@dataclasses.dataclass
class Signing2(Signing):
    """A signature that a log of Rekor v2 has, with a time stamp."""

    kind: tuple = ("hashedrekord", "0.0.2")
    log2: Log2 = None
    checkpoint_log2: Log2 = None
    stamps: list = None
    has_witness: bool = False
    more: dict = dataclasses.field(default_factory=dict)

    def body(self):
        """What the log takes in."""
        payload = self.payload if self.logged_payload is None else self.logged_payload
        signature = {
            "content": encode(self.logged_signature or self.signature),
            "verifier": {
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "x509Certificate": {
                    "rawBytes": encode(self.logged_certificate or self.certificate),
                },
            },
        }

        def digest(content):
            return {"algorithm": "SHA2_256", "digest": encode(hashlib.sha256(content).digest())}

        if self.kind[0] == "dsse":
            spec = {"dsseV002": {"payloadHash": digest(payload), "signatures": [signature]}}
        else:
            spec = {"hashedRekordV002": {"data": digest(pae(payload)), "signature": signature}}
        entry = {"apiVersion": self.kind[1], "kind": self.kind[0], "spec": spec}
        return json.dumps(entry, separators=(",", ":"), sort_keys=True).encode()

    def entry(self):
        """The log's entry with its proof."""
        body = self.body()
        leaves = [leaf_hash(b"entry %d" % number) for number in range(7)]
        leaves[4] = leaf_hash(body)
        root, paths = tree(leaves)
        log = self.log2 or self.services.log2
        signer = self.checkpoint_log2 or log
        text = f"{signer.origin}\n{len(leaves)}\n{encode(root)}\n"
        lines = Log2("witness.example.com").line(text) if self.has_witness else ""
        return {
            "logIndex": "4",
            "logId": {"keyId": encode(log.id)},
            "kindVersion": {"kind": self.kind[0], "version": self.kind[1]},
            "inclusionProof": {
                "logIndex": "4",
                "rootHash": encode(root),
                "treeSize": str(len(leaves)),
                "hashes": [encode(sibling) for sibling in paths[4]],
                "checkpoint": {"envelope": f"{text}\n{lines}{signer.line(text)}"},
            },
            "canonicalizedBody": encode(body),
            **self.more,
        }

    def bundle(self):
        """The whole signature."""
        stamps = self.stamps
        if stamps is None:
            stamps = [self.services.stamps.stamp(self.signature)]
        return stamped(super().bundle(), stamps)


def stamped(bundle, stamps):
    """A bundle with these time stamps."""
    bundle["verificationMaterial"]["timestampVerificationData"] = {
        "rfc3161Timestamps": [{"signedTimestamp": encode(stamp)} for stamp in stamps],
    }
    return bundle
