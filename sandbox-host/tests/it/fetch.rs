//! Files that a handler fetches, from real servers over TLS: what arrives, what is sent, and
//! everything that is rejected. A test gives names their addresses; loopback is reached only where
//! the policy allows that private network.

use crate::support;

mod audited;
use crate::support::guests;
use crate::support::origin;

mod site;

use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};
use tensorgate_base::payload::Role;
use tensorgate_client::pki::Authority;
use tensorgate_sandbox::{FaultCause, HandlerError, LoadFault, Overload};

use origin::{Origin, Says};
use site::{Names, Site, ask, came, png};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_sends_nothing_of_the_client_and_two_runs_look_the_same_to_the_guest() {
    let site = Site::new();
    let origin = site.origin(Says::new(&[
        ("/1", &png("one")),
        ("/2?x=%20y", &png("two")),
    ]));
    let port = origin.address.port();
    let handler = site
        .load(&[port], &json!({}), &json!({}), Names::local())
        .unwrap();
    let urls = format!("https://a.example:{port}/1#part\nhttps://a.example:{port}/2?x=%20y");
    let (called, told) = ask(&handler, &urls).await;
    let called = called.unwrap();
    assert_eq!(came(&called), ["image/png\none", "image/png\ntwo"]);
    let mut asked = origin.asked();
    asked.sort();
    let head = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nhost: a.example:{port}\r\nuser-agent: tensorgate\r\naccept: image/png\r\naccept-encoding: identity\r\nconnection: close\r\n\r\n"
        )
    };
    assert_eq!(asked, [head("/1"), head("/2?x=%20y")]);
    assert_eq!(told.len(), 2, "{told:?}");
    for reached in &told {
        assert_eq!(
            (
                reached.handler.as_str(),
                reached.host.as_str(),
                reached.outcome.as_str()
            ),
            ("h", "a.example", "ok")
        );
        assert_eq!((reached.status, reached.bytes), (Some(200), 3));
    }

    // The same call costs the same again, whatever the network does.
    let (again, _) = ask(&handler, &urls).await;
    assert_eq!(again.unwrap().fuel_used, called.fuel_used);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_servers_answer_is_a_file_within_its_bounds_or_an_error() {
    let site = Site::new();
    let big = "x".repeat(1001);
    let half = "x".repeat(500);
    // The HTTP client returns each chunk as a piece of its own, however they arrive.
    let chunked = |chunks: &[&str]| {
        let framed = |chunk: &&str| format!("{:x}\r\n{chunk}\r\n", chunk.len());
        let chunks: String = chunks.iter().map(framed).collect();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ntransfer-encoding: chunked";
        format!("{head}\r\n\r\n{chunks}0\r\n\r\n")
    };
    let endless = "HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n";
    let with = |head: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n{head}\r\n\r\nx");
    let only = |status: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-type: image/png\r\ncontent-length: 1\r\n\r\nx")
    };
    let answers = [
        ("/type", with("content-type: text/html"), "wrong-type"),
        ("/none", with("x: y"), "wrong-type"),
        (
            "/two",
            with("content-type: image/png\r\ncontent-type: text/html"),
            "wrong-type",
        ),
        (
            "/gzip",
            with("content-type: image/png\r\ncontent-encoding: gzip"),
            "wrong-type",
        ),
        (
            "/case",
            with("content-type: IMAGE/PNG; q=1"),
            "image/png\nx",
        ),
        (
            "/identity",
            with("content-type: image/png\r\ncontent-encoding: identity"),
            "image/png\nx",
        ),
        ("/said", png(&big), "too-large"),
        ("/chunk", chunked(&[big.as_str()]), "too-large"),
        ("/chunks", chunked(&[half.as_str(); 3]), "too-large"),
        ("/chunks-fit", chunked(&[half.as_str(); 2]), "image/png\nx"),
        ("/fits", png(&"x".repeat(1000)), "image/png\n"),
        (
            "/endless",
            format!("{endless}{}", "y".repeat(5000)),
            "too-large",
        ),
        ("/404", only("404 Not Found"), "not-found"),
        ("/403", only("403 Forbidden"), "not-found"),
        ("/206", only("206 Partial Content"), "unavailable"),
        ("/500", only("500 Oops"), "unavailable"),
        (
            "/garbage",
            "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
            "unavailable",
        ),
        (
            "/headers",
            with(&(0..100).map(|n| format!("x{n}: y\r\n")).collect::<String>()),
            "unavailable",
        ),
        (
            "/short",
            "HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 9\r\n\r\nx".to_owned(),
            "unavailable",
        ),
        (
            "/moved",
            "HTTP/1.1 302 Found\r\nlocation: /fits\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "refused",
        ),
    ];
    let said: Vec<_> = answers
        .iter()
        .map(|(path, answer, _)| (*path, answer.as_str()))
        .collect();
    let origin = site.origin(Says::new(&said));
    let port = origin.address.port();
    let handler = site
        .load(&[port], &json!({}), &json!({}), Names::local())
        .unwrap();
    for (path, _, expected) in &answers {
        let (called, told) = ask(&handler, &format!("https://a.example:{port}{path}")).await;
        let items = came(&called.unwrap());
        assert!(items[0].starts_with(expected), "{path}: {items:?} {told:?}");
        assert!(told[0].bytes <= 5000 + 1001, "{path}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_non_public_address_is_rejected_whatever_name_resolves_to_it() {
    let site = Site::new();
    let origin = site.origin(Says::new(&[("/", &png("secret"))]));
    let port = origin.address.port();
    let url = format!("https://a.example:{port}/");
    for (answers, over, expected) in [
        (&[&["127.0.0.1"][..]][..], json!({}), "image/png\nsecret"),
        (&[&["127.0.0.1"]], json!({"allow_private": []}), "refused"),
        (
            &[&["127.0.0.1"]],
            json!({"allow_private": ["10.0.0.0/8"]}),
            "refused",
        ),
        (&[&["127.0.0.1", "10.0.0.1"]], json!({}), "refused"),
        (&[&["1.1.1.1", "169.254.169.254"]], json!({}), "refused"),
        (&[&["::ffff:127.0.0.1"]], json!({}), "refused"),
        (&[&["64:ff9b::7f00:1"]], json!({}), "refused"),
        (&[&["2002:7f00:1::"]], json!({}), "refused"),
        (&[&["::1"]], json!({}), "refused"),
        (&[&["0.0.0.0"]], json!({}), "refused"),
        (&[&[]], json!({}), "unavailable"),
    ] {
        let names = Names::of(&[("a.example", answers)]);
        let handler = site.load(&[port], &over, &json!({}), names).unwrap();
        let before = origin.connections();
        let (called, told) = ask(&handler, &url).await;
        assert_eq!(came(&called.unwrap()), [expected], "{answers:?} {over}");
        assert_eq!(told[0].host, "a.example");
        let connected = origin.connections() - before;
        assert_eq!(
            connected,
            usize::from(expected.starts_with("image")),
            "{answers:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebound_name_is_judged_by_the_address_that_is_connected_to() {
    let site = Site::new();
    let origin = site.origin(Says::new(&[("/", &png("first"))]));
    let port = origin.address.port();
    // The first lookup gives this machine, the second would give the metadata service.
    let names = Names::of(&[("a.example", &[&["127.0.0.1"], &["169.254.169.254"]])]);
    let handler = site.load(&[port], &json!({}), &json!({}), names).unwrap();
    let url = format!("https://a.example:{port}/");
    let (called, _) = ask(&handler, &url).await;
    assert_eq!(
        came(&called.unwrap()),
        ["image/png\nfirst"],
        "resolved once"
    );
    let (called, _) = ask(&handler, &url).await;
    assert_eq!(came(&called.unwrap()), ["refused"]);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_are_checked_like_the_first_url_and_limited_in_number() {
    let site = Site::new();
    let moved =
        |to: &str| format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
    let other = site.origin(Says::new(&[("/", &png("other"))]));
    let there = other.address.port();
    let answers = [
        ("/same", moved("/file"), "image/png\nhere"),
        ("/file", png("here"), "image/png\nhere"),
        (
            "/other",
            moved(&format!("https://b.example:{there}/")),
            "image/png\nother",
        ),
        ("/twice", moved("/same"), "image/png\nhere"),
        ("/thrice", moved("/twice"), "refused"),
        ("/loop", moved("/loop"), "refused"),
        ("/plain", moved("http://a.example/"), "refused"),
        (
            "/host",
            moved(&format!("https://c.example:{there}/")),
            "refused",
        ),
        ("/port", moved("https://a.example:22/"), "refused"),
        ("/address", moved("https://127.0.0.1/"), "refused"),
        (
            "/user",
            moved(&format!("https://a.example:{there}@c.example/")),
            "refused",
        ),
        ("/relative", moved("//c.example/"), "refused"),
        ("/file-scheme", moved("file:///etc/passwd"), "refused"),
        (
            "/metadata",
            moved(&format!("https://m.example:{there}/")),
            "refused",
        ),
    ];
    let said: Vec<_> = answers
        .iter()
        .map(|(path, answer, _)| (*path, answer.as_str()))
        .collect();
    let origin = site.origin(Says::new(&said));
    let port = origin.address.port();
    let over = json!({"hosts": ["a.example", "b.example", "m.example"], "redirects": 2});
    let names = Names::of(&[
        ("a.example", &[&["127.0.0.1"]]),
        ("b.example", &[&["127.0.0.1"]]),
        ("m.example", &[&["169.254.169.254"]]),
    ]);
    let handler = site.load(&[port, there], &over, &json!({}), names).unwrap();
    for (path, _, expected) in &answers {
        let (called, told) = ask(&handler, &format!("https://a.example:{port}{path}")).await;
        assert_eq!(came(&called.unwrap()), [*expected], "{path}: {told:?}");
        assert_eq!(told.len(), 1, "{path}: one line for one ask");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_that_is_not_allowed_is_not_fetched() {
    let site = Site::new();
    let origin = site.origin(Says::new(&[("/", &png("x"))]));
    let port = origin.address.port();
    let handler = site
        .load(&[port], &json!({}), &json!({}), Names::local())
        .unwrap();
    for url in [
        format!("http://a.example:{port}/"),
        format!("https://b.example:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://[::1]:{port}/"),
        format!("https://2130706433:{port}/"),
        format!("https://a.example:{port}@b.example/"),
        format!("https://a.example.:{port}/"),
        format!("https://a.example:{port}/%0d%0ax:%20y"),
        format!("https://a.example:{port}\\@b.example/"),
        "https://a.example/".to_owned(),
        "ftp://a.example/".to_owned(),
        "a.example".to_owned(),
    ] {
        let (called, told) = ask(&handler, &url).await;
        assert_eq!(came(&called.unwrap()), ["refused"], "{url}");
        assert_eq!((told.len(), told[0].outcome.as_str()), (1, "refused"));
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_an_untrusted_certificate_is_not_used() {
    let site = Site::new();
    let stranger = Authority::new("stranger").unwrap();
    let leaf = stranger.issue(1, &["dns:a.example"]).unwrap();
    let forged = Origin::start(&leaf, Says::new(&[("/", &png("x"))]));
    let misnamed = site.authority.issue(2, &["dns:c.example"]).unwrap();
    let misnamed = Origin::start(&misnamed, Says::new(&[("/", &png("x"))]));
    for origin in [forged, misnamed] {
        let port = origin.address.port();
        let handler = site
            .load(&[port], &json!({}), &json!({}), Names::local())
            .unwrap();
        let (called, _) = ask(&handler, &format!("https://a.example:{port}/")).await;
        assert_eq!(came(&called.unwrap()), ["unavailable"]);
        assert_eq!(origin.asked(), [""; 0], "nothing was said to it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_delays_only_its_requests_and_one_client_gets_half_of_the_slots() {
    let site = Site::new();
    let origin = site.origin(Says::drip(
        &png(&"x".repeat(900)),
        Duration::from_millis(20),
    ));
    let port = origin.address.port();
    let over = json!({"timeout_ms": 2_000, "max_requests": 1, "concurrency": 2});
    let handler = site
        .load(&[port], &over, &json!({}), Names::local())
        .unwrap();
    let url = format!("https://a.example:{port}/");
    let (slow, url_again) = (handler.clone(), url.clone());
    let first = tokio::spawn(async move { ask(&slow, &url_again).await });
    origin.wait_for(1).await;
    // The client's half is taken: a second request is rejected while the first still waits.
    let (second, told) = ask(&handler, &url).await;
    assert!(
        matches!(second, Err(HandlerError::Overloaded(Overload::Egress))),
        "{second:?}"
    );
    assert!(told.is_empty() && !first.is_finished());
    let (called, told) = first.await.unwrap();
    assert_eq!(came(&called.unwrap()), ["timeout"]);
    assert!(told[0].bytes > 0, "{told:?}");
    // The whole answer would take nine times as long.
    let took_ms = told[0].took_us / 1_000;
    assert!((2_000..10_000).contains(&took_ms), "{told:?}");
    // Its slot is free again.
    let (third, _) = ask(&handler, &url).await;
    assert_eq!(came(&third.unwrap()), ["timeout"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_exceeds_its_fetches_is_stopped() {
    let site = Site::new();
    let origin = site.origin(Says::new(&[
        ("/1", &png("1")),
        ("/2", &png("2")),
        ("/3", &png("3")),
        ("/4", &png("4")),
    ]));
    let port = origin.address.port();
    let urls = |numbers: std::ops::RangeInclusive<u32>| {
        let urls: Vec<_> = numbers
            .map(|n| format!("https://a.example:{port}/{n}"))
            .collect();
        urls.join("\n")
    };
    for (manner, urls, fits) in [
        ("one-by-one", urls(1..=4), true),
        ("together", urls(1..=4), true),
        ("one-by-one", urls(1..=5), false),
        ("together", urls(1..=5), false),
        ("greedy", String::new(), false),
        ("large", String::new(), false),
        ("many", String::new(), false),
    ] {
        let handler = site
            .load(
                &[port],
                &json!({}),
                &json!({"manner": manner}),
                Names::local(),
            )
            .unwrap();
        let (called, told) = ask(&handler, &urls).await;
        assert!(told.len() <= 4, "{manner}: {told:?}");
        match called {
            Ok(called) => {
                assert!(fits, "{manner}");
                assert_eq!(
                    came(&called),
                    (1..=4)
                        .map(|n| format!("image/png\n{n}"))
                        .collect::<Vec<_>>()
                );
            }
            Err(HandlerError::Fault { cause, .. }) => {
                assert!(
                    !fits && cause == FaultCause::Capabilities,
                    "{manner}: {cause}"
                );
            }
            Err(other) => panic!("{manner}: {other}"),
        }
    }
}

#[test]
fn a_component_that_fetches_is_loaded_only_with_a_fetch_rule() {
    let site = Site::new();
    let component = guests::built("hostile_fetch");
    let policy = guests::policy(&Sha256::digest(&component), guests::BUDGET, &[]);
    let rule = &policy.handlers()["h"];
    let fault = (site.sandbox)
        .load("h", rule, Role::Preprocess, &component)
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(fault, LoadFault::Ungranted { .. }), "{fault}");
    assert!(fault.to_string().contains("needs fetch"), "{fault}");
}
