//! TLS of the listener: what Envoy offers, whom it believes, and where it gets certificates from.
//!
//! Certificates, keys, authorities and revocation lists come as secrets (SDS) from a file each. Beside `tensorgate up` ([`identity`], [`authorities`]) it
//! holds them itself, once they were judged; it is replaced by renaming, so that Envoy gets a key with its certificate and a list with its authority. For
//! an Envoy of somebody else's ([`secrets`]) it names the PEM files and the folders to watch, and nobody judges what is renamed into those: Envoy takes an
//! empty file of revocation lists for none.

use std::path::Path;

use tensorgate_policy::policy::Tls;

use super::{Places, RenderError, text};
use crate::certificates::{Authorities, Identity};
use crate::render::node::{Node, list, map};

/// The secret with the gate's own certificate.
pub const CERTIFICATE: &str = "gate-certificate";
/// The secret with the authorities of client certificates.
pub const AUTHORITIES: &str = "client-authorities";

/// The transport socket of the filter chain.
pub fn transport_socket(tls: &Tls, places: &Places) -> Result<Node, RenderError> {
    let mut common = vec![
        (
            "tls_params".to_owned(),
            map! {"tls_minimum_protocol_version" => "TLSv1_2"},
        ),
        ("alpn_protocols".to_owned(), list!["h2", "http/1.1"]),
        (
            "tls_certificate_sds_secret_configs".to_owned(),
            list![secret_config(CERTIFICATE, places)?],
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
            secret_config(AUTHORITIES, places)?,
        ));
        // Whoever comes without a certificate may have a key or a token, and gets the gate's own answer if it has neither. One that is not
        // of the authorities, or that they have revoked, ends the handshake.
        context.push(("require_client_certificate".to_owned(), false.into()));
        // A session that is taken up again shows no certificate: it would outlive its revocation.
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

fn secret_config(name: &str, places: &Places) -> Result<Node, RenderError> {
    Ok(map! {
        "name" => name,
        "sds_config" => map! {
            "resource_api_version" => "V3",
            "path_config_source" => map! {"path" => text(&places.secrets.join(file_name(name)))?},
        },
    })
}

/// The file of a secret: Envoy takes one from each.
fn file_name(secret: &str) -> String {
    format!("{secret}.yaml")
}

/// A secret's file: its name in [`Places::secrets`], and what it says.
pub type SecretFile = (String, Node);

fn resource(name: &str, kind: &str, secret: Node) -> SecretFile {
    const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    let secret = Node::Map(vec![
        ("@type".to_owned(), SECRET.into()),
        ("name".to_owned(), name.into()),
        (kind.to_owned(), secret),
    ]);
    (file_name(name), map! {"resources" => list![secret]})
}

/// The secret that holds the gate's own certificate.
pub fn identity(identity: &Identity) -> SecretFile {
    let certificate = map! {
        "certificate_chain" => inline(&identity.chain),
        "private_key" => inline(&identity.key),
    };
    resource(CERTIFICATE, "tls_certificate", certificate)
}

/// The secret that holds whose clients' certificates count, and which no more.
pub fn authorities(authorities: &Authorities) -> SecretFile {
    let mut context = vec![("trusted_ca".to_owned(), inline(&authorities.ca))];
    context.extend((authorities.crl.as_ref()).map(|crl| ("crl".to_owned(), inline(crl))));
    resource(AUTHORITIES, "validation_context", Node::Map(context))
}

/// The files of secrets that [`transport_socket`] names, which name the policy's files in turn.
///
/// # Errors
/// Authorities and their lists lie in two folders: Envoy watches one for both, and would never take a list up that is renamed into the other.
pub fn secrets(tls: &Tls, places: &Places) -> Result<Vec<SecretFile>, RenderError> {
    let cert = places.root.join(tls.cert());
    let certificate = map! {
        "certificate_chain" => file(&cert)?,
        "private_key" => file(&places.root.join(tls.key()))?,
        "watched_directory" => folder(&cert)?,
    };
    let mut secrets = vec![resource(CERTIFICATE, "tls_certificate", certificate)];
    if let Some(ca) = tls.client_ca() {
        let ca = places.root.join(ca);
        let mut context = vec![("trusted_ca".to_owned(), file(&ca)?)];
        if let Some(crl) = tls.client_crl() {
            let crl = places.root.join(crl);
            if crl.parent() != ca.parent() {
                return Err(RenderError::Folders { ca, crl });
            }
            // Of the whole chain, which is what Envoy does unless told to look at the client's certificate only: an authority between may be
            // revoked too. So the file holds a list of every authority.
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

fn file(path: &Path) -> Result<Node, RenderError> {
    Ok(map! {"filename" => text(path)?})
}

/// The folder that a file is in, where another takes its place by renaming.
fn folder(path: &Path) -> Result<Node, RenderError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    Ok(map! {"path" => text(folder.unwrap_or(Path::new(".")))?})
}
