//! The real host with its OS sandbox: it serves, compiles and loads another policy, takes
//! renewed certificates, keeps its audit log; and what its policy has no word of, it cannot even
//! open.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tensorgate_client::pki::Authority;
use tensorgate_settings::handler_threads::{MAX_RESERVED_THREADS, shared_threads};

use crate::support;
use crate::support::guests;
use crate::support::secured;
use crate::support::spawned;
use secured::Front;
use spawned::{Spawned, replace};
use support::backend::{Act, Backend};
use support::{folder, policy};

/// A guest that answers two numbers. Its fuel depends on `number`.
fn guest(number: usize) -> Vec<u8> {
    guests::preprocess(&format!(
        "{} (i64.store (i32.const 3000) (i64.const 2))
        (call $tensor (i32.const 2048) (i32.const 11) (i32.const 4096) (i32.const 8))
        (i32.store8 (i32.const 0) (i32.const 120))
        (i32.store offset=12 (i32.const 2048) (i32.const 3000)) (i32.store offset=16 (i32.const 2048) (i32.const 1))
        (call $ok (i32.const 2048) (i32.const 1))",
        "(drop (i32.const 7))".repeat(number)
    ))
}

/// A policy whose model has a handler of this digest.
fn with_handler(uri: &str, component: &str, sha256: &[u8]) -> Value {
    let sha256 = tensorgate_policy::hex(sha256);
    let mut policy = policy(
        uri,
        json!({}),
        json!({"tls": {"ca": "ca.pem"}, "timeout_ms": 10_000}),
    );
    policy["handlers"] = json!({"h": {"component": component, "sha256": sha256, "fuel": 10_000_000, "memory_bytes": 1 << 20, "timeout_ms": 10_000}});
    let model = policy["models"]["vec"].as_object_mut().unwrap();
    model.insert("preprocess".to_owned(), json!("h"));
    model.insert("accepts".to_owned(), json!({"inputs": model["inputs"]}));
    policy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_in_its_os_sandbox_serves_compiles_reloads_and_renews_certificates() {
    let (old, new) = (
        Authority::new("old").unwrap(),
        Authority::new("new").unwrap(),
    );
    let server = Backend::start(Act::Answer);
    let front = Front::start(
        // No other process gets this port while it is closed.
        &format!("127.0.0.1:{}", tensorgate_client::run::free_port()),
        server.address,
        &old.issue(1, &["dns:localhost"]).unwrap(),
        None,
    );
    let (address, uri) = (front.address.to_string(), front.uri("localhost"));
    let there = folder();
    for name in ["root", "run", "made"] {
        std::fs::create_dir(there.join(name)).unwrap();
    }
    let root = there.join("root");
    // Components are behind a link, as a build may put them.
    symlink(there.join("made"), root.join("components")).unwrap();
    for number in [0, 1] {
        std::fs::write(
            root.join(format!("components/{number}.wasm")),
            guest(number),
        )
        .unwrap();
    }
    std::fs::write(root.join("ca.pem"), &old.pem).unwrap();
    std::fs::write(root.join("capture.key"), "07".repeat(32)).unwrap();
    std::fs::set_permissions(root.join("capture.key"), Permissions::from_mode(0o600)).unwrap();
    let of = |number: usize| {
        let digest = Sha256::digest(guest(number));
        let mut policy = with_handler(&uri, &format!("components/{number}.wasm"), &digest);
        policy["capture"] = json!({"folder": "captures", "key_file": "capture.key", "outcomes": ["answered"], "keep": 1});
        policy
    };
    Spawned::bundle(&there, support::GENERATION, &of(0));
    let mut host = Spawned::start(there.clone(), "required");

    let active = host.line("OS sandbox active");
    println!("{}", active["restrictions"]);
    host.line("component compiled");
    host.line("tensorgate-host is ready");
    host.comes_to(200).await;
    let tasks = std::fs::read_dir(format!("/proc/{}/task", host.child.id())).unwrap();
    let (mut threads, mut guest_threads) = (0, 0);
    for task in tasks {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        for expected in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"] {
            assert!(status.contains(expected), "{expected}: {status}");
        }
        threads += 1;
        guest_threads += usize::from(status.starts_with("Name:\tguest-"));
    }
    assert!(threads > 3, "{threads} threads");
    // One more starts the others, and one is their clock.
    let shared = shared_threads(spawned::HANDLER_THREADS.parse().unwrap());
    assert_eq!(guest_threads, MAX_RESERVED_THREADS + shared + 2);

    // Calls are captured in the one folder below its root that it may write to, and older ones are
    // deleted.
    host.comes_to(200).await;
    let captured = || {
        let names = tensorgate_sandbox::capture::folder::names(&root.join("captures"));
        names.unwrap().len()
    };
    support::until("a call is captured", || captured() == 1).await;

    // Another policy, with a handler that is not compiled yet.
    Spawned::bundle(&there, "1111111111111111", &of(1));
    host.line("component compiled");
    assert_eq!(host.reloaded(), "loaded");
    host.comes_to(200).await;

    // A component that is a link out of its folder: to a file that no rule permits, and to what is
    // no file, which the kernel does not open.
    for (target, number, causes) in [
        ("/etc/passwd", 2, ["handlers.h.component", "/etc/passwd"]),
        ("/etc", 3, ["Permission denied", "OS sandbox"]),
    ] {
        let link = format!("way-out-{number}.wasm");
        symlink(target, root.join(&link)).unwrap();
        let out = with_handler(&uri, &link, &Sha256::digest(guest(0)));
        Spawned::bundle(&there, &number.to_string().repeat(16), &out);
        let rejected = host.line("policy rejected");
        for cause in causes {
            assert!(
                rejected["cause"].as_str().unwrap().contains(cause),
                "{rejected}"
            );
        }
        host.comes_to(200).await;
    }

    // A backend at a port that no rule permits: requests go on under the policy in force, except
    // those of clients that the new one does not have.
    let port = tensorgate_client::run::free_port();
    let mut elsewhere = of(1);
    elsewhere["backends"]["b"]["endpoints"][0] = format!("https://localhost:{port}").into();
    let mut without = elsewhere.clone();
    let scorer = without["clients"]["scorer"].take();
    without["clients"] = json!({"another": scorer});
    without["grants"][0]["clients"] = json!(["another"]);
    for (generation, policy, status) in [
        ("4444444444444444", &elsewhere, 200),
        ("5555555555555555", &without, 401),
        ("1111111111111111", &of(1), 200),
    ] {
        Spawned::bundle(&there, generation, policy);
        if generation == "1111111111111111" {
            assert_eq!(host.reloaded(), "unchanged");
        } else {
            let rejected = host.line("policy rejected");
            let cause = rejected["cause"].as_str().unwrap();
            let expected = format!(
                "backends.b.endpoints[0]: the OS sandbox (--harden) does not permit TCP port {port}; "
            );
            assert!(cause.starts_with(&expected), "{rejected}");
        }
        assert_eq!(
            host.gate().infer(&[1.0]).await.status,
            status,
            "{generation}"
        );
    }

    // The server's certificate now comes from another authority, and the file of authorities
    // changes with it.
    drop(front);
    let front = Front::start(
        &address,
        server.address,
        &new.issue(2, &["dns:localhost"]).unwrap(),
        None,
    );
    host.comes_to(503).await;
    replace(&root.join("ca.pem"), &new.pem);
    Spawned::bundle(&there, "6666666666666666", &of(0));
    assert_eq!(host.reloaded(), "loaded");
    host.comes_to(200).await;
    let log = there.join("run/audit/decisions.jsonl");
    let audited = std::fs::read_to_string(&log).unwrap();
    assert!(audited.lines().count() > 3, "{audited}");
    // The log continues in a new file after its file was removed or truncated.
    for cut in [false, true] {
        if cut {
            std::fs::write(&log, "").unwrap();
        } else {
            std::fs::remove_file(&log).unwrap();
        }
        assert_eq!(host.gate().infer(&[1.0]).await.status, 200);
        let audited = std::fs::read_to_string(&log).unwrap();
        assert!(audited.contains("\"why\":\"reopen\""), "{audited}");
    }
    drop(front);

    // The compiled component is in the cache at the next start.
    let ended = Command::new("kill")
        .arg(host.child.id().to_string())
        .status()
        .unwrap();
    assert!(ended.success());
    host.line("stopped");
    assert!(host.child.wait().unwrap().success());
    let mut again = Spawned::start(there.clone(), "best-effort");
    again.line("component loaded from the cache");
    again.line("tensorgate-host is ready");
}
