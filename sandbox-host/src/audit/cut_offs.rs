//! That a handler is left alone, and for whom, as lines of their own: the requests that are refused for it may be anybody's, and none of them says when it
//! began.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use super::Audit;
use super::record::{CutOff, Event};
use crate::sandbox::Hears;

/// Writes them, once there is a log: handlers are loaded before it is opened, and called after.
#[derive(Debug, Default)]
pub struct CutOffs(OnceLock<Audit>);

impl CutOffs {
    /// The log that they go to; the first counts.
    pub fn write_to(&self, audit: &Audit) {
        let _ = self.0.set(audit.clone());
    }
}

impl Hears for CutOffs {
    fn cut_off(&self, handler: &str, client: Option<&str>, long: Option<Duration>) {
        let Some(audit) = self.0.get() else {
            return;
        };
        let cut_off = CutOff {
            handler: handler.to_owned(),
            client: client.map(str::to_owned),
            state: if long.is_some() { "open" } else { "closed" }.to_owned(),
            for_ms: long.map(|long| u64::try_from(long.as_millis()).unwrap_or(u64::MAX)),
        };
        audit.write(SystemTime::now(), Event::CutOff(cut_off));
    }
}
