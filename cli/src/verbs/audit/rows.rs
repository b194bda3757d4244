//! Requests as lines of text, with the usual columns or with all.

use tensorgate_audit::record::{Decision, Verdict};
use tensorgate_cli_common::ui::printable;
use tensorgate_wire::trace_context::TraceParent;

/// The usual columns.
const COLUMNS: &str = "time verdict reason status client model method path request-id total";
/// The columns of `-o wide` behind them. The last one may have blanks.
const MORE_COLUMNS: &str = "grpc-status by grant credential source version operation policy \
     handler backend prompt-tokens completion-tokens trace-id client-request-id message-id stream \
     detail";

/// The names of all columns.
pub fn wide_header() -> String {
    format!("{COLUMNS} {MORE_COLUMNS}")
}

/// One request as a line of text.
pub fn row(time: &str, decision: &Decision) -> String {
    // An ID that a client may have chosen is marked as such.
    let id = match (&decision.request_id, &decision.client_request_id) {
        (None, Some(id)) => format!("client:{}", column(id)),
        (id, _) => or_dash(id),
    };
    let (verdict, reason) = match decision.verdict {
        Verdict::Allow if !decision.shadow.is_empty() => {
            let reasons = decision.shadow.iter().map(|it| it.reason.as_str());
            ("shadowed", reasons.collect::<Vec<_>>().join(","))
        }
        verdict => (verdict.name(), decision.reason.clone()),
    };
    format!(
        "{} {} {} {} {} {} {} {} {} {}us",
        column(time),
        verdict,
        column(&reason),
        decision.status,
        or_dash(&decision.client),
        or_dash(&decision.model),
        or_dash(&decision.method),
        or_dash(&decision.path),
        id,
        decision.total_us
    )
}

/// One request as a line of text with all columns.
pub fn wide(time: &str, decision: &Decision) -> String {
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    let micros = |us: Option<u64>| us.map_or("-".to_owned(), |us| format!("{us}us"));
    let arrived = decision.traceparent.as_deref().and_then(TraceParent::read);
    let arrived = arrived.map(|trace| trace.trace_id.to_owned());
    let trace = decision.trace_id.clone().or(arrived);
    // Of Envoy's own rejections only Envoy knows the cause.
    let cause = match &decision.detail {
        Some(_) => &decision.detail,
        None => &decision.envoy,
    };
    let more = [
        number(decision.grpc_status.map(u64::from)),
        decision.by.name().to_owned(),
        or_dash(&decision.rule),
        or_dash(&decision.credential),
        or_dash(&decision.source),
        or_dash(&decision.version),
        or_dash(&decision.operation),
        or_dash(&decision.generation),
        micros(decision.handler_us),
        micros(decision.dispatch_us),
        number(decision.prompt_tokens),
        number(decision.completion_tokens),
        or_dash(&trace),
        or_dash(&decision.client_request_id),
        or_dash(&decision.message_id),
        or_dash(&decision.stream),
        printable(cause.as_deref().unwrap_or("-")),
    ];
    format!("{} {}", row(time, decision), more.join(" "))
}

fn or_dash(text: &Option<String>) -> String {
    column(text.as_deref().unwrap_or("-"))
}

/// A text as one column. A client chooses some of them, and a blank would begin another column.
fn column(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => printable(text).replace(char::is_whitespace, "_"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_a_client_poses_as_another_column() {
        let decision = Decision {
            client_request_id: Some("a 0us ".to_owned()),
            message_id: Some("m stream-1 approved by".to_owned()),
            detail: Some("the whole cause".to_owned()),
            ..Decision::default()
        };
        let row = row("2026-01-01T00:00:00Z", &decision);
        let columns = row.split_whitespace().count();
        assert_eq!(columns, COLUMNS.split_whitespace().count(), "{row}");
        let wide = wide("2026-01-01T00:00:00Z", &decision);
        assert!(
            wide.ends_with(" m_stream-1_approved_by - the whole cause"),
            "{wide}"
        );
    }
}
