//! Two hosts and two gateways over TCP with mutual TLS, each in a network namespace of its own:
//! restarts, new policies, new keys and new certificates, one process after the other. Meanwhile
//! clients send valid requests.

mod clients;
mod fleet;
mod network;

use clients::Clients;
use fleet::{GATEWAY, Gateway, Host, generation};
use network::Network;
use serde_json::json;
use tensorgate_client::pki::Authority;
use tensorgate_client::run::Scratch;
use tensorgate_policy_compiler::raw::Policy;
use tensorgate_tests::ask;
use tensorgate_tests::backend::{Backend, Mode};
use tensorgate_tests::policy;
use tensorgate_tests::programs::target;

const OLD_KEY: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0af0";
const NEW_KEY: &str = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0bf0";

/// The time limit of a request, which none may reach on a busy machine either.
const TIMEOUT_MS: u64 = 50_000;

/// A policy in which these clients, too, may send inferences to `vec`.
fn with_clients(base: &Policy, clients: &[&str]) -> Policy {
    let mut policy = serde_json::to_value(base).unwrap();
    policy["grants"].as_array_mut().unwrap().push(json!({
        "name": "more", "clients": clients, "models": ["vec"], "operations": ["infer"]
    }));
    serde_json::from_value(policy).unwrap()
}

/// Waits until both hosts serve a bundle.
async fn served(hosts: &[Host], bundle: &[u8]) {
    let serving = format!("\"serving\":\"{}\"", generation(bundle));
    for host in hosts {
        host.shows("/generations", |(_, body)| body.contains(&serving))
            .await;
    }
}

/// Replaces the context keys of both hosts, and waits until they are in force.
async fn exchange(hosts: &[Host], keys: &str) {
    for host in hosts {
        let renewals = || host.log().matches("renewed files are in force").count();
        let before = renewals();
        host.give_keys(keys);
        ask::met("the keys are in force", || renewals() > before).await;
    }
}

/// Renders a policy for both gateways. Returns the bundle.
async fn render(gateways: &[Gateway], policy: &Policy, hosts: &[Host]) -> Vec<u8> {
    gateways[0].render(policy, hosts).await;
    gateways[1].render(policy, hosts).await
}

async fn restart(hosts: &mut [Host], clients: &Clients) {
    for host in hosts {
        host.stop().await;
        clients.check("one host is down").await;
        host.start().await;
        clients.check("the host is up again").await;
    }
}

#[test]
fn a_rollout_fails_no_valid_request() {
    network::run(rollout);
}

