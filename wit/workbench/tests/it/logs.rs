//! The log lines of handlers and of their faults, read from a host's log.

use tensorgate_client::run::Scratch;

use super::{binary, handler, story};

#[test]
fn a_handlers_lines_are_found_in_the_hosts_log() {
    let scratch = Scratch::new();
    let time = "2026-11-21T00:00:00.000000Z  INFO";
    let log = scratch.file(
        "host.log",
        format!(
            "{time} tensorgate::handler: one handler=\"a\" request_id=\"r1\"\n\
             {time} tensorgate_host: tensorgate::handler: other handler=\"a\" request_id=\"r1\"\n\
             {{\"level\":\"INFO\",\"message\":\"two\",\"handler\":\"b\",\"request_id\":\"r1\",\"target\":\"tensorgate::handler\"}}\n\
             {{\"level\":\"INFO\",\"message\":\"no\",\"handler\":\"b\",\"request_id\":\"r1\",\"target\":\"tensorgate_host\"}}\n\
             {time} tensorgate::handler: of b: handler=\"b\" request_id=\"r2\" handler=\"a\" request_id=\"r3\"\n\
             {{\"message\":\"\\\"handler\\\":\\\"b\\\"\",\"handler\":\"a\",\"request_id\":\"r3\",\"target\":\"tensorgate::handler\"}}\n\
             {time} tensorgate::handler::fault: handler fault cause=\"trap\" detail=\"it is \\\"d\\\"\" handler=\"d\" request_id=\"r5\"\n\
             {{\"message\":\"handler fault\",\"cause\":\"fuel\",\"handler\":\"d\",\"request_id\":\"r6\",\"target\":\"tensorgate::handler::fault\"}}\n\
             {time} tensorgate::handler::other: no handler=\"d\" request_id=\"r5\"\n\
             {time} tensorgate::handler: last\u{1b}[2J handler=\"c\" request_id=\"r4\""
        ),
    );
    let log = log.to_str().unwrap();
    for (arguments, expected) in [
        (vec![], 7),
        (vec!["--handler", "a"], 3),
        (vec!["--handler", "b"], 1),
        (vec!["--handler", "b", "--request-id", "r1"], 1),
        (vec!["--request-id", "r1"], 2),
        // A handler's line about another handler counts as its own.
        (vec!["--request-id", "r2"], 0),
        (vec!["--handler", "c"], 1),
        (vec!["--handler", "d"], 2),
        (vec!["--request-id", "r5"], 1),
    ] {
        let ran = handler(&[vec!["logs", log], arguments.clone()].concat());
        assert_eq!(ran.code, 0, "{}", story(&ran));
        let lines = ran.stdout.lines().count();
        assert_eq!(lines, expected, "{arguments:?}: {}", story(&ran));
        assert!(!ran.stdout.contains('\u{1b}'), "{}", story(&ran));
    }
    let ran = handler(&["logs", log, "--plain", "--request-id", "r1"]);
    let last = ran.stdout.lines().last();
    assert_eq!(last, Some("INFO  r1 b: two"), "{}", story(&ran));
    let state = scratch.path().to_str().unwrap();
    let ran = handler(&["logs", "--state", state]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 7));
    assert_eq!(handler(&["logs", "/no/such/log"]).code, 2);
    assert_eq!(handler(&["logs", "--state", "/no/such/folder"]).code, 2);
}

#[test]
fn a_followed_log_prints_new_lines_and_survives_rotation() {
    use std::io::{BufRead as _, Write as _};
    let scratch = Scratch::new();
    let line = |number: u32| {
        format!(
            "{{\"message\":\"{number}\",\"handler\":\"a\",\"target\":\"tensorgate::handler\"}}\n"
        )
    };
    let log = scratch.file("host.log", line(1));
    let mut child = std::process::Command::new(binary())
        .args(["logs", "--follow", log.to_str().unwrap()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || out.next().unwrap().unwrap();
    assert!(next().contains("\"1\""));
    let mut open = std::fs::File::options().append(true).open(&log).unwrap();
    // In two writes: a line is printed once it is complete.
    let two = line(2);
    open.write_all(&two.as_bytes()[..10]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    open.write_all(&two.as_bytes()[10..]).unwrap();
    assert!(next().contains("\"2\""));
    std::fs::rename(scratch.file("renewed.log", line(3)), &log).unwrap();
    assert!(next().contains("\"3\""));
    child.kill().unwrap();
    child.wait().unwrap();
}
