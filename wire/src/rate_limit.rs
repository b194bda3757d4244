//! Envoy's rate limit protocol, `envoy.service.ratelimit.v3` and its descriptors: what a gate asks and what a service answers, the fields
//! that are used here by their numbers in Envoy 1.40. Unknown fields are skipped, as the protocol grows; counts and lengths are bounded.
//!
//! A descriptor names a limit and a client, says how much is asked for, and carries the limit itself, so that a server that takes limits
//! from its callers needs none of its own. What an answer means is decided in [`Answer::outcome`]: one that contradicts itself, knows no such
//! limit or a looser one, means nothing.

mod message;

use tensorgate_policy::decision::Debit;
use tensorgate_policy::policy::{Allowance, Level, Limit, Wait};
use tensorgate_policy::{Charge, ChargeOutcome};

pub use message::MessageFault;

/// The service.
pub const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
/// Its one method.
pub const METHOD: &str = "ShouldRateLimit";
/// The entry of a descriptor that names the limit, as answers do.
pub const LIMIT_KEY: &str = "limit";
/// The entry that names the client.
pub const CLIENT_KEY: &str = "client";
/// The entry of a descriptor, for our own service alone, by which it knows a reservation until that is settled.
pub const RESERVES_KEY: &str = "reserves";
/// The entry of one that settles the reservation of that name, whose amount are its hits.
pub const SETTLES_KEY: &str = "settles";
/// The entry beside it: units that were used of the reservation, in decimal digits.
pub const USED_KEY: &str = "used";
/// The longest name of a reservation, bytes.
pub const MAX_RESERVATION_BYTES: usize = 64;
/// A message, bytes.
pub const MAX_MESSAGE_BYTES: usize = 16 << 10;
/// Descriptors of one message: a grant has six limits on what a request carries.
pub const MAX_DESCRIPTORS: usize = 16;
/// Entries of one descriptor.
pub const MAX_ENTRIES: usize = 8;
/// A key, a value or a domain, bytes: a grant's name with what it limits, and room.
pub const MAX_TEXT_BYTES: usize = 256;
/// How long a refused caller waits where nobody says, ns.
const UNTOLD_WAIT_NS: u64 = 1_000_000_000;

/// `RateLimitRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Whose limits.
    pub domain: String,
    /// The limits that are asked.
    pub descriptors: Vec<Descriptor>,
    /// What each is asked for that says nothing of its own; 0 stands for 1.
    pub hits: u64,
}

/// `RateLimitDescriptor`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Keys and values, in order.
    pub entries: Vec<(String, String)>,
    /// The limit, for servers that take it from here.
    pub limit: Option<Told>,
    /// What is asked for.
    pub hits: Option<u64>,
}

/// `RateLimitOverride`, and the `RateLimit` of an answer: so many a unit of time, or a multiple of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How many.
    pub quota: u32,
    /// In which unit of time.
    pub unit: TimeUnit,
    /// Of how many such units; 0 stands for 1.
    pub multiplier: u32,
}

/// `RateLimitUnit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// None that is known here.
    #[default]
    Unknown,
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 3,600 s.
    Hour,
    /// 86,400 s.
    Day,
}

/// A verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Code {
    /// None.
    #[default]
    Unknown,
    /// Spent.
    Ok,
    /// Refused.
    OverLimit,
}

/// `RateLimitResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Of all of them.
    pub code: Code,
    /// Of each descriptor in its place; some servers tell none.
    pub statuses: Vec<Status>,
}

/// `DescriptorStatus`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether it passes.
    pub code: Code,
    /// The limit that it was held against; a server that knows none tells none.
    pub limit: Option<Told>,
    /// Units left, as many as the protocol can say.
    pub left: u32,
    /// Until there are more, ns.
    pub reset_ns: Option<u64>,
}

impl TimeUnit {
    /// Units of time, the longest first, in seconds.
    const LENGTHS: [(Self, u64); 4] = [
        (Self::Day, 86_400),
        (Self::Hour, 3_600),
        (Self::Minute, 60),
        (Self::Second, 1),
    ];
}

