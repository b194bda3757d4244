"""Services of Sigstore for tests: an authority, a log of certificates and a log of signatures.

Their keys are made anew in each run. `Signing` makes a bundle, and each of its members can be
replaced, so that a test can be wrong in one thing and right in all others.
"""

import base64
import dataclasses
import datetime
import hashlib
import json
import struct

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
ROOT_TYPE = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
TIMESTAMPS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
PROVIDER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
OLD_PROVIDER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
END = datetime.datetime(2036, 1, 1, tzinfo=datetime.timezone.utc)
# When the signer's certificate is issued. It is valid for ten minutes.
ISSUED = datetime.datetime(2026, 6, 1, 12, tzinfo=datetime.timezone.utc)
LIFETIME = datetime.timedelta(minutes=10)
LOGGED_S = int(ISSUED.timestamp()) + 5
MAIL = "signer@example.com"
ISSUER = "https://accounts.example.com"


def encode(content):
    """Base64 as text."""
    return base64.b64encode(content).decode()


def spki(key):
    """The public half of a key, in DER."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)


def ecdsa(key, message):
    """A signature over SHA-256."""
    return key.sign(message, ec.ECDSA(hashes.SHA256()))


def new_key():
    """A key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def pae(payload):
    """What is signed of an envelope."""
    return b"DSSEv1 %d %s %d %s" % (
        len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload,
    )


def name(text):
    """A distinguished name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(**named):
    """A key usage with nothing else."""
    usages = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
              "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{usage: named.get(usage, False) for usage in usages})


def der_octets(content):
    """An octet string in DER of less than 64 KiB."""
    length = len(content)
    if length < 0x80:
        return b"\x04" + bytes([length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return b"\x04" + bytes([0x80 | len(octets)]) + octets + content


class Authority:
    """An authority with a root, and an intermediate one that issues."""

    def __init__(self):
        self.root_key = ec.generate_private_key(ec.SECP384R1())
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.root = self.authority("root", self.root_key, "root", self.root_key, None)
        self.issuing = self.authority("issuing", self.key, "root", self.root_key, 0)

    @staticmethod
    def authority(subject, key, issuer, issuer_key, length):
        """The certificate of an authority."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(START).not_valid_after(END)
            .add_extension(x509.BasicConstraints(ca=True, path_length=length), True)
            .add_extension(usage(key_cert_sign=True, crl_sign=True), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
            )
        )
        if length is not None:
            code_signing = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
            builder = builder.add_extension(code_signing, False)
        return builder.sign(issuer_key, hashes.SHA384())

    def chain(self):
        """The certificates in DER, the issuing one first."""
        return [it.public_bytes(serialization.Encoding.DER) for it in (self.issuing, self.root)]


class Log:
    """A log and its key."""

    def __init__(self):
        self.key = new_key()
        self.id = hashlib.sha256(spki(self.key)).digest()


class Services:
    """An authority and both logs."""

    def __init__(self):
        self.authority = Authority()
        self.certificates = Log()
        self.entries = Log()

    def trusted_root(self):
        """What a verifier trusts."""
        valid = {"start": START.isoformat().replace("+00:00", "Z")}

        def log(log, url):
            return {
                "baseUrl": url,
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": encode(spki(log.key)),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": valid,
                },
                "logId": {"keyId": encode(log.id)},
            }

        chain = [{"rawBytes": encode(der)} for der in self.authority.chain()]
        return {
            "mediaType": ROOT_TYPE,
            "tlogs": [log(self.entries, "https://rekor.example.com")],
            "certificateAuthorities": [{
                "subject": {"organization": "example.com", "commonName": "root"},
                "uri": "https://fulcio.example.com",
                "certChain": {"certificates": chain},
                "validFor": valid,
            }],
            "ctlogs": [log(self.certificates, "https://ctfe.example.com")],
            "timestampAuthorities": [],
        }


def leaf_hash(content):
    """The hash of an entry in a tree."""
    return hashlib.sha256(b"\0" + content).digest()


def tree(leaves):
    """The root of a tree, and the siblings of each leaf (RFC 9162, 2.1)."""
    if len(leaves) == 1:
        return leaves[0], [[]]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    (left, left_paths), (right, right_paths) = tree(leaves[:split]), tree(leaves[split:])
    paths = [path + [right] for path in left_paths] + [path + [left] for path in right_paths]
    return hashlib.sha256(b"\1" + left + right).digest(), paths


