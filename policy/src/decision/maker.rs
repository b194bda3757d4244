//! Who makes each charge and acquires each permit of a request where a sandbox host is behind the
//! filters: a pure table. Each is made exactly once under one policy. A filter gets to a charge
//! only if it has read what names the model, so it needs only the rows: [`Charge::is_of_host`] and
//! [`PermitScope::is_of_model`].
//!
//! The columns say what names the model, and whether a filter reads the body.
//!
//! | charge or permit | path | body, read | body, unread |
//! |---|---|---|---|
//! | requests of a client, scope `local` | filter | filter | host |
//! | the same with requests of its users or sources | host | host | host |
//! | requests, scope `global` | host | host | host |
//! | permits of clients and grants | filter | filter | host |
//! | permits of models | host | host | host |
//! | content, and all limits of a model | host | host | host |
//!
//! A filter that counts nothing leaves all of them to the host.

use super::step::{Charge, PermitScope};

/// Who makes a charge or acquires a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// A filter.
    Filter,
    /// The sandbox host behind it.
    Host,
}

/// What the filters before a host do with a request. By default they do nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterWork {
    /// Whether they charge request limits and acquire permits.
    pub counts: bool,
    /// Whether they validate bodies. Otherwise a rejection by the host does not contradict them.
    pub checks: bool,
    /// Whether the whole body was evaluated before the head was forwarded.
    pub buffered: bool,
    /// Whether they stopped at a charge of the host, and so have not judged the body's content. A
    /// head that is forwarded before the body names the model does not say so. The host knows it
    /// when it makes that charge.
    pub leaves_charge: bool,
    /// Maximum size of a body that they read; 0: none.
    pub max_body_bytes: u64,
}

impl FilterWork {
    /// Whether the filters read a body of so many received bytes. Where the bound is 0 they do not
    /// wait for the end of an empty one either.
    pub const fn reads(&self, body_bytes: u64) -> bool {
        self.max_body_bytes > 0 && body_bytes <= self.max_body_bytes
    }
}

/// What is known of the body when a charge or permit is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySeen {
    /// Nothing: the path names the model.
    Head,
    /// The body names the model, and so many bytes of it were received.
    Body(u64),
}

/// Who makes a charge.
pub fn maker_of_charge(work: &FilterWork, charge: &Charge, body: BodySeen) -> Maker {
    if charge.is_of_host() {
        return Maker::Host;
    }
    counter(work, body)
}

/// Who acquires a permit.
pub const fn maker_of_permit(work: &FilterWork, scope: &PermitScope, body: BodySeen) -> Maker {
    if scope.is_of_model() {
        return Maker::Host;
    }
    counter(work, body)
}

/// Who counts what a filter may count: the first that knows the model.
const fn counter(work: &FilterWork, body: BodySeen) -> Maker {
    let knows_model = match body {
        BodySeen::Head => true,
        BodySeen::Body(bytes) => work.reads(bytes),
    };
    if work.counts && knows_model {
        Maker::Filter
    } else {
        Maker::Host
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::LimitCharge;
    use crate::policy::{Allowance, Holder, Limit, Unit};
    use tensorgate_values::Scope;

    const BOUND: u64 = 64;

    fn charge(unit: Unit, scope: Scope, holders: &[Holder]) -> Charge {
        let limit_charge = |holder: &Holder| LimitCharge {
            allowance: Allowance {
                unit,
                limit: Limit::Day(7),
                scope,
                holder: *holder,
            },
            amount: 1,
        };
        Charge {
            scope,
            grant: "scoring".into(),
            client: "scorer".into(),
            limit_charges: holders.iter().map(limit_charge).collect(),
            ..Charge::default()
        }
    }

    /// Holders of the limits of one charge, and whether a filter may count them.
    const HOLDERS: [(&[Holder], bool); 4] = [
        (&[Holder::Client], true),
        (&[Holder::Client, Holder::User { slots: 256 }], false),
        (&[Holder::Source { slots: 256 }], false),
        (&[Holder::Model], false),
    ];

    fn permit_scopes() -> [(PermitScope, bool); 5] {
        let (grant, client, model) = ("scoring", "scorer", "digits");
        let of_grant = PermitScope::Grant {
            grant: grant.into(),
            client: client.into(),
        };
        let streaming = PermitScope::Streaming {
            model: model.into(),
            client: client.into(),
        };
        [
            (PermitScope::Client(client.into()), false),
            (of_grant, false),
            (PermitScope::Streams(client.into()), false),
            (PermitScope::Model(model.into()), true),
            (streaming, true),
        ]
    }

    /// The columns of the table, and whether a filter knows the model there.
    const COLUMNS: [(BodySeen, bool); 4] = [
        (BodySeen::Head, true),
        (BodySeen::Body(0), true),
        (BodySeen::Body(BOUND), true),
        (BodySeen::Body(65), false),
    ];

    /// All combinations of the flags, with this bound.
    fn works(max_body_bytes: u64) -> impl Iterator<Item = FilterWork> {
        (0_u8..16).map(move |flags| FilterWork {
            counts: flags & 1 != 0,
            checks: flags & 2 != 0,
            buffered: flags & 4 != 0,
            leaves_charge: flags & 8 != 0,
            max_body_bytes,
        })
    }

    const fn filter_if(by_filter: bool) -> Maker {
        if by_filter {
            Maker::Filter
        } else {
            Maker::Host
        }
    }

    #[test]
    fn every_charge_has_the_maker_of_its_row() {
        let units = [Unit::Requests, Unit::Elements, Unit::Bytes, Unit::Tokens];
        for work in works(BOUND) {
            for (body, knows_model) in COLUMNS {
                for (unit, (holders, counted)) in units
                    .into_iter()
                    .flat_map(|unit| HOLDERS.map(|holders| (unit, holders)))
                {
                    let local = unit == Unit::Requests && work.counts && knows_model && counted;
                    for (scope, by_filter) in [(Scope::Local, local), (Scope::Global, false)] {
                        let maker = maker_of_charge(&work, &charge(unit, scope, holders), body);
                        assert_eq!(
                            maker,
                            filter_if(by_filter),
                            "{work:?} {body:?} {unit:?} {scope:?} {holders:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_permit_has_the_maker_of_its_row() {
        for work in works(BOUND) {
            for (body, knows_model) in COLUMNS {
                for (scope, of_model) in permit_scopes() {
                    let by_filter = !of_model && work.counts && knows_model;
                    let maker = maker_of_permit(&work, &scope, body);
                    assert_eq!(maker, filter_if(by_filter), "{work:?} {body:?} {scope:?}");
                }
            }
        }
    }

    #[test]
    fn a_filter_without_a_bound_reads_no_body() {
        let local = charge(Unit::Requests, Scope::Local, &[Holder::Client]);
        for work in works(0) {
            assert!(!work.reads(0), "{work:?}");
            assert_eq!(
                maker_of_charge(&work, &local, BodySeen::Body(0)),
                Maker::Host
            );
            assert_eq!(
                maker_of_charge(&work, &local, BodySeen::Head),
                filter_if(work.counts)
            );
        }
    }

    #[test]
    fn behind_no_filter_the_host_makes_everything() {
        let work = FilterWork::default();
        let local = charge(Unit::Requests, Scope::Local, &[Holder::Client]);
        for (body, _) in COLUMNS {
            assert_eq!(maker_of_charge(&work, &local, body), Maker::Host);
            for (scope, _) in permit_scopes() {
                assert_eq!(maker_of_permit(&work, &scope, body), Maker::Host);
            }
        }
    }
}