async fn rollout(network: Network<4>) {
    let scratch = Scratch::new();
    let folder = |name: &str| scratch.path().join(name);
    let mut base = policy::vectors_policy("main.json");
    // A client that no rule of the policy names.
    let another = policy::vectors_policy("rates.json").clients["rate-1"].clone();
    base.clients.insert("rate-1".to_owned(), another);
    policy::set_time_limit(&mut base, TIMEOUT_MS);
    let backend = Backend::start_at(network.test, base.clone()).await;
    let components = target().join("components");
    policy::settle(&mut base, &backend, &components, scratch.path());

    let authority = Authority::new("one").unwrap();
    let gateway_name = format!("uri:{GATEWAY}");
    let leaf = authority.issue(2, &[&gateway_name]).unwrap();
    let [h1, h2, g1, g2] = network.nodes;
    let mut hosts = [(h1, "h1"), (h2, "h2")]
        .map(|(node, name)| Host::new(node, folder(name), &authority, OLD_KEY));
    let mut gateways = [(g1, "g1"), (g2, "g2")]
        .map(|(node, name)| Gateway::new(node, folder(name), &authority, &leaf));
    let bundle = render(&gateways, &base, &hosts).await;
    for gateway in &mut gateways {
        gateway.install();
        gateway.start(OLD_KEY);
    }
    for host in &mut hosts {
        host.give_policy(&bundle);
        host.start().await;
    }
    for gateway in &mut gateways {
        gateway.ready().await;
        ask::until(gateway.address, "scorer", "ok", "it serves").await;
    }
    let addresses = gateways.each_ref().map(|gateway| gateway.address);
    let clients = Clients::start(addresses.to_vec());
    clients.check("both gateways serve").await;

    restart(&mut hosts, &clients).await;

    // A new policy: hosts first, as on one machine.
    let with_reader = with_clients(&base, &["reader"]);
    let bundle = render(&gateways, &with_reader, &hosts).await;
    for host in &hosts {
        host.give_policy(&bundle);
    }
    served(&hosts, &bundle).await;
    for gateway in &gateways {
        gateway.change();
        ask::until(gateway.address, "reader", "ok", "hosts first").await;
    }
    clients.check("hosts first").await;

    // Gateways first. What only the new policy allows fails meanwhile, and nothing else.
    let with_another = with_clients(&base, &["reader", "rate-1"]);
    let bundle = render(&gateways, &with_another, &hosts).await;
    for gateway in &gateways {
        gateway.change();
        ask::until(gateway.address, "rate-1", "overloaded", "gateways first").await;
        ask::until(gateway.address, "reader", "ok", "both policies allow it").await;
    }
    clients.check("gateways first").await;
    for host in &hosts {
        host.give_policy(&bundle);
    }
    served(&hosts, &bundle).await;
    for gateway in &gateways {
        ask::until(gateway.address, "rate-1", "ok", "hosts second").await;
    }
    clients.check("hosts second").await;

    // A new context key: both keys at the hosts, the new one at one gateway after the other, the
    // new one alone at the hosts.
    exchange(&hosts, &format!("{NEW_KEY}\n{OLD_KEY}\n")).await;
    for (gateway, other) in gateways.iter_mut().zip([addresses[1], addresses[0]]) {
        clients.go_to(vec![other]).await;
        gateway.stop().await;
        gateway.start(NEW_KEY);
        gateway.ready().await;
        ask::until(gateway.address, "scorer", "ok", "the new key").await;
        clients.go_to(addresses.to_vec()).await;
        clients.check("a gateway has restarted").await;
    }
    exchange(&hosts, NEW_KEY).await;
    clients.check("the old key is gone").await;

    // A gateway whose certificate has another name is refused at its handshake, with new
    // connections.
    clients.go_to(vec![addresses[0]]).await;
    let another = authority.issue(3, &["uri:spiffe://test.example/ns/gate/sa/other"]);
    let before = gateways[1].renewals().await;
    gateways[1].give_certificate(&another.unwrap());
    gateways[1].renewed(before).await;
    restart(&mut hosts, &clients).await;
    let refused = "backend-unavailable";
    ask::until(addresses[1], "scorer", refused, "the wrong name").await;
    let logged = || {
        let text = hosts.each_ref().map(Host::log).concat();
        text.contains("has no name of --gateway") && text.contains("spiffe://test.example")
    };
    ask::met("the log names the cause", logged).await;
    let counted = |(_, body): &(u16, String)| {
        let line = "tensorgate_host_peers_refused_total ";
        let count = body.lines().find_map(|text| text.strip_prefix(line));
        count.is_some_and(|count| count != "0")
    };
    for host in &hosts {
        // Requests go to the hosts in turn.
        ask::until(addresses[1], "scorer", refused, "the wrong name").await;
        ask::until(addresses[1], "scorer", refused, "the wrong name").await;
        host.shows("/metrics", counted).await;
    }

    // A renewal repairs it, and nothing restarts.
    let renewed = authority.issue(4, &[&gateway_name]).unwrap();
    gateways[1].give_certificate(&renewed);
    ask::until(addresses[1], "scorer", "ok", "the right name").await;
    clients.go_to(addresses.to_vec()).await;
    clients.check("the certificate is right again").await;
    clients.end().await;

    // No client can have a request sent again that a host has processed.
    backend.set(Mode::Fails);
    let retries = [
        ("x-envoy-retry-on", "5xx,reset"),
        ("x-envoy-max-retries", "3"),
    ];
    let mut calls = Vec::new();
    for more in [retries.as_slice(), &[]] {
        backend.forget();
        let outcome = ask::outcome(addresses[0], "scorer", more).await;
        assert_ne!(outcome.unwrap(), "ok");
        let fields: Vec<_> = backend.seen().into_iter().map(|seen| seen.fields).collect();
        println!("the backend was called with {fields:?}");
        calls.push(fields.len());
    }
    assert_eq!(calls[0], calls[1], "calls with and without the fields");
    for gateway in &mut gateways {
        gateway.stop().await;
    }
    for host in &mut hosts {
        host.stop().await;
    }
}
