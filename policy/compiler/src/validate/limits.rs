//! Rates, costs, budgets, requests in flight and the lockout. A limit that some valid request could
//! never pass is a fault.

use tensorgate_policy::contract::RequestCost;
use tensorgate_policy::limits::gcra::Bucket;
use tensorgate_policy::limits::lockout::Lockout;
use tensorgate_policy::policy::{Accepts, Budget, Cost, Model, ModelLimits, Rate, Unit};
use tensorgate_policy::report::{Path, Valid, optional, quote};
use tensorgate_policy::values::time::SECOND_NS;

use crate::raw;
use crate::raw::MAX_BURST;

/// Maximum units of a cost or budget: the largest integer in a structured header field (RFC 9651,
/// 3.3.1).
const MAX_UNITS: u64 = 999_999_999_999_999;

/// Usual costs of a client in a minute, which a fix suggests.
const USUAL_ELEMENTS: u64 = 1_000_000;
const USUAL_BYTES: u64 = 64 << 20;
const USUAL_TOKENS: u64 = 100_000;

/// Warns of a grant without limits on inferences.
pub(super) fn without(grant_path: &Path, grant: &raw::Grant, models: &[&Model]) {
    if grant.rate.is_none() {
        grant_path.warn(
            "inference is allowed without a rate limit",
            "rate: {quota: 100, window_s: 60}",
        );
    }
    let budget = grant.budget.as_ref();
    if grant.cost.is_some() || budget.is_some_and(raw::Budget::limits_contents) {
        return;
    }
    grant_path.warn(
        "inference is allowed without a cost limit",
        match fitting(models) {
            Some(amount) => format!("cost: {{{amount}, window_s: 60}}"),
            None => "a smaller contract of its models, and a cost".to_owned(),
        },
    );
}

/// A usual amount that every request to the models can pass, in a unit that all of them have.
/// `None` if no limit is so large.
fn fitting(models: &[&Model]) -> Option<String> {
    let (unit, usual) = if models.iter().all(|model| takes_tensors(model)) {
        (Unit::Elements, USUAL_ELEMENTS)
    } else if models.iter().all(|model| takes_texts(model)) {
        (Unit::Tokens, USUAL_TOKENS)
    } else {
        (Unit::Bytes, USUAL_BYTES)
    };
    let most = models.iter().filter_map(|model| most(model, unit)).max();
    let amount = most.unwrap_or(0).max(usual);
    let shown = if amount == USUAL_BYTES && unit == Unit::Bytes {
        "64MiB".to_owned()
    } else {
        amount.to_string()
    };
    (amount <= MAX_UNITS).then(|| format!("{}: {shown}", unit.name()))
}

/// The most units of a request that the model accepts. `None` if it has none of them.
fn most(model: &Model, unit: Unit) -> Option<u64> {
    let most = match (unit, model.accepts()) {
        (Unit::Requests, _) => return Some(1),
        (Unit::Elements, Accepts::Tensors(contract)) => contract.most().elements,
        (Unit::Bytes, Accepts::Tensors(contract)) => contract.most().bytes,
        (Unit::Bytes, Accepts::OpenAi(rules)) => rules.most().bytes,
        (Unit::Tokens, Accepts::OpenAi(rules)) => rules.most().tokens,
        (Unit::Bytes, Accepts::Raw { max_bytes, .. }) => {
            RequestCost::raw(u64::try_from(*max_bytes).unwrap_or(u64::MAX)).bytes
        }
        (Unit::Elements, Accepts::Raw { .. } | Accepts::OpenAi(_))
        | (Unit::Tokens, Accepts::Tensors(_) | Accepts::Raw { .. }) => return None,
    };
    Some(most.saturating_mul(model.calls()))
}

/// A request rate; the outer `None` is a fault.
pub(super) fn rate(path: &Path, raw: Option<&raw::Rate>) -> Valid<Option<Rate>> {
    let Some(raw) = raw else {
        return Some(None);
    };
    let quota_path = path.field("quota");
    let quota = quota_path
        .required(raw.quota, "100")
        .and_then(|quota| quota.check(&quota_path));
    let window_s = window(path, raw.window_s);
    let burst_path = path.field("burst");
    let burst = match raw.burst {
        Some(burst) => burst.check(&burst_path),
        None => quota.map(|quota: u64| quota.min(MAX_BURST)),
    };
    let (quota, window_s, burst) = (quota?, window_s?, burst?);
    if burst > quota {
        burst_path.warn(
            format!("allows more requests at once than the {quota} of a window"),
            format!("{quota}"),
        );
    }
    // Rounded up, so that a window never exceeds its quota.
    let interval_ns = window_s
        .checked_mul(SECOND_NS)
        .map(|window_ns| window_ns.div_ceil(quota))?;
    let fills_in = interval_ns
        .checked_mul(burst)
        .filter(|ns| i64::try_from(*ns).is_ok());
    if fills_in.is_none() {
        return burst_path
            .fail("is too large: at this quota an empty bucket takes centuries to fill");
    }
    Some(Some(Rate {
        quota,
        window_s,
        bucket: Bucket {
            interval_ns,
            per: 1,
            burst,
        },
        scope: raw.scope,
    }))
}

