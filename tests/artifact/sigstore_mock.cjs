// Writes a signature by an identity that the services of the npm package @sigstore/mock have made:
// an authority, a log of certificates and a log of signatures that share no code with this project.
//
//     npm install --ignore-scripts @sigstore/mock@0.12.1
//     NODE_PATH=node_modules node tests/artifact/sigstore_mock.cjs > mock.json
//
// The result is `artifact/tests/data/oms/identities/mock.json`.
//
// The mocked log keeps an entry as it is proposed, unlike Rekor, which keeps the digests. So the
// entry is proposed here in the form that Rekor keeps.

const crypto = require("crypto");
const fs = require("fs");
const path = require("path");
const { initializeCA, initializeCTLog, initializeTLog } = require("@sigstore/mock");

const DATA = path.join(__dirname, "../../artifact/tests/data/oms");
const IDENTITY = "https://example.com/repository/.github/workflows/release.yml@refs/tags/v1";
const PROVIDER = "https://accounts.example.com";
const PAYLOAD_TYPE = "application/vnd.in-toto+json";
// After the start of the mocked root certificate, which is now.
const CLOCK = new Date(Math.floor(Date.now() / 1000) * 1000 + 60_000);
const START = "2026-01-01T00:00:00Z";

const newKey = () => crypto.generateKeyPairSync("ec", { namedCurve: "prime256v1" });
const sha256 = (content) => crypto.createHash("sha256").update(content).digest("hex");
const base64 = (content) => Buffer.from(content).toString("base64");
const spki = (key) => key.publicKey.export({ format: "der", type: "spki" });

function pem(der) {
  const lines = base64(der).match(/.{1,64}/g).join("\n");
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

async function main() {
  const [authorityKey, certificateLogKey, entryLogKey, key] = [1, 2, 3, 4].map(newKey);
  const certificateLog = await initializeCTLog(certificateLogKey, CLOCK);
  const authority = await initializeCA(authorityKey, certificateLog, CLOCK);
  const entryLog = await initializeTLog("https://rekor.example.com", entryLogKey, CLOCK);

  const signed = JSON.parse(fs.readFileSync(path.join(DATA, "written/p256.sig")));
  const payload = Buffer.from(signed.dsseEnvelope.payload, "base64");
  const head = `DSSEv1 ${PAYLOAD_TYPE.length} ${PAYLOAD_TYPE} ${payload.length} `;
  const encoded = Buffer.concat([Buffer.from(head), payload]);
  const signature = crypto.sign("sha256", encoded, key.privateKey);
  const certificate = await authority.issueCertificate({
    publicKey: spki(key),
    subjectAltName: IDENTITY,
    extensions: [
      { oid: "1.3.6.1.4.1.57264.1.1", value: PROVIDER, legacy: true },
      { oid: "1.3.6.1.4.1.57264.1.8", value: PROVIDER },
    ],
  });
  const envelope = {
    payload: base64(payload),
    payloadType: PAYLOAD_TYPE,
    signatures: [{ sig: base64(signature) }],
  };
  const logged = await entryLog.log({
    apiVersion: "0.0.1",
    kind: "dsse",
    spec: {
      envelopeHash: { algorithm: "sha256", value: sha256(JSON.stringify(envelope)) },
      payloadHash: { algorithm: "sha256", value: sha256(payload) },
      signatures: [{ signature: base64(signature), verifier: base64(pem(certificate)) }],
    },
  });
  const [entry] = Object.values(logged);
  const { inclusionProof, signedEntryTimestamp } = entry.verification;
  const bundle = {
    mediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
    verificationMaterial: {
      certificate: { rawBytes: base64(certificate) },
      tlogEntries: [
        {
          logIndex: `${entry.logIndex}`,
          logId: { keyId: Buffer.from(entry.logID, "hex").toString("base64") },
          kindVersion: { kind: "dsse", version: "0.0.1" },
          integratedTime: `${entry.integratedTime}`,
          inclusionPromise: { signedEntryTimestamp },
          // Zero and an empty list are left out, as protocol buffers do.
          inclusionProof: {
            rootHash: Buffer.from(inclusionProof.rootHash, "hex").toString("base64"),
            treeSize: `${inclusionProof.treeSize}`,
            checkpoint: { envelope: inclusionProof.checkpoint },
          },
          canonicalizedBody: entry.body,
        },
      ],
    },
    dsseEnvelope: envelope,
  };
  const log = (logKey) => ({
    hashAlgorithm: "SHA2_256",
    publicKey: {
      rawBytes: base64(spki(logKey)),
      keyDetails: "PKIX_ECDSA_P256_SHA_256",
      validFor: { start: START },
    },
    logId: { keyId: crypto.createHash("sha256").update(spki(logKey)).digest("base64") },
  });
  const trusted_root = {
    mediaType: "application/vnd.dev.sigstore.trustedroot.v0.2+json",
    tlogs: [{ baseUrl: "https://rekor.example.com", ...log(entryLogKey) }],
    certificateAuthorities: [
      {
        uri: "https://fulcio.example.com",
        certChain: { certificates: [{ rawBytes: base64(authority.rootCertificate) }] },
        validFor: { start: START },
      },
    ],
    ctlogs: [{ baseUrl: "https://ctfe.example.com", ...log(certificateLogKey) }],
  };
  const cases = { mock: { identity: IDENTITY, reason: null, bundle } };
  console.log(JSON.stringify({ trusted_root, provider: PROVIDER, cases }));
}

main();
