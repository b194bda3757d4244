//! The ports of the pods behind the servers that a policy names.
//!
//! A policy names the port of a Service, and network policies compare that of the pod, which the
//! Service may map to another one. Neither the policy nor `render` knows this mapping, so the user
//! gives it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Counter, RateLimitService, Server as NamedServer};

use super::domains::DomainName;
use super::is_loopback_host;
use super::template::value;
use crate::render::envoy::key_sets;
use crate::render::node::{Node, map};

/// The label that follows name and namespace in a Service's name.
const SERVICE: &str = "svc";
/// The flag for model servers.
const MODEL_FLAG: &str = "--model-port";
/// The flag for other servers.
const OTHER_FLAG: &str = "--pod-port";

/// What a Service's port is mapped to: `[[HOST:]PORT=]POD_PORT`. Without a host it is for every
/// Service with this port, and without a port for every Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodPort {
    host: Option<String>,
    port: Option<u16>,
    pod: u16,
}

impl PodPort {
    fn applies_to(&self, server: &Server) -> bool {
        let host = match &self.host {
            Some(host) => *host == server.host,
            // Other names and addresses have no Service in front of them.
            None => server.is_service(),
        };
        host && self.port.is_none_or(|port| port == server.port)
    }

    /// Of the mappings that apply, the one with the largest precision counts.
    fn precision(&self) -> (bool, bool) {
        (self.host.is_some(), self.port.is_some())
    }
}

impl fmt::Display for PodPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{}:", bracketed(host))?;
        }
        if let Some(port) = self.port {
            write!(f, "{port}=")?;
        }
        write!(f, "{}", self.pod)
    }
}

impl FromStr for PodPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.split_once('=') {
            None => number(text).map(|pod| (None, None, pod)),
            Some((server, pod)) => match server.rsplit_once(':') {
                None => number(server)
                    .zip(number(pod))
                    .map(|(port, pod)| (None, Some(port), pod)),
                Some((host, port)) => (host_name(host).zip(number(port)).zip(number(pod)))
                    .map(|((host, port), pod)| (Some(host), Some(port), pod)),
            },
        };
        match parsed {
            Some((host, port, pod)) => Ok(Self { host, port, pod }),
            None => Err(
                "a port of pods is POD_PORT, PORT=POD_PORT or HOST:PORT=POD_PORT, as in 80=8080"
                    .to_owned(),
            ),
        }
    }
}

/// A port's number.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// The host of a mapping: a DNS name, an IPv4 address, or an IPv6 address in brackets.
fn host_name(text: &str) -> Option<String> {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match inner.unwrap_or(text).parse::<IpAddr>() {
        Ok(address) => (address.is_ipv6() == inner.is_some()).then(|| address.to_string()),
        Err(_) => (text.parse::<DomainName>().ok()).map(|name| name.as_str().to_owned()),
    }
}

/// A host as it stands before a port.
fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// A server that a policy names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Server {
    /// Its name in lower case, or its address without brackets.
    host: String,
    port: u16,
}

impl Server {
    fn new(host: &str, port: u16) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        Self { host, port }
    }

    /// The server of an endpoint, which always names its port.
    fn of_endpoint(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        Some(Self::new(uri.host()?, uri.port_u16()?))
    }

    fn of_named(server: &NamedServer, port: u16) -> Self {
        match server {
            NamedServer::Name(name) => Self::new(name, port),
            NamedServer::Address(address) => Self::new(&address.to_string(), port),
        }
    }

    /// Whether its name is that of a Service of the cluster: `NAME`, `NAME.NAMESPACE`, or either
    /// with `svc` and the cluster's domain behind it. The name of a single pod, with a label more,
    /// leads past the Service.
    fn is_service(&self) -> bool {
        if self.host == "localhost" || self.host.parse::<IpAddr>().is_ok() {
            return false;
        }
        let third = self.host.split('.').nth(2);
        third.is_none_or(|third| third == SERVICE)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", bracketed(&self.host), self.port)
    }
}

/// The ports of the pods behind the servers of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPorts {
    /// Of the model servers.
    pub models: Vec<u16>,
    /// Of all others.
    others: Vec<u16>,
    /// Services whose mapping is not known, as `HOST:PORT`.
    unmapped: Vec<String>,
    /// Whether they are values of a chart.
    in_chart: bool,
}

impl PodPorts {
    /// The ports of a policy's servers with these mappings of model servers and of others.
    ///
    /// # Errors
    /// A mapping contradicts another one, or is for no server of the policy.
    pub fn of(policy: &Policy, models: &[PodPort], others: &[PodPort]) -> Result<Self, String> {
        if let Some(bare) = others.iter().find(|mapping| mapping.port.is_none()) {
            return Err(format!(
                "{OTHER_FLAG} {bare}: the Service's port is missing, as in {OTHER_FLAG} 6379={bare}"
            ));
        }
        let mut unmapped = Vec::new();
        let models = resolve(MODEL_FLAG, &models_of(policy), models, &mut unmapped)?;
        let mut others = resolve(OTHER_FLAG, &others_of(policy), others, &mut unmapped)?;
        // What handlers fetch is on public servers, unless the policy allows private networks.
        let handlers = policy.handlers().values();
        let fetches = handlers.filter_map(|handler| handler.fetch());
        others.extend(fetches.flat_map(|fetch| fetch.ports().iter().copied()));
        Ok(Self {
            models: models.into_iter().collect(),
            others: others.into_iter().collect(),
            unmapped,
            in_chart: false,
        })
    }