@dataclasses.dataclass
class Signing:
    """A signature over a payload. Members that are `None` are made from the others."""

    services: Services
    payload: bytes
    names: list = dataclasses.field(default_factory=lambda: [x509.RFC822Name(MAIL)])
    provider: str = ISSUER
    provider_ids: tuple = (OLD_PROVIDER, PROVIDER)
    usages: tuple = (ExtendedKeyUsageOID.CODE_SIGNING,)
    is_authority: bool = False
    signs_certificates: bool = False
    authority: Authority = None
    certificate_log: Log = None
    certificate_timestamp: str = "valid"
    entry_log: Log = None
    promise_log: Log = None
    checkpoint_log: Log = None
    logged_s: int = LOGGED_S
    kind: tuple = ("dsse", "0.0.1")
    signed_payload: bytes = None
    signature: bytes = None
    logged_payload: bytes = None
    logged_signature: bytes = None
    logged_certificate: bytes = None

    def __post_init__(self):
        self.authority = self.authority or self.services.authority
        self.certificate_log = self.certificate_log or self.services.certificates
        self.entry_log = self.entry_log or self.services.entries
        self.key = new_key()
        self.certificate = self.issue().public_bytes(serialization.Encoding.DER)
        if self.signature is None:
            self.signature = ecdsa(self.key, pae(self.signed_payload or self.payload))

    def issue(self):
        """The signer's certificate."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([])).issuer_name(name("issuing"))
            .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(ISSUED).not_valid_after(ISSUED + LIFETIME)
            .add_extension(
                usage(digital_signature=True, key_cert_sign=self.signs_certificates), True
            )
            .add_extension(x509.ExtendedKeyUsage(self.usages), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    self.authority.key.public_key()
                ),
                False,
            )
            .add_extension(x509.SubjectAlternativeName(self.names), True)
        )
        if self.is_authority:
            builder = builder.add_extension(x509.BasicConstraints(True, None), True)
        text = self.provider.encode()
        values = {OLD_PROVIDER: text, PROVIDER: b"\x0c" + bytes([len(text)]) + text}
        for number in self.provider_ids:
            extension = x509.UnrecognizedExtension(number, values[number])
            builder = builder.add_extension(extension, False)
        issuer = self.authority.key
        if self.certificate_timestamp == "none":
            return builder.sign(issuer, hashes.SHA384())
        unlogged = builder.sign(issuer, hashes.SHA384()).tbs_certificate_bytes
        if self.certificate_timestamp == "other":
            unlogged += b"\0"
        value = der_octets(self.timestamps(unlogged))
        logged = builder.add_extension(x509.UnrecognizedExtension(TIMESTAMPS, value), False)
        return logged.sign(issuer, hashes.SHA384())

    def timestamps(self, unlogged):
        """The list with one timestamp over a certificate without it (RFC 6962, 3.2 and 3.3)."""
        time = struct.pack(">Q", int(ISSUED.timestamp()) * 1000 + 500)
        issuer = hashlib.sha256(spki(self.authority.key)).digest()
        length = struct.pack(">I", len(unlogged))[1:]
        signed = b"\0\0" + time + b"\0\1" + issuer + length + unlogged + b"\0\0"
        signature = ecdsa(self.certificate_log.key, signed)
        timestamp = b"\0" + self.certificate_log.id + time + b"\0\0\4\3"
        timestamp += struct.pack(">H", len(signature)) + signature
        sized = struct.pack(">H", len(timestamp)) + timestamp
        return struct.pack(">H", len(sized)) + sized

    def body(self):
        """What the log takes in."""
        certificate = self.logged_certificate or self.certificate
        pem = x509.load_der_x509_certificate(certificate).public_bytes(
            serialization.Encoding.PEM
        )
        payload = self.payload if self.logged_payload is None else self.logged_payload
        entry = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {
                    "algorithm": "sha256",
                    "value": hashlib.sha256(json.dumps(self.envelope()).encode()).hexdigest(),
                },
                "payloadHash": {
                    "algorithm": "sha256",
                    "value": hashlib.sha256(payload).hexdigest(),
                },
                "signatures": [{
                    "signature": encode(self.logged_signature or self.signature),
                    "verifier": encode(pem),
                }],
            },
        }
        return json.dumps(entry, separators=(",", ":"), sort_keys=True).encode()

    def envelope(self):
        """The signed payload."""
        return {
            "payload": encode(self.payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": encode(self.signature)}],
        }

    def checkpoint(self, size, root):
        """A signed note about a tree."""
        text = f"rekor.example.com - 1\n{size}\n{encode(root)}\n"
        log = self.checkpoint_log or self.entry_log
        signature = self.entry_log.id[:4] + ecdsa(log.key, text.encode())
        return f"{text}\n\u2014 rekor.example.com {encode(signature)}\n"

    def entry(self):
        """The log's entry, with its promise and its proof."""
        body = self.body()
        index = 1_000_004
        promised = {
            "body": encode(body),
            "integratedTime": self.logged_s,
            "logID": self.entry_log.id.hex(),
            "logIndex": index,
        }
        text = json.dumps(promised, separators=(",", ":"), sort_keys=True)
        promise = ecdsa((self.promise_log or self.entry_log).key, text.encode())
        leaves = [leaf_hash(b"entry %d" % number) for number in range(7)]
        leaves[4] = leaf_hash(body)
        root, paths = tree(leaves)
        return {
            "logIndex": str(index),
            "logId": {"keyId": encode(self.entry_log.id)},
            "kindVersion": {"kind": self.kind[0], "version": self.kind[1]},
            "integratedTime": str(self.logged_s),
            "inclusionPromise": {"signedEntryTimestamp": encode(promise)},
            "inclusionProof": {
                "logIndex": "4",
                "rootHash": encode(root),
                "treeSize": str(len(leaves)),
                "hashes": [encode(sibling) for sibling in paths[4]],
                "checkpoint": {"envelope": self.checkpoint(len(leaves), root)},
            },
            "canonicalizedBody": encode(body),
        }

    def bundle(self):
        """The whole signature."""
        return {
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {
                "certificate": {"rawBytes": encode(self.certificate)},
                "tlogEntries": [self.entry()],
            },
            "dsseEnvelope": self.envelope(),
        }
