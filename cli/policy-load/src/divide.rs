//! Divides limits with `local_share: replicas` by the number of pods that count them.
//!
//! `render` divides before it writes the bundle. Filter and host then get plain limits under a
//! generation of their own, so neither needs to know the number of pods.

use tensorgate_cli_common::load_error::LoadError;
use tensorgate_policy::{Fault, Severity, raw, validate};

use crate::load::{Loaded, generation};

/// The field of a limit that says what divides it.
const LOCAL_SHARE: &str = "local_share";

/// A limit with `local_share`: its name in the grant, and its amounts by field.
type Divided<'g> = (&'static str, Vec<(&'static str, Option<&'g mut u64>)>);

impl Loaded {
    /// The limits that are divided when the policy is rendered: the grant's name, and `rate`,
    /// `cost` or `budget`.
    pub fn limits_to_divide(&self) -> Vec<(&str, &'static str)> {
        let grants = self.bundle.policy.grants.iter();
        grants
            .flat_map(|grant| {
                let name = grant.name.as_deref().unwrap_or_default();
                shares(grant).map(move |limit| (name, limit))
            })
            .collect()
    }

    /// The policy of one of so many pods; `None` if the target does not know the number.
    ///
    /// # Errors
    /// A fault for each limit whose share is too small, or that is not divided here.
    pub fn divided(mut self, pods: Option<u32>) -> Result<Self, LoadError> {
        if self.limits_to_divide().is_empty() {
            return Ok(self);
        }
        let mut policy = self.bundle.policy.clone();
        let divided = divide(&mut policy, pods)
            .and_then(|pods| validate::validate(&policy).map_err(|faults| of_share(faults, pods)));
        match divided {
            Ok((validated, _)) => {
                self.bundle.generation = generation(&policy)?;
                self.bundle.policy = policy;
                self.policy = validated;
                self.divided_by = pods;
                Ok(self)
            }
            Err(faults) => {
                let faults = self.located(faults);
                Err(LoadError::Faults(self.source, faults))
            }
        }
    }
}

/// A grant's limits with `local_share`.
fn shares(grant: &raw::Grant) -> impl Iterator<Item = &'static str> + use<> {
    let limits = grant.limits();
    limits.filter_map(|(limit, _, share)| share.map(|_| limit))
}

/// Divides every limit with `local_share`, which it removes. Returns the number of pods.
fn divide(policy: &mut raw::Policy, pods: Option<u32>) -> Result<u32, Vec<Fault>> {
    let mut faults = Vec::new();
    for (index, grant) in policy.grants.iter_mut().enumerate() {
        for (limit, amounts) in take_shares(grant) {
            let path = format!("grants[{index}].{limit}");
            let Some(pods) = pods else {
                faults.push(unknown_pods(&path));
                continue;
            };
            for (field, amount) in amounts {
                let Some(amount) = amount else { continue };
                let share = amount.checked_div(u64::from(pods)).unwrap_or(0);
                if share == 0 {
                    faults.push(no_share(&path, field, *amount, pods));
                }
                *amount = share;
            }
        }
    }
    match pods {
        Some(pods) if faults.is_empty() => Ok(pods),
        _ => Err(faults),
    }
}

/// The limits of a grant with `local_share`, which it removes from them.
fn take_shares(grant: &mut raw::Grant) -> Vec<Divided<'_>> {
    let mut divided = Vec::new();
    if let Some(rate) = &mut grant.rate
        && rate.local_share.take().is_some()
    {
        let amounts = vec![
            ("quota", rate.quota.as_mut()),
            ("burst", rate.burst.as_mut()),
        ];
        divided.push(("rate", amounts));
    }
    if let Some(cost) = &mut grant.cost
        && cost.local_share.take().is_some()
    {
        let bytes = cost.bytes.as_mut().map(|bytes| &mut bytes.0);
        let amounts = vec![
            ("elements", cost.elements.as_mut()),
            ("bytes", bytes),
            ("tokens", cost.tokens.as_mut()),
        ];
        divided.push(("cost", amounts));
    }
    if let Some(budget) = &mut grant.budget
        && budget.local_share.take().is_some()
    {
        let bytes = budget.bytes.as_mut().map(|bytes| &mut bytes.0);
        let amounts = vec![
            ("requests", budget.requests.as_mut()),
            ("elements", budget.elements.as_mut()),
            ("bytes", bytes),
            ("tokens", budget.tokens.as_mut()),
        ];
        divided.push(("budget", amounts));
    }
    divided
}

fn unknown_pods(limit: &str) -> Fault {
    Fault {
        severity: Severity::Error,
        path: format!("{limit}.{LOCAL_SHARE}"),
        message:
            "is for targets that write the pods themselves, and here their number is not known"
                .to_owned(),
        fix: Some(
            "scope: global with rate_limit_service, or remove it and write the limit of one pod"
                .to_owned(),
        ),
    }
}

fn no_share(limit: &str, field: &str, amount: u64, pods: u32) -> Fault {
    Fault {
        severity: Severity::Error,
        path: format!("{limit}.{field}"),
        message: format!("{amount} divided by {pods} pods leaves less than 1 for each"),
        fix: Some(format!(
            "at least {pods}, fewer --replicas, or scope: global with rate_limit_service"
        )),
    }
}

/// Faults of a divided policy. The text of the policy has the undivided numbers.
fn of_share(faults: Vec<Fault>, pods: u32) -> Vec<Fault> {
    let errors = faults.into_iter();
    let errors = errors.filter(|fault| fault.severity == Severity::Error);
    errors
        .map(|fault| Fault {
            message: format!("divided by {pods} pods: {}", fault.message),
            ..fault
        })
        .collect()
}

#[cfg(test)]
mod tests;
