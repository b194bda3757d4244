//! Several listeners of one Envoy with the native module, whose store is the whole process's: those
//! with one policy share its counts, and one with another policy has its own.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tensorgate_policy::{Compiled, FilterTarget, Target};
use tensorgate_policy_compiler::raw::Rate;
use tensorgate_tests::programs::{bin, free_address};

use super::mesh::{Mesh, before, edit_compiled, upstream};
use super::{VALID, policy, send};

/// Requests that the client may send in a month.
const QUOTA: u64 = 5;

/// The compiled policy of the first listener, changed.
fn edit(bootstrap: &mut Value, change: impl FnOnce(FilterTarget) -> FilterTarget) {
    edit_compiled(bootstrap, |bytes| {
        let compiled = Compiled::load(&bytes).unwrap();
        let target = Target::Filter(change(compiled.target.filter().unwrap()));
        Compiled { target, ..compiled }.to_bytes()
    });
}

/// The first listener, with the native module in place of the wasm module.
fn native(bootstrap: &Value) -> Value {
    let mut listener = bootstrap["static_resources"]["listeners"][0].clone();
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    let filter = &mut manager["http_filters"][0]["typed_config"];
    let configuration = filter["config"]["configuration"].take();
    *filter = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config": {
            "module": {"local": {"filename": bin().join("libtensorgate_gate.so")}},
            "do_not_close": true,
        },
        "filter_name": "gate",
        "filter_config": configuration,
    });
    listener
}

/// The same listener at another address.
fn at(address: SocketAddr, mut listener: Value) -> Value {
    listener["name"] = json!(format!("gate-{}", address.port()));
    listener["address"]["socket_address"] =
        json!({"address": address.ip().to_string(), "port_value": address.port()});
    listener
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_share_the_counts_of_one_policy_and_not_of_another() {
    let mut rates = policy::vectors_policy("rates.json");
    rates.grants[0].rate = Some(Rate {
        quota: Some(QUOTA.into()),
        window_s: Some(2_678_400.into()),
        burst: Some(QUOTA.into()),
        ..Rate::default()
    });
    let rates = serde_json::to_value(rates).unwrap();
    let (behind, _seen) = upstream().await;
    let [second, other] = [free_address(), free_address()];
    // The server behind reads no context.
    let mesh = Mesh::start("policies", &rates, "gate", None, |bootstrap, _| {
        before(bootstrap, behind);
        edit(bootstrap, |target| FilterTarget {
            host: false,
            ..target
        });
        let first = native(bootstrap);
        edit(bootstrap, |target| FilterTarget {
            policy_id: "another".to_owned(),
            ..target
        });
        let of_another = at(other, native(bootstrap));
        let listeners = &mut bootstrap["static_resources"]["listeners"];
        let listeners = listeners.as_array_mut().unwrap();
        listeners.extend([at(second, first.clone()), of_another]);
        listeners[0] = first;
    })
    .await;
    let first = mesh.gate;
    let key = ("x-api-key", policy::key("rate-1"));
    let limited = (429, Some("rate-limited".to_owned()));
    let mut passed = 0;
    for gate in [first, second].into_iter().cycle().take(8) {
        let answer = send(gate, &[key.clone()], VALID).await;
        if answer != limited {
            assert_eq!(answer, (200, None));
            passed += 1;
        }
    }
    assert_eq!(passed, QUOTA);
    for _ in 0..QUOTA {
        assert_eq!(send(other, &[key.clone()], VALID).await, (200, None));
    }
    assert_eq!(send(other, &[key], VALID).await, limited);
}