impl Told {
    /// So many a window, where the protocol can say it.
    pub fn of(quota: u64, window_s: u64) -> Option<Self> {
        let (unit, length) = TimeUnit::LENGTHS
            .into_iter()
            .find(|(_, length)| window_s.checked_rem(*length) == Some(0))?;
        Some(Self {
            quota: u32::try_from(quota).ok()?,
            unit,
            multiplier: u32::try_from(window_s.checked_div(length)?).ok()?,
        })
    }

    /// Its window, seconds; `None` where the unit of time is none that is known.
    fn window_s(&self) -> Option<u64> {
        let known = |(unit, _): &(TimeUnit, u64)| *unit == self.unit;
        let (_, length) = TimeUnit::LENGTHS.into_iter().find(known)?;
        Some(length.saturating_mul(u64::from(self.multiplier.max(1))))
    }

    /// Whether it lets no more pass than a limit of the policy, neither in one of its windows nor in a long time. A server that reads no
    /// multiplier would count in seconds what is meant for minutes.
    fn is_within(&self, debit: &Debit) -> bool {
        let (quota, allowance) = (u64::from(self.quota), &debit.allowance);
        let most = (allowance.quota(), allowance.window_s());
        self.window_s()
            .is_some_and(|window_s| no_looser((quota, window_s), most))
    }
}

/// Whether so many in a window are no more than so many in another, neither in one of the windows nor in a long time.
fn no_looser((quota, window_s): (u64, u64), (most, most_window_s): (u64, u64)) -> bool {
    let pace = |quota: u64, window_s: u64| u128::from(quota).saturating_mul(u128::from(window_s));
    quota <= most && pace(quota, most_window_s) <= pace(most, window_s)
}

impl Descriptor {
    /// An amount of a limit, for a client.
    fn of(charge: &Charge, debit: &Debit) -> Self {
        let allowance = &debit.allowance;
        let entry = |key: &str, value: String| (key.to_owned(), value);
        Self {
            entries: vec![
                entry(LIMIT_KEY, allowance.public_name(&charge.grant)),
                entry(CLIENT_KEY, charge.client.clone()),
            ],
            limit: Told::of(allowance.quota(), allowance.window_s()),
            hits: Some(debit.amount),
        }
    }

    /// Whether an answer by a limit of the policy is one that whoever asks can use: it says by which limit it goes, and none that lets more pass is its
    /// limit. One that says nothing, or in a unit of time that is not known here, takes any.
    pub fn takes(&self, allowance: &Allowance) -> bool {
        let said = self
            .limit
            .and_then(|limit| Some((u64::from(limit.quota), limit.window_s()?)));
        said.is_none_or(|said| no_looser((allowance.quota(), allowance.window_s()), said))
    }
}

impl Question {
    /// What a charge asks. `reservation`: by what our own service is to know what the answer may leave unused; another service is told of none.
    pub fn of(domain: &str, charge: &Charge, reservation: Option<&str>) -> Self {
        let descriptor = |debit: &Debit| {
            let mut descriptor = Descriptor::of(charge, debit);
            let reserves = reservation.filter(|_| debit.allowance.is_reserved());
            let reserves = reserves.map(|name| (RESERVES_KEY.to_owned(), name.to_owned()));
            descriptor.entries.extend(reserves);
            descriptor
        };
        Self {
            domain: domain.to_owned(),
            descriptors: charge.debits.iter().map(descriptor).collect(),
            // A server that reads no descriptor's own amount takes the largest from each.
            hits: charge
                .debits
                .iter()
                .map(|debit| debit.amount)
                .max()
                .unwrap_or(0),
        }
    }

    /// That so many units were used of what a charge has reserved; `None` if that is all of it, and no more.
    pub fn settling(domain: &str, charge: &Charge, reservation: &str, used: u64) -> Option<Self> {
        let settles = |debit: &&Debit| debit.allowance.is_reserved() && debit.amount != used;
        let descriptor = |debit: &Debit| {
            let mut descriptor = Descriptor::of(charge, debit);
            let entries = [
                (SETTLES_KEY.to_owned(), reservation.to_owned()),
                (USED_KEY.to_owned(), used.to_string()),
            ];
            descriptor.entries.extend(entries);
            descriptor
        };
        let descriptors: Vec<_> = charge
            .debits
            .iter()
            .filter(settles)
            .map(descriptor)
            .collect();
        (!descriptors.is_empty()).then(|| Self {
            domain: domain.to_owned(),
            descriptors,
            hits: 0,
        })
    }
}

