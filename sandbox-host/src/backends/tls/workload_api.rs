//! An agent of SPIFFE's Workload API: over a Unix socket it says who this host is and whom to trust, and says it anew before that lapses. What it says is
//! read as untrusted input.
//!
//! | the agent | new connections |
//! |---|---|
//! | says who this host is, and whom to trust where the server is | are made with that |
//! | says something without its form, or goes away | are made with what it said before |
//! | says it all, and names no authorities any more where the server is | are not made |
//! | denies this host an identity | are not made |
//! | has a list of what an authority revokes | are not made with a server on it, or once the list has lapsed |

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tonic::{Code, Request, Status};
use webpki::OwnedCertRevocationList;

use super::{Authorities, configuration, workload};
use crate::backends::oip::Endpoint;
use crate::backends::unary::Raw;

/// The method (SPIFFE Workload API, 4.1).
const METHOD: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
/// The field without which an agent must refuse (SPIFFE Workload Endpoint, 4): whoever can be made to send requests elsewhere cannot set it.
const SECURITY_FIELD: (&str, &str) = ("workload.spiffe.io", "true");
/// What an agent may say at once, bytes: bundles of hundreds of authorities.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Certificates of one chain, authorities of one bundle, and lists of revoked certificates.
const MAX_CERTIFICATES: usize = 256;
/// How long an agent may take to say who this is.
const FIRST_ANSWER: Duration = Duration::from_secs(30);
/// Between two tries to ask an agent: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// `X509SVIDResponse`.
#[derive(Clone, PartialEq, Message)]
struct Said {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<Svid>,
    /// What authorities take back, DER each.
    #[prost(bytes = "vec", repeated, tag = "2")]
    crl: Vec<Vec<u8>>,
    /// By the trust domain's id.
    #[prost(map = "string, bytes", tag = "3")]
    federated_bundles: HashMap<String, Vec<u8>>,
}

/// `X509SVID`.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct Svid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    /// Certificates one after the other, DER.
    #[prost(bytes = "vec", tag = "2")]
    x509_svid: Vec<u8>,
    /// PKCS#8, DER.
    #[prost(bytes = "vec", tag = "3")]
    x509_svid_key: Vec<u8>,
    /// Authorities of its own trust domain, one after the other, DER.
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
}

impl std::fmt::Debug for Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Svid")
            .field("spiffe_id", &self.spiffe_id)
            .finish_non_exhaustive()
    }
}

/// What connections are made with; none before the agent has said who this host is.
type Known = Option<Arc<ClientConfig>>;

/// An agent that is listened to as long as this is there.
#[derive(Debug)]
pub(super) struct Agent {
    known: watch::Receiver<Known>,
    listening: JoinHandle<()>,
}

impl Agent {
    /// Listens to the agent at `unix:/path`, for connections to the workload of an id over a protocol. Must be called within a Tokio runtime.
    pub(super) fn new(address: &str, id: &str, protocol: &'static [u8]) -> Result<Self, String> {
        let endpoint = Endpoint::new(address, None).map_err(|error| error.to_string())?;
        let (tell, known) = watch::channel(None);
        let listening = tokio::spawn(listen(endpoint, id.to_owned(), protocol, tell));
        Ok(Self { known, listening })
    }

