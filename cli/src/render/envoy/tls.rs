//! TLS of the listener: what Envoy offers, whom it believes, and where it gets certificates from.
//!
//! Certificates, keys, authorities and revocation lists come as secrets (SDS) from a file each, which names the PEM files and the folders to
//! watch: a certificate that is put in another's place by renaming is in force without a restart, and no connection is dropped for it.

use std::path::Path;

use tensorgate_policy::policy::Tls;

use super::{Places, RenderError, text};
use crate::render::node::{Node, list, map};

/// The secret with the gate's own certificate.
const CERTIFICATE: &str = "gate-certificate";
/// The secret with the authorities of client certificates.
const AUTHORITIES: &str = "client-authorities";

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

/// The files of secrets that [`transport_socket`] names, by their names in [`Places::secrets`].
pub fn secrets(tls: &Tls, places: &Places) -> Result<Vec<(String, Node)>, RenderError> {
    const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    let cert = places.root.join(tls.cert());
    let resource = |name: &str, kind: &str, secret: Node| {
        let secret = Node::Map(vec![
            ("@type".to_owned(), SECRET.into()),
            ("name".to_owned(), name.into()),
            (kind.to_owned(), secret),
        ]);
        (file_name(name), map! {"resources" => list![secret]})
    };
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
            // Of the whole chain, which is what Envoy does unless told to look at the client's certificate only: an authority between may be
            // revoked too. So the file holds a list of every authority.
            context.push(("crl".to_owned(), file(&places.root.join(crl))?));
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
