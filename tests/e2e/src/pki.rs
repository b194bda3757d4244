//! An authority of our own for tests of TLS: certificates with the names that a test wants, and lists of those that it takes back.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub pem: String,
}

/// A certificate and its key, PEM.
pub struct Leaf {
    /// The certificate.
    pub pem: String,
    /// The same, DER.
    pub der: Vec<u8>,
    /// The key.
    pub key: String,
    serial: u64,
}

impl Leaf {
    /// What a client shows.
    pub fn shown(&self) -> Option<(&str, &str)> {
        Some((&self.pem, &self.key))
    }
}

impl Authority {
    /// A fresh one of this name.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate with these subject alternative names: `uri:…`, `dns:…`, `ip:…`.
    pub fn issue(&self, serial: u64, names: &[&str]) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // A leaf that is called as its issuer would count as signed by itself.
        let subject = format!("leaf {serial}");
        params.distinguished_name.push(DnType::CommonName, subject);
        params.serial_number = Some(SerialNumber::from(serial));
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = names
            .iter()
            .map(|name| {
                let (kind, name) = name.split_once(':').unwrap();
                match kind {
                    "uri" => SanType::URI(name.try_into().unwrap()),
                    "dns" => SanType::DnsName(name.try_into().unwrap()),
                    _ => SanType::IpAddress(name.parse().unwrap()),
                }
            })
            .collect();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            key: key.serialize_pem(),
            serial,
        }
    }

    /// A list of revoked certificates, PEM.
    pub fn revoke(&self, number: u64, leaves: &[&Leaf]) -> String {
        let revoked = |leaf: &&Leaf| RevokedCertParams {
            serial_number: SerialNumber::from(leaf.serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2126, 1, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: leaves.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}
