//! Random contracts, requests that satisfy them, and requests that break them in one respect.

use crate::Taken;
use serde_json::{Value, json};
use tensorgate_policy::Datatype;

use super::{Random, files};

/// A rule of the contract under test, and what is needed to generate values for it.
pub struct Rule {
    pub name: String,
    pub datatype: Datatype,
    /// The most elements of each dim; the first may vary from 0.
    shape: Vec<usize>,
    range: Option<(i64, i64)>,
    further: Further,
    /// May be left out.
    optional: bool,
    /// Its first dim is named, and the same in every input with that name.
    named: bool,
}

/// A rule beyond its range and the length of its items.
#[derive(Clone, Debug, PartialEq)]
pub enum Further {
    Nothing,
    /// A range for each index of the last dim.
    Channels(Vec<(i64, i64)>),
    /// Only these values.
    Allowed,
    /// At least two different values.
    Distinct,
    /// At least half of the values not zero.
    Zeros,
    /// At least two bytes.
    Least,
    /// Text that matches a pattern.
    Pattern,
    /// These texts.
    Listed,
    /// A URL.
    Url,
    /// No magnitude beyond [`GREATEST`].
    Magnitude,
    /// A picture or a recording.
    Media,
}

/// Numbers of a list, texts of a list, and texts that match a pattern.
const ALLOWED: [i64; 4] = [0, 1, 3, 100];
const LISTED: [&str; 3] = ["a", "\u{e9}\"", ""];
const MATCHING: [&str; 4] = ["a", "b\u{e9}", "ab", "\u{e9}"];
const URLS: [&str; 2] = ["https://a.example.com/x", "https://b.c.example.com:443"];

/// The greatest magnitude that is allowed.
const GREATEST: i64 = 40;
/// The last token of a vocabulary.
const LAST_TOKEN: i64 = 50_256;

/// Elements of a long list. Floats with as many digits as the longest integers would not fit so
/// often.
const LONG_LIST: usize = 2_000;

impl Rule {
    /// Bytes of an item.
    fn item_bytes(&self) -> usize {
        match self.further {
            Further::Media => files::MAX_BYTES,
            Further::Url => 40,
            _ => 6,
        }
    }

    /// What a request's spelling depends on.
    pub fn taken(&self) -> Taken {
        Taken {
            name: self.name.clone(),
            datatype: self.datatype.name().to_owned(),
            rank: self.shape.len(),
        }
    }

    /// The kinds of rule that it has.
    pub fn kinds(&self) -> Vec<String> {
        let further = format!("{:?}", self.further);
        let further = further.split('(').next().unwrap_or_default().to_owned();
        let tokens = self.range.is_some_and(|(_, most)| most == LAST_TOKEN);
        let rest = [
            (self.optional, "optional"),
            (self.named, "named"),
            (tokens, "tokens"),
            (self.range.is_some(), "range"),
        ];
        let rest = rest.into_iter().filter(|(has, _)| *has);
        rest.map(|(_, kind)| kind.to_owned())
            .chain([further])
            .collect()
    }

    /// Its input, as a policy has it.
    pub fn input(&self) -> Value {
        let mut shape: Vec<Value> = self.shape.iter().map(|dim| json!(dim)).collect();
        shape[0] = json!({"min": 0, "max": self.shape[0]});
        if self.named {
            shape[0]["name"] = json!("n");
        }
        let mut input =
            json!({"name": self.name, "datatype": self.datatype.name(), "shape": shape});
        if let Some((least, most)) = self.range {
            input["range"] = json!([least, most]);
        }
        if self.optional {
            input["optional"] = json!(true);
        }
        if self.datatype == Datatype::Bytes {
            input["max_item_bytes"] = json!(self.item_bytes());
        }
        let (key, value) = match &self.further {
            Further::Nothing => return input,
            Further::Channels(ranges) => (
                "channel_ranges",
                json!({"axis": self.shape.len() - 1, "ranges": ranges}),
            ),
            Further::Allowed => ("allowed", json!(ALLOWED)),
            Further::Distinct => ("min_distinct", json!(2)),
            Further::Zeros => ("max_zero_fraction", json!(0.5)),
            Further::Least => ("min_item_bytes", json!(2)),
            Further::Pattern => ("pattern", json!("[a-c\u{e9}]{1,3}")),
            Further::Listed => ("allowed", json!(LISTED)),
            Further::Url => (
                "url",
                json!({"hosts": ["a.example.com", "*.c.example.com"]}),
            ),
            Further::Magnitude => ("max_abs", json!(GREATEST)),
            Further::Media => ("media", files::rule()),
        };
        input[key] = value;
        input
    }
}

