//! The outcome of a decision for logs, access logs, metrics and `explain`. Never contains a
//! credential.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tensorgate_policy::denial::{MAX_SHADOWED, Shadowed};
use tensorgate_policy::policy::Shadow;
use tensorgate_policy::{Decision, Denial, Policy, Reason};

use crate::filter::Filter;
use crate::host::{HostFault, Level, Proxy, Shared, SharedStore};

/// Maximum length of a cause in the log, in bytes. A cause may quote names from the caller, which
/// are limited themselves ([`tensorgate_wire::limits::MAX_NAME_BYTES`]).
pub const MAX_DETAIL_BYTES: usize = 1024;

/// Access log properties that a filter sets. Envoy prints one with
/// `%FILTER_STATE(wasm.tg_outcome:PLAIN)%`.
pub mod property {
    /// In a chain: the last filter that wrote an outcome.
    pub const FILTER: &str = "tg_filter";
    /// Outcome of the request as JSON: [`super::Record::to_property`]. It is one property because
    /// each costs a host call.
    pub const OUTCOME: &str = "tg_outcome";
    /// Set once the head was forwarded before the verdict on the body: the upstream knows the
    /// request, whatever the verdict is.
    pub const FORWARDED: &str = "tg_forwarded";
    /// VM id and sequence number of this outcome; see `crate::log_sequence`.
    pub const SEQUENCE: &str = "tg_entry";
}

/// How a request left the filter. The set of values is fixed, so metrics contain nothing that a
/// client chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Forwarded.
    Allow,
    /// Rejected.
    Deny(Reason),
    /// Ended before a verdict: the client disconnected or the proxy gave up.
    Aborted,
}

impl Verdict {
    /// All verdicts.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Allow, Self::Aborted]
            .into_iter()
            .chain(Reason::ALL.into_iter().map(Self::Deny))
    }

    /// `allow`, `deny` or `aborted`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny(_) => "deny",
            Self::Aborted => "aborted",
        }
    }

    /// `ok`, the reason of the rejection, or `incomplete`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Allow => "ok",
            Self::Deny(reason) => reason.name(),
            Self::Aborted => "incomplete",
        }
    }

    /// Name of the counter with its labels, in the form that the rendered `stats_tags` parse.
    pub fn metric(self) -> String {
        format!(
            "tensorgate_requests;verdict={};reason={};",
            self.name(),
            self.reason()
        )
    }
}

/// Name of the counter for a shadow denial, in the same form.
pub fn shadow_metric(reason: Reason) -> String {
    format!("tensorgate_shadowed;reason={reason};")
}

/// Parses the shadow denials that previous filters wrote to [`property::OUTCOME`]; unknown reasons
/// are dropped.
pub fn parse_shadowed(outcome: &[u8]) -> Vec<Shadowed> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Outcome {
        shadow: Vec<Shadowed>,
    }
    let property_json = serde_json::from_slice(outcome)
        .map_or(Vec::new(), |property_json: Outcome| property_json.shadow);
    let may_be = |one: &Shadowed| {
        let mut reasons = Shadow::REASONS.into_iter();
        reasons.any(|reason| reason.name() == one.reason)
    };
    property_json
        .into_iter()
        .filter(may_be)
        .take(MAX_SHADOWED)
        .collect()
}

/// Whether [`property::OUTCOME`] says that the request was not allowed.
pub fn parse_not_allowed(outcome: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Outcome {
        verdict: String,
    }
    let property_json = serde_json::from_slice(outcome);
    property_json.is_ok_and(|property_json: Outcome| property_json.verdict != Verdict::Allow.name())
}

/// Outcome of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Reason of the rejection.
    pub reason: Option<Reason>,
    /// Name of the client, once known.
    pub client: Option<String>,
    /// Log name of the evaluated credential.
    pub credential: Option<String>,
    /// Public name of the model, once granted.
    pub model: Option<String>,
    /// Name of the grant, once found.
    pub rule: Option<String>,
    /// Full cause, for the log.
    pub detail: String,
    /// Denials that the grant's shadow mode let pass.
    pub shadow: Vec<Shadowed>,
}

