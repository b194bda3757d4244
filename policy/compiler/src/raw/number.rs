//! Whole numbers with bounds. A field's type has its bounds, its default and its unit, which the
//! schema, the check and the fault's text share.

use core::cmp::Ordering;
use core::fmt;
use core::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tensorgate_policy::report::Path;

use super::ByteSize;

/// A number from `LEAST` to `MOST`, and `DEFAULT` if it is absent. Any number can be read, so that
/// the check reports it with all other faults.
pub struct Number<const LEAST: u64, const MOST: u64, const DEFAULT: u64, U>(
    /// The number, or the default.
    pub u64,
    PhantomData<U>,
);

/// A number without a default, in an `Option`.
pub type Within<const LEAST: u64, const MOST: u64, U> = Number<LEAST, MOST, NO_DEFAULT, U>;

/// In place of a default.
const NO_DEFAULT: u64 = u64::MAX;

/// A unit of numbers in a policy.
pub trait Unit {
    /// Its name in faults.
    const NAME: &str;
    /// How its numbers are written.
    type Written: Serialize + for<'de> Deserialize<'de>;

    /// A number as it is written.
    fn written(number: u64) -> Self::Written;
    /// The number that is written.
    fn number(written: Self::Written) -> u64;
    /// Whether its numbers may be texts with a unit.
    const HAS_TEXTS: bool = false;
}

/// Names units whose numbers are plain.
macro_rules! units {
    ($($(#[$doc:meta])* $unit:ident $name:literal,)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $unit;

            impl Unit for $unit {
                const NAME: &str = $name;
                type Written = u64;

                fn written(number: u64) -> u64 {
                    number
                }

                fn number(written: u64) -> u64 {
                    written
                }
            }
        )*
    };
}

units! {
    /// Messages of an answer.
    Answers "answers",
    /// Captured calls.
    Calls "calls",
    /// Completions of one request.
    Choices "choices",
    /// Connections of clients.
    Connections "connections",
    /// Decimal places.
    Decimals "decimals",
    /// Definitions of a schema.
    Definitions "definitions",
    /// Events that an anomaly rule counts.
    Events "events",
    /// Expanded bytes for each compressed one.
    Expansion "bytes a byte",
    /// Failures in a row.
    Failures "failures",
    /// Header fields.
    Fields "fields",
    /// Files of a log.
    Files "files",
    /// Fuel of a handler.
    FuelUnits "units",
    /// Members of a list.
    Items "items",
    /// Bytes that are written without a unit.
    KeyBytes "bytes",
    /// Levels of nesting.
    Levels "levels",
    /// Milliseconds.
    Milliseconds "ms",
    /// Hundredths.
    Percent "percent",
    /// Proxies in front of the gate.
    Proxies "proxies",
    /// Redirects of a fetch.
    Redirects "redirects",
    /// Repetitions in a schema.
    Repetitions "repetitions",
    /// Requests.
    Requests "requests",
    /// Further attempts of a request.
    Retries "retries",
    /// Scores of an output.
    Scores "scores",
    /// Seconds.
    Seconds "s",
    /// Shares of a weight.
    Shares "",
    /// Counters of users and sources.
    Slots "slots",
    /// Streams of clients.
    Streams "streams",
    /// Texts that end an answer.
    Texts "texts",
    /// Tokens of a model.
    Tokens "tokens",
    /// Values of an enumeration in a schema.
    Values "values",
    /// Size of a schema.
    Weight "schemas and characters",
}

/// Bytes, as a [`ByteSize`].
#[derive(Clone, Copy, Debug)]
pub struct Bytes;

impl Unit for Bytes {
    const NAME: &str = "bytes";
    type Written = ByteSize;
    const HAS_TEXTS: bool = true;

    fn written(number: u64) -> ByteSize {
        ByteSize(number)
    }

    fn number(written: ByteSize) -> u64 {
        written.0
    }
}

impl<const LEAST: u64, const MOST: u64, const DEFAULT: u64, U: Unit>
    Number<LEAST, MOST, DEFAULT, U>
{
    /// Whether it is the default, so that it need not be written.
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT
    }

    /// The number, if it is within its bounds, which fit the type.
    pub(crate) fn check<T: TryFrom<u64>>(self, path: &Path) -> Option<T> {
        path.within(self.0, LEAST, MOST, U::NAME)
    }
}

impl<const LEAST: u64, const MOST: u64, const DEFAULT: u64, U> Default
    for Number<LEAST, MOST, DEFAULT, U>
{
    fn default() -> Self {
        const {
            assert!(
                LEAST <= DEFAULT && DEFAULT <= MOST,
                "a default is within its bounds"
            )
        };
        DEFAULT.into()
    }
}

impl<const LEAST: u64, const MOST: u64, const DEFAULT: u64, U> From<u64>
    for Number<LEAST, MOST, DEFAULT, U>
{
    fn from(number: u64) -> Self {
        Self(number, PhantomData)
    }
}

impl<const LEAST: u64, const MOST: u64, const DEFAULT: u64, U> Clone
    for Number<LEAST, MOST, DEFAULT, U>
{
    fn clone(&self) -> Self {
        *self
    }
}

impl<const LEAST: u64, const MOST: u64, const DEFAULT: u64, U> Copy
    for Number<LEAST, MOST, DEFAULT, U>
{
}

impl<const LEAST: u64, const MOST: u64, const DEFAULT: u64, U> PartialEq
    for Number<LEAST, MOST, DEFAULT, U>
{
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<const LEAST: u64, const MOST: u64, const DEFAULT: u64, U> Eq
    for Number<LEAST, MOST, DEFAULT, U>
{
}

impl<const LEAST: u64, const MOST: u64, const DEFAULT: u64, U> PartialOrd
    for Number<LEAST, MOST, DEFAULT, U>
{
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.0.partial_cmp(&other.0)
    }
}

impl<const LEAST: u64, const MOST: u64, const DEFAULT: u64, U> fmt::Debug
    for Number<LEAST, MOST, DEFAULT, U>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const LEAST: u64, const MOST: u64, const DEFAULT: u64, U: Unit> Serialize
    for Number<LEAST, MOST, DEFAULT, U>
{
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        U::written(self.0).serialize(to)
    }
}

impl<'de, const LEAST: u64, const MOST: u64, const DEFAULT: u64, U: Unit> Deserialize<'de>
    for Number<LEAST, MOST, DEFAULT, U>
{
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = Option::<U::Written>::deserialize(from)?;
        Ok(written.map_or(DEFAULT, U::number).into())
    }
}

#[cfg(feature = "schema")]
impl<const LEAST: u64, const MOST: u64, const DEFAULT: u64, U: Unit> schemars::JsonSchema
    for Number<LEAST, MOST, DEFAULT, U>
{
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{} from {LEAST} to {MOST}", U::NAME).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = schemars::json_schema!({
            "type": ["integer", "null"],
            "minimum": LEAST,
            "maximum": MOST,
        });
        if U::HAS_TEXTS {
            schema = schemars::json_schema!({
                "anyOf": [schema, {"type": "string", "pattern": "^[0-9]+([KMG]iB)?$"}]
            });
        }
        if DEFAULT != NO_DEFAULT {
            schema.insert("default".into(), DEFAULT.into());
        }
        schema
    }
}

#[cfg(test)]
mod tests;
