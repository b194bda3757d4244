//! A real Envoy and certificates that change, are revoked, or come through a proxy in front. No
//! valid client is disconnected, and no invalid one gets in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tensorgate_client::pki::{Authority, Leaf};
use tensorgate_client::tls::Caller;
use tensorgate_policy_compiler::raw::Policy;
use tensorgate_tests::ask::VALID;
use tensorgate_tests::{Stack, policy};

/// How long a renewed file may take to be in force. Envoy sees it within milliseconds, a busy
/// machine later.
const PATIENCE: Duration = Duration::from_secs(60);
const SPIFFE: &str = "spiffe://prod/ns/risk/sa/engine";
const GATEWAY: &str = "spiffe://prod/ns/ingress/sa/gateway";

/// The vectors' closed policy with TLS, and a client by certificate. The revocation lists are in a
/// folder of their own.
fn tls_policy() -> Policy {
    let mut policy = serde_json::to_value(policy::vectors_policy("closed.json")).unwrap();
    policy["listen"]["trusted_hops"] = json!(1);
    policy["listen"]["tls"] = json!({
        "cert": "gate.pem", "key": "gate.key", "client_ca": "ca.pem", "client_crl": "lists/crl.pem",
        "forwarded_by": [{"spiffe": GATEWAY}]
    });
    policy["revoked"] = json!({"serials_file": "serials.txt"});
    policy["clients"]["engine"] = json!({"mtls": {"spiffe": SPIFFE}});
    policy["clients"]["batch"] = json!({"mtls": {"dns": "batch.example.com"}});
    policy["grants"][0]["clients"] = json!(["scorer", "engine", "batch"]);
    serde_json::from_value(policy).unwrap()
}

async fn start(name: &str, authority: &Authority) -> Stack {
    let gate = authority.issue(1, &["ip:127.0.0.1"]).unwrap();
    let files = [
        ("gate.pem", gate.pem.as_str()),
        ("gate.key", &gate.key),
        ("ca.pem", &authority.pem),
        ("lists/crl.pem", &authority.revoke(1, &[]).unwrap()),
        ("serials.txt", "# none\n"),
    ];
    Stack::start_with(name, tls_policy(), &files).await
}

fn request(fields: &str) -> Vec<u8> {
    format!(
        "POST /v2/models/vec/infer HTTP/1.1\r\nhost: gate\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{fields}\r\n{VALID}",
        VALID.len()
    )
    .into_bytes()
}

/// Sends the valid request on a connection of its own; `None` if no answer came.
async fn ask(stack: &Stack, caller: &Caller, fields: &str) -> Option<u16> {
    let mut session = caller.connect(stack.gate).await.ok()?;
    Some(session.ask(&request(fields)).await.ok()?.status)
}

/// `Hash=…;Cert="…"` as a proxy writes it.
fn element(leaf: &Leaf) -> String {
    let escaped = leaf.pem.replace('\n', "%0A").replace(' ', "%20");
    let escaped = escaped
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    format!("Hash={};Cert=\"{escaped}\"", digest(leaf))
}

