//! Divides limits with `local_share: replicas` by the number of pods that count them.
//!
//! `render` divides before it compiles the policy. Filter and host then get plain limits under a
//! generation of their own, so neither needs to know the number of pods.

use tensorgate_cli_common::load_error::LoadError;
use tensorgate_policy::{Fault, Severity};
use tensorgate_policy_compiler::{Version, raw};

use crate::load::Loaded;

/// The field of a limit that says what divides it.
const LOCAL_SHARE: &str = "local_share";

/// A limit with `local_share`: its field, and its amounts by field.
type Divided<'g> = (&'static str, Vec<(&'static str, Option<&'g mut u64>)>);

impl Loaded {
    /// The limits that are divided when the policy is rendered: the grant's name, which is empty
    /// for a model's budget, and the field.
    pub fn limits_to_divide(&self) -> Vec<(&str, &'static str)> {
        let raw::Policy { grants, models, .. } = &self.version.raw;
        let of_grants = grants.iter().flat_map(|grant| {
            let name = grant.name.as_deref().unwrap_or_default();
            shares(grant).map(move |limit| (name, limit))
        });
        let is_divided = |budget: &raw::Budget| budget.local_share.is_some();
        let of_models = models
            .values()
            .filter(|model| model.budget.as_ref().is_some_and(is_divided));
        of_grants.chain(of_models.map(|_| ("", "budget"))).collect()
    }

    /// The policy of one of so many pods; `None` if the target does not know the number.
    ///
    /// # Errors
    /// A fault for each limit whose share is too small, or that is not divided here.
    pub fn divided(mut self, pods: Option<u32>) -> Result<Self, LoadError> {
        if self.limits_to_divide().is_empty() {
            return Ok(self);
        }
        let mut policy = self.version.raw.clone();
        let divided = divide(&mut policy, pods)
            .and_then(|pods| Version::new(policy).map_err(|faults| of_share(faults, pods)));
        match divided {
            Ok(version) => {
                self.version = version;
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
            divide_one(&path, amounts, pods, &mut faults);
        }
    }
    let models = policy.models.iter_mut();
    // Without a share the shared contents of models stay as they are.
    let is_divided = |budget: &raw::Budget| budget.local_share.is_some();
    let models = models.filter(|(_, model)| model.budget.as_ref().is_some_and(is_divided));
    for (name, model) in models {
        let divided = model.budget.as_mut();
        if let Some((limit, amounts)) = divided.and_then(|budget| take_day("budget", budget)) {
            let path = format!("models.{name}.{limit}");
            divide_one(&path, amounts, pods, &mut faults);
        }
    }
    match pods {
        Some(pods) if faults.is_empty() => Ok(pods),
        _ => Err(faults),
    }
}

/// Divides the amounts of one limit.
fn divide_one(
    path: &str,
    amounts: Vec<(&'static str, Option<&mut u64>)>,
    pods: Option<u32>,
    faults: &mut Vec<Fault>,
) {
    let Some(pods) = pods else {
        faults.push(unknown_pods(path));
        return;
    };
    for (field, amount) in amounts {
        let Some(amount) = amount else { continue };
        let share = amount.checked_div(u64::from(pods)).unwrap_or(0);
        if share == 0 {
            faults.push(no_share(path, field, *amount, pods));
        }
        *amount = share;
    }
}

/// The limits of a grant with `local_share`, which it removes from them.
fn take_shares(grant: &mut raw::Grant) -> Vec<Divided<'_>> {
    let own = (
        grant.rate.as_mut(),
        grant.cost.as_mut(),
        grant.budget.as_mut(),
    );
    let mut divided = take_from(raw::CLIENT_LIMITS, own);
    for (names, callers) in [
        (raw::USER_LIMITS, &mut grant.per_user),
        (raw::SOURCE_LIMITS, &mut grant.per_source),
    ] {
        if let Some(raw::CallerLimits {
            rate, cost, budget, ..
        }) = callers
        {
            let limits = (rate.as_mut(), cost.as_mut(), budget.as_mut());
            divided.extend(take_from(names, limits));
        }
    }
    divided
}

/// Those of three limits, with the names of their fields.
fn take_from<'g>(
    [of_rate, of_cost, of_budget]: [&'static str; 3],
    (rate, cost, budget): (
        Option<&'g mut raw::Rate>,
        Option<&'g mut raw::Cost>,
        Option<&'g mut raw::Budget>,
    ),
) -> Vec<Divided<'g>> {
    let mut divided = Vec::new();
    if let Some(rate) = rate
        && rate.local_share.take().is_some()
    {
        let amounts = vec![
            ("quota", rate.quota.as_mut().map(|quota| &mut quota.0)),
            ("burst", rate.burst.as_mut().map(|burst| &mut burst.0)),
        ];
        divided.push((of_rate, amounts));
    }
    if let Some(cost) = cost
        && cost.local_share.take().is_some()
    {
        let bytes = cost.bytes.as_mut().map(|bytes| &mut bytes.0);
        let amounts = vec![
            ("elements", cost.elements.as_mut()),
            ("bytes", bytes),
            ("tokens", cost.tokens.as_mut()),
        ];
        divided.push((of_cost, amounts));
    }
    if let Some(budget) = budget {
        divided.extend(take_day(of_budget, budget));
    }
    divided
}

/// A daily limit.
fn take_day<'g>(name: &'static str, budget: &'g mut raw::Budget) -> Option<Divided<'g>> {
    budget.local_share.take()?;
    let bytes = budget.bytes.as_mut().map(|bytes| &mut bytes.0);
    let amounts = vec![
        ("requests", budget.requests.as_mut()),
        ("elements", budget.elements.as_mut()),
        ("bytes", bytes),
        ("tokens", budget.tokens.as_mut()),
    ];
    Some((name, amounts))
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
