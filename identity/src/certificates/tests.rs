//! Which client a certificate belongs to, from the connection and from trusted proxies; headers
//! from other sources that must not be trusted.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tensorgate_policy::hex;
use tensorgate_policy_compiler::{raw, validate::validate};

use super::*;
use crate::x509::tests::{certificate, key, names as alternative_names};

const ENGINE: &str = "spiffe://prod/engine";
const GATEWAY: &str = "spiffe://mesh/gateway";
const EDGE: &str = "spiffe://mesh/edge";
const URI: u8 = 0x86;
const DNS: u8 = 0x82;

/// Clients `engine` by URI and `batch` by DNS name, with `hops` trusted proxies.
fn certificates(hops: u32, revoked: Value) -> Certificates {
    let forwarders = if hops == 0 {
        json!([])
    } else {
        json!([{"spiffe": GATEWAY}, {"spiffe": EDGE}, {"dns": "lb.example.com"}])
    };
    let document = json!({
        "version": 1,
        "listen": {"trusted_hops": hops, "tls": {"cert": "c", "key": "k", "client_ca": "ca", "forwarded_by": forwarders}},
        "clients": {
            "engine": {"mtls": {"spiffe": ENGINE}},
            "batch": {"mtls": {"dns": "batch.example.com"}}
        },
        "revoked": revoked
    });
    let raw: raw::Policy = serde_json::from_value(document).unwrap();
    let (policy, _) = validate(&raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
    Certificates::new(&policy)
}

/// A certificate: its names, serial number and authority key.
struct Leaf {
    uris: Vec<String>,
    dns: Vec<String>,
    pem: String,
    sha256: String,
}

fn leaf(serial: u8, authority: u8, uris: &[&str], dns: &[&str]) -> Leaf {
    let names: Vec<(u8, &[u8])> = uris
        .iter()
        .map(|uri| (URI, uri.as_bytes()))
        .chain(dns.iter().map(|name| (DNS, name.as_bytes())))
        .collect();
    let mut extensions = Vec::from([alternative_names(&names)]);
    if authority > 0 {
        extensions.push(key(&[authority; 20]));
    }
    let der = certificate(&[serial], &extensions);
    let digits = STANDARD.encode(&der);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{digits}\n-----END CERTIFICATE-----\n");
    Leaf {
        uris: uris.iter().map(ToString::to_string).collect(),
        dns: dns.iter().map(ToString::to_string).collect(),
        sha256: hex(&x509::from_der(&der).unwrap().sha256),
        pem,
    }
}

fn named(uris: &[&str], dns: &[&str]) -> Leaf {
    leaf(1, 1, uris, dns)
}

impl Leaf {
    fn escaped(&self) -> String {
        let text = self.pem.replace('\n', "%0A").replace(' ', "%20");
        text.replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D")
    }

    /// `Hash=…;Cert="…"`: no part of it that a name could break.
    fn bare(&self) -> String {
        format!("Hash={};Cert=\"{}\"", self.sha256, self.escaped())
    }

    /// The same with names, in Envoy's form.
    fn full(&self) -> String {
        format!("{}{}", self.bare(), self.names())
    }

    /// Names only.
    fn plain(&self) -> String {
        format!("Hash={}{}", self.sha256, self.names())
    }

    fn names(&self) -> String {
        let mut text = String::new();
        if self.uris.is_empty() {
            text.push_str(";URI=");
        }
        for uri in &self.uris {
            text.push_str(&format!(";URI={uri}"));
        }
        for name in &self.dns {
            text.push_str(&format!(";DNS={name}"));
        }
        text
    }

    /// The header of a proxy for a connection with this certificate, appended to the header that
    /// arrived.
    fn shows(&self, certificates: &Certificates, before: &str) -> CertificateProof {
        let comma = if before.is_empty() { "" } else { "," };
        let header = format!("{before}{comma}{}", self.full());
        certificates.judge(&Certificate {
            header: &header,
            names: PeerNames {
                uri: self.uris.first().cloned(),
                dns: self.dns.first().cloned(),
                sha256: self.sha256.clone(),
            },
        })
    }
}

fn is(client: &str, name: &str) -> CertificateProof {
    CertificateProof::Client(client.into(), format!("mtls:{name}"))
}

fn engine() -> CertificateProof {
    is("engine", ENGINE)
}

fn batch() -> CertificateProof {
    is("batch", "batch.example.com")
}

#[track_caller]
fn assert_rejected(proven: CertificateProof, why: &str) {
    match proven {
        CertificateProof::Rejected(cause) => {
            assert!(cause.contains(why), "{cause:?}, and not {why:?}")
        }
        other => panic!("{other:?}, and not {why:?}"),
    }
}

#[test]
fn only_a_trusted_proxy_may_name_the_client_certificate() {
    let certificates = certificates(1, json!({}));
    let (gateway, load_balancer) = (named(&[GATEWAY], &[]), named(&[], &["lb.example.com"]));
    let own = named(&[ENGINE], &[]);
    let other = named(&[], &["batch.example.com", "b.example.com"]);
    let stranger = named(&["spiffe://prod/stranger"], &[]);
    for proxy in [&gateway, &load_balancer] {
        let proof = |before: &str| proxy.shows(&certificates, before);
        for text in [
            own.bare(),
            own.full(),
            own.plain(),
            format!("By=spiffe://x/y;{}", own.bare()),
        ] {
            assert_eq!(proof(&text), engine(), "{text}");
        }
        for text in [other.bare(), other.full()] {
            assert_eq!(proof(&text), batch(), "{text}");
        }
        // The client sent no certificate, and the proxy itself is not a client.
        assert_eq!(proof(""), CertificateProof::None);
        assert_rejected(proof(&stranger.bare()), "matches no client");
        assert_rejected(proof(&gateway.bare()), "matches no client");
        // Without the certificate, a name could contain further keys.
        assert_rejected(proof(&other.plain()), "names that are not quoted");
        // Elements that the client invented stand further left.
        let forged = format!("{},{}", own.bare(), stranger.bare());
        assert_rejected(proof(&forged), "matches no client");
        let forged = format!("{},{}", stranger.bare(), own.bare());
        assert_eq!(proof(&forged), engine());
    }
    // A peer that is not a trusted proxy is identified by its own certificate only.
    assert_eq!(own.shows(&certificates, ""), engine());
    assert_eq!(own.shows(&certificates, &other.bare()), engine());
    assert_eq!(own.shows(&certificates, "nonsense"), engine());
    assert_rejected(
        stranger.shows(&certificates, &own.bare()),
        "matches no client",
    );
    assert_rejected(
        stranger.shows(&certificates, &gateway.bare()),
        "matches no client",
    );
    assert_rejected(
        stranger.shows(&certificates, &format!("{},{}", own.bare(), gateway.bare())),
        "matches no client",
    );
}

#[test]
fn ambiguous_certificate_headers_are_rejected() {
    let certificates = certificates(1, json!({}));
    let gateway = named(&[GATEWAY], &[]);
    let proof = |before: &str| gateway.shows(&certificates, before);
    let (own, stranger) = (named(&[ENGINE], &[]), named(&["spiffe://prod/x"], &[]));
    for text in [
        "nonsense",
        "Hash=00",
        &own.bare().replace("Cert=\"", "Cert="),
        &format!("{},", own.bare()),
    ] {
        assert_rejected(proof(text), "odd");
    }
    assert_rejected(
        proof(&format!("Hash={};URI={ENGINE};URI={ENGINE}", own.sha256)),
        "odd",
    );
    // The digest, the certificate and the names belong to one certificate.
    let mixed = format!("Hash={};Cert=\"{}\"", stranger.sha256, own.escaped());
    assert_rejected(proof(&mixed), "is another");
    let mixed = format!("Hash={};Cert=\"\"", own.sha256);
    assert_rejected(proof(&mixed), "cannot be read");
    let mixed = format!("{};URI={ENGINE}", stranger.bare());
    assert_rejected(proof(&mixed), "not what its header says");
    // Names of a certificate that its authority did not check.
    for uri in [
        &format!("{ENGINE};DNS=a"),
        &format!("{ENGINE},Hash={}", own.sha256),
        &format!("spiffe://prod/x,Hash={};URI={ENGINE}", own.sha256),
        &format!("spiffe://prod/x,{}", own.bare().replace('"', "")),
        &format!("spiffe://prod/x,{}", own.bare()),
        &format!("spiffe://prod/x;URI={ENGINE}"),
        &format!(",{}", own.bare()),
        &format!("\"\",{}", own.bare()),
        &format!("\"{ENGINE}\""),
    ] {
        let evil = named(&[uri], &[]);
        for text in [evil.full(), evil.plain(), evil.bare()] {
            let proven = proof(&text);
            assert!(
                matches!(proven, CertificateProof::Rejected(_)),
                "{text}: {proven:?}"
            );
        }
    }
    let evil = named(&["spiffe://prod/x"], &["a;DNS=batch.example.com", "b"]);
    for text in [evil.full(), evil.plain(), evil.bare()] {
        assert!(
            matches!(proof(&text), CertificateProof::Rejected(_)),
            "{text}"
        );
    }
    assert_rejected(
        proof(&named(&[ENGINE, "spiffe://prod/x"], &[]).bare()),
        "several URIs",
    );
    assert_rejected(
        proof(&named(&[ENGINE], &["batch.example.com"]).bare()),
        "two clients",
    );
}

#[test]
fn every_proxy_of_a_chain_must_be_named_by_the_policy() {
    let certificates = certificates(2, json!({}));
    let gateway = named(&[GATEWAY], &[]);
    let (edge, own, other) = (
        named(&[EDGE], &[]),
        named(&[ENGINE], &[]),
        named(&[], &["batch.example.com"]),
    );
    let proof = |elements: &[String]| gateway.shows(&certificates, &elements.join(","));
    assert_eq!(proof(&[own.bare(), edge.bare()]), engine());
    assert_eq!(proof(&[other.bare(), own.bare(), edge.bare()]), engine());
    // The client of the first proxy sent no certificate, or the second proxy is unknown.
    assert_eq!(proof(&[edge.bare()]), CertificateProof::None);
    assert_eq!(proof(&[edge.full()]), CertificateProof::None);
    assert_eq!(proof(&[]), CertificateProof::None);
    assert_rejected(
        proof(&[own.bare()]),
        "not of a proxy in listen.tls.forwarded_by",
    );
    assert_rejected(
        proof(&[own.bare(), other.bare()]),
        "not of a proxy in listen.tls.forwarded_by",
    );
    assert_rejected(
        proof(&[edge.bare(), own.bare()]),
        "not of a proxy in listen.tls.forwarded_by",
    );
    assert_rejected(
        proof(&[own.bare(), edge.bare(), edge.bare()]),
        "matches no client",
    );
    // A name without quotes could be the rest of the list.
    assert_rejected(proof(&[own.plain(), edge.plain()]), "not quoted");
    assert_rejected(proof(&[own.bare(), edge.full()]), "not quoted");
    let evil = named(&[&format!("{ENGINE},{}", edge.bare())], &[]);
    assert_rejected(proof(&[evil.plain()]), "not quoted");
}

#[test]
fn a_certificate_is_revoked_by_serial_however_it_is_presented() {
    let authority = "01".repeat(20);
    let serials = json!([format!("02 {authority}"), "0003"]);
    let revoked = json!({"serials": serials});
    let (gateway, own) = (named(&[GATEWAY], &[]), named(&[ENGINE], &[]));
    for hops in [0, 1] {
        let certificates = certificates(hops, revoked.clone());
        for (serial, authority, expected) in [
            (1, 1, true),
            (2, 1, false),
            (2, 2, true),
            // A certificate without a serial number may be a revoked one.
            (2, 0, false),
            (3, 1, false),
            (3, 2, false),
            (3, 0, false),
            (4, 0, true),
        ] {
            let shown = leaf(serial, authority, &[ENGINE], &[]);
            let what = format!("{hops} {serial} {authority}");
            let mut ways = Vec::from([shown.shows(&certificates, "")]);
            if hops > 0 {
                ways.push(gateway.shows(&certificates, &shown.bare()));
                ways.push(gateway.shows(&certificates, &shown.full()));
            }
            for proven in ways {
                if expected {
                    assert_eq!(proven, engine(), "{what}");
                } else {
                    assert_eq!(proven, CertificateProof::Rejected(REVOKED), "{what}");
                }
            }
        }
        // A proxy that omits the serial number is not trusted about revocation.
        let header = own.plain();
        let names = PeerNames {
            uri: Some(ENGINE.into()),
            dns: None,
            sha256: own.sha256.clone(),
        };
        let shown = Certificate {
            header: &header,
            names,
        };
        assert_rejected(certificates.judge(&shown), "no serial number");
    }
    let certificates = certificates(1, revoked);
    assert_rejected(
        gateway.shows(&certificates, &own.plain()),
        "no serial number",
    );
    // A proxy whose own certificate is revoked is not trusted.
    let lost = leaf(3, 1, &[GATEWAY], &[]);
    assert_eq!(
        lost.shows(&certificates, &own.bare()),
        CertificateProof::Rejected(REVOKED)
    );
    let certificates = self::certificates(1, json!({"certificates": [gateway.sha256]}));
    assert_eq!(
        gateway.shows(&certificates, &own.bare()),
        CertificateProof::Rejected(REVOKED)
    );
    let certificates = self::certificates(1, json!({"certificates": [own.sha256]}));
    assert_eq!(
        gateway.shows(&certificates, &own.bare()),
        CertificateProof::Rejected(REVOKED)
    );
    // An empty revocation list also requires serial numbers.
    let certificates = self::certificates(0, json!({"serials": []}));
    assert_eq!(own.shows(&certificates, ""), engine());
}

#[test]
fn a_connection_without_a_known_certificate_identifies_no_client() {
    let certificates = certificates(1, json!({}));
    let own = named(&[ENGINE], &[]);
    let shown = |header: &str, sha256: &str| {
        certificates.judge(&Certificate {
            header,
            names: PeerNames {
                uri: Some(ENGINE.into()),
                dns: None,
                sha256: sha256.into(),
            },
        })
    };
    assert_eq!(shown(&own.full(), &own.sha256), engine());
    assert_rejected(shown(&own.full(), ""), "odd");
    assert_rejected(shown(&own.full(), &"0".repeat(64)), "odd");
    assert_rejected(shown("", &own.sha256), "odd");
}
