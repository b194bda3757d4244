//! Files and features that a case gives, in place of a network: what a handler asks for is judged by the manifest's `fetch:` and `lookups:` as the host would.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use tensorgate_host::sandbox::{Ask, Behalf, Bring, Brought, Busy, Column, File, Missing};
use tensorgate_policy::policy::Handler;
use tokio::time::Instant;

use super::case::Features;

/// What a case gives.
pub struct Given {
    /// What may be asked for.
    pub rule: Handler,
    /// Files by URL.
    pub files: BTreeMap<String, File>,
    /// Values by lookup, feature and key.
    pub features: Features,
}

impl Given {
    fn file(&self, url: &str) -> Result<File, Missing> {
        let rule = self.rule.fetch().ok_or(Missing::Refused)?;
        rule.target(url).map_err(|_| Missing::Refused)?;
        let file = self.files.get(url).ok_or(Missing::NotFound)?;
        if file.data.len() > rule.max_bytes() {
            Err(Missing::TooLarge)
        } else if !rule.content_types().contains(&file.content_type) {
            Err(Missing::WrongType)
        } else {
            Ok(file.clone())
        }
    }
}

impl Given {
    fn columns(
        &self,
        lookup: &str,
        features: &[String],
        keys: &[String],
    ) -> Result<Vec<Column>, Missing> {
        let rule = self.rule.lookups().get(lookup).ok_or(Missing::Refused)?;
        rule.takes(features, keys).map_err(|_| Missing::Refused)?;
        let known = self.features.get(lookup);
        let columns = features.iter().map(|feature| {
            let known = known.and_then(|features| features.get(feature));
            let value = |key| known.and_then(|keys| keys.get(key)).copied();
            Column {
                feature: feature.clone(),
                values: keys.iter().map(value).collect(),
            }
        });
        Ok(columns.collect())
    }
}

impl Bring for Given {
    fn bring<'b>(
        &'b self,
        asks: &'b [Ask],
        _: &'b Behalf,
        _: Option<Instant>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Brought>, Busy>> + Send + 'b>> {
        let brought = asks
            .iter()
            .map(|ask| match ask {
                Ask::File(url) => Brought::File(self.file(url)),
                Ask::Columns {
                    lookup,
                    features,
                    keys,
                } => Brought::Columns(self.columns(lookup, features, keys)),
            })
            .collect();
        Box::pin(std::future::ready(Ok(brought)))
    }
}
