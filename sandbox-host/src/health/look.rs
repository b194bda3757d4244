//! One look at one server: is it ready, is each model version, and what does it say of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::sighting::Said;
use super::{Key, PROBE_TIMEOUT, Sighting, served};
use crate::backends::BackendError;
use crate::backends::http_json::HttpJson;
use crate::backends::oip::{Endpoint, Line};
use crate::backends::openai::Upstream;
use crate::backends::question::Dialect;

/// Models that a server is asked for at once: over a network that takes its time a thousand in turn would take longer than an answer counts.
const MODELS_AT_ONCE: usize = 8;
/// A model that has not answered for so long keeps no other from being asked.
const SLOW: Duration = Duration::from_millis(500);
/// Models that may be so at once, beside those.
const SLOW_AT_ONCE: usize = 64;

/// Asks one endpoint for itself and for each model. A question for the server itself that gets no answer in time ends it.
pub(super) async fn ask(keys: impl Iterator<Item = &Key>, endpoint: &Endpoint) -> Sighting {
    if let Some(upstream) = endpoint.openai() {
        return listed(keys, upstream, endpoint).await;
    }
    if let Some(server) = endpoint.json() {
        return up(keys, server, endpoint).await;
    }
    let keys: Vec<_> = keys.collect();
    let mut line = endpoint.fresh();
    let mut found = over(&keys, &line).await;
    if line.is_lost() && !matches!(found, Err(BackendError::Timeout(_))) {
        // It was lost before this look, or by it: the next one says whether anybody is there.
        line = endpoint.fresh();
        found = over(&keys, &line).await;
    }
    if line.is_lost() && found.is_ok() {
        // What answers next is not known.
        return Sighting::default();
    }
    if matches!(found, Err(BackendError::Timeout(_))) {
        // The connection may be dead without a word, as after a power cut: open another.
        line = endpoint.reconnect();
    }
    Sighting {
        line: line.number(),
        found: Some(found.map_err(|error| format!("{}: {error}", endpoint.uri()))),
    }
}

/// Every question, over one connection.
async fn over(keys: &[&Key], line: &Arc<Line>) -> Result<BTreeMap<Key, Said>, BackendError> {
    server(line).await?;
    models(keys, line).await
}

/// What a server of OpenAI's API lists. It makes a connection for each question, so that nothing hangs on one.
async fn listed(
    keys: impl Iterator<Item = &Key>,
    upstream: &Upstream,
    endpoint: &Endpoint,
) -> Sighting {
    let found = upstream.models(soon()).await.map(|models| {
        let said = |key: &Key| {
            if models.contains(&key.0) {
                Said::Listed
            } else {
                Said::Unready("it is not in the list of models".to_owned())
            }
        };
        keys.map(|key| (key.clone(), said(key))).collect()
    });
    Sighting {
        line: endpoint.line().number(),
        found: Some(found.map_err(|error| format!("{}: {error}", endpoint.uri()))),
    }
}

/// A server of JSON of its own, which says nothing of its models. It makes a connection for each question, too.
async fn up(keys: impl Iterator<Item = &Key>, server: &HttpJson, endpoint: &Endpoint) -> Sighting {
    let found = server.is_ready(soon()).await;
    let found = found.map(|()| keys.map(|key| (key.clone(), Said::Listed)).collect());
    Sighting {
        line: endpoint.line().number(),
        found: Some(found.map_err(|error| format!("{}: {error}", endpoint.uri()))),
    }
}

fn soon() -> Instant {
    let now = Instant::now();
    now.checked_add(PROBE_TIMEOUT).unwrap_or(now)
}

async fn server(line: &Line) -> Result<(), BackendError> {
    match line.dialect() {
        Dialect::OpenInference => {}
        Dialect::TfServing => return served::tf_server(line, soon()).await,
        Dialect::TorchServe => return served::torch_server(line, soon()).await,
    }
    if line.server_ready(soon()).await? {
        Ok(())
    } else {
        Err(BackendError::Busy(
            "the server says that it is not ready".to_owned(),
        ))
    }
}

/// What the server says of each model. One that does not answer in time is not ready, and no other's matter, as long as the server itself answers.
async fn models(keys: &[&Key], line: &Arc<Line>) -> Result<BTreeMap<Key, Said>, BackendError> {
    let (mut found, mut late) = (BTreeMap::new(), false);
    let quick = Arc::new(Semaphore::new(MODELS_AT_ONCE));
    let all = Arc::new(Semaphore::new(MODELS_AT_ONCE.saturating_add(SLOW_AT_ONCE)));
    let mut keep = |asked: Result<Asked, JoinError>| {
        let (key, said) =
            asked.map_err(|error| BackendError::Fault(format!("a question failed: {error}")))?;
        late = late || matches!(said, Err(BackendError::Timeout(_)));
        // One model's absence is that model's: the server itself answers.
        let said = said.unwrap_or_else(|error| Said::Unready(error.to_string()));
        found.insert(key, said);
        Ok::<_, BackendError>(())
    };
    // What is still asked when this ends is asked for nobody: it ends with the set.
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
        // The connection may be dead without a word, and no model to blame.
        server(line).await?;
    }
    Ok(found)
}

type Asked = (Key, Result<Said, BackendError>);

async fn model((name, version): &Key, line: &Line) -> Result<Said, BackendError> {
    // One for all that is asked of it: a look lasts no longer for a model that hangs at its second question.
    let deadline = soon();
    match line.dialect() {
        Dialect::OpenInference => {}
        Dialect::TfServing => return served::tf_model(line, (name, version), deadline).await,
        Dialect::TorchServe => return Ok(Said::Listed),
    }
    if !line.model_ready(name, version, deadline).await? {
        return Ok(Said::Unready("it is not ready".to_owned()));
    }
    let said = line.model_metadata(name, version, deadline).await?;
    Ok(said.map_or(Said::Undescribed, Said::Described))
}
