//! The lines of the audit log about one request, as sentences.

use tensorgate_audit::line::Line;
use tensorgate_audit::record::{Amend, By, Decision, Verdict};
use tensorgate_policy::Reason;
use tensorgate_policy::denial::Shadowed;
use tensorgate_wire::trace_context::TraceParent;

/// What the first line of a request says.
pub(super) fn sentences(line: &Line, decision: &Decision) -> Vec<String> {
    let mut sentences = request(line, decision);
    sentences.push(outcome(decision));
    if let Some(detail) = &decision.detail {
        sentences.push(format!("Cause: {detail}."));
    }
    for Shadowed { reason, detail } in &decision.shadow {
        sentences.push(format!(
            "In shadow mode, it would have been rejected as {reason}: {detail}."
        ));
    }
    sentences.extend(tokens(decision.prompt_tokens, decision.completion_tokens));
    let spent = [
        ("in handlers", decision.handler_us),
        ("at the backend", decision.dispatch_us),
        ("of that waiting for a slot", decision.queue_us),
    ];
    let spent: Vec<String> = spent
        .into_iter()
        .filter_map(|(part, us)| Some(format!("{} us {part}", us?)))
        .collect();
    let spent = if spent.is_empty() {
        String::new()
    } else {
        format!(": {}", spent.join(", "))
    };
    sentences.push(format!("It took {} us{spent}.", decision.total_us));
    if let Some(generation) = &decision.generation {
        sentences.push(format!("Policy {generation} was in force."));
    }
    if !decision.flags.is_empty() || decision.envoy.is_some() {
        sentences.push(envoys(&decision.flags, &decision.envoy));
    }
    if !decision.cut.is_empty() {
        let cut = decision.cut.join(", ");
        sentences.push(format!(
            "Its line was too long, so it lacks a part of: {cut}."
        ));
    }
    sentences
}

/// Who sent which request.
fn request(line: &Line, decision: &Decision) -> Vec<String> {
    let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
    let mut sentences = Vec::new();
    sentences.push(format!(
        "At {}, {} sent {} {} from {}{}.",
        line.time,
        decision
            .client
            .as_ref()
            .map_or("an unknown client".to_owned(), |client| format!(
                "client {client:?}"
            )),
        or(&decision.method, "a request for"),
        or(&decision.path, "an unknown path"),
        or(&decision.source, "an unknown address"),
        decision
            .http
            .as_ref()
            .map(|http| format!(" over {http}"))
            .unwrap_or_default(),
    ));
    if let Some(id) = &decision.message_id {
        sentences.push(format!("The client's own id of the message is {id:?}."));
    }
    if let Some(trace) = decision.traceparent.as_deref().and_then(TraceParent::read) {
        sentences.push(format!(
            "It arrived as part of trace {}, span {}.",
            trace.trace_id, trace.span_id
        ));
    }
    if let Some(trace) = &decision.trace_id {
        sentences.push(format!("The gate's spans of it are in trace {trace}."));
    }
    if let Some(credential) = &decision.credential {
        let is_refused = [Reason::Unauthenticated, Reason::LockedOut]
            .into_iter()
            .any(|reason| reason.name() == decision.reason);
        // The record of a revoked key names its client.
        sentences.push(if decision.client.is_some() && !is_refused {
            format!("The client was authenticated by {credential}.")
        } else {
            format!("The credential {credential} authenticated no client.")
        });
    }
    if let Some(model) = &decision.model {
        let version = decision
            .version
            .as_ref()
            .map(|it| format!(" version {it}"))
            .unwrap_or_default();
        // The filter rejects some requests before their operation is decided.
        let subject = decision
            .operation
            .as_ref()
            .map_or("The request was for".to_owned(), |operation| {
                format!("The operation was {operation} of")
            });
        let rule = decision
            .rule
            .as_ref()
            .map_or("no grant is recorded".to_owned(), |rule| {
                format!("grant {rule:?} applied")
            });
        sentences.push(format!("{subject} model {model:?}{version}; {rule}."));
    }
    sentences
}

/// Who answered or rejected it, and how.
fn outcome(decision: &Decision) -> String {
    let who = who(decision.by);
    let grpc = decision
        .grpc_status
        .map(|code| format!(", grpc-status {code}"))
        .unwrap_or_default();
    match decision.verdict {
        Verdict::Allow => format!(
            "{who} answered with {}{grpc}: {} bytes for {}.",
            decision.status, decision.response_bytes, decision.request_bytes
        ),
        Verdict::Deny => {
            let meaning = Reason::ALL
                .into_iter()
                .find(|reason| reason.name() == decision.reason)
                .map(|reason| format!(" ({})", reason.title()))
                .unwrap_or_default();
            format!(
                "{who} rejected it as {}{meaning} with {}{grpc}.",
                decision.reason, decision.status
            )
        }
        Verdict::Aborted => {
            "It ended before there was an answer: the client disconnected, or the stream broke."
                .to_owned()
        }
    }
}

