//! One probe of a server: is it ready, is each model version ready, and how does it describe each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tensorgate_judge::protocol_adapter::ProtocolAdapter;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::{Key, ModelStatus, PROBE_TIMEOUT, ProbeResult, tf_serving, torchserve};
use crate::backends::BackendError;
use crate::backends::oip::{Channel, Client, Endpoint, Http1Health};
use crate::backends::openai::Upstream;

/// The models that are probed concurrently. Over a slow network, probing a thousand models in turn
/// would take longer than a result is valid.
const MODELS_AT_ONCE: usize = 8;
/// A model that has not answered for this long does not block the probes of others.
const SLOW: Duration = Duration::from_millis(500);
/// The most slow models at once, in addition.
const SLOW_AT_ONCE: usize = 64;

/// How the text of a server's status begins that says that it does not know the model.
const NOT_FOUND: &str = "NotFound: ";

/// Probes one endpoint and each model. A timeout of the server itself ends the probe.
pub(super) async fn ask(keys: impl Iterator<Item = &Key>, endpoint: &Endpoint) -> ProbeResult {
    let client = match endpoint.client() {
        Client::Grpc(client) => client,
        Client::Http1(upstream, health) => {
            let found = over_http1(keys, upstream, health).await;
            return ProbeResult {
                found: Some(found.map_err(|error| failure(endpoint.uri(), &error))),
                ..ProbeResult::default()
            };
        }
    };
    let keys: Vec<_> = keys.collect();
    let mut line = client.connected_channel();
    let mut found = over(&keys, &line).await;
    if line.is_lost() && !matches!(found, Err(BackendError::Timeout(_))) {
        // The connection was lost before or during this probe. A second attempt shows whether a
        // server is there.
        line = client.connected_channel();
        found = over(&keys, &line).await;
    }
    if line.is_lost() && found.is_ok() {
        // The server behind the next connection is unknown.
        return ProbeResult::default();
    }
    if matches!(found, Err(BackendError::Timeout(_))) {
        // The connection may be dead without an error, for example after a power failure. Open
        // another.
        line = client.reconnect();
    }
    let found = match found {
        Ok(models) => Ok(models),
        Err(error) => Err(cause(&error, &line, endpoint).await),
    };
    ProbeResult {
        line: line.number(),
        found: Some(found),
    }
}

/// Why a probe failed. If the server has refused HTTP/2 and speaks HTTP/1.1, that is the cause. A
/// server that has both on one port has another problem.
async fn cause(error: &BackendError, line: &Channel, endpoint: &Endpoint) -> String {
    let uri = endpoint.uri();
    let refused = !matches!(error, BackendError::Timeout(_)) && line.is_without_http2();
    if !refused || !endpoint.speaks_http1().await {
        return failure(uri, error);
    }
    let usual = match line.dialect() {
        ProtocolAdapter::OpenInference => "Triton: 8001",
        ProtocolAdapter::TfServing => "TF Serving: 8500",
        ProtocolAdapter::TorchServe => "TorchServe: 7070",
    };
    format!("{uri}: this looks like the server's HTTP port; gRPC is usually another one ({usual})")
}

/// An endpoint's failure, with a hint where there is a usual reason.
fn failure(uri: &str, error: &BackendError) -> String {
    let text = own_text(error);
    let hint = if text.contains("Connection refused") {
        "; is the server up?"
    } else {
        ""
    };
    format!("{uri}: {text}{hint}")
}

/// The text of a failure without the prefix that it gets where a request needs the model.
fn own_text(error: &BackendError) -> String {
    match error {
        BackendError::Unavailable(cause)
        | BackendError::ClosedKept(cause)
        | BackendError::Broken(cause)
        | BackendError::Unsent(cause) => cause.clone(),
        error => error.to_string(),
    }
}

/// The text of a model's failure. A server that does not know a model often says no more than a
/// status.
fn model_text(error: &BackendError) -> String {
    match error {
        BackendError::Fault(cause) if cause.starts_with(NOT_FOUND) => format!(
            "the server does not have this model and version: load it there, or correct \
             backend_model or versions ({cause})"
        ),
        error => own_text(error),
    }
}

/// All probe requests over one connection.
async fn over(
    keys: &[&Key],
    line: &Arc<Channel>,
) -> Result<BTreeMap<Key, ModelStatus>, BackendError> {
    server(line).await?;
    models(keys, line).await
}

/// All probe requests over HTTP/1.1. Each has a connection of its own.
async fn over_http1(
    keys: impl Iterator<Item = &Key>,
    upstream: &Upstream,
    health: &Http1Health,
) -> Result<BTreeMap<Key, ModelStatus>, BackendError> {
    let models = match health {
        Http1Health::Models => Some(upstream.models(soon()).await?),
        // A server with a JSON format of its own reports nothing about models.
        Http1Health::Path(path) => {
            upstream.check_ready(path.as_deref(), soon()).await?;
            None
        }
    };
    let said = |key: &Key| match &models {
        Some(models) if !models.contains(&key.0) => {
            ModelStatus::Unready("it is not in the list of models".to_owned())
        }
        _ => ModelStatus::Listed,
    };
    Ok(keys.map(|key| (key.clone(), said(key))).collect())
}

fn soon() -> Instant {
    let now = Instant::now();
    now.checked_add(PROBE_TIMEOUT).unwrap_or(now)
}

