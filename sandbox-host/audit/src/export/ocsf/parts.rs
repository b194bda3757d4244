//! The attributes of an OCSF event, from the members of a line of the audit log.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use crate::export::spool::Record;

/// The identifier of a value that has none of its own in OCSF.
pub(super) const OTHER: u64 = 99;
/// Categories and classes, with their captions.
const APPLICATION: (u64, &str) = (6, "Application Activity");
const API_ACTIVITY: (u64, &str) = (6003, "API Activity");
const UNCATEGORIZED: (u64, &str) = (0, "Uncategorized");
const BASE_EVENT: (u64, &str) = (0, "Base Event");
/// The factor between a class and the types of its events.
const TYPES_OF_A_CLASS: u64 = 100;
/// The name of the product and of the service.
const PRODUCT: &str = "tensorgate";
/// The provider of models, whose servers the operator of the gate runs or has chosen.
const PROVIDER: &str = "Internal";
/// A name that is not known.
const UNKNOWN: &str = "unknown";
/// The activities of a request, with their captions.
const READ: (u64, &str) = (2, "Read");
const NO_ACTIVITY: (u64, &str) = (0, "Unknown");
/// The microseconds of a millisecond.
const MILLISECOND: u64 = 1_000;
/// The methods that OCSF knows.
const METHODS: [&str; 9] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];

/// The members of a line. It notes which of them an event has taken.
pub(super) struct Line<'l> {
    members: &'l Map<String, Json>,
    taken: RefCell<BTreeSet<&'static str>>,
}

impl<'l> Line<'l> {
    pub(super) const fn new(members: &'l Map<String, Json>) -> Self {
        Self {
            members,
            taken: RefCell::new(BTreeSet::new()),
        }
    }