/// Contents of [`property::OUTCOME`].
#[derive(Serialize)]
struct OutcomeProperty<'a> {
    verdict: &'static str,
    reason: &'static str,
    /// Unset while unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    /// Unset if no credential was evaluated, or if it has no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
    /// Unset until granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    /// Unset until found.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    /// Unset unless rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    /// Unset if empty.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    shadow: &'a [Shadowed],
}

impl Record {
    /// Cause of a rejection, truncated to its maximum.
    pub fn cause(&self) -> Option<&str> {
        self.reason?;
        Some(truncate(&self.detail, MAX_DETAIL_BYTES))
    }

    /// [`property::OUTCOME`]: verdict, reason and what else is known.
    pub fn to_property(&self, verdict: Verdict) -> String {
        let property_json = OutcomeProperty {
            verdict: verdict.name(),
            reason: verdict.reason(),
            client: self.client.as_deref(),
            credential: self.credential.as_deref(),
            model: self.model.as_deref(),
            rule: self.rule.as_deref(),
            detail: self.cause(),
            shadow: &self.shadow,
        };
        // Only texts, so serialization cannot fail.
        serde_json::to_string(&property_json).unwrap_or_default()
    }

    /// One JSON line for the log. Control characters from the caller are escaped, so one request is
    /// one line.
    pub fn to_log_line(&self, verdict: Verdict, request_id: &str, source: Option<&str>) -> String {
        let mut line = json!({
            "event": "decision",
            "verdict": verdict.name(),
            "reason": verdict.reason(),
            "request_id": request_id,
            "source": source,
            "client": self.client,
            "credential": self.credential,
            "model": self.model,
            "rule": self.rule,
            "detail": truncate(&self.detail, MAX_DETAIL_BYTES),
        });
        if let (false, Some(members)) = (self.shadow.is_empty(), line.as_object_mut()) {
            members.insert("shadow".to_owned(), json!(self.shadow));
        }
        line.to_string()
    }
}

/// Longest prefix of at most `max_bytes` that ends at a character boundary.
fn truncate(text: &str, max_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(max_bytes))
        .unwrap_or("")
}

// Reports the outcome of a request to the log, the access log and the counters: one outcome per
// request, for any number of filters.
//
// In the access log the last writer wins, because a filter that rejects is the last one to write.
// A counter cannot be decremented. In a chain the count therefore waits for the end of the stream,
// and the last writer counts.

/// The outcome as far as this filter knows it.
#[derive(Debug)]
pub(crate) struct Outcome {
    filter: Filter,
    pub(crate) record: Record,
    verdict: Option<Verdict>,
    counted: bool,
    numbered: bool,
    /// Whether the grant has a shadow mode, so that a previous filter may have reported shadow
    /// denials.
    shadows: bool,
    /// Number of shadow denials already counted.
    shadowed: usize,
}

impl Outcome {
    pub(crate) fn new(filter: Filter) -> Self {
        Self {
            filter,
            record: Record::default(),
            verdict: None,
            counted: false,
            numbered: false,
            shadows: false,
            shadowed: 0,
        }
    }

    /// Records what the decision has established.
    pub(crate) fn note(&mut self, policy: &Policy, decision: &Decision) {
        self.record.client = decision
            .client()
            .and_then(|id| policy.client(id))
            .map(|client| client.name().to_owned());
        self.record.model = decision
            .model()
            .and_then(|id| policy.model(id))
            .map(|model| model.name().to_owned());
        let grant = decision.grant().and_then(|id| policy.grant(id));
        self.record.rule = grant.map(|grant| grant.name().to_owned());
        self.shadows = grant.is_some_and(|grant| grant.shadow() != Shadow::default());
        self.record.shadow = decision.shadowed().iter().map(Shadowed::of).collect();
    }

    /// Records an allowed request. Only shadow denials are logged.
    pub(crate) fn allowed(&mut self, proxy: &mut dyn Proxy, request_id: &str) {
        if !self.record.shadow.is_empty() {
            self.log(proxy, Verdict::Allow, request_id);
        }
        self.decided(proxy, Verdict::Allow);
    }