async fn server(line: &Channel) -> Result<(), BackendError> {
    match line.dialect() {
        ProtocolAdapter::OpenInference => {}
        ProtocolAdapter::TfServing => return tf_serving::probe_server(line, soon()).await,
        ProtocolAdapter::TorchServe => return torchserve::probe_server(line, soon()).await,
    }
    if line.server_ready(soon()).await? {
        Ok(())
    } else {
        Err(BackendError::Busy(
            "the server reports that it is not ready".to_owned(),
        ))
    }
}

/// Probes each model. A model that times out is not ready and does not affect others, as long as
/// the server itself answers.
async fn models(
    keys: &[&Key],
    line: &Arc<Channel>,
) -> Result<BTreeMap<Key, ModelStatus>, BackendError> {
    let (mut found, mut late) = (BTreeMap::new(), false);
    let quick = Arc::new(Semaphore::new(MODELS_AT_ONCE));
    let all = Arc::new(Semaphore::new(MODELS_AT_ONCE.saturating_add(SLOW_AT_ONCE)));
    let mut keep = |asked: Result<Asked, JoinError>| {
        let (key, said) = asked.map_err(|error| {
            BackendError::Fault(format!("a health check request failed: {error}"))
        })?;
        late = late || matches!(said, Err(BackendError::Timeout(_)));
        // A failure of one model concerns only that model, because the server itself answers.
        let said = said.unwrap_or_else(|error| ModelStatus::Unready(model_text(&error)));
        found.insert(key, said);
        Ok::<_, BackendError>(())
    };
    // Probes that are still running when this ends are cancelled with the set.
    let mut asking = JoinSet::new();
    for &key in keys {
        let room = Arc::clone(&all).acquire_owned().await;
        let turn = Arc::clone(&quick).acquire_owned().await;
        let (key, line) = (key.clone(), Arc::clone(line));
        asking.spawn(async move {
            let _room = room;
            let said = {
                let asked = model(&key, &line);
                tokio::pin!(asked);
                match tokio::time::timeout(SLOW, &mut asked).await {
                    Ok(said) => said,
                    Err(_) => {
                        drop(turn);
                        asked.await
                    }
                }
            };
            (key, said)
        });
        while let Some(asked) = asking.try_join_next() {
            keep(asked)?;
        }
    }
    while let Some(asked) = asking.join_next().await {
        keep(asked)?;
    }
    if late {
        // The connection may be dead without an error, and no model to blame.
        server(line).await?;
    }
    Ok(found)
}

type Asked = (Key, Result<ModelStatus, BackendError>);

async fn model((name, version): &Key, line: &Channel) -> Result<ModelStatus, BackendError> {
    // One deadline for all requests about a model, so that a hanging second request does not extend
    // the probe.
    let deadline = soon();
    match line.dialect() {
        ProtocolAdapter::OpenInference => {}
        ProtocolAdapter::TfServing => {
            return tf_serving::probe_model(line, (name, version), deadline).await;
        }
        ProtocolAdapter::TorchServe => return Ok(ModelStatus::Listed),
    }
    if !line.model_ready(name, version, deadline).await? {
        return Ok(ModelStatus::NotLoaded("it is not ready".to_owned()));
    }
    let said = line.model_metadata(name, version, deadline).await?;
    Ok(said.map_or(ModelStatus::Undescribed, ModelStatus::Described))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// An answer of HTTP/1.1 to what is not.
    const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    const SSH: &[u8] = b"SSH-2.0-OpenSSH_9.9\r\n";
    /// SETTINGS without a setting, and GOAWAY with INTERNAL_ERROR.
    const FAILS: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x02";

    /// A server with one answer for connections of HTTP/2 and one for others. It closes those whose
    /// answer is empty, and otherwise waits until the client does.
    async fn server(to_http2: &'static [u8], to_http1: &'static [u8]) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut start = [0; 4];
                    let _ = stream.read_exact(&mut start).await;
                    let answer = if start == *b"PRI " {
                        to_http2
                    } else {
                        to_http1
                    };
                    if !answer.is_empty() && stream.write_all(answer).await.is_ok() {
                        let _ = stream.read_to_end(&mut Vec::new()).await;
                    }
                });
            }
        });
        Endpoint::new(&uri, None).unwrap()
    }

    #[tokio::test]
    async fn a_probe_of_an_http_port_names_the_mistake() {
        for (to_the_probe, to_http2, to_http1, hinted) in [
            ("an error", BAD_REQUEST, NOT_FOUND, true),
            ("a closed connection", b"", NOT_FOUND, true),
            ("HTTP/2 that fails", FAILS, NOT_FOUND, false),
            ("nothing in any protocol", b"", b"", false),
            ("another protocol", SSH, SSH, false),
        ] {
            let endpoint = server(to_http2, to_http1).await;
            let result = ask(std::iter::empty(), &endpoint).await;
            let cause = result.cause().unwrap();
            let hint = "this looks like the server's HTTP port; gRPC is usually another one (Triton: 8001)";
            assert_eq!(cause.ends_with(hint), hinted, "{to_the_probe}: {cause}");
            assert!(cause.starts_with(endpoint.uri()), "{to_the_probe}: {cause}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_is_reported_once_with_a_hint() {
        // Nothing listens at the port of tcpmux.
        let uri = "http://127.0.0.1:1";
        let endpoint = Endpoint::new(uri, None).unwrap();
        let result = ask(std::iter::empty(), &endpoint).await;
        let cause = result.cause().unwrap();
        let refused = TcpStream::connect("127.0.0.1:1").await.unwrap_err();
        assert_eq!(cause, format!("{uri}: {refused}; is the server up?"));
    }
}