    /// A text that the event has elsewhere too.
    pub(super) fn text(&self, name: &str) -> Option<&'l str> {
        self.members.get(name)?.as_str()
    }

    /// A number that the event has elsewhere too.
    fn number(&self, name: &str) -> Option<u64> {
        self.members.get(name)?.as_u64()
    }

    /// A text that the event takes.
    pub(super) fn take(&self, name: &'static str) -> Option<&'l str> {
        let text = self.text(name)?;
        self.taken.borrow_mut().insert(name);
        Some(text)
    }

    /// A text that the event takes, as JSON.
    fn take_text(&self, name: &'static str) -> Option<Json> {
        self.take(name).map(Json::from)
    }

    /// A number that the event takes, as JSON.
    fn take_number(&self, name: &'static str) -> Option<Json> {
        let number = self.number(name)?;
        self.taken.borrow_mut().insert(name);
        Some(number.into())
    }

    /// The members that the event has not taken.
    pub(super) fn unmapped(&self) -> Map<String, Json> {
        let taken = self.taken.borrow();
        let members = self.members.iter();
        members
            .filter(|(name, _)| !taken.contains(name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

/// The members of an object that have a value.
pub(super) fn object<const N: usize>(members: [(&str, Option<Json>); N]) -> Map<String, Json> {
    let members = members.into_iter();
    members
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// An object of members that have a value; `None` if no member has one.
fn some_object<const N: usize>(members: [(&str, Option<Json>); N]) -> Option<Json> {
    let members = object(members);
    (!members.is_empty()).then_some(Json::Object(members))
}

/// The attributes of a request and its outcome.
pub(super) fn request(line: &Line<'_>) -> Map<String, Json> {
    let operation = line.take("operation");
    let activity = match operation {
        Some(operation @ ("infer" | "stream")) => (OTHER, operation),
        Some(_) => READ,
        None => NO_ACTIVITY,
    };
    let (action, status) = match line.text("verdict") {
        Some("allow") => ((1_u64, "Allowed"), (1_u64, "Success")),
        Some("deny") => ((2, "Denied"), (2, "Failure")),
        other => ((OTHER, other.unwrap_or(UNKNOWN)), (2, "Failure")),
    };
    let verdict = line.take("verdict").unwrap_or(UNKNOWN);
    let reason = line.take("reason").unwrap_or(UNKNOWN);
    let detail = line.take("detail");
    let model = line.take("model");
    let version = line.take("version");
    let status_of_http = line.number("status").filter(|status| *status > 0);
    let total_ms = (line.number("total_us")).map(|total_us| total_us.div_euclid(MILLISECOND));
    let mut event = class(APPLICATION, API_ACTIVITY, activity);
    event.extend(object([
        ("action_id", Some(action.0.into())),
        ("action", Some(action.1.into())),
        ("status_id", Some(status.0.into())),
        ("status", Some(status.1.into())),
        ("status_code", Some(reason.into())),
        ("status_detail", detail.map(Json::from)),
        ("message", Some(format!("{verdict}: {reason}").into())),
        ("duration", total_ms.map(Json::from)),
        ("actor", Some(actor(line))),
        ("api", Some(api(line, operation, reason, detail))),
        ("src_endpoint", Some(source(line))),
        ("http_request", http_request(line)),
        (
            "http_response",
            status_of_http.and_then(|status| http_response(line, status, total_ms)),
        ),
        ("policy", policy(line)),
        ("trace", trace(line)),
    ]));
    event.extend(
        model
            .map(|model| model_parts(model, version))
            .into_iter()
            .flatten(),
    );
    event.extend(object([("message_context", message_context(line))]));
    event
}

/// The attributes of a record that is not of a request.
pub(super) fn other(line: &Line<'_>) -> Map<String, Json> {
    let kind = line.text("type").unwrap_or(UNKNOWN);
    let mut event = class(UNCATEGORIZED, BASE_EVENT, (OTHER, kind));
    let message = line.text("what").or_else(|| line.text("detail"));
    let message = message.unwrap_or(kind);
    event.extend(object([("message", Some(message.into()))]));
    event
}

/// What an event says about itself, and the number of its record.
pub(super) fn metadata(
    line: &Line<'_>,
    record: &Record,
    log: &str,
    version: &str,
    profiles: &[&str],
) -> Json {
    let profiles: Vec<Json> = profiles.iter().map(|name| Json::from(*name)).collect();
    let correlation = line.text("stream").or_else(|| line.text("request_id"));
    let log_version = line
        .take_number("v")
        .map(|number| number.to_string().into());
    line.take("log");
    line.take_number("seq");
    Json::Object(object([
        ("version", Some(version.into())),
        (
            "product",
            some_object([
                ("name", Some(PRODUCT.into())),
                ("vendor_name", Some(PRODUCT.into())),
                ("version", Some(env!("CARGO_PKG_VERSION").into())),
            ]),
        ),
        (
            "profiles",
            (!profiles.is_empty()).then_some(Json::Array(profiles)),
        ),
        ("uid", Some(record.uid(log).into())),
        ("sequence", Some(record.seq.into())),
        ("correlation_uid", correlation.map(Json::from)),
        ("event_code", line.take_text("type")),
        ("log_name", Some("tensorgate.audit".into())),
        ("log_provider", Some(log.into())),
        ("log_version", log_version),
        ("original_time", line.take_text("time")),
    ]))
}

/// The category, class, activity and type of an event.
fn class(category: (u64, &str), class: (u64, &str), activity: (u64, &str)) -> Map<String, Json> {
    let kind = class.0.saturating_mul(TYPES_OF_A_CLASS);
    object([
        ("category_uid", Some(category.0.into())),
        ("category_name", Some(category.1.into())),
        ("class_uid", Some(class.0.into())),
        ("class_name", Some(class.1.into())),
        ("activity_id", Some(activity.0.into())),
        ("activity_name", Some(activity.1.into())),
        ("type_uid", Some(kind.saturating_add(activity.0).into())),
    ])
}

/// The client, by its verified name.
fn actor(line: &Line<'_>) -> Json {
    let client = line.take("client");
    // A client is a program: a service account, if its credential was verified.
    let kind = if client.is_some() {
        (4_u64, "Service")
    } else {
        (0, "Unknown")
    };
    let user = some_object([
        ("name", Some(client.unwrap_or(UNKNOWN).into())),
        ("type_id", Some(kind.0.into())),
        ("type", Some(kind.1.into())),
        ("credential_uid", line.take_text("credential")),
    ]);
    Json::Object(object([("user", user)]))
}

/// The call: its operation, its ID and its result.
fn api(line: &Line<'_>, operation: Option<&str>, reason: &str, detail: Option<&str>) -> Json {
    let is_allowed = line.text("verdict") == Some("allow");
    let denied = |text: &str| (!is_allowed).then(|| Json::from(text));
    // A gRPC status counts, where there is one.
    let code = line.take_number("grpc_status");
    let code = code.or_else(|| {
        line.number("status")
            .filter(|code| *code > 0)
            .map(Json::from)
    });
    let request = line.take_text("request_id");
    Json::Object(object([
        ("operation", Some(operation.unwrap_or(UNKNOWN).into())),
        (
            "group",
            line.take_text("protocol")
                .and_then(|protocol| some_object([("name", Some(protocol))])),
        ),
        (
            "request",
            request.and_then(|uid| some_object([("uid", Some(uid))])),
        ),
        (
            "response",
            some_object([
                ("code", code),
                ("error", denied(reason)),
                ("error_message", detail.and_then(denied)),
            ]),
        ),
        ("service", some_object([("name", Some(PRODUCT.into()))])),
    ]))
}

/// Where the request came from.
fn source(line: &Line<'_>) -> Json {
    let source = match line.take_text("source") {
        Some(address) => ("ip", Some(address)),
        None => ("name", Some(UNKNOWN.into())),
    };
    Json::Object(object([source]))
}

fn http_request(line: &Line<'_>) -> Option<Json> {
    let is_known = |method: &&str| METHODS.contains(method);
    let method = line.text("method").filter(is_known);
    let method = method.and_then(|_| line.take_text("method"));
    let path = line.take_text("path");
    some_object([
        ("http_method", method),
        (
            "url",
            path.and_then(|path| some_object([("path", Some(path))])),
        ),
        ("version", line.take_text("http")),
        ("uid", line.take_text("client_request_id")),
        ("body_length", line.take_number("request_bytes")),
    ])
}

fn http_response(line: &Line<'_>, status: u64, total_ms: Option<u64>) -> Option<Json> {
    line.take_number("status");
    some_object([
        ("code", Some(status.into())),
        ("body_length", line.take_number("response_bytes")),
        ("latency", total_ms.map(Json::from)),
    ])
}

/// The grant that was applied, and the version of the policy.
fn policy(line: &Line<'_>) -> Option<Json> {
    let rule = line.take_text("rule")?;
    some_object([
        ("name", Some(rule)),
        ("version", line.take_text("generation")),
    ])
}

fn trace(line: &Line<'_>) -> Option<Json> {
    let trace = line.take_text("trace_id")?;
    some_object([("uid", Some(trace))])
}

/// The model, as what answers and as the resource that was used.
fn model_parts(model: &str, version: Option<&str>) -> Map<String, Json> {
    let version = || version.map(Json::from);
    let resource = some_object([
        ("name", Some(model.into())),
        ("type", Some("model".into())),
        ("version", version()),
    ]);
    object([
        (
            "ai_model",
            some_object([
                ("ai_provider", Some(PROVIDER.into())),
                ("name", Some(model.into())),
                ("version", version()),
            ]),
        ),
        (
            "resources",
            resource.map(|resource| Json::Array(vec![resource])),
        ),
    ])
}

/// The tokens of a language model, and the client's own ID of its message.
fn message_context(line: &Line<'_>) -> Option<Json> {
    let prompt = line.number("prompt_tokens");
    let completion = line.number("completion_tokens");
    let total = prompt.map(|prompt| prompt.saturating_add(completion.unwrap_or_default()));
    let own = object([
        ("prompt_tokens", line.take_number("prompt_tokens")),
        ("completion_tokens", line.take_number("completion_tokens")),
        ("total_tokens", total.map(Json::from)),
        ("uid", line.take_text("message_id")),
    ]);
    if own.is_empty() {
        return None;
    }
    let mut context = object([("service", some_object([("name", Some(PRODUCT.into()))]))]);
    context.extend(own);
    Some(Json::Object(context))
}