/// Cost limits.
pub(super) fn cost(
    path: &Path,
    raw: Option<&raw::Cost>,
    infers: bool,
    models: &[&Model],
) -> Option<Cost> {
    let Some(raw) = raw else {
        return Some(Cost::default());
    };
    charges_nothing(path, infers);
    let nothing = raw.elements.is_none() && raw.bytes.is_none() && raw.tokens.is_none();
    if nothing {
        path.error_with_fix("sets no limit", "elements, bytes or tokens");
    }
    let window_s = window(path, raw.window_s);
    let amount = |unit: Unit, amount: Option<u64>| {
        let Some(amount) = amount else {
            return Some(None);
        };
        let path = path.field(unit.name());
        let quota = units(&path, unit, amount, models)?;
        Some(window_s.map(|window_s| Rate {
            quota,
            window_s,
            bucket: Bucket {
                // Fits 64 bits because of the maximum window.
                interval_ns: window_s.saturating_mul(SECOND_NS),
                per: quota,
                burst: quota,
            },
            scope: raw.scope,
        }))
    };
    let elements = amount(Unit::Elements, raw.elements);
    let bytes = amount(Unit::Bytes, raw.bytes.map(|bytes| bytes.0));
    let tokens = amount(Unit::Tokens, raw.tokens);
    window_s?;
    if nothing {
        return None;
    }
    Some(Cost {
        elements: elements?,
        bytes: bytes?,
        tokens: tokens?,
    })
}

/// Daily limits.
pub(super) fn budget(
    path: &Path,
    raw: Option<&raw::Budget>,
    infers: bool,
    models: &[&Model],
) -> Option<Budget> {
    let Some(raw) = raw else {
        return Some(Budget::default());
    };
    let bytes = raw.bytes.map(|bytes| bytes.0);
    let amounts = [raw.requests, raw.elements, bytes, raw.tokens];
    if amounts.iter().all(Option::is_none) {
        path.error_with_fix("sets no limit", "requests, elements, bytes or tokens");
        path.field("per").required(raw.per, "day")?;
        return None;
    }
    if raw.requests.is_none() {
        charges_nothing(path, infers);
    }
    let per = path.field("per").required(raw.per, "day");
    let amount = |unit: Unit, amount: Option<u64>| match amount {
        None => Some(None),
        Some(amount) => {
            let path = path.field(unit.name());
            units(&path, unit, amount, models).map(Some)
        }
    };
    let [requests, elements, bytes, tokens] = amounts;
    let requests = amount(Unit::Requests, requests);
    let elements = amount(Unit::Elements, elements);
    let bytes = amount(Unit::Bytes, bytes);
    let tokens = amount(Unit::Tokens, tokens);
    let raw::Period::Day = per?;
    Some(Budget {
        requests: requests?,
        elements: elements?,
        bytes: bytes?,
        tokens: tokens?,
        scope: raw.scope,
    })
}

fn window(path: &Path, window_s: Option<raw::Window>) -> Option<u64> {
    let path = path.field("window_s");
    path.required(window_s, "60")?.check(&path)
}

/// Only inferences have tensors.
fn charges_nothing(path: &Path, infers: bool) {
    if !infers {
        path.warn(
            "has no effect: the grant does not allow inference",
            "operations: [infer]",
        );
    }
}

/// An amount that every valid request can pass at least once.
fn units(path: &Path, unit: Unit, amount: u64, models: &[&Model]) -> Option<u64> {
    let amount = path.within(amount, 1, MAX_UNITS, unit.name());
    let mut valid_amount = amount;
    for model in models {
        let name = quote(model.name());
        let Some(most) = most(model, unit) else {
            let fix = fitting(models).unwrap_or_else(|| "bytes".to_owned());
            valid_amount = if unit == Unit::Tokens {
                path.fail_with_fix(
                    format!("model {name} takes no texts, and so has no tokens"),
                    fix,
                )
            } else if takes_texts(model) {
                path.fail_with_fix(
                    format!("model {name} takes texts, which have no elements"),
                    fix,
                )
            } else {
                path.fail_with_fix(
                    format!("model {name} takes a raw body, which has no elements"),
                    fix,
                )
            };
            continue;
        };
        if amount.is_some_and(|amount| most > amount) {
            let fix = fix(model, most, unit);
            valid_amount = path.fail_with_fix(beyond(&name, model, most, unit), fix);
        }
    }
    valid_amount
}

fn takes_tensors(model: &Model) -> bool {
    matches!(model.accepts(), Accepts::Tensors(_))
}