/// Whether a text may be a reservation's name: part of a key in Redis.
pub fn is_reservation(text: &str) -> bool {
    (1..=MAX_RESERVATION_BYTES).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Answer {
    /// What a charge came to as a service of our own tells it.
    pub fn of(debits: &[Debit], outcome: &ChargeOutcome) -> Option<Self> {
        let (code, levels) = match outcome {
            ChargeOutcome::Spent(levels) => (Code::Ok, levels),
            ChargeOutcome::Refused(levels) => (Code::OverLimit, levels),
            ChargeOutcome::Failed | ChargeOutcome::Later => return None,
        };
        let status = |(debit, level): (&Debit, &Level)| Status {
            code: if level.wait == Wait::None {
                Code::Ok
            } else {
                Code::OverLimit
            },
            limit: Some(told(debit)),
            left: u32::try_from(level.left).unwrap_or(u32::MAX),
            reset_ns: Some(match level.wait {
                Wait::None => level.full_after_ns,
                Wait::Ns(wait) => wait,
                Wait::Forever => u64::MAX,
            }),
        };
        (levels.len() == debits.len()).then(|| Self {
            code,
            statuses: debits.iter().zip(levels).map(status).collect(),
        })
    }

    /// What it says of a charge; the cause where it says nothing that can be believed.
    ///
    /// # Errors
    /// It does not answer the question.
    pub fn outcome(&self, debits: &[Debit]) -> Result<ChargeOutcome, &'static str> {
        let over = |status: &Status| status.code == Code::OverLimit;
        let told = !self.statuses.is_empty();
        if told && self.statuses.len() != debits.len() {
            return Err("it answers another number of limits than were asked");
        }
        let refused = match self.code {
            Code::Ok if self.statuses.iter().any(over) => {
                return Err("it lets pass what one of its limits refuses");
            }
            Code::OverLimit if told && !self.statuses.iter().any(over) => {
                return Err("it refuses what each of its limits lets pass");
            }
            Code::Ok => false,
            Code::OverLimit => true,
            Code::Unknown => return Err("it comes to no verdict"),
        };
        match (told, refused) {
            (false, true) => return Ok(ChargeOutcome::Refused(vec![UNTOLD; debits.len()])),
            (false, false) => return Err("it does not say which limits it has held it against"),
            (true, _) => {}
        }
        for (status, debit) in self.statuses.iter().zip(debits) {
            let limit = status.limit.ok_or("it knows no such limit")?;
            if !limit.is_within(debit) {
                return Err("it counts by another limit, which lets more pass");
            }
        }
        let levels = self
            .statuses
            .iter()
            .zip(debits)
            .map(|(status, debit)| level(status, debit))
            .collect();
        Ok(if refused {
            ChargeOutcome::Refused(levels)
        } else {
            ChargeOutcome::Spent(levels)
        })
    }
}

/// What is known of a limit that refuses and says no more.
const UNTOLD: Level = Level {
    left: 0,
    full_after_ns: UNTOLD_WAIT_NS,
    wait: Wait::Ns(UNTOLD_WAIT_NS),
};

fn level(status: &Status, debit: &Debit) -> Level {
    let over = status.code == Code::OverLimit;
    let reset_ns = status.reset_ns.unwrap_or(UNTOLD_WAIT_NS);
    Level {
        left: u64::from(status.left).min(debit.allowance.quota()),
        full_after_ns: reset_ns,
        wait: if over {
            Wait::Ns(reset_ns.max(1))
        } else {
            Wait::None
        },
    }
}

/// A limit as answers tell it: beyond what the protocol can say, the most that it can.
fn told(debit: &Debit) -> Told {
    let allowance = &debit.allowance;
    let quota = allowance.quota().min(u64::from(u32::MAX));
    let window_s = match allowance.limit {
        Limit::Window(rate) => rate.window_s(),
        Limit::Day(_) => allowance.window_s(),
    };
    Told::of(quota, window_s).unwrap_or_default()
}
