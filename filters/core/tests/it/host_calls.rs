//! A proxy whose host calls fail: a gate that cannot decide rejects the request, and never forwards
//! what it could not validate or sign.

use crate::support;

use std::rc::Rc;

use support::{CONTEXT_KEY, NOW, bundle, field, json_body, rest};
use tensorgate_filter_core::gate::Gate;
use tensorgate_filter_core::host::{
    Action, Fields, HostFault, Level, LimitCallOutcome, Proxy, Shared, SharedStore, Verdict,
};
use tensorgate_filter_core::quota::make_slots;
use tensorgate_filter_core::root::GateRoot;
use tensorgate_identity::{ConfirmationFault, Verifier, VerifyFault};
use tensorgate_in_memory_proxy::{Store, configuration};
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy::{Now, Reason};
use tensorgate_wire::Answer;
use tensorgate_wire::context::Key;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    RequestHeaders,
    /// Also, the head has too many fields to change one by one.
    ReplaceRequestHeaders,
    RemoveRequestHeader,
    SetRequestHeader,
    ClearRequestTrailers,
    /// No call fails; the head is large.
    LargeHead,
    /// No call fails; the head has many fields.
    ManyFields,
    RequestBody,
    ShortRequestBody,
    LongRequestBody,
    Respond,
    Now,
    SetProperty,
}

struct Faulty {
    broken: Broken,
    model: &'static str,
    store: Store,
    /// The host calls in order.
    calls: Vec<&'static str>,
    answers: Vec<Answer>,
    replaced: usize,
    marked: bool,
    errors: usize,
    warnings: usize,
    /// The last counted cause of a rejection as overloaded.
    overload: Option<OverloadCause>,
}

impl Faulty {
    fn new(broken: Broken, model: &'static str) -> Self {
        Self {
            broken,
            model,
            store: Store::default(),
            calls: Vec::new(),
            answers: Vec::new(),
            replaced: 0,
            marked: false,
            errors: 0,
            warnings: 0,
            overload: None,
        }
    }

    fn call<T>(&mut self, name: &'static str, broken: Broken, works: T) -> Result<T, HostFault> {
        self.calls.push(name);
        if self.broken == broken {
            Err(HostFault {
                call: "broken",
                status: 10,
            })
        } else {
            Ok(works)
        }
    }
}

impl SharedStore for Faulty {
    fn get(&mut self, key: &str) -> Result<Option<Shared>, HostFault> {
        self.calls.push("get_shared_data");
        self.store.get(key)
    }

    fn swap(&mut self, key: &str, value: &[u8], token: u32) -> Result<bool, HostFault> {
        self.calls.push("set_shared_data");
        self.store.swap(key, value, token)
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), HostFault> {
        self.store.put(key, value)
    }
}

impl Verifier for Faulty {
    fn verify(&mut self, _: &KeyMaterial, _: &[u8], _: &[u8]) -> Result<bool, VerifyFault> {
        Ok(false)
    }
}

impl Proxy for Faulty {
    fn resume(&mut self) -> Result<(), HostFault> {
        Ok(())
    }

    fn tick_soon(&mut self) {}

    fn call_rate_limit_service(&mut self, _: &[u8], _: u64) -> Result<u32, HostFault> {
        self.call("grpc_call", Broken::Nothing, 1)
    }

    fn count_limit_call(&mut self, _: LimitCallOutcome) {}

    fn count_unconfirmed(&mut self, _: ConfirmationFault) {}

    fn request_headers(&mut self) -> Result<Fields, HostFault> {
        let mut fields = rest(self.model).headers;
        fields.push(field("x-request-id", "id"));
        if self.broken == Broken::LargeHead {
            fields.push(field("user-agent", "a".repeat(2048)));
        }
        if matches!(
            self.broken,
            Broken::ManyFields | Broken::ReplaceRequestHeaders
        ) {
            fields.extend((0..9).map(|at| field(&format!("x-{at}"), "1")));
        }
        let fields = fields.into_iter().collect();
        self.call("get_header_map_pairs", Broken::RequestHeaders, fields)
    }

    fn replace_request_headers(&mut self, fields: &[(&str, &str)]) -> Result<(), HostFault> {
        self.call("set_header_map_pairs", Broken::ReplaceRequestHeaders, ())?;
        // Once while a large head waits, then with the context.
        self.replaced += 1;
        self.marked |= fields
            .iter()
            .any(|(name, _)| *name == tensorgate_wire::context::HEADER);
        Ok(())
    }