const fn who(by: By) -> &'static str {
    match by {
        By::Gate => "The gate's filter",
        By::Host => "The sandbox host",
        By::Envoy => "Envoy itself",
    }
}

/// What a later line says of how a request ended.
pub(super) fn ending(amend: &Amend) -> String {
    let grpc = amend
        .grpc_status
        .map(|code| format!(", grpc-status {code}"))
        .unwrap_or_default();
    let got = if amend.status == 0 {
        "no answer".to_owned()
    } else {
        format!("{}{grpc} and {} bytes", amend.status, amend.response_bytes)
    };
    let settled = match (amend.verdict, &amend.reason) {
        (Some(Verdict::Deny), Some(reason)) => {
            let who = who(amend.by.unwrap_or_default());
            let cause = amend.detail.as_ref();
            let cause = cause.map_or(String::new(), |cause| format!(" Cause: {cause}."));
            format!(" {who} rejected it as {reason}.{cause}")
        }
        (Some(Verdict::Aborted), _) => " The client disconnected, or the stream broke.".to_owned(),
        _ => String::new(),
    };
    let tokens = tokens(amend.prompt_tokens, amend.completion_tokens);
    let tokens = tokens.map_or(String::new(), |tokens| format!(" {tokens}"));
    // The host's own amendments contain nothing about Envoy.
    let envoys = if amend.flags.is_empty() && amend.envoy.is_none() {
        String::new()
    } else {
        format!(" {}", envoys(&amend.flags, &amend.envoy))
    };
    let how = match (amend.messages, amend.answers) {
        (Some(count), _) => format!("It ended after {count} messages"),
        (None, Some(count)) => format!("It ended after {count} answers"),
        // The line that only adds the tokens of a streamed answer.
        (None, None) if amend.prompt_tokens.is_some() && settled.is_empty() => {
            "It is complete".to_owned()
        }
        (None, None) => "The final result differs".to_owned(),
    };
    format!(
        "{how}: the client got {got} after {} us.{settled}{tokens}{envoys}",
        amend.total_us,
    )
}

/// The tokens of a language model, if its server has counted them.
fn tokens(prompt: Option<u64>, completion: Option<u64>) -> Option<String> {
    let read = prompt.map(|count| format!("read {count} tokens"));
    let generated = completion.map(|count| format!("generated {count}"));
    let counts: Vec<String> = read.into_iter().chain(generated).collect();
    (!counts.is_empty()).then(|| format!("The model {}.", counts.join(" and ")))
}

fn envoys(flags: &[String], details: &Option<String>) -> String {
    let flags = if flags.is_empty() {
        "no flags".to_owned()
    } else {
        format!("flags {}", flags.join(", "))
    };
    match details {
        Some(details) => format!("Envoy reports {details}, {flags}."),
        None => format!("Envoy reports {flags}."),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tensorgate_audit::line::line;
    use tensorgate_audit::record::Event;

    use super::*;

    #[test]
    fn a_credential_that_is_refused_authenticates_no_client() {
        let story = |client: Option<&str>, reason: &str| {
            let decision = Decision {
                client: client.map(str::to_owned),
                credential: Some("key:0123456789abcdef".to_owned()),
                reason: reason.to_owned(),
                ..Decision::default()
            };
            let event = Event::Decision(Box::new(decision.clone()));
            let line = line(1, SystemTime::UNIX_EPOCH, event);
            sentences(&line, &decision).join(" ")
        };
        let valid = story(Some("web"), "shape");
        let sentence = "client was authenticated by key:0123456789abcdef";
        assert!(valid.contains(sentence), "{valid}");
        // An unknown key, and one that is revoked, whose client is known.
        for (client, reason) in [
            (None, "unauthenticated"),
            (None, "locked-out"),
            (None, "ambiguous-request"),
            (Some("web"), "unauthenticated"),
        ] {
            let refused = story(client, reason);
            let sentence = "The credential key:0123456789abcdef authenticated no client.";
            assert!(refused.contains(sentence), "{refused}");
            assert!(!refused.contains("was authenticated"), "{refused}");
        }
    }
}