    /// Records and logs a rejection.
    pub(crate) fn denied(&mut self, proxy: &mut dyn Proxy, denial: &Denial, request_id: &str) {
        self.record.reason = Some(denial.reason);
        self.record.detail.clone_from(&denial.cause);
        let verdict = Verdict::Deny(denial.reason);
        self.log(proxy, verdict, request_id);
        self.decided(proxy, verdict);
    }

    /// Logs and counts one message of a stream, as for a request. The stream has its own outcome.
    /// Returns the names of the message's model and grant.
    pub(crate) fn message(
        &mut self,
        proxy: &mut dyn Proxy,
        policy: &Policy,
        decision: &Decision,
        denial: Option<&Denial>,
        id: &str,
    ) -> (Option<String>, Option<String>) {
        let mut one = Self::new(self.filter);
        one.note(policy, decision);
        one.record.credential.clone_from(&self.record.credential);
        let verdict = match denial {
            Some(denial) => {
                one.record.reason = Some(denial.reason);
                one.record.detail.clone_from(&denial.cause);
                Verdict::Deny(denial.reason)
            }
            None => Verdict::Allow,
        };
        if denial.is_some() || !one.record.shadow.is_empty() {
            one.log(proxy, verdict, id);
        }
        one.count_shadows(proxy);
        // In a chain, the rejecting filter counts a message; otherwise the validating filter does.
        if denial.is_some() || self.filter.capabilities().check {
            proxy.count(verdict);
        }
        (self.record.model, self.record.rule) = (one.record.model.clone(), one.record.rule.clone());
        (one.record.model, one.record.rule)
    }

    /// Writes one log line.
    fn log(&self, proxy: &mut dyn Proxy, verdict: Verdict, request_id: &str) {
        let level = match verdict {
            Verdict::Deny(Reason::Overloaded) => Level::Warn,
            _ => Level::Info,
        };
        let source = proxy.source_address();
        let line = self
            .record
            .to_log_line(verdict, request_id, source.as_deref());
        proxy.log(level, &line);
    }

    /// Records that the head is forwarded and the verdict is still pending.
    pub(crate) fn forwarded(&self, proxy: &mut dyn Proxy) {
        if let Err(fault) = proxy.set_property(property::FORWARDED, "1") {
            proxy.log(
                Level::Error,
                &format!("property {}: {fault}", property::FORWARDED),
            );
        }
    }

    /// Numbers the finished request in the access log.
    pub(crate) fn number(&mut self, proxy: &mut dyn Proxy) {
        if !core::mem::replace(&mut self.numbered, true) {
            set_sequence_number(proxy, self.filter.shares_identity());
        }
    }

    /// Records a request that ended before its verdict. The access log may be written more than
    /// once.
    pub(crate) fn aborted(&mut self, proxy: &mut dyn Proxy) {
        if self.filter.shares_identity() && self.already_reported(proxy) {
            return;
        }
        self.verdict = Some(Verdict::Aborted);
        self.report(proxy, Verdict::Aborted);
    }

    /// Whether another filter of the chain has rejected the request or reported its end. Several
    /// filters may see the end when headers are forwarded before the verdict.
    fn already_reported(&self, proxy: &mut dyn Proxy) -> bool {
        let other = proxy.property(&[property::FILTER]);
        let other = matches!(other, Ok(Some(last)) if last != self.filter.name().as_bytes());
        let told = proxy.property(&[property::OUTCOME]);
        other && matches!(told, Ok(Some(told)) if parse_not_allowed(&told))
    }

    /// Records a stream that ended before its head arrived here. In a chain, the first filter
    /// reports that, unless another has reported an outcome.
    pub(crate) fn ended_before_head(&mut self, proxy: &mut dyn Proxy) {
        if !self.filter.shares_identity() || matches!(proxy.property(&[property::FILTER]), Ok(None))
        {
            self.aborted(proxy);
        }
    }

