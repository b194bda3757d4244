//! The log's file is removed, truncated, or replaced while the host runs.

use serde_json::{Value, json};
use tensorgate_audit::files::Paths;
use tensorgate_audit::verify::{Kind, Report, verify};

use crate::support::backend::{Act, Backend};
use crate::support::{self, Answer, Running, policy, until};
use std::fs;
use std::path::{Path, PathBuf};

/// The path of the host's log.
fn log(host: &Running) -> PathBuf {
    host.folder().join("audit/decisions.jsonl")
}

/// A host whose log has one request, and its backend.
async fn serving(on_failure: &str) -> (Running, Backend) {
    let backend = Backend::start(Act::Answer);
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    policy["audit"] = json!({"on_failure": on_failure});
    let host = support::start(policy).await;
    host.ready().await;
    assert_eq!(infer(&host).await.status, 200);
    assert_eq!(decisions(&log(&host)), 1);
    (host, backend)
}

async fn infer(host: &Running) -> Answer {
    host.gate.infer(&[1.0]).await
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    // A line that is being written is read the next time.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// Exchanges what is at two paths in one step: the host looks at its log at any moment.
fn exchange(one: &Path, other: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

fn decisions(file: &Path) -> usize {
    let lines = lines(file);
    lines
        .iter()
        .filter(|line| line["type"] == "decision")
        .count()
}

fn report(log: &Path) -> Report {
    verify(&Paths::new(log), None).unwrap()
}

fn kinds(report: &Report) -> Vec<Kind> {
    report.faults.iter().map(|fault| fault.kind).collect()
}

fn mkfifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

/// One change of the file: how the new file's first line names it, and which faults verification
/// finds afterwards.
async fn check(done: &str, what: &str, displace: impl Fn(&Path), expected: &[Kind]) {
    let (host, _backend) = serving("refuse").await;
    let log = log(&host);
    displace(&log);

    let answer = infer(&host).await;
    assert_eq!(answer.status, 200, "{done}: {answer:?}");
    let written = lines(&log);
    assert_eq!(
        (&written[0]["type"], &written[0]["why"]),
        (&json!("open"), &json!("reopen")),
        "{done}: {written:#?}"
    );
    assert_eq!(written[0]["found"][0]["what"], what, "{done}: {written:#?}");
    assert_eq!(decisions(&log), 1, "{done}: {written:#?}");
    let metrics = host.metrics();
    assert!(
        metrics.contains("tensorgate_audit_file_losses_total 1\n")
            && metrics.contains("tensorgate_audit_failing 0\n"),
        "{done}: {metrics}"
    );
    assert!(host.host.app().ready(), "{done}");

    let folder = host.folder().to_owned();
    assert!(host.host.shutdown().await);
    let report = report(&log);
    assert_eq!(kinds(&report), expected, "{done}: {report:#?}");
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_file_that_was_removed_is_created_again_and_the_lost_lines_are_named() {
    let moved = |log: &Path| log.with_extension("jsonl.1");
    check(
        "removed",
        "gone",
        |log| fs::remove_file(log).unwrap(),
        &[Kind::Found],
    )
    .await;
    check(
        "moved away, as logrotate does",
        "gone",
        |log| fs::rename(log, moved(log)).unwrap(),
        &[Kind::Found],
    )
    .await;
    check(
        "moved away, and an empty one made",
        "replaced",
        |log| {
            fs::write(moved(log), "").unwrap();
            exchange(log, &moved(log));
        },
        &[Kind::Found],
    )
    .await;
    check(
        "its folder moved away",
        "gone",
        // The host writes into a folder that is removed file by file.
        |log| {
            let folder = log.parent().unwrap();
            fs::rename(folder, folder.with_file_name("moved")).unwrap();
        },
        &[Kind::Found],
    )
    .await;
}

#[tokio::test]
async fn a_file_that_was_truncated_or_appended_to_is_moved_aside() {
    check(
        "copied and cut to nothing, as logrotate's copytruncate does",
        "truncated",
        |log| {
            fs::copy(log, log.with_extension("jsonl.1")).unwrap();
            fs::write(log, "").unwrap();
        },
        &[Kind::Found],
    )
    .await;
    check(
        "cut behind its first line",
        "truncated",
        |log| {
            let text = fs::read_to_string(log).unwrap();
            let first = text.lines().next().unwrap();
            let file = fs::OpenOptions::new().write(true).open(log).unwrap();
            file.set_len(u64::try_from(first.len()).unwrap() + 1)
                .unwrap();
        },
        &[Kind::Found, Kind::Removed],
    )
    .await;
    check(
        "cut in the middle of a line",
        "truncated",
        |log| {
            let file = fs::OpenOptions::new().write(true).open(log).unwrap();
            file.set_len(file.metadata().unwrap().len() - 10).unwrap();
        },
        &[Kind::Torn, Kind::Edited, Kind::Found],
    )
    .await;
    check(
        "another's line behind its own",
        "grown",
        |log| {
            let mut file = fs::OpenOptions::new().append(true).open(log).unwrap();
            std::io::Write::write_all(&mut file, b"{}\n").unwrap();
        },
        &[Kind::Edited],
    )
    .await;
}

#[tokio::test]
async fn another_file_at_the_path_is_neither_written_to_nor_waited_for() {
    check(
        "another's file",
        "replaced",
        |log| {
            let other = log.with_file_name("other");
            fs::write(&other, "another's\n").unwrap();
            fs::rename(other, log).unwrap();
        },
        &[Kind::Found],
    )
    .await;
    check(
        "a copy of it",
        "replaced",
        |log| {
            let copy = log.with_file_name("copy");
            fs::copy(log, &copy).unwrap();
            fs::rename(copy, log).unwrap();
        },
        &[],
    )
    .await;
    check(
        "a link to another's file",
        "replaced",
        |log| {
            let other = log.with_file_name("other");
            fs::write(&other, "another's\n").unwrap();
            let link = log.with_file_name("link");
            std::os::unix::fs::symlink(other, &link).unwrap();
            fs::rename(link, log).unwrap();
        },
        &[Kind::Found],
    )
    .await;
    check(
        "a pipe",
        "replaced",
        |log| {
            let pipe = log.with_file_name("pipe");
            mkfifo(&pipe);
            fs::rename(pipe, log).unwrap();
        },
        &[Kind::Found],
    )
    .await;
    check(
        "a folder",
        "replaced",
        |log| {
            let folder = log.with_file_name("folder");
            fs::create_dir(&folder).unwrap();
            exchange(log, &folder);
            fs::remove_file(folder).unwrap();
        },
        &[Kind::Found],
    )
    .await;
}

#[tokio::test]
async fn the_target_of_a_link_at_the_path_is_not_written_to() {
    let (host, _backend) = serving("refuse").await;
    let log = log(&host);
    let other = host.folder().join("other");
    fs::write(&other, "another's\n").unwrap();
    let link = log.with_file_name("link");
    std::os::unix::fs::symlink(&other, &link).unwrap();
    fs::rename(link, &log).unwrap();
    assert_eq!(infer(&host).await.status, 200);
    assert_eq!(fs::read_to_string(&other).unwrap(), "another's\n");
    assert!(fs::symlink_metadata(&log).unwrap().is_file());
    host.stop().await;
}

#[tokio::test]
async fn a_rotated_file_that_is_put_back_makes_the_log_whole() {
    let (host, _backend) = serving("refuse").await;
    let log = log(&host);
    let moved = log.with_extension("jsonl.1");
    fs::rename(&log, &moved).unwrap();
    assert_eq!(infer(&host).await.status, 200);
    let folder = host.folder().to_owned();
    assert!(host.host.shutdown().await);

    assert_eq!(kinds(&report(&log)), [Kind::Found]);
    fs::rename(&moved, Paths::new(&log).closed(1)).unwrap();
    let report = report(&log);
    assert_eq!(kinds(&report), [], "{report:#?}");
    assert_eq!(report.decisions, 2);
    assert!(
        report.notes.iter().any(|note| note.contains("gone")),
        "{report:#?}"
    );
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_file_that_is_removed_while_there_are_no_requests_is_noticed() {
    let (host, _backend) = serving("refuse").await;
    let log = log(&host);
    fs::remove_file(&log).unwrap();
    let begun = || log.exists() && !lines(&log).is_empty();
    until("the file is there again", begun).await;
    assert_eq!(lines(&log)[0]["found"][0]["what"], "gone");
    host.stop().await;
}

#[tokio::test]
async fn on_failure_decides_while_no_file_can_be_created() {
    for (on_failure, status, ready) in [("refuse", 503, false), ("allow", 200, true)] {
        let (host, _backend) = serving(on_failure).await;
        let log = log(&host);
        let folder = log.parent().unwrap();
        // No file can be created below a file.
        let aside = folder.with_file_name("aside");
        fs::write(&aside, "in the way").unwrap();
        exchange(folder, &aside);

        let answer = infer(&host).await;
        assert_eq!(answer.status, status, "{on_failure}: {answer:?}");
        let metrics = host.metrics();
        assert!(metrics.contains("tensorgate_audit_failing 1\n"));
        let counted = "tensorgate_host_overloaded_total{cause=\"audit-log\"} 1\n";
        assert_eq!(metrics.contains(counted), !ready, "{on_failure}");
        assert_eq!(host.host.app().ready(), ready, "{on_failure}");
        let (code, text) = support::admin(host.host.admin(), "/readyz").await;
        if ready {
            assert_eq!(code, 200, "{text}");
            assert!(
                text.starts_with("ready\naudit: no line written since 20"),
                "{text}"
            );
        } else {
            assert_eq!((code, answer.reason().as_str()), (503, "overloaded"));
            assert!(
                text.contains("the audit log cannot be written: no file is at its path"),
                "{text}"
            );
        }

        exchange(folder, &aside);
        fs::remove_file(&aside).unwrap();
        let failing = || host.metrics().contains("tensorgate_audit_failing 1\n");
        until("the log is written again", || !failing()).await;
        let (_, text) = support::admin(host.host.admin(), "/readyz").await;
        assert_eq!(text, "ready\n", "{on_failure}");
        assert_eq!(infer(&host).await.status, 200);
        let root = host.folder().to_owned();
        assert!(host.host.shutdown().await);
        let report = report(&log);
        assert_eq!(
            kinds(&report),
            [],
            "{on_failure}: it came back: {report:#?}"
        );
        fs::remove_dir_all(root).unwrap();
    }
}
