//! The log's file is removed or replaced while the gate serves.

use super::*;
use std::fs;
use tensorgate_policy::raw::AuditFailure;

/// A gate with this policy for requests whose line cannot be written.
async fn gate(name: &str, on_failure: AuditFailure) -> Stack {
    let mut policy = policy::vectors_policy("main.json");
    policy.audit.get_or_insert_default().on_failure = on_failure;
    Stack::start(name, policy).await
}

/// Sends a request that is answered, and checks that its line is in the file at the log's path.
async fn logged(stack: &Stack, when: &str) {
    let reply = ask::good(stack.gate, &[]).await.unwrap();
    assert_eq!(reply.status, 200, "{when}: {reply:?}");
    let id = reply.header("x-request-id").unwrap();
    let written = stack.audit_lines_of("decision");
    assert!(
        written.iter().any(|line| line["request_id"] == id),
        "{when}: no line for {id} in {written:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_answered_without_a_line_at_the_logs_path() {
    let mut stack = gate("audit-displaced", AuditFailure::Refuse).await;
    let log = log(&stack);
    logged(&stack, "at first").await;

    fs::remove_file(&log).unwrap();
    logged(&stack, "removed").await;
    let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
    file.set_len(0).unwrap();
    logged(&stack, "cut").await;
    fs::rename(&log, log.with_extension("jsonl.1")).unwrap();
    fs::write(&log, "another's\n").unwrap();
    logged(&stack, "replaced").await;

    // No file can be created below a file.
    let (folder, aside) = (log.parent().unwrap(), stack.state().join("aside"));
    fs::rename(folder, &aside).unwrap();
    fs::write(folder, "in the way").unwrap();
    let refused = ask::good(stack.gate, &[]).await.unwrap();
    assert_eq!(
        (refused.status, refused.reason().as_deref()),
        (503, Some("overloaded"))
    );
    fs::remove_file(folder).unwrap();
    fs::rename(&aside, folder).unwrap();
    ask::until(stack.gate, "scorer", "ok", "the folder is back").await;
    logged(&stack, "the folder is back").await;

    assert!(stack.end().await.success());
    let (code, said) = verified(&stack).await;
    assert_eq!(code, Some(1), "{said}");
    for expected in [
        "decisions.jsonl:1: seq",
        "found: the host found it replaced",
    ] {
        assert!(said.contains(expected), "no {expected:?} in {said}");
    }
    let host = stack.log("host.log");
    for what in ["gone", "truncated", "replaced"] {
        let what = format!("\"what\":\"{what}\"");
        assert!(host.contains(&what), "no {what} in {host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_may_have_requests_answered_without_a_line() {
    let mut stack = gate("audit-displaced-allow", AuditFailure::Allow).await;
    let log = log(&stack);
    logged(&stack, "at first").await;
    let (folder, aside) = (log.parent().unwrap(), stack.state().join("aside"));
    fs::rename(folder, &aside).unwrap();
    fs::write(folder, "in the way").unwrap();
    let reply = ask::good(stack.gate, &[]).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    let id = reply.header("x-request-id").unwrap();
    fs::remove_file(folder).unwrap();
    fs::rename(&aside, folder).unwrap();
    // The line is written once there is a file.
    met("its line is written", || {
        (stack.audit_lines_of("decision").iter()).any(|line| line["request_id"] == id)
    })
    .await;
    assert!(stack.end().await.success());
    let (code, said) = verified(&stack).await;
    assert_eq!(code, Some(0), "{said}");
}
