//! The form in which records are sent: the log's own lines, or events of OCSF.

use std::borrow::Cow;
use std::sync::Arc;

use tensorgate_policy::values::OcsfVersion;

use super::ocsf;
use super::spool::Record;

/// The form of what an exporter sends.
#[derive(Clone, Debug)]
pub(super) struct Form {
    /// The version of OCSF; `None` for the lines themselves.
    pub(super) ocsf: Option<OcsfVersion>,
    /// The log's ID.
    pub(super) log: Arc<str>,
}

impl Form {
    /// A record as one line of JSON, without its end.
    pub(super) fn text<'r>(&self, record: &'r Record) -> Cow<'r, str> {
        match self.ocsf {
            Some(version) => ocsf::text(record, &self.log, version).into(),
            None => record.text.as_str().into(),
        }
    }
}
