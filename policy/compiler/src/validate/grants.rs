//! Grants: unambiguous permissions and their limits.

use std::collections::{BTreeMap, BTreeSet};

use tensorgate_policy::policy::{
    self, ClientId, Grant, GrantId, MAX_PERMISSIONS, Model, ModelId, OwnHandlers,
};
use tensorgate_policy::report::{Path, quote};
use tensorgate_policy::request::{Operation, Protocol};

use super::roles::{Overlap, Part, Roles, Target};
use super::usage::{GROUP_PREFIX, Selector};
use super::{caller_limits, grant_handlers, limits, mode, models, names, release, service};
use crate::raw;

/// The validated grants.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) grants: Vec<Grant>,
    pub(super) granted: policy::Granted,
}

/// `models` are the validated ones, if all are valid.
pub(super) fn grants(path: &Path, raw: &raw::Policy, models: Option<&[Model]>) -> Option<Granted> {
    let mut grants = Vec::new();
    let clients_in_order: Vec<&str> = raw.clients.keys().map(String::as_str).collect();
    let models_by_name: BTreeMap<String, ModelId> = raw
        .models
        .keys()
        .zip((0..).map(ModelId))
        .map(|(name, id)| (name.clone(), id))
        .collect();
    let mut roles = Roles::new(clients_in_order.len());
    let mut entries = 0_usize;
    let mut slots = 0_u64;
    let mut seen = BTreeSet::new();
    let mut valid = Some(());
    for (index, grant) in raw.grants.iter().enumerate() {
        let path = path.index(index);
        let name_path = path.field("name");
        let name = name_path.required(
            grant.name.as_ref(),
            "a name, for logs, limits and RateLimit headers",
        );
        let mut named = name.and_then(|name| names::name(&name_path, name));
        if let Some(name) = name
            && !seen.insert(name)
        {
            name_path.error(format!(
                "{} is the name of another grant; grants of one name would share limits",
                quote(name)
            ));
            named = None;
        }
        let clients = clients(&path.field("clients"), grant, raw, &clients_in_order);
        let targets = targets(&path.field("models"), grant, raw, &models_by_name);
        let operations = operations(&path.field("operations"), grant);
        let infers = grant
            .operations
            .iter()
            .filter_map(|name| Operation::from_name(name))
            .any(Operation::infers);
        let granted: BTreeSet<ModelId> = targets
            .iter()
            .flatten()
            .filter(|_| infers)
            .map(|target| target.model)
            .collect();
        let granted: Vec<(ModelId, &Model)> = granted
            .into_iter()
            .filter_map(|id| Some((id, models?.get(usize::try_from(id.0).ok()?)?)))
            .collect();
        let inferred: Vec<&Model> = granted.iter().map(|(_, model)| *model).collect();
        let in_streams = models::check_decoupled(&path, grant, &inferred);
        let rate = limits::rate(&path.field("rate"), grant.rate.as_ref());
        let cost = limits::cost(&path.field("cost"), grant.cost.as_ref(), infers, &inferred);
        let budget = limits::budget(
            &path.field("budget"),
            grant.budget.as_ref(),
            infers,
            &inferred,
        );
        if infers {
            limits::without(&path, grant, &inferred);
        }
        let limited = caller_limits::Limited {
            path: &path,
            grant,
            clients: clients.as_ref(),
            infers,
            models: &inferred,
            policy: raw,
        };
        let callers = caller_limits::of_grant(limited, &mut slots);
        let scoped = scopes(&path, grant, &inferred, raw);
        if let Some(Some(rate)) = &rate {
            valid = valid.and(service::tellable(&path.field("rate"), rate, raw));
        }
        let concurrency = limits::requests(&path.field("concurrency"), grant.concurrency);
        let shadow = mode::shadow(&path, grant, infers);
        let handlers = grant_handlers::handlers(&path, grant, (infers, &granted), raw);
        let own = handlers.clone().unwrap_or_default();
        let given: Vec<release::Given<'_>> = (granted.iter())
            .map(|(id, model)| {
                let returns = own.get(id).and_then(OwnHandlers::returns);
                (*model, returns.unwrap_or_else(|| model.returns()))
            })
            .collect();
        let narrowed = release::grant(&path, grant, infers, &given);
        let id = u32::try_from(index).ok().map(GrantId);
        valid = valid.and(named).and(in_streams);
        let (
            Some(id),
            Some(clients),
            Some(targets),
            Some(operations),
            Some(rate),
            Some(cost),
            Some(budget),
            Some(callers),
            Some(concurrency),
            Some(shadow),
            Some(narrowed),
            Some(handlers),
            Some(messages_wait),
        ) = (
            id,
            clients,
            targets,
            operations,
            rate,
            cost,
            budget,
            callers,
            concurrency,
            shadow,
            narrowed,
            handlers,
            scoped,
        )
        else {
            valid = None;
            continue;
        };
        unasked(&path.field("operations"), &operations, &targets, models);
        let new = combinations(clients.len(), targets.len(), operations.len());
        entries = entries.saturating_add(new);
        if entries > MAX_PERMISSIONS {
            path.error(format!(
                "more than {MAX_PERMISSIONS} combinations of client, model, version and operation"
            ));
            entries = entries.saturating_sub(new);
            valid = None;
        } else {
            let part = Part {
                id,
                targets: targets.into_iter().collect(),
                operations,
                reported: path.mark(),
            };
            roles.join(&clients, part);
        }
        let name = name.cloned().unwrap_or_default();
        grants.push(Grant {
            name,
            clients: clients.into_iter().collect(),
            rate,
            cost,
            budget,
            callers,
            concurrency,
            shadow,
            narrowed,
            handlers,
            messages_wait,
        });
    }
    let granted = roles.enter(path, |overlap| overlap_message(raw, overlap));
    let (granted, ()) = (granted?, valid?);
    Some(Granted { grants, granted })
}

