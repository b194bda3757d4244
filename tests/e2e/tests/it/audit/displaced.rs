//! The log's file is removed or replaced while the gate serves.

use super::*;
use std::fs;
use tensorgate_policy::values::AuditFailure;

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

/// Exchanges what is at two paths in one step: the host looks at its log at any moment.
fn exchange(one: &std::path::Path, other: &std::path::Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
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
    let other = log.with_extension("jsonl.1");
    fs::write(&other, "another's\n").unwrap();
    exchange(&log, &other);
    logged(&stack, "replaced").await;

    // No file can be created below a file.
    let (folder, aside) = (log.parent().unwrap(), stack.state().join("aside"));
    fs::write(&aside, "in the way").unwrap();
    exchange(folder, &aside);
    let refused = ask::good(stack.gate, &[]).await.unwrap();
    assert_eq!(
        (refused.status, refused.reason().as_deref()),
        (503, Some("overloaded"))
    );
    exchange(folder, &aside);
    fs::remove_file(&aside).unwrap();
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
    fs::write(&aside, "in the way").unwrap();
    exchange(folder, &aside);
    let reply = ask::good(stack.gate, &[]).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    let id = reply.header("x-request-id").unwrap();
    exchange(folder, &aside);
    fs::remove_file(&aside).unwrap();
    // The line is written once there is a file.
    met("its line is written", || {
        (stack.audit_lines_of("decision").iter()).any(|line| line["request_id"] == id)
    })
    .await;
    assert!(stack.end().await.success());
    let (code, said) = verified(&stack).await;
    assert_eq!(code, Some(0), "{said}");
}
