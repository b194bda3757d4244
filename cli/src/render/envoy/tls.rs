//! TLS of the listener: parameters, trusted authorities and certificates.
//!
//! Certificates, keys, authorities and revocation lists are secrets (SDS), one file each. For
//! `tensorgate up` ([`identity`], [`authorities`]) the file contains the checked PEM text itself
//! and is replaced by renaming. So Envoy gets a key with its certificate, and a list with its
//! authority.
//!
//! For an Envoy that is managed otherwise ([`secrets`]) the file names the PEM files and the
//! folders to watch. Later files are then not checked, and Envoy treats an empty file of revocation
//! lists as no list.

use std::path::Path;

use tensorgate_policy::policy::Tls;

use super::{RenderError, RenderOptions, text};
use crate::certificates::{Authorities, Identity};
use crate::render::node::{Node, list, map};

/// Name of the secret with the gate's own certificate.
pub const CERTIFICATE: &str = "gate-certificate";
/// Name of the secret with the authorities of client certificates.
pub const AUTHORITIES: &str = "client-authorities";

/// The transport socket of the filter chain.
pub fn transport_socket(tls: &Tls, options: &RenderOptions) -> Result<Node, RenderError> {
    let mut common = vec![
        (
            "tls_params".to_owned(),
            map! {"tls_minimum_protocol_version" => "TLSv1_2"},
        ),
        ("alpn_protocols".to_owned(), list!["h2", "http/1.1"]),
        (
            "tls_certificate_sds_secret_configs".to_owned(),
            list![secret_config(CERTIFICATE, options)?],
        ),
    ];
    let mut context = vec![(
        "@type".to_owned(),
        Node::from(
            "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        ),
    )];
    if tls.client_ca().is_some() {
        common.push((
            "validation_context_sds_secret_config".to_owned(),
            secret_config(AUTHORITIES, options)?,
        ));
        // A client without a certificate may use a key or a token, and otherwise gets the gate's
        // own rejection. An untrusted or revoked certificate fails the handshake.
        context.push(("require_client_certificate".to_owned(), false.into()));
        // A resumed session presents no certificate, so it could outlive a revocation.
        context.push((
            "disable_stateless_session_resumption".to_owned(),
            true.into(),
        ));
        context.push((
            "disable_stateful_session_resumption".to_owned(),
            true.into(),
        ));
    }
    context.push(("common_tls_context".to_owned(), Node::Map(common)));
    Ok(map! {
        "name" => "envoy.transport_sockets.tls",
        "typed_config" => Node::Map(context),
    })
}

/// Refers to the file of a secret.
pub(super) fn secret_config(name: &str, options: &RenderOptions) -> Result<Node, RenderError> {
    Ok(map! {
        "name" => name,
        "sds_config" => map! {
            "resource_api_version" => "V3",
            "path_config_source" => map! {"path" => text(&options.secrets.join(file_name(name)))?},
        },
    })
}

/// File name of a secret. Envoy reads one secret per file.
fn file_name(secret: &str) -> String {
    format!("{secret}.yaml")
}

/// A secret's file: its name in [`RenderOptions::secrets`], and its content.
pub type SecretFile = (String, Node);

/// The file of a secret.
pub(super) fn resource(name: &str, kind: &str, secret: Node) -> SecretFile {
    const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    let secret = Node::Map(vec![
        ("@type".to_owned(), SECRET.into()),
        ("name".to_owned(), name.into()),
        (kind.to_owned(), secret),
    ]);
    (file_name(name), map! {"resources" => list![secret]})
}

/// The secret with the gate's own certificate.
pub fn identity(identity: &Identity) -> SecretFile {
    let certificate = map! {
        "certificate_chain" => inline(&identity.chain),
        "private_key" => inline(&identity.key),
    };
    resource(CERTIFICATE, "tls_certificate", certificate)
}

/// The secret with the authorities of client certificates and their revocation lists.
pub fn authorities(authorities: &Authorities) -> SecretFile {
    let mut context = vec![("trusted_ca".to_owned(), inline(&authorities.ca))];
    context.extend((authorities.crl.as_ref()).map(|crl| ("crl".to_owned(), inline(crl))));
    resource(AUTHORITIES, "validation_context", Node::Map(context))
}

/// Secret files for [`transport_socket`] that refer to the policy's files.
///
/// # Errors
/// Authorities and their lists are in different folders. Envoy watches only one folder for both, so
/// it would not notice a new list in the other.
pub fn secrets(tls: &Tls, options: &RenderOptions) -> Result<Vec<SecretFile>, RenderError> {
    let cert = options.root.join(tls.cert());
    let certificate = map! {
        "certificate_chain" => file(&cert)?,
        "private_key" => file(&options.root.join(tls.key()))?,
        "watched_directory" => folder(&cert)?,
    };
    let mut secrets = vec![resource(CERTIFICATE, "tls_certificate", certificate)];
    if let Some(ca) = tls.client_ca() {
        let ca = options.root.join(ca);
        let mut context = vec![("trusted_ca".to_owned(), file(&ca)?)];
        if let Some(crl) = tls.client_crl() {
            let crl = options.root.join(crl);
            if crl.parent() != ca.parent() {
                return Err(RenderError::Folders { ca, crl });
            }
            // Revocation is checked for the whole chain, because an intermediate authority may be
            // revoked too. So the file needs a list of every authority.
            context.push(("crl".to_owned(), file(&crl)?));
        }
        context.push(("watched_directory".to_owned(), folder(&ca)?));
        secrets.push(resource(
            AUTHORITIES,
            "validation_context",
            Node::Map(context),
        ));
    }
    Ok(secrets)
}

fn inline(pem: &str) -> Node {
    map! {"inline_string" => pem}
}

/// Refers to a PEM file.
pub(super) fn file(path: &Path) -> Result<Node, RenderError> {
    Ok(map! {"filename" => text(path)?})
}

/// The folder of a file, which Envoy watches for replacements by renaming.
pub(super) fn folder(path: &Path) -> Result<Node, RenderError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    Ok(map! {"path" => text(folder.unwrap_or(Path::new(".")))?})
}