/// Whether each limit has a counter, and whether messages of streams wait for the service.
fn scopes(path: &Path, grant: &raw::Grant, inferred: &[&Model], raw: &raw::Policy) -> Option<bool> {
    let stream = Operation::Stream.name();
    let streams = grant.operations.iter().any(|name| name == stream)
        && inferred
            .iter()
            .any(|model| model.protocols().contains(&Protocol::OipGrpc));
    let (mut valid, mut shared) = (Some(()), false);
    for (name, scope, share) in grant.own_limits() {
        let path = path.field(name);
        valid = valid.and(service::scope(&path, scope, raw));
        valid = valid.and(service::share(&path, scope, share));
        shared |= !scope.is_local();
    }
    service::unreturned(path, grant, raw);
    valid.map(|()| streams && shared)
}

/// Number of combinations.
const fn combinations(clients: usize, targets: usize, operations: usize) -> usize {
    clients.saturating_mul(targets).saturating_mul(operations)
}

/// Index of a client in name order.
fn client_id(clients_in_order: &[&str], name: &str) -> Option<ClientId> {
    let index = clients_in_order.binary_search(&name).ok()?;
    u32::try_from(index).ok().map(ClientId)
}

fn clients(
    path: &Path,
    grant: &raw::Grant,
    raw: &raw::Policy,
    in_order: &[&str],
) -> Option<BTreeSet<ClientId>> {
    let mut valid = path.not_empty(&grant.clients, "the names of clients, or group:name");
    valid = valid.and(path.distinct(&grant.clients));
    let mut clients = BTreeSet::new();
    for (index, name) in grant.clients.iter().enumerate() {
        let path = path.index(index);
        if let Some(group) = name.strip_prefix(GROUP_PREFIX) {
            match raw.groups.get(group) {
                // A missing member is a fault of the group.
                Some(members) => {
                    clients.extend(
                        members
                            .iter()
                            .filter_map(|member| client_id(in_order, member)),
                    );
                }
                None => {
                    valid = path.unknown("group", group, raw.groups.keys());
                }
            }
        } else if let Some(id) = client_id(in_order, name) {
            clients.insert(id);
        } else if raw.groups.contains_key(name) {
            valid = path.fail_with_fix(
                format!("{} is a group", quote(name)),
                format!("{GROUP_PREFIX}{name}"),
            );
        } else {
            valid = path.unknown("client", name, raw.clients.keys());
        }
    }
    valid.map(|()| clients)
}

