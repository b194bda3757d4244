//! The unit for systemd: what `up` relies on, and how exposed a service of it is.

use std::io::ErrorKind;
use std::process::Command;

use crate::root;

const UNIT: &str = "examples/systemd/tensorgate.service";

/// The most exposure, tenths of what `systemd-analyze security` prints.
const MAX_EXPOSURE: u32 = 20;

/// Settings without which a restart, a reload or a stop is not what the page about it says.
const NEEDED: [&str; 7] = [
    "ExecReload=/bin/kill -HUP $MAINPID",
    // Otherwise Envoy gets SIGTERM with `up`, and cuts off its requests.
    "KillMode=mixed",
    // Otherwise the unit ends when the kernel kills one of its processes for memory.
    "OOMPolicy=continue",
    "RestartPreventExitStatus=2",
    // Otherwise a client that can end a process ends the service for good.
    "StartLimitIntervalSec=0",
    // The longest drain has 600 s.
    "TimeoutStopSec=660",
    "Type=notify",
];

#[test]
fn the_unit_has_what_a_supervised_gate_needs() {
    let text = std::fs::read_to_string(root().join(UNIT)).unwrap();
    for line in NEEDED {
        assert!(text.lines().any(|it| it == line), "{line}");
    }
    // Envoy and the host make compiled code executable.
    let denies = |line: &str| line.starts_with("MemoryDenyWriteExecute=");
    assert!(!text.lines().any(denies));
}

/// Without systemd on this machine nothing is checked.
#[test]
fn the_unit_is_hardened() {
    let analyzed = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=true"])
        .arg(format!("--threshold={MAX_EXPOSURE}"))
        .arg(root().join(UNIT))
        .output();
    let analyzed = match analyzed {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return eprintln!("no systemd-analyze: {UNIT} is not analysed");
        }
        analyzed => analyzed.unwrap(),
    };
    let printed = [analyzed.stdout, analyzed.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert!(analyzed.status.success(), "{printed}");
    assert!(!printed.contains("Unknown"), "{printed}");
}