    /// The same ports as values of a chart.
    pub fn into_chart(self) -> Self {
        Self {
            in_chart: true,
            ..self
        }
    }

    /// The default values of a chart.
    pub fn values(&self) -> Node {
        let parts = [("models", &self.models), ("others", &self.others)];
        let named = parts.into_iter().filter(|(_, ports)| !ports.is_empty());
        Node::Map(
            named
                .map(|(name, ports)| (name.to_owned(), tcp(ports).into()))
                .collect(),
        )
    }

    /// The ports of the model servers in a network policy. `None` if the policy names no server.
    pub fn to_models(&self) -> Option<Node> {
        self.ports(&self.models, ".Values.podPorts.models")
    }

    /// The ports of the other servers in a network policy. `None` if the policy names none.
    pub fn to_others(&self) -> Option<Node> {
        self.ports(&self.others, ".Values.podPorts.others")
    }

    /// An empty list of ports would open all of them.
    fn ports(&self, ports: &[u16], expression: &str) -> Option<Node> {
        if ports.is_empty() {
            return None;
        }
        Some(if self.in_chart {
            value(expression)
        } else {
            tcp(ports).into()
        })
    }

    /// What the user has to look up, as a sentence.
    pub fn note(&self) -> Option<String> {
        if self.unmapped.is_empty() {
            return None;
        }
        Some(format!(
            "note: a NetworkPolicy compares the ports of pods, and these are ports of Services: {}; name the ports of their pods with {MODEL_FLAG} or {OTHER_FLAG}, as in 80=8080, or 8001=8001 where both are equal",
            self.unmapped.join(", ")
        ))
    }
}

/// A note on servers other than model servers that a policy names at the address of the pod itself.
pub fn own_pod_note(policy: &Policy) -> Option<String> {
    let servers = others_of(policy).into_iter();
    let own: Vec<_> = servers
        .filter(|server| is_loopback_host(&server.host))
        .map(|server| server.to_string())
        .collect();
    (!own.is_empty()).then(|| {
        format!(
            "note: in a cluster these addresses are the pod itself, which has no such server unless you add it: {}",
            own.join(", ")
        )
    })
}

/// Ports as a network policy has them.
pub fn tcp(ports: &[u16]) -> Vec<Node> {
    let each = ports.iter();
    each.map(|port| map! {"protocol" => "TCP", "port" => u32::from(*port)})
        .collect()
}

/// The ports of the pods behind servers. Services without a mapping are added to `unmapped`.
fn resolve(
    flag: &str,
    servers: &BTreeSet<Server>,
    mappings: &[PodPort],
    unmapped: &mut Vec<String>,
) -> Result<BTreeSet<u16>, String> {
    let mut known = BTreeMap::new();
    for mapping in mappings {
        let other = known.insert((&mapping.host, mapping.port), mapping);
        if let Some(other) = other.filter(|other| other.pod != mapping.pod) {
            return Err(format!(
                "{flag} {other} and {flag} {mapping} contradict each other: a Service maps a port to one port"
            ));
        }
    }
    let (mut ports, mut used) = (BTreeSet::new(), BTreeSet::new());
    for server in servers {
        let applying = known.values().filter(|mapping| mapping.applies_to(server));
        match applying.max_by_key(|mapping| mapping.precision()) {
            Some(mapping) => {
                used.insert(*mapping);
                ports.insert(mapping.pod);
            }
            None => {
                if server.is_service() {
                    unmapped.push(server.to_string());
                }
                ports.insert(server.port);
            }
        }
    }
    match known.values().find(|mapping| !used.contains(*mapping)) {
        None => Ok(ports),
        Some(unused) => {
            let servers: Vec<_> = servers.iter().map(Server::to_string).collect();
            Err(format!(
                "{flag} {unused} is for no server of the policy, which names {}; a mapping without a host is for Services alone",
                if servers.is_empty() {
                    "none".to_owned()
                } else {
                    servers.join(", ")
                }
            ))
        }
    }
}

/// The model servers that a policy names.
fn models_of(policy: &Policy) -> BTreeSet<Server> {
    let backends = policy.backends().values();
    let endpoints = backends.flat_map(|backend| backend.endpoints());
    endpoints
        .filter_map(|endpoint| Server::of_endpoint(endpoint))
        .collect()
}

/// The other servers that a policy names: issuers' key sets, what handlers look up, counters, the
/// receivers of the audit log and of traces, and the webhooks for alerts.
fn others_of(policy: &Policy) -> BTreeSet<Server> {
    let key_sets = key_sets::fetched(policy);
    let mut servers: BTreeSet<_> = key_sets
        .map(|(_, url)| Server::of_named(url.server(), url.port()))
        .collect();
    for handler in policy.handlers().values() {
        let lookups = handler.lookups().values().map(|lookup| lookup.place());
        servers.extend(lookups.map(|(host, port)| Server::new(host, port)));
    }
    let counter = policy.rate_limit_service().map(RateLimitService::counter);
    servers.extend(counter.map(|counter| match counter {
        Counter::Redis(redis) => Server::new(redis.host(), redis.port()),
        Counter::Endpoint { host, port } => Server::new(host, *port),
    }));
    let receiver = policy.audit().export().otlp();
    servers.extend(receiver.map(|rule| Server::new(rule.host(), rule.port())));
    let traces = policy.audit().tracing();
    servers.extend(traces.map(|rule| Server::new(rule.host(), rule.port())));
    let webhooks = policy.watch().webhooks().iter();
    servers.extend(webhooks.map(|rule| Server::of_named(rule.server(), rule.port())));
    servers
}
