//! A certificate authority for tests of TLS. It issues certificates with the names that a test asks
//! for, and lists of revoked certificates. Only a program that is given its certificate trusts it.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, Error, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::ClientError;

/// A certificate authority.
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
    /// The certificate and key that a client presents.
    pub fn shown(&self) -> Option<(&str, &str)> {
        Some((&self.pem, &self.key))
    }

    /// TLS settings of a server that presents the certificate and asks for none.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, ClientError> {
        let odd = |error: &dyn std::fmt::Display| {
            ClientError::Io(std::io::Error::other(error.to_string()))
        };
        let chain = CertificateDer::pem_slice_iter(self.pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| odd(&error))?;
        let key =
            PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|error| odd(&error))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| odd(&error))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| odd(&error))?;
        Ok(Arc::new(config))
    }
}

impl Authority {
    /// A new authority of this name.
    pub fn new(name: &str) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// A certificate with these subject alternative names: `uri:…`, `dns:…`, `ip:…`.
    pub fn issue(&self, serial: u64, names: &[&str]) -> Result<Leaf, Error> {
        self.issue_until(4096, serial, names)
    }

    /// The same certificate, which expires at the beginning of that year.
    pub fn issue_until(&self, year: i32, serial: u64, names: &[&str]) -> Result<Leaf, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        // A leaf whose subject equals its issuer would count as self-signed.
        let subject = format!("leaf {serial}");
        params.distinguished_name.push(DnType::CommonName, subject);
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_after = date_time_ymd(year, 1, 1);
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = names
            .iter()
            .map(|name| {
                let (kind, name) = name.split_once(':').unwrap_or(("", name));
                let address = |_| Error::InvalidIpAddressOctetLength(name.len());
                Ok(match kind {
                    "uri" => SanType::URI(name.try_into()?),
                    "dns" => SanType::DnsName(name.try_into()?),
                    _ => SanType::IpAddress(name.parse().map_err(address)?),
                })
            })
            .collect::<Result<_, Error>>()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Leaf {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            key: key.serialize_pem(),
            serial,
        })
    }

    /// A certificate revocation list, PEM.
    pub fn revoke(&self, number: u64, leaves: &[&Leaf]) -> Result<String, Error> {
        self.revoke_until(2126, number, leaves)
    }

    /// The same list, whose next update is in that year.
    pub fn revoke_until(&self, year: i32, number: u64, leaves: &[&Leaf]) -> Result<String, Error> {
        let revoked = |leaf: &&Leaf| RevokedCertParams {
            serial_number: SerialNumber::from(leaf.serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2016, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: leaves.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer)?.pem()
    }
}
