//! The folder of compiled handlers that `up` gives its host.

use std::path::PathBuf;
use std::process::Command;

use crate::program::{small_filters, tree};
use crate::up::{ANY, program};

/// A host that writes its arguments to a file, one a line, and exits.
const HOST: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\" >\"$0.argv\"\nexit 1\n";

#[test]
fn only_a_developers_host_outside_of_the_os_sandbox_shares_the_users_cache() {
    let (own, users) = ("state/compiled", "cache/tensorgate/compiled");
    for (dev, harden, expected) in [
        (Some("--dev"), None, users),
        (Some("--dev"), Some("off"), users),
        (Some("--dev"), Some("best-effort"), own),
        (Some("--dev"), Some("required"), own),
        (None, None, own),
        (None, Some("off"), own),
    ] {
        let (scratch, program) = program(HOST);
        let mut up = Command::new(program);
        up.arg("up").arg(tree().join("envoy/gate.yaml")).args(dev);
        up.args(["--listen", ANY, "--admin", ANY]);
        up.arg("--filters").arg(small_filters());
        up.arg("--state").arg(scratch.path().join("state"));
        up.env("XDG_CACHE_HOME", scratch.path().join("cache"));
        up.env("XDG_RUNTIME_DIR", scratch.path().join("run"));
        // It is looked for, and not started, because the host exits first.
        up.env("ENVOY", scratch.file("envoy", ""));
        up.env_remove("TENSORGATE_HARDEN");
        up.envs(harden.map(|value| ("TENSORGATE_HARDEN", value)));
        let output = up.output().unwrap();
        let arguments = std::fs::read_to_string(scratch.path().join("tensorgate-host.argv"));
        let arguments =
            arguments.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let value = |option: &str| {
            let mut rest = (arguments.lines()).skip_while(|argument| *argument != option);
            rest.nth(1).map(PathBuf::from)
        };
        let (cache, expected) = (value("--cache-folder"), scratch.path().join(expected));
        assert_eq!(cache, Some(expected), "{dev:?} {harden:?}");
        // Each host reads the runtimes that `handler setup` made, and writes none.
        let runtimes = scratch.path().join("cache/tensorgate/runtimes");
        assert_eq!(value("--runtimes"), Some(runtimes));
    }
}