    /// What the next connection is made with, once the agent has said who this host is; `None`: nobody listens to it any more.
    pub(super) async fn config(&self) -> Known {
        let mut known = self.known.clone();
        let config = known.wait_for(Option::is_some).await;
        config.ok().and_then(|config| config.clone())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Why nothing can be made of what an agent says.
#[derive(Debug, PartialEq, Eq)]
enum Unused {
    /// A message is not what it must be: it is passed over (SPIFFE Workload API, 4.5).
    Malformed(String),
    /// A message is all that there is: what it does not say any more is not to be used any more (4.4).
    Withdrawn(String),
}

/// Asks for ever: an agent that is gone is asked again, less and less often.
async fn listen(
    endpoint: Endpoint,
    id: String,
    protocol: &'static [u8],
    known: watch::Sender<Known>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let heard = &mut false;
        let ended = hear(&endpoint, heard, |said| {
            let agent = endpoint.uri();
            match configured(said, &id, protocol) {
                Ok((who, config)) => {
                    known.send_replace(Some(Arc::new(config)));
                    tracing::info!(agent, id = who, "an agent says who this host is");
                }
                Err(Unused::Malformed(cause)) => tracing::error!(
                    agent,
                    cause,
                    "what an agent says of this host cannot be used: what it said before stays in force"
                ),
                Err(Unused::Withdrawn(cause)) => {
                    known.send_replace(None);
                    tracing::error!(agent, cause, "an agent takes back what it said of this host");
                }
            }
        })
        .await;
        if *heard {
            pause = FIRST_PAUSE;
        }
        match ended.code() {
            // It has no identity for this host, or none any more (SPIFFE Workload API, 5.2.1).
            Code::PermissionDenied => drop(known.send_replace(None)),
            // What is asked is wrong, not when: seldom is enough to find an agent that was replaced (SPIFFE Workload Endpoint, 6).
            Code::InvalidArgument | Code::Unimplemented => pause = LONGEST_PAUSE,
            _ => {}
        }
        tracing::warn!(
            agent = endpoint.uri(),
            cause = %ended,
            "an agent does not say who this host is: it is asked again"
        );
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// Asks once, and hears until the agent has no more to say; `heard`: whether it said anything. Why it ended.
async fn hear(endpoint: &Endpoint, heard: &mut bool, mut tell: impl FnMut(&Said)) -> Status {
    let late = || Status::deadline_exceeded("it says nothing");
    let first = async {
        let mut client = endpoint.fresh().caller(MAX_MESSAGE_BYTES).await?;
        let mut request = Request::new(Bytes::new());
        let (name, value) = SECURITY_FIELD;
        let value = tonic::metadata::MetadataValue::from_static(value);
        request.metadata_mut().insert(name, value);
        let method = PathAndQuery::from_static(METHOD);
        let answers = client.server_streaming(request, method, Raw).await?;
        let mut answers = answers.into_inner();
        let first = answers.message().await?;
        Ok((answers, first))
    };
    let (mut answers, mut next) = match tokio::time::timeout(FIRST_ANSWER, first).await {
        Ok(Ok(begun)) => begun,
        Ok(Err(status)) => return status,
        Err(_) => return late(),
    };
    while let Some(message) = next {
        let said = match Said::decode(message) {
            Ok(said) => said,
            Err(error) => return Status::internal(error.to_string()),
        };
        *heard = true;
        tell(&said);
        next = match answers.message().await {
            Ok(next) => next,
            Err(status) => return status,
        };
    }
    Status::ok("it has no more to say")
}

/// Who this host is, and how it connects to the workload of an id.
fn configured(
    said: &Said,
    id: &str,
    protocol: &'static [u8],
) -> Result<(String, ClientConfig), Unused> {
    let malformed = |what: &str| Unused::Malformed(what.to_owned());
    let whole = |svid: &Svid| {
        !svid.spiffe_id.is_empty()
            && [&svid.x509_svid, &svid.x509_svid_key, &svid.bundle]
                .iter()
                .all(|field| !field.is_empty())
    };
    if !said.svids.iter().all(whole) {
        return Err(malformed("an identity lacks what each must have"));
    }
    // The first is the default one (SPIFFE Workload API, 5.3).
    let Some(own) = said.svids.first() else {
        return Err(malformed("it names no identity of this host"));
    };
    let chain = certificates(&own.x509_svid).map_err(unusable("its certificate"))?;
    if chain.first().and_then(|leaf| workload(leaf)).as_deref() != Some(own.spiffe_id.as_str()) {
        return Err(malformed("its certificate is not of the id that it names"));
    }
    let domain =
        trust_domain(id).ok_or_else(|| malformed("the server's id has no trust domain"))?;
    let bundle = if trust_domain(&own.spiffe_id) == Some(domain) {
        &own.bundle
    } else {
        let theirs = said.federated_bundles.get(domain);
        theirs.ok_or_else(|| Unused::Withdrawn(format!("it has no authorities of {domain}")))?
    };
    let mut authorities = Authorities::none();
    for authority in certificates(bundle).map_err(unusable("its authorities"))? {
        let added = authorities.roots.add(authority);
        added.map_err(unusable("an authority"))?;
    }
    if said.crl.len() > MAX_CERTIFICATES {
        return Err(malformed("too many lists of revoked certificates"));
    }
    for list in &said.crl {
        let list = OwnedCertRevocationList::from_der(list)
            .map_err(unusable("a list of revoked certificates"))?;
        authorities.revoked.push(list.into());
    }
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.x509_svid_key.clone()));
    let config = configuration(authorities, Some(id), Some((chain, key)), protocol)
        .map_err(unusable("its certificate"))?;
    Ok((own.spiffe_id.clone(), config))
}

/// A part of a message of which nothing can be made.
fn unusable<E: std::fmt::Display>(part: &'static str) -> impl FnOnce(E) -> Unused {
    move |cause| Unused::Malformed(format!("{part}: {cause}"))
}

/// `spiffe://domain` of a workload's id.
fn trust_domain(id: &str) -> Option<&str> {
    let scheme = "spiffe://";
    let rest = id.strip_prefix(scheme)?;
    let name = rest.split('/').next().filter(|name| !name.is_empty())?;
    id.get(..scheme.len().checked_add(name.len())?)
}

/// Certificates that stand one after the other, at least one.
fn certificates(mut der: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (one, rest) = sequence(der).ok_or("no certificates one after the other")?;
        if found.len() >= MAX_CERTIFICATES {
            return Err("too many certificates");
        }
        found.push(CertificateDer::from(one.to_vec()));
        der = rest;
    }
    if found.is_empty() {
        return Err("no certificate");
    }
    Ok(found)
}

