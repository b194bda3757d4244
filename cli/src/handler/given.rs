//! Files that a case gives, in place of a network: what a handler asks for is judged by the manifest's `fetch:` as the host would.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use tensorgate_host::sandbox::{Ask, Behalf, Bring, Brought, Busy, File, Missing};
use tensorgate_policy::policy::Fetch;
use tokio::time::Instant;

/// A case's files, by URL.
pub struct Given {
    /// What may be asked for.
    pub rule: Option<Fetch>,
    /// The files.
    pub files: BTreeMap<String, File>,
}

impl Given {
    fn file(&self, url: &str) -> Result<File, Missing> {
        let rule = self.rule.as_ref().ok_or(Missing::Refused)?;
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

impl Bring for Given {
    fn bring<'b>(
        &'b self,
        asks: &'b [Ask],
        _: &'b Behalf,
        _: Option<Instant>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Brought>, Busy>> + Send + 'b>> {
        let brought = asks
            .iter()
            .map(|Ask::File(url)| Brought::File(self.file(url)))
            .collect();
        Box::pin(std::future::ready(Ok(brought)))
    }
}
