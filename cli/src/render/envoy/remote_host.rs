//! Sandbox hosts on other machines: their addresses, TCP with mutual TLS, and what happens to a
//! request while one of them restarts.
//!
//! Certificate and authorities are secrets (SDS) that name files and the folder to watch, as those
//! of the listener ([`tls::secrets`]). A renewal needs no restart.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use tensorgate_net::peer_name::is_peer_name;
use tokio_rustls::rustls::pki_types::DnsName;

use super::tls::{self, SecretFile};
use super::{RenderError, RenderOptions, socket_address};
use crate::render::node::{Node, list, map};

/// Name of the secret with the gateway's certificate.
const CERTIFICATE: &str = "host-certificate";
/// Name of the secret with the authorities of the hosts' certificates.
const AUTHORITIES: &str = "host-authorities";
/// Attempts after the first. A second host may be stopped just when a request turns to it.
const RETRIES: u64 = 2;
/// How often another host is picked that was not tried yet.
const HOST_SELECTIONS: u64 = 3;

/// An address that Envoy connects to: an IP address or a DNS name, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Whether it has to be resolved.
    pub fn is_name(&self) -> bool {
        self.host.parse::<IpAddr>().is_err()
    }

    /// The address in Envoy's form.
    pub fn address(&self) -> Node {
        socket_address(self.host.as_str(), self.port)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.parse::<SocketAddr>() {
            Ok(address) => Some((address.ip().to_string(), address.port())),
            Err(_) => text.rsplit_once(':').and_then(|(name, port)| {
                DnsName::try_from(name).ok()?;
                Some((name.to_owned(), port.parse().ok()?))
            }),
        };
        let (host, port) = parsed
            .filter(|(_, port)| *port > 0)
            .ok_or("neither ADDRESS:PORT nor NAME:PORT")?;
        Ok(Self { host, port })
    }
}

/// The name that the certificate of every host must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// A DNS name. It is sent as the server name (SNI), too.
    Dns(String),
    /// A SPIFFE ID.
    Spiffe(String),
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if !is_peer_name(name) {
            return Err("neither a SPIFFE ID (spiffe://domain/path) nor a DNS name".to_owned());
        }
        Ok(if name.contains("://") {
            Self::Spiffe(name.to_owned())
        } else {
            Self::Dns(name.to_owned())
        })
    }
}

/// Sandbox hosts on other machines.
#[derive(Clone, Debug)]
pub struct RemoteHosts {
    /// Their ports for requests.
    pub hosts: Vec<Endpoint>,
    /// The port for the access log. It is of one host, because the host finds lost entries by gaps
    /// in their numbers.
    pub audit: Endpoint,
    /// Their ports of the rate limit service.
    pub limits: Vec<Endpoint>,
    /// The name in the hosts' certificates.
    pub name: HostName,
    /// The authorities of the hosts' certificates, PEM.
    pub ca: PathBuf,
    /// The gateway's certificate, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl RemoteHosts {
    /// The transport socket of connections to the hosts.
    pub fn transport_socket(&self, options: &RenderOptions) -> Result<Node, RenderError> {
        let (kind, name) = match &self.name {
            HostName::Dns(name) => ("DNS", name),
            HostName::Spiffe(name) => ("URI", name),
        };
        let mut context = vec![(
            "@type".to_owned(),
            Node::from(
                "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            ),
        )];
        if let HostName::Dns(name) = &self.name {
            context.push(("sni".to_owned(), name.as_str().into()));
        }
        let certificate = tls::secret_config(CERTIFICATE, options)?;
        let common = map! {
            "tls_params" => map! {
                "tls_minimum_protocol_version" => "TLSv1_3",
                // Envoy's default for connections that it opens is TLS 1.2.
                "tls_maximum_protocol_version" => "TLSv1_3",
            },
            "alpn_protocols" => list!["h2"],
            "tls_certificate_sds_secret_configs" => list![certificate],
            "combined_validation_context" => map! {
                "default_validation_context" => map! {
                    "match_typed_subject_alt_names" => list![map! {
                        "san_type" => kind,
                        "matcher" => map! {"exact" => name.as_str()},
                    }],
                },
                "validation_context_sds_secret_config" => tls::secret_config(AUTHORITIES, options)?,
            },
        };
        context.push(("common_tls_context".to_owned(), common));
        Ok(map! {
            "name" => "envoy.transport_sockets.tls",
            "typed_config" => Node::Map(context),
        })
    }

    /// Secret files for [`Self::transport_socket`].
    pub fn secrets(&self, options: &RenderOptions) -> Result<Vec<SecretFile>, RenderError> {
        let cert = options.root.join(&self.cert);
        let certificate = map! {
            "certificate_chain" => tls::file(&cert)?,
            "private_key" => tls::file(&options.root.join(&self.key))?,
            "watched_directory" => tls::folder(&cert)?,
        };
        let ca = options.root.join(&self.ca);
        let authorities = map! {
            "trusted_ca" => tls::file(&ca)?,
            "watched_directory" => tls::folder(&ca)?,
        };
        Ok(vec![
            tls::resource(CERTIFICATE, "tls_certificate", certificate),
            tls::resource(AUTHORITIES, "validation_context", authorities),
        ])
    }
}

/// The retry policy of routes to hosts on other machines.
///
/// A host that restarts closes its port, and then its connections (GOAWAY). Without retries, each
/// request that turns to it meanwhile would fail, although another host serves. Only requests that
/// no host has processed are sent again, so none is charged or executed twice:
/// - `connect-failure`: no connection was established, so no byte of the request was sent.
/// - `refused-stream`: the host declares that it has not processed the stream (RFC 9113, section
///   8.7). For a stream above the last one of a GOAWAY, Envoy's codec reports the same.
///
/// A connection that breaks later fails its requests. Conditions that a client names in
/// `x-envoy-retry-on` are not added: Envoy removes that header, because no address is internal.
pub fn retry_policy() -> Node {
    map! {
        "retry_on" => "connect-failure,refused-stream",
        "num_retries" => RETRIES,
        "retry_host_predicate" => list![map! {
            "name" => "envoy.retry_host_predicates.previous_hosts",
            "typed_config" => map! {
                "@type" => "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            },
        }],
        "host_selection_retry_max_attempts" => HOST_SELECTIONS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_or_a_name_with_a_port() {
        for (text, expected) in [
            ("10.0.0.1:8443", Some(("10.0.0.1", false))),
            ("[::1]:8443", Some(("::1", false))),
            ("host.example:8443", Some(("host.example", true))),
            ("host.example", None),
            ("host:0", None),
            ("10.0.0.1:0", None),
            ("host:65536", None),
            ("::1:8443", None),
            ("a b:8443", None),
            (":8443", None),
        ] {
            let endpoint = text.parse::<Endpoint>().ok();
            let parts = endpoint
                .as_ref()
                .map(|endpoint| (endpoint.host.as_str(), endpoint.is_name()));
            assert_eq!(parts, expected, "{text}");
        }
    }

    #[test]
    fn a_hosts_name_is_a_spiffe_id_or_a_dns_name() {
        let dns = |name: &str| Some(HostName::Dns(name.to_owned()));
        let spiffe = |name: &str| Some(HostName::Spiffe(name.to_owned()));
        for (name, expected) in [
            ("host.tensorgate.svc", dns("host.tensorgate.svc")),
            ("spiffe://a/b", spiffe("spiffe://a/b")),
            ("spiffe://a", None),
            ("https://host", None),
            ("*.svc", None),
            ("", None),
        ] {
            assert_eq!(name.parse::<HostName>().ok(), expected, "{name}");
        }
    }
}