    /// Counts the outcome at the end of the stream, if this filter has to.
    pub(crate) fn done(&mut self, proxy: &mut dyn Proxy) {
        let Some(verdict) = self.verdict else { return };
        self.count_shadows(proxy);
        if self.filter.shares_identity() {
            match proxy.property(&[property::FILTER]) {
                Ok(Some(last)) if last == self.filter.name().as_bytes() => {}
                Ok(_) => return,
                Err(fault) => {
                    proxy.log(
                        Level::Error,
                        &format!("property {}: {fault}", property::FILTER),
                    );
                    return;
                }
            }
        }
        self.count(proxy, verdict);
    }

    fn decided(&mut self, proxy: &mut dyn Proxy, verdict: Verdict) {
        self.verdict = Some(verdict);
        self.report(proxy, verdict);
        self.count_shadows(proxy);
        if !self.filter.shares_identity() {
            self.count(proxy, verdict);
        }
    }

    fn count_shadows(&mut self, proxy: &mut dyn Proxy) {
        let shadow = self.record.shadow.iter().skip(self.shadowed);
        shadow.for_each(|denial| proxy.count_shadow(&denial.reason));
        self.shadowed = self.record.shadow.len();
    }

    fn count(&mut self, proxy: &mut dyn Proxy, verdict: Verdict) {
        if !self.counted {
            self.counted = true;
            proxy.count(verdict);
        }
    }

    fn report(&self, proxy: &mut dyn Proxy, verdict: Verdict) {
        let filter = self.filter.shares_identity().then(|| self.filter.name());
        let outcome = if self.filter.shares_identity() && self.shadows {
            self.merged_record(proxy).to_property(verdict)
        } else {
            self.record.to_property(verdict)
        };
        let properties = [
            (property::FILTER, filter),
            (property::OUTCOME, Some(outcome.as_str())),
        ];
        for (name, value) in properties {
            let Some(value) = value else { continue };
            if let Err(fault) = proxy.set_property(name, value) {
                proxy.log(Level::Error, &format!("property {name}: {fault}"));
            }
        }
    }

    /// Adds shadow denials of previous filters, because this filter writes last.
    fn merged_record(&self, proxy: &mut dyn Proxy) -> Record {
        let mut record = self.record.clone();
        if let Ok(Some(told)) = proxy.property(&[property::OUTCOME]) {
            let mut shadow = parse_shadowed(&told);
            shadow.retain(|before| {
                let mut own = record.shadow.iter();
                own.all(|own| own.reason != before.reason)
            });
            shadow.append(&mut record.shadow);
            record.shadow = shadow;
        }
        record
    }
}

// Sequence numbers for access log entries, so that a reader of the log can detect gaps.
//
// Responses of the sandbox host are logged by the host before they leave, and need no number.
// Every other outcome (rejected here or by the proxy, aborted) appears only in the access log.
// Each such entry carries the id of the VM and its next sequence number. A worker writes its
// entries in order, so a gap in the numbers shows how many entries are missing.

/// The proxy's property that names the source of the response.
const DETAILS: [&str; 2] = ["response", "code_details"];
/// Value of that property for a response from the upstream.
const UPSTREAM: &[u8] = b"via_upstream";

/// Shared data key of the last allocated VM id, for all VMs of a proxy process.
const VM_IDS: &str = "tensorgate/entry-names";
/// Maximum number of swap attempts against other VMs that allocate an id at the same time.
const MAX_TRIES: usize = 1_000;
/// proxy-wasm's `CAS_MISMATCH`: another VM won every attempt.
const CAS_MISMATCH: u32 = 8;

/// Allocates a VM id that no other VM has, now or earlier. Ids count up from the time of the first
/// allocation, in ns. Random ids are not possible: a rendered configuration gives the VM no
/// randomness.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "the SDK asks"))]
pub(crate) fn allocate_vm_id(store: &mut impl SharedStore, now_ns: u64) -> Result<u64, HostFault> {
    // The proxy configures its own VM before the VM of any worker, so there is no race here.
    if store.get(VM_IDS)?.is_none() {
        store.put(VM_IDS, &now_ns.to_le_bytes())?;
    }
    for _ in 0..MAX_TRIES {
        let Some(Shared { value, token }) = store.get(VM_IDS)? else {
            break;
        };
        let last = value.try_into().map_or(now_ns, u64::from_le_bytes);
        let name = last.wrapping_add(1);
        if store.swap(VM_IDS, &name.to_le_bytes(), token)? {
            return Ok(name);
        }
    }
    Err(HostFault {
        call: "set_shared_data",
        status: CAS_MISMATCH,
    })
}

