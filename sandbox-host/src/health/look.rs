//! One look at one server: is it ready, is each model version, and what does it say of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;
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

/// Asks one endpoint for itself and for each model. The first question that gets no answer in time ends it.
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

async fn models(keys: &[&Key], line: &Arc<Line>) -> Result<BTreeMap<Key, Said>, BackendError> {
    let mut found = BTreeMap::new();
    let mut left = keys.iter();
    // What is still asked when this ends is asked for nobody: it ends with the set.
    let mut asking = JoinSet::new();
    loop {
        while asking.len() < MODELS_AT_ONCE
            && let Some(&key) = left.next()
        {
            let (key, line) = (key.clone(), Arc::clone(line));
            asking.spawn(async move {
                let said = model(&key, &line).await;
                (key, said)
            });
        }
        let Some(asked) = asking.join_next().await else {
            return Ok(found);
        };
        let (key, said) =
            asked.map_err(|error| BackendError::Fault(format!("a question failed: {error}")))?;
        let said = match said {
            Ok(said) => said,
            Err(error @ BackendError::Timeout(_)) => return Err(error),
            // One model's absence is that model's: the server itself answers.
            Err(error) => Said::Unready(error.to_string()),
        };
        found.insert(key, said);
    }
}

async fn model((name, version): &Key, line: &Line) -> Result<Said, BackendError> {
    match line.dialect() {
        Dialect::OpenInference => {}
        Dialect::TfServing => return served::tf_model(line, (name, version), soon()).await,
        Dialect::TorchServe => return Ok(Said::Listed),
    }
    if !line.model_ready(name, version, soon()).await? {
        return Ok(Said::Unready("it is not ready".to_owned()));
    }
    let said = line.model_metadata(name, version, soon()).await?;
    Ok(said.map_or(Said::Undescribed, Said::Described))
}
