//! Who makes a charge: the filter, or the host behind it. Both ask this module with the same facts,
//! so each charge is made once. Where no host is behind the filter, the filter makes all of them.
//!
//! | charge | the path names the model | the body names it and fits | the body names it and is larger | a message of a stream |
//! |---|---|---|---|---|
//! | requests, `local` | filter | filter | host | host |
//! | requests, `global` | filter | host | host | host |
//! | contents | host | host | host | host |
//! | permits of a client or a grant | filter | filter | host | host |
//! | permits of a model | host | host | host | host |
//! | open streams of a client | filter | filter | filter | – |

use super::step::{Charge, PermitScope};

/// Who makes a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// The filter in the proxy.
    Filter,
    /// The host behind it.
    Host,
}

/// What filter and host know of a request when they divide its charges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// Whether a host is behind the filter.
    pub has_host: bool,
    /// Whether the body names the model, and not the path.
    pub body_names_model: bool,
    /// Whether this is a message of a stream. The head of a stream is none.
    pub is_message: bool,
    /// Whether the filter reads the body: it is not compressed, and no longer than the filter's
    /// bound. A head that no body follows, and the head of a stream, fit.
    pub fits: bool,
}

impl Division {
    /// Who makes a charge.
    pub fn of_charge(self, charge: &Charge) -> Maker {
        if !self.has_host {
            return Maker::Filter;
        }
        if charge.is_of_content() {
            return Maker::Host;
        }
        // A filter that waited with a body could not go on in every proxy.
        let may_wait = !self.body_names_model;
        match charge.scope.is_local() || may_wait {
            true => self.first_reader(),
            false => Maker::Host,
        }
    }

    /// Who acquires a permit.
    pub const fn of_permit(self, scope: &PermitScope) -> Maker {
        if !self.has_host {
            return Maker::Filter;
        }
        match scope {
            PermitScope::Streams(_) => Maker::Filter,
            // They depend on the size of the body, and the model is behind the host.
            PermitScope::Model(_) | PermitScope::Streaming { .. } => Maker::Host,
            PermitScope::Client(_) | PermitScope::Grant { .. } => self.first_reader(),
        }
    }

    /// Who first reads the name of the model.
    const fn first_reader(self) -> Maker {
        if self.is_message || (self.body_names_model && !self.fits) {
            Maker::Host
        } else {
            Maker::Filter
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use super::*;
    use crate::decision::LimitCharge;
    use crate::limits::Unit;
    use crate::policy::{Allowance, Limit};
    use crate::raw::Scope;

    fn charge(unit: Unit, scope: Scope) -> Charge {
        let allowance = Allowance {
            unit,
            limit: Limit::Day(1),
            scope,
        };
        Charge {
            scope,
            grant: String::new(),
            client: String::new(),
            limit_charges: vec![LimitCharge {
                allowance,
                amount: 1,
            }],
        }
    }

    #[test]
    fn each_charge_is_made_by_the_one_in_the_table() {
        use Maker::{Filter, Host};
        let (client, model) = (String::new, String::new);
        let grant = PermitScope::Grant {
            grant: String::new(),
            client: client(),
        };
        let share = PermitScope::Streaming {
            model: model(),
            client: client(),
        };
        let content = [Unit::Elements, Unit::Bytes, Unit::Tokens];
        let (local, global) = (Scope::Local, Scope::Global);
        // The columns of the table.
        for (body_names_model, fits, is_message, requests, shared, own) in [
            (false, true, false, Filter, Filter, Filter),
            (false, false, false, Filter, Filter, Filter),
            (true, true, false, Filter, Host, Filter),
            (true, false, false, Host, Host, Host),
            (true, true, true, Host, Host, Host),
            (true, false, true, Host, Host, Host),
        ] {
            let division = Division {
                has_host: true,
                body_names_model,
                is_message,
                fits,
            };
            let of = |unit, scope| division.of_charge(&charge(unit, scope));
            assert_eq!(of(Unit::Requests, local), requests, "{division:?}");
            assert_eq!(of(Unit::Requests, global), shared, "{division:?}");
            for (unit, scope) in content
                .iter()
                .flat_map(|unit| [(*unit, local), (*unit, global)])
            {
                assert_eq!(of(unit, scope), Host, "{division:?}");
            }
            for (scope, expected) in [
                (&PermitScope::Client(client()), own),
                (&grant, own),
                (&PermitScope::Model(model()), Host),
                (&share, Host),
                (&PermitScope::Streams(client()), Filter),
            ] {
                assert_eq!(
                    division.of_permit(scope),
                    expected,
                    "{division:?} {scope:?}"
                );
                let alone = Division {
                    has_host: false,
                    ..division
                };
                assert_eq!(alone.of_permit(scope), Filter);
                assert_eq!(alone.of_charge(&charge(Unit::Tokens, global)), Filter);
            }
        }
    }
}
