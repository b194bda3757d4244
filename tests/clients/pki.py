"""Certificates and tokens for the tests, new in each run. Only a program that is given them trusts
them.
"""

import datetime
import ipaddress
import json
import time
import uuid

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
ENGINE = "spiffe://prod/ns/risk/sa/engine"


def written(path, data):
    """Writes a file and returns its path."""
    path.write_bytes(data)
    return str(path)


def pem(key):
    """A private key in PEM."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Authority:
    """A certificate authority, with its certificate in a file."""

    def __init__(self, folder, name):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(*(name in ("key_cert_sign", "crl_sign") for name in USAGES))
        certificate = self.sign(self.name, self.key, [(x509.BasicConstraints(True, None), True), (usage, True)])
        self.pem = written(folder / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM))

    def sign(self, subject, key, extensions):
        """A certificate."""
        builder = x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number(), NOW - DAY, NOW + DAY)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        for extension, critical in [*extensions, (identifier, False), (issuer, False)]:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name, alternative):
        """A certificate with this alternative name, and its key, in files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self.sign(subject, key, [(x509.SubjectAlternativeName([alternative]), False)])
        return {"pem": written(self.folder / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM)), "key": written(self.folder / f"{name}.key", pem(key))}


# The arguments of `x509.KeyUsage`.
USAGES = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]


def certificates(folder):
    """The gate's own certificate, and those of clients."""
    ca, foreign = Authority(folder, "ca"), Authority(folder, "foreign-ca")
    ca.issue("gate", x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    return {
        "ca": ca.pem,
        "foreign_ca": foreign.pem,
        "engine": ca.issue("engine", x509.UniformResourceIdentifier(ENGINE)),
        "other": ca.issue("other", x509.UniformResourceIdentifier(ENGINE + "-2")),
        "foreign": foreign.issue("foreign", x509.UniformResourceIdentifier(ENGINE)),
    }


def tokens(folder):
    """The issuer's key set in a file, and tokens: a valid one, an expired one, and one of another
    key.
    """
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    (folder / "corp.jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "1", "alg": "ES256", "use": "sig"}]}))

    def token(signer, age_s):
        issued = int(time.time()) - age_s
        claims = {"iss": "https://login.corp.example", "aud": "tensorgate", "sub": "svc-web", "iat": issued, "exp": issued + 1800, "jti": str(uuid.uuid4())}
        return jwt.encode(claims, signer, algorithm="ES256", headers={"kid": "1"})

    return {"good": token(key, 10), "expired": token(key, 3600), "forged": token(other, 10)}
