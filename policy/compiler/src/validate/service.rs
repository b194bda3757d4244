//! The rate-limit service for limits of scope `global`.

use tensorgate_policy::decision::global::MAX_FILL_S;
use tensorgate_policy::policy::{Counter, Rate, RateLimitService, Redis};
use tensorgate_policy::report::{Path, Valid, quote};
use tensorgate_policy::values::Scope;
use tensorgate_policy::values::time::SECOND_NS;

use super::backends::is_host;
use super::names;
use crate::raw::{self, LocalShare};

/// Default domain.
const DEFAULT_DOMAIN: &str = "tensorgate";
/// Default port of Redis.
const REDIS_PORT: u16 = 6379;

/// The service, if any; the outer `None` is a fault.
pub(super) fn service(path: &Path, raw: &raw::Policy) -> Valid<Option<RateLimitService>> {
    let Some(service) = &raw.rate_limit_service else {
        return Some(None);
    };
    if !raw.grants.iter().any(asks) {
        path.warn(
            "has no effect: no limit has scope: global",
            "grants: [{rate: {…, scope: global}}]",
        );
    }
    let counter = counter(path, service);
    let domain = service.domain.as_deref().unwrap_or(DEFAULT_DOMAIN);
    let named = names::name(&path.field("domain"), domain);
    let timeout_ms = service.timeout_ms.check(&path.field("timeout_ms"));
    named?;
    Some(Some(RateLimitService {
        counter: counter?,
        domain: domain.into(),
        timeout_ms: timeout_ms?,
        on_failure: service.on_failure.unwrap_or_default(),
    }))
}

/// Scope of a limit: a fault if no service counts it.
pub(super) fn scope(limit_path: &Path, scope: Scope, raw: &raw::Policy) -> Option<()> {
    if scope.is_local() || raw.rate_limit_service.is_some() {
        return Some(());
    }
    limit_path.field("scope").fail_with_fix(
        "is global, and the policy has no rate_limit_service",
        "rate_limit_service: {redis: {url: redis://127.0.0.1}}",
    )
}

/// Limits of users, sources and models are counted by each host.
pub(super) fn of_hosts(limit_path: &Path) -> Option<()> {
    limit_path.field("scope").fail_with_fix(
        "is global, and each host counts this limit",
        "remove it, or local_share: replicas",
    )
}

/// Only a limit of each gateway is divided among them.
pub(super) fn share(limit_path: &Path, scope: Scope, share: Option<LocalShare>) -> Option<()> {
    match (share, scope) {
        (Some(_), Scope::Global) => limit_path.field("local_share").fail_with_fix(
            "divides a limit that gateways share already: its scope is global",
            "remove it",
        ),
        (Some(_), Scope::Local) | (None, _) => Some(()),
    }
}

/// A global rate must be exact in the counter's arithmetic.
pub(super) fn tellable(rate_path: &Path, rate: &Rate, raw: &raw::Policy) -> Option<()> {
    let elsewhere = |service: &raw::RateLimitService| service.endpoint.is_some();
    if !rate.scope.is_local()
        && rate.bucket.burst < rate.quota
        && raw.rate_limit_service.as_ref().is_some_and(elsewhere)
    {
        rate_path.field("burst").warn(
            "the service knows no burst, and may allow all of the quota at once",
            "a shorter window, or rate_limit_service.redis",
        );
    }
    let fill_ns = rate.bucket.interval_ns.checked_mul(rate.bucket.burst)?;
    let fill_s = fill_ns
        .checked_div(SECOND_NS.saturating_mul(rate.bucket.per))
        .unwrap_or(u64::MAX);
    if rate.scope.is_local() || fill_s <= MAX_FILL_S {
        return Some(());
    }
    rate_path.field("burst").fail_with_fix(
        "is too large: an empty shared bucket would take years to fill",
        format!("a burst that refills within {MAX_FILL_S} s"),
    )
}

/// Warns of token limits with another service: reservations are not settled there.
pub(super) fn unreturned(grant_path: &Path, grant: &raw::Grant, raw: &raw::Policy) {
    let elsewhere = raw.rate_limit_service.as_ref();
    if elsewhere.is_none_or(|service| service.endpoint.is_none()) {
        return;
    }
    let cost = grant.cost.as_ref().map(|it| (it.tokens, it.scope));
    let budget = grant.budget.as_ref().map(|it| (it.tokens, it.scope));
    for (name, limit) in [("cost", cost), ("budget", budget)] {
        if let Some((Some(_), Scope::Global)) = limit {
            grant_path.field(name).field("tokens").warn(
                "the service cannot refund unused units: each request is charged its maximum cost",
                "rate_limit_service.redis, or scope: local",
            );
        }
    }
}

