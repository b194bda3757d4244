//! How two reports of one request become one record, or a record and its amendment.

use crate::record::{Amend, Decision, Verdict};

/// Joins both reports: the identity of the request from the host as far as known, and its end from
/// Envoy. The verdict is the host's only if the client got the host's own response.
pub(super) fn joined(hosts: Decision, envoys: Decision, from_host: bool) -> Decision {
    let (by, verdict, reason) = if from_host {
        (hosts.by, hosts.verdict, hosts.reason)
    } else {
        (envoys.by, envoys.verdict, envoys.reason)
    };
    Decision {
        by,
        verdict,
        reason,
        client: hosts.client.or(envoys.client),
        credential: hosts.credential.or(envoys.credential),
        source: hosts.source.or(envoys.source),
        http: hosts.http.or(envoys.http),
        traceparent: hosts.traceparent.or(envoys.traceparent),
        trace_id: hosts.trace_id.or(envoys.trace_id),
        model: hosts.model.or(envoys.model),
        operation: hosts.operation.or(envoys.operation),
        rule: hosts.rule.or(envoys.rule),
        detail: envoys.detail.or(hosts.detail),
        shadow: if hosts.shadow.is_empty() {
            envoys.shadow
        } else {
            hosts.shadow
        },
        status: envoys.status,
        grpc_status: envoys.grpc_status,
        request_bytes: envoys.request_bytes.max(hosts.request_bytes),
        response_bytes: envoys.response_bytes,
        total_us: envoys.total_us,
        flags: envoys.flags,
        envoy: envoys.envoy,
        entry: envoys.entry,
        ..hosts
    }
}

/// The amendment if a request did not end as recorded.
pub(super) fn amendment(envoys: &Decision, status: u16, grpc_status: Option<u8>) -> Option<Amend> {
    // Trailers are lost with the rest of a response. Without a gRPC status the flags say why.
    let same_grpc = envoys.grpc_status.is_none() || envoys.grpc_status == grpc_status;
    let ended_well = envoys.verdict != Verdict::Aborted && envoys.flags.is_empty();
    // A numbered entry belongs to a request without the host's response. Its number must be in the
    // log.
    if envoys.entry.is_none() && envoys.status == status && same_grpc && ended_well {
        return None;
    }
    Some(amend(envoys))
}

/// The amendment of a record by what a request has become.
pub(super) fn amend(decision: &Decision) -> Amend {
    Amend {
        request_id: decision.request_id.clone().unwrap_or_default(),
        by: Some(decision.by),
        verdict: Some(decision.verdict),
        reason: Some(decision.reason.clone()),
        detail: decision.detail.clone(),
        client: decision.client.clone(),
        model: decision.model.clone(),
        stream: decision.stream.clone(),
        traceparent: decision.traceparent.clone(),
        status: decision.status,
        grpc_status: decision.grpc_status,
        response_bytes: decision.response_bytes,
        total_us: decision.total_us,
        flags: decision.flags.clone(),
        envoy: decision.envoy.clone(),
        entry: decision.entry.clone(),
        messages: None,
        answers: None,
        prompt_tokens: decision.prompt_tokens,
        completion_tokens: decision.completion_tokens,
        recorded: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_end_is_a_part_of_the_trace_of_its_request() {
        let decision = Decision {
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
            ..Decision::default()
        };
        assert_eq!(amend(&decision).traceparent, decision.traceparent);
    }
}