fn targets(
    path: &Path,
    grant: &raw::Grant,
    raw: &raw::Policy,
    ids: &BTreeMap<String, ModelId>,
) -> Option<BTreeSet<Target>> {
    let mut valid = path.not_empty(&grant.models, "the names of models");
    valid = valid.and(path.distinct(&grant.models));
    let mut targets = BTreeSet::new();
    for (index, text) in grant.models.iter().enumerate() {
        let path = path.index(index);
        let selector = Selector::read(text);
        let mut found = false;
        for (name, model) in selector.models(raw) {
            found = true;
            let Some(id) = ids.get(name) else { continue };
            let mut matched = false;
            for (version, version_index) in model.versions.called().into_iter().zip(0_u32..) {
                let wanted = match selector {
                    Selector::Version(_, wanted) => wanted == version,
                    Selector::Model(_) | Selector::Under(_) => true,
                };
                if wanted {
                    matched = true;
                    targets.insert(Target {
                        model: *id,
                        version: version_index,
                    });
                }
            }
            if let (Selector::Version(_, version), false) = (selector, matched) {
                if model.versions.is_shadow(version) {
                    let message = format!(
                        "version {} of model {} has shadow: true, so that clients cannot call it",
                        quote(version),
                        quote(name)
                    );
                    path.error_with_fix(message, "remove it");
                } else {
                    path.error(format!(
                        "model {} has no version {}",
                        quote(name),
                        quote(version)
                    ));
                }
                valid = None;
            }
        }
        if !found {
            match selector {
                Selector::Under(prefix) => {
                    path.error(format!("no model's name begins with {}", quote(prefix)))
                }
                Selector::Model(name) | Selector::Version(name, _) => {
                    path.unknown::<_, ()>("model", name, raw.models.keys());
                }
            }
            valid = None;
        }
    }
    valid.map(|()| targets)
}

fn operations(path: &Path, grant: &raw::Grant) -> Option<Vec<Operation>> {
    let mut valid = path.not_empty(&grant.operations, "[infer]");
    valid = valid.and(path.distinct(&grant.operations));
    let mut operations = Vec::new();
    for (index, text) in grant.operations.iter().enumerate() {
        if let Some(operation) = Operation::from_name(text) {
            operations.push(operation);
        } else {
            let names = Operation::ALL.map(Operation::name);
            valid = path.index(index).unknown_of("operation", text, &names);
        }
    }
    valid.map(|()| operations)
}

/// Statistics of a model without a protocol that supports them.
fn unasked(
    path: &Path,
    operations: &[Operation],
    targets: &BTreeSet<Target>,
    models: Option<&[Model]>,
) {
    if !operations.contains(&Operation::Statistics) {
        return;
    }
    let lacks_statistics = |model: &&Model| {
        let has = |protocol: &Protocol| matches!(protocol, Protocol::OipRest | Protocol::OipGrpc);
        !model.protocols().iter().any(has)
    };
    let without = targets
        .iter()
        .filter_map(|target| models?.get(usize::try_from(target.model.0).ok()?))
        .find(lacks_statistics);
    if let Some(model) = without {
        path.warn(
            format!(
                "the protocols of {} have no request for statistics",
                quote(model.name())
            ),
            "protocols: [oip-rest], or remove statistics",
        );
    }
}

/// Message for two overlapping grants.
fn overlap_message(raw: &raw::Policy, overlap: &Overlap) -> String {
    let Overlap {
        id,
        other,
        client,
        target: Target { model, version },
        operation,
    } = *overlap;
    let index = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let grant = |id: GrantId| {
        let name = raw
            .grants
            .get(index(id.0))
            .and_then(|grant| grant.name.as_deref());
        name.map_or_else(|| format!("grants[{}]", id.0), quote)
    };
    let client = raw
        .clients
        .keys()
        .nth(index(client.0))
        .map_or("", String::as_str);
    let (name, version) =
        raw.models
            .iter()
            .nth(index(model.0))
            .map_or(("", ""), |(name, model)| {
                (
                    name.as_str(),
                    model
                        .versions
                        .called()
                        .get(index(version))
                        .copied()
                        .unwrap_or_default(),
                )
            });
    format!(
        "grants {} and {} overlap: both let client {} {} model {}, version {}",
        grant(other),
        grant(id),
        quote(client),
        operation.name(),
        quote(name),
        quote(version),
    )
}