    fn take_response_trailer(&mut self, _: &str) -> Result<Option<String>, HostFault> {
        Ok(None)
    }

    fn set_request_header(&mut self, name: &str, _: &str) -> Result<(), HostFault> {
        self.call("replace_header_map_value", Broken::SetRequestHeader, ())?;
        self.marked |= name == tensorgate_wire::context::HEADER;
        Ok(())
    }

    fn remove_request_header(&mut self, name: &str) -> Result<(), HostFault> {
        assert_eq!(name, "x-api-key");
        self.call("remove_header_map_value", Broken::RemoveRequestHeader, ())
    }

    fn set_request_trailers(&mut self, _: &[(&str, &str)]) -> Result<(), HostFault> {
        self.call("set_header_map_pairs", Broken::ClearRequestTrailers, ())
    }

    fn request_body(&mut self, start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault> {
        let mut body = json_body();
        assert_eq!((start, max_bytes), (0, body.len()));
        match self.broken {
            Broken::ShortRequestBody => drop(body.pop()),
            Broken::LongRequestBody => body.push(b' '),
            _ => {}
        }
        self.call("get_buffer_bytes", Broken::RequestBody, body)
    }

    fn response_body(&mut self, _: usize, _: usize) -> Result<Vec<u8>, HostFault> {
        panic!("only responses to streams are read")
    }

    fn replace_request_body(&mut self, _: &[u8]) -> Result<(), HostFault> {
        panic!("a body that is no stream stays as it is")
    }

    fn respond(&mut self, answer: &Answer) -> Result<(), HostFault> {
        self.answers.push(answer.clone());
        self.call("send_local_response", Broken::Respond, ())
    }

    fn now(&mut self) -> Result<Now, HostFault> {
        self.calls.push("clock_time_get");
        self.call("clock_time_get", Broken::Now, NOW)
    }

    fn source_address(&mut self) -> Option<String> {
        None
    }

    fn log(&mut self, level: Level, _: &str) {
        self.errors += usize::from(level == Level::Error);
        self.warnings += usize::from(level == Level::Warn);
    }

    fn count(&mut self, _: Verdict) {
        self.calls.push("increment_metric");
    }

    fn count_overload(&mut self, cause: OverloadCause) {
        self.calls.push("increment_metric");
        self.overload = Some(cause);
    }

    fn count_shadow(&mut self, _: &str) {
        self.calls.push("increment_metric");
    }

    fn property(&mut self, _: &[&str]) -> Result<Option<Vec<u8>>, HostFault> {
        self.calls.push("get_property");
        Ok(None)
    }

    fn set_property(&mut self, _: &str, _: &str) -> Result<(), HostFault> {
        self.call("set_property", Broken::SetProperty, ())
    }

    fn new_request_id(&mut self, _key: Option<&Key>) -> String {
        "id".into()
    }

    fn next_sequence_number(&mut self) -> Option<String> {
        Some("0.1".into())
    }
}

/// Plays a valid inference, with or without trailers.
fn play(model: &'static str, broken: Broken, trailers: bool) -> (Action, Faulty, Option<Reason>) {
    let (root, _) = GateRoot::configure(configuration(holding()).unwrap(), Some(CONTEXT_KEY))
        .unwrap_or_else(|faults| panic!("{faults:?}"));
    let mut proxy = Faulty::new(broken, model);
    make_slots(&mut proxy.store, root.key_prefix(), root.policy(), false).unwrap();
    let mut gate = Gate::new(Rc::new(root));
    assert_eq!(gate.on_request_headers(&mut proxy, false), Action::Pause);
    let mut action = gate.on_request_body(&mut proxy, json_body().len(), !trailers);
    if trailers {
        assert_eq!(action, Action::Pause);
        action = gate.on_request_trailers(&mut proxy);
    }
    gate.on_response_body(&mut proxy, 1_000);
    gate.on_log(&mut proxy);
    gate.on_done(&mut proxy);
    (action, proxy, gate.record().reason)
}

/// The policy for a proxy that holds headers while it delivers a body.
fn holding() -> String {
    bundle().replacen('{', r#"{"headers": "hold", "#, 1)
}

#[test]
fn a_call_that_fails_refuses_the_request() {
    let check = |broken, trailers| {
        let (action, proxy, reason) = play("m", broken, trailers);
        assert_eq!(
            (action, reason),
            (Action::Pause, Some(Reason::Overloaded)),
            "{broken:?} {trailers}"
        );
        assert_eq!(proxy.answers.len(), 1, "{broken:?} {trailers}");
        assert!(!proxy.marked, "{broken:?} {trailers}");
        let overload = Some(OverloadCause::HostCall);
        assert_eq!(proxy.overload, overload, "{broken:?} {trailers}");
    };
    for trailers in [false, true] {
        check(Broken::RequestHeaders, trailers);
        check(Broken::ReplaceRequestHeaders, trailers);
        check(Broken::RemoveRequestHeader, trailers);
        check(Broken::SetRequestHeader, trailers);
        check(Broken::RequestBody, trailers);
        check(Broken::ShortRequestBody, trailers);
        check(Broken::LongRequestBody, trailers);
        check(Broken::Now, trailers);
    }
    check(Broken::ClearRequestTrailers, true);
}

#[test]
fn the_lines_about_faults_have_a_quota_even_without_a_clock() {
    for broken in [Broken::RequestHeaders, Broken::Now] {
        let (root, _) = GateRoot::configure(configuration(holding()).unwrap(), Some(CONTEXT_KEY))
            .unwrap_or_else(|faults| panic!("{faults:?}"));
        let root = Rc::new(root);
        let mut proxy = Faulty::new(broken, "m");
        for _ in 0..100 {
            let mut gate = Gate::new(Rc::clone(&root));
            assert_eq!(gate.on_request_headers(&mut proxy, false), Action::Pause);
        }
        assert_eq!((proxy.warnings, proxy.answers.len()), (20, 100));
    }
}

#[test]
fn nothing_broken_passes_and_so_does_an_access_log_that_cannot_be_told() {
    for trailers in [false, true] {
        for (broken, replaced) in [
            (Broken::Nothing, 0),
            (Broken::SetProperty, 0),
            (Broken::ManyFields, 1),
            // Once, while it waits.
            (Broken::LargeHead, 1),
        ] {
            let (action, proxy, reason) = play("m", broken, trailers);
            assert_eq!(
                (action, reason, proxy.marked, proxy.replaced),
                (Action::Continue, None, true, replaced),
                "{broken:?}"
            );
            assert_eq!(proxy.errors > 0, broken == Broken::SetProperty);
        }
    }
}

#[test]
fn an_allowed_request_costs_so_many_calls_of_its_proxy() {
    // Each host call leaves the VM: a handful of them costs a tenth of a small request.
    let (action, proxy, _) = play("limited", Broken::Nothing, false);
    assert_eq!(action, Action::Continue);
    let expected = [
        // The head.
        "clock_time_get",
        "clock_time_get",
        "get_header_map_pairs",
        // The rate.
        "get_shared_data",
        "set_shared_data",
        // The body.
        "clock_time_get",
        "clock_time_get",
        "get_buffer_bytes",
        // The forwarded head: no key, one spelling of the media type, the scheme and the context.
        "remove_header_map_value",
        "replace_header_map_value",
        "replace_header_map_value",
        "replace_header_map_value",
        // The outcome.
        "set_property",
        "increment_metric",
        // Whether the host has logged it, or another filter has numbered it; this proxy does not
        // say, so it gets a number.
        "get_property",
        "get_property",
        "set_property",
    ];
    assert_eq!(proxy.calls, expected);
}

#[test]
fn an_answer_that_cannot_be_given_still_lets_nothing_through() {
    let (root, _) = GateRoot::configure(configuration(holding()).unwrap(), Some(CONTEXT_KEY))
        .unwrap_or_else(|faults| panic!("{faults:?}"));
    let mut proxy = Faulty::new(Broken::Respond, "m");
    let mut gate = Gate::new(Rc::new(root));
    assert_eq!(gate.on_request_headers(&mut proxy, false), Action::Pause);
    assert_eq!(
        gate.on_request_body(&mut proxy, usize::MAX, false),
        Action::Pause
    );
    assert_eq!(
        gate.on_request_body(&mut proxy, json_body().len(), true),
        Action::Pause
    );
    assert_eq!(gate.on_request_trailers(&mut proxy), Action::Pause);
    assert_eq!(
        (proxy.answers.len(), proxy.errors, proxy.marked),
        (1, 1, false),
        "one answer is tried, and the failure logged"
    );
}