fn asks(grant: &raw::Grant) -> bool {
    let scopes = [
        grant.rate.as_ref().map(|rate| rate.scope),
        grant.cost.as_ref().map(|cost| cost.scope),
        grant.budget.as_ref().map(|budget| budget.scope),
    ];
    scopes.into_iter().flatten().any(|scope| !scope.is_local())
}

fn counter(path: &Path, raw: &raw::RateLimitService) -> Option<Counter> {
    match (&raw.redis, &raw.endpoint) {
        (Some(one), None) => redis(&path.field("redis"), one).map(Counter::Redis),
        (None, Some(text)) => endpoint(&path.field("endpoint"), text),
        (None, None) => path.fail_with_fix(
            "needs one of redis and endpoint",
            "redis: {url: redis://127.0.0.1}",
        ),
        (Some(_), Some(_)) => {
            path.fail_with_fix("has both redis and endpoint", "remove one of the two")
        }
    }
}

/// `http://host:port` of another server with Envoy's protocol.
fn endpoint(path: &Path, text: &str) -> Option<Counter> {
    let authority = text
        .strip_prefix("http://")
        .and_then(|rest| rest.rsplit_once(':'))
        .and_then(|(host, port)| Some((host_of(host)?, port_of(port)?)));
    let Some((host, port)) = authority else {
        return path.fail_with_fix(
            format!(
                "{} is not an endpoint: expected http, a host and a port, and no path",
                quote(text)
            ),
            "http://host:port",
        );
    };
    if !is_loopback(&host) {
        path.warn(
            "limits and names of clients cross the network unencrypted",
            "a proxy with TLS on this machine",
        );
    }
    Some(Counter::Endpoint { host, port })
}

fn redis(path: &Path, raw: &raw::Redis) -> Option<Redis> {
    let url_path = path.field("url");
    let url = url_path.required(raw.url.as_deref(), "redis://host:port/database");
    let address = url.and_then(|url| redis_address(&url_path, url));
    let mut valid = Some(());
    for (name, file) in [("ca", &raw.ca), ("password_file", &raw.password_file)] {
        if let Some(file) = file {
            valid = valid.and(names::file(&path.field(name), file));
        }
    }
    if raw.username.is_some() && raw.password_file.is_none() {
        valid = path.field("username").fail_with_fix(
            "needs a password_file beside it",
            "password_file: the file with it",
        );
    }
    if let Some(username) = &raw.username {
        valid = valid.and(names::name(&path.field("username"), username));
    }
    let address = address?;
    let ca_path = path.field("ca");
    match (&raw.ca, address.tls) {
        (None, true) => {
            valid = ca_path.fail_with_fix("is missing", "ca: redis-ca.pem");
        }
        (Some(_), false) => {
            valid = ca_path.fail_with_fix("has no effect without TLS", "url: rediss://…");
        }
        (None, false) if !is_loopback(&address.host) => url_path.warn(
            "remaining quota can be read and changed on the network",
            "rediss://… with ca",
        ),
        _ => {}
    }
    if raw.password_file.is_none() && !is_loopback(&address.host) {
        path.warn(
            "any client of this Redis can change remaining quota",
            "password_file: the file with its password",
        );
    }
    valid?;
    Some(Redis {
        host: address.host,
        port: address.port,
        database: address.database,
        ca: raw.ca.clone(),
        username: raw.username.clone(),
        password_file: raw.password_file.clone(),
    })
}

/// A parsed Redis URL.
struct RedisAddress {
    host: String,
    port: u16,
    database: u8,
    tls: bool,
}

fn redis_address(path: &Path, url: &str) -> Option<RedisAddress> {
    if url.contains('@') {
        return path.fail_with_fix(
            "has credentials, which every reader of the policy would see",
            "username and password_file beside the url",
        );
    }
    let read = || {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return None,
        };
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match database {
            "" => 0,
            digits if is_number(digits) => digits.parse().ok()?,
            _ => return None,
        };
        // The last colon, unless it is inside an IPv6 address.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port_of(port)?),
            _ => (authority, REDIS_PORT),
        };
        Some(RedisAddress {
            host: host_of(host)?,
            port,
            database,
            tls,
        })
    };
    let address = read();
    if address.is_none() {
        path.error_with_fix(
            format!("{} is not the URL of a Redis database", quote(url)),
            "redis://host:port/database",
        );
    }
    address
}

/// A host without the brackets of an IPv6 address.
fn host_of(text: &str) -> Option<String> {
    is_host(text).then(|| text.trim_matches(['[', ']']).into())
}

fn port_of(text: &str) -> Option<u16> {
    let port = is_number(text).then(|| text.parse::<u16>().ok()).flatten();
    port.filter(|port| *port > 0)
}

fn is_number(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<core::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
