//! The columns in the policy, and the encoding of values.

use serde::Deserialize;
use tensorgate_handler::Error;

/// The most columns of a table, and values of a category.
const MAX_COLUMNS: usize = 4096;
/// The most numbers of a row.
const MAX_WIDTH: usize = 65_536;

/// The model's columns, in its order.
#[derive(Debug)]
pub struct Columns {
    columns: Vec<Column>,
    width: usize,
}

/// A column in the policy. Exactly one of the two kinds is set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spelled {
    name: String,
    number: Option<Number>,
    category: Option<Category>,
}

#[derive(Debug)]
struct Column {
    name: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Number(Number),
    Category(Category),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Number {
    #[serde(default)]
    mean: f64,
    #[serde(default = "one")]
    scale: f64,
    missing: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Category {
    values: Vec<String>,
    #[serde(default)]
    unknown: Unknown,
    missing: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unknown {
    #[default]
    Refuse,
    Zeros,
}

const fn one() -> f64 {
    1.0
}

/// The value of a row in a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Absent, or `null`.
    Missing,
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

impl Columns {
    /// Parses the policy's columns.
    ///
    /// # Errors
    /// A fault if it is not such a list, or exceeds the bounds.
    pub fn read(text: &str) -> Result<Self, Error> {
        let fault = |cause: String| Error::fault(format!("config columns: {cause}"));
        let spelled: Vec<Spelled> =
            serde_json::from_str(text).map_err(|error| fault(error.to_string()))?;
        let columns: Result<Vec<Column>, Error> = spelled
            .into_iter()
            .map(
                |Spelled {
                     name,
                     number,
                     category,
                 }| {
                    let kind = match (number, category) {
                        (Some(number), None) => Kind::Number(number),
                        (None, Some(category)) => Kind::Category(category),
                        _ => return Err(fault(format!("{name:?} is a number or a category"))),
                    };
                    Ok(Column { name, kind })
                },
            )
            .collect();
        let columns = columns?;
        if columns.is_empty() || columns.len() > MAX_COLUMNS {
            return Err(fault(format!("1 to {MAX_COLUMNS} columns")));
        }
        let mut width = 0_usize;
        let mut names = std::collections::BTreeSet::new();
        for column in &columns {
            if !names.insert(column.name.as_str()) {
                return Err(fault(format!("{:?} stands twice", column.name)));
            }
            width = width.saturating_add(column.kind.width());
            match &column.kind {
                Kind::Number(number) => {
                    let all = [number.mean, number.scale, number.missing.unwrap_or(0.0)];
                    if number.scale == 0.0 || all.iter().any(|value| !value.is_finite()) {
                        return Err(fault(format!("{:?} has no such scale", column.name)));
                    }
                }
                Kind::Category(category) => {
                    if category.values.is_empty() {
                        return Err(fault(format!("{:?} has no values", column.name)));
                    }
                }
            }
        }
        if width > MAX_WIDTH {
            return Err(fault(format!("{width} numbers a row are too many")));
        }
        Ok(Self { columns, width })
    }

    /// Numbers of one row.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// A row of missing values.
    #[must_use]
    pub fn empty_row(&self) -> Vec<Value> {
        vec![Value::Missing; self.columns.len()]
    }

    /// The index of a column.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Appends the numbers of a row.
    ///
    /// # Errors
    /// Bad input if a value has another kind than its column, is unknown, is missing without a
    /// default, or does not fit FP32.
    pub fn append(&self, row: &[Value], features: &mut Vec<f32>) -> Result<(), Error> {
        for (column, value) in self.columns.iter().zip(row) {
            let bad = |what: &str| Error::bad_input(format!("{:?} {what}", column.name));
            match (&column.kind, value) {
                (Kind::Number(number), Value::Number(value)) => {
                    features.push(number.feature(*value).ok_or_else(|| bad("is too large"))?);
                }
                (Kind::Number(number), Value::Missing) => {
                    let value = number.missing.ok_or_else(|| bad("is missing"))?;
                    features.push(number.feature(value).ok_or_else(|| bad("is too large"))?);
                }
                (Kind::Category(category), Value::Text(value)) => {
                    category.append(value, features, &bad)?;
                }
                (Kind::Category(category), Value::Missing) => {
                    let value = category.missing.as_ref();
                    let value = value.ok_or_else(|| bad("is missing"))?;
                    category.append(value, features, &bad)?;
                }
                (Kind::Number(_), Value::Text(_)) => return Err(bad("is a text, not a number")),
                (Kind::Category(_), Value::Number(_)) => {
                    return Err(bad("is a number, not a text"));
                }
            }
        }
        Ok(())
    }
}

impl Kind {
    fn width(&self) -> usize {
        match self {
            Self::Number(_) => 1,
            Self::Category(category) => category.values.len(),
        }
    }
}

impl Number {
    /// In double precision, as in scikit-learn, and rounded once at the end.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what is beyond FP32 becomes infinite, and is refused"
    )]
    fn feature(&self, value: f64) -> Option<f32> {
        let feature = ((value - self.mean) / self.scale) as f32;
        feature.is_finite().then_some(feature)
    }
}

impl Category {
    fn append(
        &self,
        value: &str,
        features: &mut Vec<f32>,
        bad: &dyn Fn(&str) -> Error,
    ) -> Result<(), Error> {
        let mut known = false;
        for one in &self.values {
            let hit = one == value;
            known |= hit;
            features.push(if hit { 1.0 } else { 0.0 });
        }
        match self.unknown {
            Unknown::Refuse if !known => Err(bad("has a value that the model does not know")),
            _ => Ok(()),
        }
    }
}
