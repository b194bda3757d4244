//! Options of `render envoy` for sandbox hosts on other machines.

use std::path::PathBuf;

use clap::Args;
use tensorgate_cli_common::Failure;

use crate::render::envoy::control_plane::ControlPlane;
use crate::render::envoy::remote_host::{Endpoint, HostName, RemoteHosts};

/// Hosts over TCP with mutual TLS.
#[derive(Args)]
pub struct RemoteHostOptions {
    /// Address or DNS name of a sandbox host that listens with --listen, instead of its sockets.
    /// Repeatable: requests go to the hosts in turn, and to another while one restarts. The options
    /// below are needed, too.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        requires = "audit_host",
        requires = "limits_host",
        requires = "host_name",
        requires = "host_ca",
        requires = "host_cert",
        requires = "host_key",
        conflicts_with_all = ["host_socket", "audit_socket", "limits_socket"]
    )]
    host: Vec<Endpoint>,
    /// Address of one host's --audit-listen.
    #[arg(long, value_name = "ADDR:PORT", requires = "host")]
    audit_host: Option<Endpoint>,
    /// Address of a host's --limits-listen. Repeatable.
    #[arg(long, value_name = "ADDR:PORT", requires = "host")]
    limits_host: Vec<Endpoint>,
    /// DNS name or SPIFFE ID in the certificate of every host. It must be exactly equal.
    #[arg(long, value_name = "NAME", requires = "host")]
    host_name: Option<HostName>,
    /// Authorities of the hosts' certificates on Envoy's machine, PEM. This file, the certificate
    /// and the key may be relative to --tls-dir. Envoy reads them again when they are replaced.
    #[arg(long, value_name = "FILE", requires = "host")]
    host_ca: Option<PathBuf>,
    /// Envoy's certificate for the hosts, PEM. The hosts' --gateway is a name in it.
    #[arg(long, value_name = "FILE", requires = "host")]
    host_cert: Option<PathBuf>,
    /// Key of this certificate, PEM. It has to be in the certificate's folder.
    #[arg(long, value_name = "FILE", requires = "host")]
    host_key: Option<PathBuf>,
}

impl RemoteHostOptions {
    /// The hosts, if there are any on other machines.
    pub fn hosts(self, plane: ControlPlane) -> Result<Option<RemoteHosts>, Failure> {
        // All of them are given, or none.
        let (Some(audit), Some(name), Some(ca), Some(cert), Some(key)) = (
            self.audit_host,
            self.host_name,
            self.host_ca,
            self.host_cert,
            self.host_key,
        ) else {
            return Ok(None);
        };
        if plane != ControlPlane::Plain {
            let text = "--host is for --as plain: other control planes configure the clusters";
            return Err(Failure::Input(text.into()));
        }
        // Envoy watches only the folder of the certificate.
        if key.parent() != cert.parent() {
            let text = "--host-key has to be in the folder of --host-cert, which Envoy watches";
            return Err(Failure::Input(text.into()));
        }
        Ok(Some(RemoteHosts {
            hosts: self.host,
            audit,
            limits: self.limits_host,
            name,
            ca,
            cert,
            key,
        }))
    }
}