/// A further rule that fits a datatype, a range and a shape.
fn further(random: &mut Random, datatype: Datatype, ranged: bool, shape: &[usize]) -> Further {
    let elements: usize = shape.iter().product();
    let channels = shape.len() > 1 && !ranged;
    match (datatype, random.below(8)) {
        (Datatype::Bytes, 0) => Further::Least,
        (Datatype::Bytes, 1) => Further::Pattern,
        (Datatype::Bytes, 2) => Further::Listed,
        (Datatype::Bytes, 3) => Further::Url,
        (Datatype::Bytes, 4 | 5) => Further::Media,
        (Datatype::Bytes | Datatype::Bool, _) => Further::Nothing,
        (_, 0 | 1) if channels => {
            let range = |random: &mut Random| {
                let least = random.below(5) as i64;
                (least, least + random.below(20) as i64)
            };
            let count = shape.last().copied().unwrap_or_default();
            Further::Channels((0..count).map(|_| range(random)).collect())
        }
        (_, 2) if !ranged => Further::Allowed,
        (_, 3) if elements > 1 => Further::Distinct,
        (_, 4) => Further::Zeros,
        (_, 5) if !ranged => Further::Magnitude,
        _ => Further::Nothing,
    }
}

pub fn rules(random: &mut Random) -> Vec<Rule> {
    let mut rules: Vec<Rule> = (0..1 + random.below(3))
        .map(|index| rule(random, index))
        .collect();
    // Only an input with a free number of rows can have as many as another.
    let free = |rule: &Rule| rule.further != Further::Distinct && rule.shape[0] < LONG_LIST;
    if rules.len() > 1 && rules.iter().all(free) && random.one_in(3) {
        let most = rules.iter().map(|rule| rule.shape[0]).min();
        for rule in &mut rules {
            rule.shape[0] = most.unwrap_or_default();
            rule.named = true;
        }
    }
    rules
}

fn rule(random: &mut Random, index: usize) -> Rule {
    let datatype = *random.pick(&Datatype::ALL);
    let rank = 1 + random.below(3);
    let signed = !datatype.name().starts_with('U') && datatype != Datatype::Bool;
    let ranged = !matches!(datatype, Datatype::Bytes | Datatype::Bool) && random.one_in(2);
    let tokens = matches!(
        datatype,
        Datatype::Int32 | Datatype::Int64 | Datatype::Uint32
    );
    let range = match tokens && random.one_in(2) {
        true => (0, LAST_TOKEN),
        false => (if signed { -50 } else { 0 }, 100),
    };
    let shape: Vec<usize> = (0..rank).map(|_| 1 + random.below(5)).collect();
    let long = datatype == Datatype::Uint64 && !ranged && random.one_in(8);
    let (shape, further) = match long {
        true => (vec![LONG_LIST], Further::Nothing),
        false => {
            let further = further(random, datatype, ranged, &shape);
            (shape, further)
        }
    };
    Rule {
        name: format!("input-{index}"),
        datatype,
        shape,
        range: ranged.then_some(range),
        further,
        optional: index > 0 && random.one_in(3),
        named: false,
    }
}

/// A scalar that a rule allows at an index.
fn scalar(random: &mut Random, rule: &Rule, index: usize) -> Value {
    match &rule.further {
        Further::Channels(ranges) => {
            let (least, most) = ranges[index % ranges.len()];
            return json!(least + random.below((most - least + 1) as usize) as i64);
        }
        Further::Allowed => return json!(random.pick(&ALLOWED)),
        Further::Distinct => return json!(index % 2 + random.below(2) * 2),
        Further::Zeros => return json!((index + 1) % 2 + random.below(2)),
        Further::Least => return json!(*random.pick(&["ab", "\u{e9}", "abcdef"])),
        Further::Pattern => return json!(*random.pick(&MATCHING)),
        Further::Listed => return json!(*random.pick(&LISTED)),
        Further::Url => return json!(*random.pick(&URLS)),
        Further::Media => return files::good(random),
        Further::Magnitude => {
            let least = if rule.datatype.name().starts_with('U') {
                0
            } else {
                -GREATEST
            };
            return json!(least + random.below((GREATEST - least + 1) as usize) as i64);
        }
        Further::Nothing => {}
    }
    let (least, most) = rule.range.unwrap_or(match rule.datatype {
        Datatype::Int8 => (-128, 127),
        Datatype::Uint8 => (0, 255),
        Datatype::Uint16 | Datatype::Uint32 | Datatype::Uint64 => (0, 65_535),
        _ => (-3_000, 3_000),
    });
    match rule.datatype {
        Datatype::Bool => json!(random.one_in(2)),
        // Twenty digits, as a hash has.
        Datatype::Uint64 if rule.range.is_none() && random.below(8) != 0 => {
            json!(u64::MAX - random.below(1 << 20) as u64)
        }
        Datatype::Bytes => json!(
            "é\"x0\u{1}~"
                .chars()
                .take(random.below(6))
                .collect::<String>()
        ),
        // Small halves are exact in every float datatype.
        float if float.is_float() => {
            let halves = least.max(-60) * 2
                + random.below(((most.min(60) - least.max(-60)) * 2 + 1) as usize) as i64;
            json!(halves as f64 / 2.0)
        }
        _ => json!(least + random.below((most - least + 1) as usize) as i64),
    }
}