fn digest(leaf: &Leaf) -> String {
    use sha2::Digest as _;
    tensorgate_policy::hex(&<[u8; 32]>::from(sha2::Sha256::digest(&leaf.der)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_trusted_proxy_names_its_clients_certificates() {
    let authority = Authority::new("clients").unwrap();
    let stack = start("certificates-hops", &authority).await;
    let issue = |serial: u64, names: &[&str]| authority.issue(serial, names).unwrap();
    let of = |leaf: &Leaf| Caller::new(&authority.pem, leaf.shown()).unwrap();
    let uri = format!("uri:{SPIFFE}");
    let (engine, batch) = (issue(10, &[&uri]), issue(11, &["dns:batch.example.com"]));
    let stranger = issue(12, &["dns:stranger.example.com"]);
    let gateway = of(&issue(13, &[&format!("uri:{GATEWAY}")]));
    let (own, unknown) = (of(&engine), of(&stranger));
    let anonymous = Caller::new(&authority.pem, None).unwrap();
    let (engines, batches, strangers) = (element(&engine), element(&batch), element(&stranger));
    let plain = format!("Hash={};URI={SPIFFE}", digest(&engine));
    let key = format!("x-api-key: {}\r\n", policy::key("scorer"));
    for (what, caller, shown, more, expected) in [
        (
            "a client of the gateway's",
            &gateway,
            engines.as_str(),
            "",
            200,
        ),
        ("another one", &gateway, &batches, "", 200),
        (
            "a URI by itself, where numbers matter",
            &gateway,
            &plain,
            "",
            401,
        ),
        ("a stranger", &gateway, &strangers, "", 401),
        (
            "what a client made up before it",
            &gateway,
            &format!("{engines},{strangers}"),
            "",
            401,
        ),
        (
            "a right one behind what was made up",
            &gateway,
            &format!("{strangers},{engines}"),
            "",
            200,
        ),
        (
            "names without quotes among several",
            &gateway,
            &format!("{strangers},{plain}"),
            "",
            401,
        ),
        ("nonsense", &gateway, "nonsense", "", 401),
        ("no client", &gateway, "", "", 401),
        (
            "a key without a client certificate",
            &gateway,
            "",
            &key,
            200,
        ),
        ("a key beside its own client", &gateway, &engines, &key, 400),
        ("a client by itself", &own, "", "", 200),
        (
            "a client that speaks for another",
            &own,
            &batches,
            &key,
            400,
        ),
        (
            "a stranger that speaks for a client",
            &unknown,
            &engines,
            "",
            401,
        ),
        (
            "a stranger that speaks for the gateway",
            &unknown,
            &format!("{engines},Hash={};URI={GATEWAY}", digest(&engine)),
            "",
            401,
        ),
        (
            "a client without a certificate",
            &anonymous,
            &engines,
            "",
            401,
        ),
    ] {
        let mut fields = more.to_owned();
        if !shown.is_empty() {
            fields.push_str(&format!("x-forwarded-client-cert: {shown}\r\n"));
        }
        assert_eq!(ask(&stack, caller, &fields).await, Some(expected), "{what}");
    }
    // Two header fields mean the same as one.
    let two =
        format!("x-forwarded-client-cert: {strangers}\r\nx-forwarded-client-cert: {engines}\r\n");
    assert_eq!(ask(&stack, &gateway, &two).await, Some(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_revoked_by_serial_is_rejected_on_open_connections_too() {
    let authority = Authority::new("clients").unwrap();
    let stack = start("certificates-serials", &authority).await;
    let uri = format!("uri:{SPIFFE}");
    let (leaf, kept) = (
        authority.issue(0x0a0b, &[&uri]).unwrap(),
        authority.issue(0x0a0c, &[&uri]).unwrap(),
    );
    let of = |leaf: &Leaf| Caller::new(&authority.pem, leaf.shown()).unwrap();
    let (out, kept) = (of(&leaf), of(&kept));
    let mut open = out.connect(stack.gate).await.unwrap();
    assert_eq!(open.ask(&request("")).await.unwrap().status, 200);
    stack.replace("serials.txt", "# lost\n0A0B\n");
    let started = Instant::now();
    while ask(&stack, &out, "").await != Some(401) {
        assert!(
            started.elapsed() < PATIENCE,
            "a revoked number still gets in"
        );
    }
    assert_eq!(open.ask(&request("")).await.unwrap().status, 401);
    assert_eq!(ask(&stack, &kept, "").await, Some(200), "another number");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_authorities_and_lists_under_load_fail_no_valid_request() {
    let first = Authority::new("clients").unwrap();
    let next = Authority::new("next clients").unwrap();
    let stack = Arc::new(start("certificates-rotation", &first).await);
    let uri = format!("uri:{SPIFFE}");
    let caller = |authority: &Authority, serial: u64| {
        let leaf = authority.issue(serial, &[&uri]).unwrap();
        let caller = Caller::new(&first.pem, leaf.shown()).unwrap();
        (leaf, caller)
    };
    let (_, right) = caller(&first, 10);
    let (lost, revoked) = caller(&first, 11);
    let (_, fresh) = caller(&next, 10);
    assert_eq!(ask(&stack, &revoked, "").await, Some(200));
    assert_eq!(ask(&stack, &fresh, "").await, None);

    // New connections throughout the test, and one that stays open.
    let over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU32::new(0));
    let load = {
        let (stack, over, served) = (Arc::clone(&stack), Arc::clone(&over), Arc::clone(&served));
        tokio::spawn(async move {
            let mut held = right.connect(stack.gate).await.unwrap();
            let mut failed = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let outcome = ask(&stack, &right, "").await;
                let kept = held.ask(&request("")).await.map(|reply| reply.status);
                if outcome != Some(200) || !matches!(kept, Ok(200)) {
                    failed.push(format!("{outcome:?} {kept:?}"));
                }
                served.fetch_add(2, Ordering::Relaxed);
            }
            failed
        })
    };
    // Revocation lists: the lost certificate is revoked, ten times over.
    for number in 2..12 {
        stack.replace("lists/crl.pem", &first.revoke(number, &[&lost]).unwrap());
    }
    let started = Instant::now();
    while ask(&stack, &revoked, "").await.is_some() {
        assert!(
            started.elapsed() < PATIENCE,
            "a revoked certificate still gets in"
        );
    }
    // Authorities: first both, with a list of each.
    let lists = format!(
        "{}{}",
        first.revoke(12, &[&lost]).unwrap(),
        next.revoke(1, &[]).unwrap()
    );
    stack.replace("lists/crl.pem", &lists);
    stack.replace("ca.pem", &format!("{}{}", first.pem, next.pem));
    let started = Instant::now();
    while ask(&stack, &fresh, "").await != Some(200) {
        assert!(
            started.elapsed() < PATIENCE,
            "the new authority is not believed"
        );
    }
    assert_eq!(
        ask(&stack, &revoked, "").await,
        None,
        "the lost one is out as before"
    );
    let before = served.load(Ordering::Relaxed);
    let started = Instant::now();
    while served.load(Ordering::Relaxed) < before + 20 {
        assert!(started.elapsed() < PATIENCE, "nothing is served");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    over.store(true, Ordering::Relaxed);
    let failed = load.await.unwrap();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:#?}",
        failed.len(),
        served.load(Ordering::Relaxed)
    );
    // Then the new authority alone: clients with an old certificate are rejected.
    stack.replace("ca.pem", &next.pem);
    let (_, old) = caller(&first, 12);
    let started = Instant::now();
    while ask(&stack, &old, "").await.is_some() {
        assert!(
            started.elapsed() < PATIENCE,
            "the old authority is still believed"
        );
    }
    assert_eq!(ask(&stack, &fresh, "").await, Some(200));
}

/// What `up` prints about files that it rejected, for the field at this path.
fn not_taken(said: &serde_json::Value, path: &str) {
    let why = said["why"].as_str().unwrap_or_default();
    assert_eq!(said["taken"], json!(false), "{said}");
    assert!(why.starts_with(path), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_certificate_files_are_reported_and_lift_no_revocation() {
    let authority = Authority::new("clients").unwrap();
    let mut stack = start("certificates-unfit", &authority).await;
    let uri = format!("uri:{SPIFFE}");
    let leaves = [10, 11, 12].map(|serial| authority.issue(serial, &[&uri]).unwrap());
    let callers = leaves
        .each_ref()
        .map(|leaf| Caller::new(&authority.pem, leaf.shown()).unwrap());
    let [right, lost, next] = &callers;
    let list = |number, leaves: &[&Leaf]| authority.revoke(number, leaves).unwrap();
    stack.replace("lists/crl.pem", &list(2, &[&leaves[1]]));
    let said = stack.certificates().await;
    assert_eq!(
        (&said["taken"], &said["revoked"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(ask(&stack, lost, "").await, None);

    // After an empty, a truncated and an older list, the list in force stays.
    let whole = list(3, &[]);
    for text in ["", "\n", &whole[..whole.len() / 2], &list(1, &[])] {
        stack.replace("lists/crl.pem", text);
        not_taken(&stack.certificates().await, "listen.tls.client_crl");
        assert_eq!(ask(&stack, lost, "").await, None, "{text}");
        assert_eq!(ask(&stack, right, "").await, Some(200), "{text}");
    }
    // A key of another certificate is reported, and delays no revocation.
    let stranger = authority.issue(13, &["ip:127.0.0.1"]).unwrap();
    stack.replace("gate.key", &stranger.key);
    not_taken(&stack.certificates().await, "listen.tls.key");
    assert_eq!(ask(&stack, right, "").await, Some(200));
    assert_eq!(ask(&stack, next, "").await, Some(200));
    stack.replace("lists/crl.pem", &list(4, &[&leaves[1], &leaves[2]]));
    let said = stack.certificates().await;
    assert_eq!(
        (&said["taken"], &said["revoked"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(ask(&stack, lost, "").await, None);
    assert_eq!(ask(&stack, next, "").await, None);
    assert_eq!(ask(&stack, right, "").await, Some(200));
    // When its certificate follows, both are in force.
    stack.replace("gate.pem", &stranger.pem);
    assert_eq!(stack.certificates().await["taken"], json!(true));
    let session = right.connect(stack.gate).await.unwrap();
    assert_eq!(session.peer_certificate(), stranger.der);
}