/// Numbers a finished request, unless the host has logged it or another filter of a chain
/// (`shared`) has numbered it.
pub(crate) fn set_sequence_number(proxy: &mut dyn Proxy, shared: bool) {
    // A request with an unreadable property is numbered: an extra entry does no harm.
    if matches!(proxy.property(&DETAILS), Ok(Some(details)) if details == UPSTREAM) {
        return;
    }
    if shared && matches!(proxy.property(&[property::SEQUENCE]), Ok(Some(_))) {
        return;
    }
    let Some(number) = proxy.next_sequence_number() else {
        return;
    };
    if let Err(fault) = proxy.set_property(property::SEQUENCE, &number) {
        proxy.log(
            Level::Error,
            &format!("property {}: {fault}", property::SEQUENCE),
        );
    }
}

#[cfg(test)]
mod tests {
    use tensorgate_policy::Denial;

    use super::*;

    #[test]
    fn a_line_break_in_a_cause_cannot_forge_a_second_log_line() {
        let record = Record {
            detail: "unknown input \"a\n{\"verdict\":\"allow\"}\"".into(),
            ..Record::default()
        };
        let line = record.to_log_line(Verdict::Deny(Reason::UnknownInput), "id", None);
        assert!(!line.contains('\n'), "{line}");
    }

    #[test]
    fn shadow_denials_are_read_back_as_written() {
        let record = Record {
            shadow: Shadow::REASONS
                .map(|reason| Shadowed::of(&Denial::new(reason, "é\n".repeat(200))))
                .into(),
            ..Record::default()
        };
        let property_json = record.to_property(Verdict::Allow);
        assert_eq!(parse_shadowed(property_json.as_bytes()), record.shadow);
        assert!(property_json.len() < 8 << 10, "{}", property_json.len());
        for (text, expected) in [
            (Record::default().to_property(Verdict::Allow), 0),
            (
                r#"{"shadow": [{"reason": "shape", "detail": ""}]}"#.into(),
                0,
            ),
            (
                r#"{"shadow": [{"reason": "out-of-range", "detail": ""}]}"#.into(),
                1,
            ),
            (r#"{"shadow": 1}"#.into(), 0),
            (String::new(), 0),
        ] {
            assert_eq!(parse_shadowed(text.as_bytes()).len(), expected, "{text}");
        }
        let line = record.to_log_line(Verdict::Allow, "id", None);
        assert!(
            line.contains(r#""shadow":[{"#) && !line.contains('\n'),
            "{line}"
        );
    }

    #[test]
    fn a_long_cause_is_cut_between_characters() {
        let record = Record {
            detail: "é".repeat(MAX_DETAIL_BYTES),
            ..Record::default()
        };
        let line = record.to_log_line(Verdict::Deny(Reason::Malformed), "id", None);
        assert!(line.len() < MAX_DETAIL_BYTES + 200, "{}", line.len());
    }

    #[test]
    fn every_verdict_has_its_own_counter() {
        let mut names: Vec<_> = Verdict::all().map(Verdict::metric).collect();
        assert!(names.contains(&"tensorgate_requests;verdict=allow;reason=ok;".to_owned()));
        assert!(
            names.contains(&"tensorgate_requests;verdict=deny;reason=rate-limited;".to_owned())
        );
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}

#[cfg(test)]
mod outcome_tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::native::Store;

    #[test]
    fn every_vm_and_every_process_has_a_different_name() {
        let mut store = Store::default();
        let mut names = Vec::new();
        for now_ns in [1_000, 5_000, 900] {
            names.push(allocate_vm_id(&mut store, now_ns).unwrap());
        }
        names.push(allocate_vm_id(&mut Store::default(), 9_000).unwrap());
        assert_eq!(names, [1_001, 1_002, 1_003, 9_001]);
    }
}
