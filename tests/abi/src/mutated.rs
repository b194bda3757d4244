//! Mutated requests, several at a time. Whatever comes, a request that the module answers or resets
//! is not forwarded, and it has one answer.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tensorgate_in_memory_proxy::configuration;
use tensorgate_vectors::{Expect, Lowered, RawRequest, load};

use crate::abi::{CONTINUE, Configuration, Hooks, Response, Running};
use crate::events::{self, Target};
use crate::mutation::{HOOKS, mutate};
use crate::random::Random;
use crate::stream::{Exit, REQUEST_TRAILERS, RESPONSE_TRAILERS, Stream};

/// Requests at a time.
const AT_A_TIME: usize = 8;
/// Steps after which another configuration replaces the current one, about.
const RELOAD_AFTER: usize = 1000;
/// Steps after which a replaced configuration is destroyed, about.
const DESTROY_AFTER: usize = 3000;
/// Steps after which a call for keys is answered, about.
const ANSWER_AFTER: usize = 400;
/// Time after which a request that waits is looked at again.
const POLL: Duration = Duration::from_micros(50);
/// The policy of the vectors about tokens.
const TOKENS: &str = "policies/tokens.json";
/// A filter that holds heads, and one that forwards them.
const MODES: [&str; 2] = [r#""headers": "hold""#, r#""headers": "forward""#];
/// How many servers of keys there are.
const SERVERS: usize = 128;
/// The most bytes that Envoy holds of a body; usually, and to provoke its own answer.
const BUFFERS: [usize; 4] = [1 << 20, 1 << 20, 1 << 20, 64];

/// What Envoy does next with a request.
enum Step {
    RequestHeaders(bool),
    RequestBody(Vec<u8>, bool),
    RequestTrailers,
    ResponseHeaders { is_end: bool },
    ResponseBody(Vec<u8>, bool),
    ResponseTrailers,
}

/// A request in progress.
struct Live {
    running: Running,
    steps: VecDeque<Step>,
    /// Whether its end was forwarded.
    is_forwarded: bool,
}

/// A policy of the vectors: its configuration, and the requests of its vectors.
struct Case {
    configuration: String,
    requests: Rc<[RawRequest]>,
}

/// What has happened.
#[derive(Default)]
struct Counts {
    forwarded: usize,
    answered: usize,
    reset: usize,
    left: usize,
    resumed: usize,
    left_in_respond: usize,
    left_in_resume: usize,
    left_in_append: usize,
    left_in_reset: usize,
    scheduled: usize,
    key_answers: usize,
    configurations: usize,
}

/// Plays `count` requests, with configurations of two files of the module, which share its state.
pub fn run(files: &[Hooks; 2], count: usize, seed: usize) {
    let mut random = Random::new(seed);
    let (cases, fetching) = cases();
    let mut counts = Counts::default();
    let mut current: Option<(Configuration, &Case)> = None;
    // Those that were replaced. Each is destroyed at once, or some steps later.
    let mut replaced: Vec<Configuration> = Vec::new();
    let mut live: Vec<Live> = Vec::new();
    let (mut started, mut refused) = (0, 0);
    while started < count || !live.is_empty() {
        if current.is_none() || random.one_in(RELOAD_AFTER) {
            let of_keys = random.one_in(3);
            let case = random.choose(if of_keys { &fetching } else { &cases });
            let new = Configuration::new(random.choose(files), &case.configuration);
            let Some(new) = new else {
                refused += 1;
                let panics = events::panics_in("Configuration");
                assert_eq!(refused, panics, "a configuration of the vectors");
                continue;
            };
            // Streams of the one before are still in progress.
            let old = current.replace((new, case));
            replaced.extend(old.map(|(old, _)| old).filter(|_| random.one_in(2)));
            counts.configurations += 1;
        }
        if random.one_in(DESTROY_AFTER) {
            replaced.pop();
        }
        let (configuration, case) = current.as_ref().expect("a configuration");
        if started < count && live.len() < AT_A_TIME {
            started += 1;
            live.push(start(&mut random, configuration, case, started));
        }
        let at = random.below(live.len());
        step(&mut random, &mut live[at]);
        let configurations = || replaced.iter().chain([configuration]);
        deliver(&mut random, configurations, &live, &mut counts);
        live.retain(|live| {
            let ended = live.running.outcome.ended.get();
            if ended {
                counts.add(live);
            }
            !ended
        });
    }
    drop((current, replaced));
    // The last events are for requests and configurations that have ended.
    events::take();
    counts.check(count);
}

impl Counts {
    fn add(&mut self, live: &Live) {
        let outcome = &live.running.outcome;
        let kind = if outcome.replies.get() > 0 {
            &mut self.answered
        } else if outcome.reset.get() {
            &mut self.reset
        } else if live.is_forwarded {
            &mut self.forwarded
        } else {
            &mut self.left
        };
        *kind += 1;
        self.resumed += usize::from(outcome.resumed.get());
        match outcome.left.get() {
            Some(Exit::Respond) => self.left_in_respond += 1,
            Some(Exit::Resume) => self.left_in_resume += 1,
            Some(Exit::Append) => self.left_in_append += 1,
            Some(Exit::Reset) => self.left_in_reset += 1,
            None => {}
        }
    }

    /// Prints the counts. Each has to be above a bound, because the mutations may not hide what
    /// they should find.
    fn check(&self, requests: usize) {
        // Of fewer requests, none may have what is rare.
        let (few, rare) = (requests / 50, requests / 500_000);
        // A debug build panics in the hooks that requests name; on the response's path that is a
        // reset, which hardly ever happens otherwise.
        let (panics, resets) = if cfg!(debug_assertions) {
            (requests / 200, rare)
        } else {
            (0, 0)
        };
        let counts = [
            ("forwarded", self.forwarded, few),
            ("answered", self.answered, few),
            ("ended by their clients", self.left, few),
            ("reset", self.reset, resets),
            ("resumed", self.resumed, rare),
            ("ended in a reply", self.left_in_respond, few),
            ("ended in a resumption", self.left_in_resume, rare),
            ("ended in an append", self.left_in_append, rare),
            ("ended in a reset", self.left_in_reset, resets),
            ("scheduled", self.scheduled, rare),
            ("answers to calls for keys", self.key_answers, rare),
            ("configurations", self.configurations, requests / 1000 + 1),
            ("panics", events::panics(), panics),
        ];
        let hooks = HOOKS.map(|hook| (hook, events::panics_in(hook), resets));
        let counts: Vec<_> = counts.into_iter().chain(hooks).collect();
        for (name, count, _) in &counts {
            println!("{name}: {count}");
        }
        for (name, count, least) in counts {
            assert!(
                count >= least,
                "too few {name}: {count} of {requests} requests"
            );
        }
    }
}

/// Every policy of the vectors; and the one about tokens with keys that are fetched, from many
/// servers, because keys that were fetched once stay.
fn cases() -> (Vec<Case>, Vec<Case>) {
    let vectors = load().unwrap_or_else(|fault| panic!("{fault}"));
    let files: BTreeSet<&str> = vectors.iter().map(|vector| &*vector.policy_file).collect();
    let of_file = |file: &str, only_allowed: bool| -> (Rc<[RawRequest]>, &str) {
        let is_used = |vector: &&Lowered| {
            &*vector.policy_file == file && (!only_allowed || vector.expect == Expect::Allow)
        };
        let vectors = vectors.iter().filter(is_used);
        let policy = &vectors.clone().next().expect("a vector").policy_json;
        (
            vectors.map(|vector| vector.request.clone()).collect(),
            policy,
        )
    };
    let mut cases = Vec::new();
    for file in files {
        let (requests, policy) = of_file(file, false);
        cases.extend(MODES.map(|mode| in_mode(mode, policy, &requests)));
    }
    // Of others, hardly any goes on once there are keys.
    let (requests, policy) = of_file(TOKENS, true);
    let servers = (0..SERVERS).map(|number| with_fetched_keys(policy, number));
    // Without a host, the module holds what it forwards once it has the keys.
    let modes = [MODES[0], MODES[1], r#""headers": "forward", "host": false"#];
    let fetching = servers.flat_map(|policy| modes.map(|mode| in_mode(mode, &policy, &requests)));
    let fetching = fetching.collect();
    (cases, fetching)
}

/// A policy in a filter with these settings.
fn in_mode(mode: &str, policy: &str, requests: &Rc<[RawRequest]>) -> Case {
    let text = format!(r#"{{"generation": "0123456789abcdef", {mode}, "policy": {policy}}}"#);
    Case {
        configuration: configuration(text).expect("a policy of the vectors"),
        requests: Rc::clone(requests),
    }
}

/// The policy with keys of an issuer that are fetched.
fn with_fetched_keys(policy: &str, server: usize) -> String {
    let mut policy: Value = serde_json::from_str(policy).expect("a policy of the vectors");
    let url = format!("https://keys-{server}.example/keys");
    policy["issuers"]["corp"]["jwks"] = json!({"url": url});
    policy.to_string()
}

fn start(random: &mut Random, configuration: &Configuration, case: &Case, number: usize) -> Live {
    let request = random.choose(&case.requests);
    let request = mutate(random, request);
    let exit = match random.below(8) {
        0 => Some(Exit::Respond),
        // Few requests are resumed, and with a body even fewer.
        1..=3 => Some(if random.one_in(2) {
            Exit::Resume
        } else {
            Exit::Append
        }),
        4 => Some(Exit::Reset),
        _ => None,
    };
    let pieces = request.pieces.len();
    let mut steps = VecDeque::new();
    steps.push_back(Step::RequestHeaders(pieces == 0 && !request.has_trailers));
    for (at, piece) in request.pieces.into_iter().enumerate() {
        let is_last = at + 1 == pieces && !request.has_trailers;
        steps.push_back(Step::RequestBody(piece, is_last));
    }
    if request.has_trailers {
        steps.push_back(Step::RequestTrailers);
    }
    steps.extend(response(random));
    let mut stream = Stream::new(&request.fields, exit);
    stream.max_bytes = *random.choose(&BUFFERS);
    stream.skips_own_response = random.one_in(2);
    let id = u64::try_from(number).expect("a machine of 64 bits");
    Live {
        running: Running::new(configuration, id, stream),
        steps,
        is_forwarded: false,
    }
}

/// A response of an upstream: without a body, framed messages of a stream, or any bytes.
fn response(random: &mut Random) -> Vec<Step> {
    let is_end = random.one_in(8);
    let mut steps = vec![Step::ResponseHeaders { is_end }];
    if is_end {
        return steps;
    }
    for _ in 0..random.below(3) {
        let size = random.below(40);
        let mut piece: Vec<_> = (0..size).map(|_| random.byte()).collect();
        if random.one_in(2) {
            piece = [&[0, 0, 0, 0, 2][..], &[0x0a, 0][..]].concat();
        }
        steps.push(Step::ResponseBody(piece, false));
    }
    if random.one_in(2) {
        steps.push(Step::ResponseTrailers);
    } else {
        steps.push(Step::ResponseBody(b"{}".to_vec(), true));
    }
    steps
}

/// Takes the next step of a request. Its client may leave before any.
fn step(random: &mut Random, live: &mut Live) {
    let Live { running, steps, .. } = live;
    let outcome = Rc::clone(&running.outcome);
    let was_closed = outcome.is_closed();
    // An answered request ends; its client may still be sending.
    if (was_closed && random.one_in(2)) || random.one_in(64) {
        return running.end();
    }
    let status = match steps.pop_front() {
        Some(Step::RequestHeaders(end)) => running.request_headers(end),
        Some(Step::RequestBody(piece, end)) => running.request_body(&piece, end),
        Some(Step::RequestTrailers) => {
            running.add_trailer(REQUEST_TRAILERS, b"x-trailer", b"1");
            running.request_trailers()
        }
        // The upstream answers only what it has got.
        Some(step) if live.is_forwarded && !was_closed => {
            let status = match step {
                Step::ResponseHeaders { is_end } => running.response_headers(is_end),
                Step::ResponseBody(piece, end) => running.response_body(&piece, end),
                _ => {
                    running.add_trailer(RESPONSE_TRAILERS, b"grpc-status", b"0");
                    running.response_trailers()
                }
            };
            let is_forwarded = status == Some(CONTINUE);
            assert!(
                !(is_forwarded && outcome.reset.get()),
                "forwarded after a reset"
            );
            return;
        }
        Some(waiting) => {
            steps.push_front(waiting);
            live.is_forwarded = outcome.resumed.get() && !was_closed;
            if random.one_in(1000) {
                // It waits for a limit or a key for too long.
                running.end();
            } else if !live.is_forwarded {
                std::thread::sleep(POLL);
            }
            return;
        }
        None => return running.end(),
    };
    let continued = status == Some(CONTINUE);
    assert!(
        !(continued && (outcome.is_closed() || outcome.ended.get())),
        "forwarded after an answer or the end"
    );
    let is_request_over = !matches!(
        steps.front(),
        Some(Step::RequestBody(..) | Step::RequestTrailers)
    );
    live.is_forwarded |= continued && is_request_over;
}

/// Delivers what waits for the event loop; to a request or configuration that has ended, nothing.
fn deliver<'a, I: Iterator<Item = &'a Configuration>>(
    random: &mut Random,
    configurations: impl Fn() -> I,
    live: &[Live],
    counts: &mut Counts,
) {
    let numbered = |number| configurations().find(|known| known.number() == number);
    for (target, event) in events::take() {
        match target {
            Target::Request(id) => {
                if let Some(live) = live.iter().find(|live| live.running.id == id) {
                    counts.scheduled += 1;
                    live.running.scheduled(event);
                }
            }
            Target::Configuration(number) => {
                if let Some(configuration) = numbered(number) {
                    configuration.scheduled(event);
                }
            }
            Target::Call(number) => {
                let Some(configuration) = numbered(number) else {
                    continue;
                };
                if random.one_in(ANSWER_AFTER) {
                    counts.key_answers += 1;
                    answer_call(random, configuration, event);
                } else {
                    events::push(target, event);
                }
            }
        }
    }
}

/// Answers an HTTP call for a key set: well, with any bytes, or not at all.
fn answer_call(random: &mut Random, configuration: &Configuration, call: u64) {
    let keys = tensorgate_vectors::sign::jwks().to_string().into_bytes();
    let (status, pieces) = match random.below(6) {
        0 => return configuration.answered(call, None),
        1 => ("200", vec![vec![random.byte(); 9]]),
        2 => ("503", Vec::new()),
        _ => {
            let (first, second) = keys.split_at(random.below(keys.len()));
            ("200", vec![first.to_vec(), second.to_vec()])
        }
    };
    let response = Response {
        fields: vec![(b":status".to_vec(), status.as_bytes().to_vec())],
        pieces,
    };
    configuration.answered(call, Some(&response));
}