fn tensor(random: &mut Random, rule: &Rule, shape: &[usize]) -> Value {
    let count = shape.iter().product();
    let data: Vec<Value> = (0..count)
        .map(|index| scalar(random, rule, index))
        .collect();
    json!({"name": rule.name, "datatype": rule.datatype.name(), "shape": shape, "data": data})
}

pub fn request(random: &mut Random, rules: &[Rule]) -> Value {
    let rows = random.below(rules[0].shape[0] + 1);
    let inputs: Vec<Value> = rules
        .iter()
        .filter_map(|rule| {
            if rule.optional && random.one_in(2) {
                return None;
            }
            let mut shape = rule.shape.clone();
            if rule.named {
                shape[0] = rows;
            } else if rule.further != Further::Distinct {
                // An input that must have two values or more keeps its full shape.
                shape[0] = random.below(rule.shape[0] + 1);
            }
            Some(tensor(random, rule, &shape))
        })
        .collect();
    let mut request = json!({"model": "m", "inputs": inputs});
    if random.one_in(3) {
        request["parameters"] = json!({"priority": random.below(11)});
    }
    if random.one_in(3) {
        request["outputs"] = json!(["y"]);
    }
    request
}

/// Breaks a request in one respect; returns which, if any was possible.
pub fn spoil(random: &mut Random, rules: &[Rule], request: &mut Value) -> Option<&'static str> {
    let rule = random.pick(rules);
    let kind = random.below(14);
    let sent = request["inputs"].as_array().unwrap();
    let count = sent.len();
    let at = sent
        .iter()
        .position(|input| input["name"] == rule.name.as_str())?;
    let input = &mut request["inputs"][at];
    let elements = input["data"].as_array().unwrap().len();
    match kind {
        0 if elements > 0 && rule.range.is_some() => {
            let value = match rule.range {
                _ if rule.datatype.is_float() => json!(120.0),
                Some((_, most)) => json!(most + 1),
                None => return None,
            };
            input["data"][random.below(elements)] = value;
            Some("a value out of range")
        }
        1 if elements > 0 && rule.datatype.is_float() => {
            let value = *random.pick(&["NaN", "Infinity", "-Infinity"]);
            input["data"][random.below(elements)] = json!(value);
            Some("a value that is not finite")
        }
        2 if elements > 0 && rule.datatype == Datatype::Bytes => {
            let long = "7".repeat(rule.item_bytes() + 1);
            input["data"][random.below(elements)] = json!(long);
            Some("an item too long")
        }
        3 => {
            let dim = random.below(rule.shape.len());
            input["shape"][dim] = json!(rule.shape[dim] + 1);
            Some("a dim too large")
        }
        4 => {
            input["shape"].as_array_mut().unwrap().push(json!(1));
            Some("another rank")
        }
        5 => {
            input["shape"][0] = json!(-1);
            Some("a negative dim")
        }
        6 if elements > 0 => {
            input["data"].as_array_mut().unwrap().pop();
            Some("an element missing")
        }
        7 => {
            input["name"] = json!("other");
            Some("an unknown input")
        }
        8 => {
            let twin = input.clone();
            request["inputs"].as_array_mut().unwrap().push(twin);
            Some("an input twice")
        }
        9 if !rule.optional => {
            request["inputs"].as_array_mut().unwrap().remove(at);
            Some("an input missing")
        }
        10 => {
            if random.one_in(2) {
                request["parameters"] = json!({"priority": 11});
            } else {
                request["outputs"] = json!(["x"]);
            }
            Some("a parameter or an output that is not allowed")
        }
        13 if rule.named && count > 1 => {
            let rows = input["shape"][0].as_u64().unwrap() as usize;
            let mut shape = rule.shape.clone();
            // Another number of rows that each input alone may have.
            shape[0] = (0..=rule.shape[0]).find(|other| *other != rows)?;
            *input = tensor(random, rule, &shape);
            Some("named dims that differ")
        }
        11 | 12 if elements > 0 => {
            let one = random.below(elements);
            let (place, value) = match rule.further {
                Further::Nothing => return None,
                Further::Channels(_) => (one..one + 1, json!(99)),
                Further::Allowed => (one..one + 1, json!(2)),
                Further::Distinct => (0..elements, json!(1)),
                Further::Zeros => (0..elements, json!(0)),
                Further::Least => (one..one + 1, json!("a")),
                Further::Pattern => (one..one + 1, json!("a#")),
                Further::Listed => (one..one + 1, json!("b")),
                Further::Url => (one..one + 1, json!("https://a.example.com@b")),
                Further::Magnitude => (one..one + 1, json!(GREATEST + 1)),
                Further::Media => (one..one + 1, files::bad(random)),
            };
            for index in place {
                input["data"][index] = value.clone();
            }
            Some("a further rule broken")
        }
        _ => None,
    }
}