/// The first value of a text, which is a SEQUENCE, and what comes behind it (X.690, 8.1: tag, length, contents).
fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if tag != 0x30 {
        return None;
    }
    let (header, length) = match first {
        0..=0x7f => (2_usize, usize::from(first)),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let bytes = rest.get(..count)?;
            let length = (bytes.iter()).fold(0_u32, |length, byte| {
                length.wrapping_shl(8) | u32::from(*byte)
            });
            (count.checked_add(2)?, usize::try_from(length).ok()?)
        }
        _ => return None,
    };
    der.split_at_checked(header.checked_add(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_one_after_the_other_are_told_apart_and_nothing_else_is_one() {
        let long = [&[0x30, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        let two = [&long[..], &[0x30, 0x01, 0x05]].concat();
        for (der, expected) in [
            (&[0x30, 0x00][..], Some((2, 0))),
            (&[0x30, 0x01, 0x05, 0x30], Some((3, 1))),
            (&two, Some((260, 3))),
            (long.get(..259).unwrap_or_default(), None),
            (&[0x30], None),
            (&[], None),
            (&[0x31, 0x00], None),
            (&[0x30, 0x80, 0x00, 0x00], None),
            (&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00], None),
            (&[0x30, 0x85, 0, 0, 0, 0, 0], None),
            (&[0x30, 0x82, 0x01], None),
        ] {
            let found = sequence(der).map(|(one, rest)| (one.len(), rest.len()));
            assert_eq!(found, expected, "{der:?}");
        }
        assert_eq!(certificates(&two).map(|found| found.len()), Ok(2));
        assert!(certificates(&[]).is_err());
        assert!(certificates(&[0x30, 0x00, 0x01]).is_err());
        let many = [0x30, 0x00].repeat(MAX_CERTIFICATES.saturating_add(1));
        assert_eq!(certificates(&many), Err("too many certificates"));
    }

    #[test]
    fn an_id_is_of_its_trust_domain() {
        for (id, expected) in [
            ("spiffe://prod/ns/a", Some("spiffe://prod")),
            ("spiffe://prod", Some("spiffe://prod")),
            ("spiffe:///a", None),
            ("https://prod/a", None),
        ] {
            assert_eq!(trust_domain(id), expected, "{id}");
        }
    }

    #[test]
    fn a_key_is_in_no_log() {
        let svid = Svid {
            spiffe_id: "spiffe://prod/gate".to_owned(),
            x509_svid_key: b"secret".to_vec(),
            ..Svid::default()
        };
        assert_eq!(
            format!("{svid:?}"),
            "Svid { spiffe_id: \"spiffe://prod/gate\", .. }"
        );
    }
}
