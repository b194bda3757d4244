//! The enforcement mode of a grant. Naming a rule that the grant does not have is a fault, because
//! it must be a mistake.

use tensorgate_policy::policy::Shadow;
use tensorgate_policy::report::Path;

use crate::raw::{self, Enforcement, Mode, Modes};

/// The shadow mode of a grant.
pub(super) fn shadow(grant_path: &Path, grant: &raw::Grant, infers: bool) -> Option<Shadow> {
    let path = &grant_path.field("mode");
    let Modes {
        default,
        rate,
        cost,
        values,
        outputs,
    } = match grant.mode {
        None => return Some(Shadow::default()),
        Some(Mode::All(all)) => Modes {
            default: Some(all),
            ..Modes::default()
        },
        Some(Mode::Each(modes)) => modes,
    };
    let limits_contents = |cost: &Option<raw::Cost>, budget: &Option<raw::Budget>| {
        let budget = budget.as_ref();
        cost.is_some() || budget.is_some_and(raw::Budget::limits_contents)
    };
    let rated = grant.limits_requests() || grant.callers().any(raw::CallerLimits::limits_requests);
    let mut callers = grant.callers();
    let priced = limits_contents(&grant.cost, &grant.budget)
        || callers.any(|it| limits_contents(&it.cost, &it.budget));
    let mut valid = Some(());
    for (name, given, is_there, what) in [
        ("rate", rate, rated, "the grant has no limit of requests"),
        ("cost", cost, priced, "the grant has no limit of cost"),
        (
            "values",
            values,
            infers,
            "the grant does not allow inference",
        ),
        (
            "outputs",
            outputs,
            infers,
            "the grant does not allow inference",
        ),
    ] {
        if given.is_some() && !is_there {
            valid = path.field(name).fail(format!("has no effect: {what}"));
        }
    }
    let default = default.unwrap_or_default();
    let is = |given: Option<Enforcement>, is_there: bool| {
        is_there && given.unwrap_or(default) == Enforcement::Shadow
    };
    let shadow = Shadow {
        rate: is(rate, rated),
        cost: is(cost, priced),
        values: is(values, infers),
        outputs: is(outputs, infers),
    };
    let mut names = shadow.names().peekable();
    if names.peek().is_some() {
        let names: Vec<&str> = names.collect();
        path.warn(
            format!(
                "{} do not reject while they are in shadow",
                names.join(", ")
            ),
            "enforce",
        );
    }
    valid.map(|()| shadow)
}