fn takes_texts(model: &Model) -> bool {
    matches!(model.accepts(), Accepts::OpenAi(_))
}

fn beyond(name: &str, model: &Model, most: u64, unit: Unit) -> String {
    let steps = match model.calls() {
        1 => String::new(),
        calls => format!(" in {calls} steps"),
    };
    let mut text = format!(
        "a request that model {name} accepts can have {most} {}{steps}, which would always be rejected",
        unit.name()
    );
    if let (Unit::Tokens, Accepts::OpenAi(rules)) = (unit, model.accepts()) {
        let shares = rules.token_shares();
        let shares = shares.iter().take(SHOWN_SHARES);
        let shares: Vec<_> = shares
            .map(|(bound, tokens)| format!("{tokens} by {bound}"))
            .collect();
        text.push_str(": ");
        text.push_str(&shares.join("; "));
    }
    text
}

/// Number of shares of tokens that a fault names, the largest first.
const SHOWN_SHARES: usize = 3;

/// Both cures: a larger limit, if there may be one, and a smaller contract.
fn fix(model: &Model, most: u64, unit: Unit) -> String {
    let contract = match (unit, model.accepts()) {
        (_, Accepts::Tensors(_)) => "the max of the model's dims",
        (_, Accepts::Raw { .. }) => "the max_bytes that the model accepts",
        (Unit::Tokens, Accepts::OpenAi(rules)) => rules
            .token_shares()
            .first()
            .map_or("the model's bounds", |share| share.0),
        (_, Accepts::OpenAi(_)) => "the model's bounds in bytes",
    };
    if most > MAX_UNITS {
        return format!("lower {contract}");
    }
    let context = match model.accepts() {
        Accepts::OpenAi(rules) if unit == Unit::Tokens && rules.context_tokens.is_none() => {
            ", or openai.context_tokens of the model"
        }
        Accepts::OpenAi(_) | Accepts::Tensors(_) | Accepts::Raw { .. } => "",
    };
    format!("at least {most}{context}, or lower {contract}")
}

/// Maximum requests at once; the outer `None` is a fault.
pub(super) fn requests(path: &Path, raw: Option<raw::InFlight>) -> Valid<Option<u64>> {
    optional(raw, |limit| limit.check(path))
}

/// Limits of requests in flight to a model.
pub(super) fn model(
    path: &Path,
    raw: Option<&raw::ModelLimits>,
    bodies: &raw::Limits,
    takes_raw: bool,
) -> Option<ModelLimits> {
    let Some(raw) = raw else {
        return Some(ModelLimits::default());
    };
    let body_bytes = bodies.body_bytes.0;
    // A client gets half of a limit for streamed bodies, but always one body.
    let passes = !takes_raw && bodies.hold_bytes().0 < body_bytes;
    let alone = |path: &Path, fix: String| {
        path.warn(
            "without a sandbox host, one streamed body can use all of it, for as long as its client is slow",
            fix,
        );
    };
    if passes && raw.concurrency == Some(1.into()) {
        alone(&path.field("concurrency"), "at least 2".to_owned());
    }
    let two_bodies = body_bytes.saturating_mul(2);
    if passes
        && raw
            .in_flight_bytes
            .is_some_and(|limit| (body_bytes..two_bodies).contains(&limit.0))
    {
        alone(
            &path.field("in_flight_bytes"),
            format!("at least {two_bodies}, two bodies of listen.limits.body_bytes"),
        );
    }
    let concurrency = requests(&path.field("concurrency"), raw.concurrency);
    let bytes_path = path.field("in_flight_bytes");
    let in_flight_bytes = optional(raw.in_flight_bytes, |limit| limit.check(&bytes_path));
    if let Some(Some(limit)) = in_flight_bytes
        && limit < body_bytes
    {
        bytes_path.warn(
            format!("a body of more than {limit} bytes is always rejected"),
            format!("at least the {body_bytes} of listen.limits.body_bytes"),
        );
    }
    Some(ModelLimits {
        concurrency: concurrency?,
        in_flight_bytes: in_flight_bytes?,
    })
}

pub(super) fn lockout(path: &Path, raw: &raw::Lockout, listen: &raw::Listen) -> Option<Lockout> {
    // A gate that terminates TLS is called directly by its clients.
    if listen.trusted_hops.0 == 0 && listen.tls.is_none() {
        path.warn(
            "behind a proxy or load balancer all callers have one source address, and are locked out together",
            "listen.trusted_hops: the number of proxies in front",
        );
    }
    let failures = raw.failures.check(&path.field("failures"));
    let window_s = raw.window_s.check(&path.field("window_s"));
    let for_s = raw.for_s.check(&path.field("for_s"));
    Some(Lockout {
        failures: failures?,
        window_s: window_s?,
        for_s: for_s?,
    })
}
