//! Lists of numbers that are only checked: each verdict is that of the converted list.

use serde_json::json;
use tensorgate_policy::contract::{TensorRule, check_tensors};
use tensorgate_policy::decision::BodyFormat::OipJson;
use tensorgate_policy::decision::ReadBy;
use tensorgate_policy::{Denial, Reason, TensorData};

use super::common::{Random, rules_of};

/// What a body is read to: the bytes of its tensors in raw form, and the value faults that a shadow
/// mode lets pass.
type Verdict = Result<(usize, Vec<String>), (Reason, Option<String>, String)>;

/// The verdict on a body, and how many of its tensors were only checked.
fn verdict(body: &str, by: ReadBy<'_>, is_shadow: bool) -> (Verdict, usize) {
    let summary = |denial: Denial| (denial.reason, denial.field, denial.cause);
    let request = match tensorgate_wire::decode(OipJson, body.as_bytes(), by) {
        Ok(request) => request,
        Err(denial) => return (Err(summary(denial)), 0),
    };
    let data: Vec<_> = request
        .inputs
        .iter()
        .flat_map(|input| &input.data)
        .collect();
    let is_checked = |data: &&&TensorData<'_>| matches!(data, TensorData::Checked(_));
    let checked = data.iter().filter(is_checked).count();
    let mut passing = Vec::new();
    let verdict = check_tensors(by.inputs, &request.inputs, &mut |denial| {
        if !is_shadow {
            return Err(denial);
        }
        passing.push(denial.cause);
        Ok(())
    });
    let bytes = data.iter().map(|data| data.raw_bytes()).sum();
    (verdict.map(|()| (bytes, passing)).map_err(summary), checked)
}

/// Both verdicts of a list, which must be one. Whether the list was only checked.
fn is_checked(rule: &TensorRule, shape: &str, list: &str) -> bool {
    let body = format!(
        r#"{{"inputs":[{{"name":"{}","datatype":"{}","shape":{shape},"data":{list}}}]}}"#,
        rule.name(),
        rule.datatype()
    );
    let by = ReadBy::from(std::slice::from_ref(rule));
    let checked = [false, true].map(|is_shadow| {
        let (ours, checked) = verdict(&body, by.for_check(), is_shadow);
        assert_eq!(ours, verdict(&body, by, is_shadow).0, "{body}");
        checked
    });
    checked == [1, 1]
}

/// A rule for each datatype of numbers, with ranges and without.
fn all_rules() -> Vec<TensorRule> {
    let mut inputs = Vec::new();
    for datatype in [
        "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64",
    ] {
        for range in [
            None,
            Some(json!([0, 1])),
            Some(json!([0, 16])),
            Some(json!([-4, 4])),
            Some(json!([-2.5, 3.5])),
            Some(json!([-1, 120])),
            Some(json!([1, 100])),
        ] {
            let name = format!("x{}", inputs.len());
            let mut input =
                json!({"name": name, "datatype": datatype, "shape": [{"max": 100_000}]});
            if let Some(range) = range {
                input["range"] = range;
            }
            inputs.push(input);
        }
    }
    rules_of(&inputs)
}

fn has_vectors() -> bool {
    cfg!(target_arch = "aarch64") || {
        #[cfg(target_arch = "x86_64")]
        let has_avx2 = std::is_x86_feature_detected!("avx2");
        #[cfg(not(target_arch = "x86_64"))]
        let has_avx2 = false;
        has_avx2
    }
}

#[test]
fn a_list_that_is_only_checked_has_the_verdict_of_a_converted_one() {
    let lists = [
        "[]",
        "[1]",
        "[0,1]",
        "[0.5,1.0]",
        "[0.5,1.00]",
        "[1.5,-1.5]",
        "[4,-4]",
        "[4.0,-4.0]",
        "[4.1]",
        "[-4.1]",
        "[3.5]",
        "[-2.5,3.5]",
        "[-2.6,3.6]",
        "[-0,0]",
        "[-0.0]",
        "[01]",
        "[1.]",
        "[.5]",
        "[+1]",
        "[1,,2]",
        "[1,2",
        "[1 2]",
        "[1,2]]",
        "[1e2]",
        "[1e-5,0.5]",
        "[1e999]",
        "[127,128,-128,-129]",
        "[255,256]",
        "[65535,65536]",
        "[2147483647,2147483648,-2147483648,-2147483649]",
        "[4294967295,4294967296]",
        "[9223372036854775807,-9223372036854775808]",
        "[9223372036854775808]",
        "[18446744073709551615]",
        "[18446744073709551616]",
        "[16777217.000000001]",
        "[0.99999999999]",
        "[3.99999999999]",
        "[-3.99999999999]",
        "[1.00000000000000000000000001]",
        "[NaN]",
        "[null]",
        "[true]",
        "[\"1\"]",
        "[[1]]",
        "[[1],[2]]",
        "[1,\n 2,\n 3]",
        "[1 ,2]",
        "[{}]",
        "{}",
        "1",
    ];
    for rule in all_rules() {
        for list in lists {
            for shape in ["[0]", "[1]", "[2]", "[3]", "[1,1]", "[2,1]"] {
                is_checked(&rule, shape, list);
            }
            // Behind many numbers that the rule allows, before them, and among them.
            if let Some(inner) = list
                .strip_prefix('[')
                .and_then(|list| list.strip_suffix(']'))
            {
                let ones = "1,".repeat(100);
                let shape = format!("[{}]", 100 + inner.split(',').count());
                is_checked(&rule, &shape, &format!("[{ones}{inner}]"));
                is_checked(&rule, &shape, &format!("[{inner},{}1]", "1,".repeat(99)));
            }
        }
    }
}

#[test]
fn random_lists_have_the_verdict_of_converted_ones() {
    let mut random = Random::new(5);
    let rules = all_rules();
    for _ in 0..4000 {
        let rule = &rules[random.below(rules.len())];
        let (digits, fraction) = (1 + random.below(4), random.below(20));
        let count = 1 + random.below(200);
        let mut list = String::from("[");
        for at in 0..count {
            let separator = [",", ",", ",", ", ", ",\n  "][random.below(5)];
            list.push_str(if at == 0 { "" } else { separator });
            list.push_str(if random.below(6) == 0 { "-" } else { "" });
            let digits = 10_u64.pow(1 + random.below(digits) as u32);
            list.push_str(&(random.next() % digits).to_string());
            if fraction > 0 && random.below(8) > 0 {
                let digits = 10_u64.pow(fraction as u32);
                list.push_str(&format!(".{:0fraction$}", random.next() % digits));
            }
            list.push_str(
                ["", "", "", "e1", "e-3"][random.below(5).saturating_sub(random.below(90))],
            );
        }
        list.push(']');
        is_checked(rule, &format!("[{count}]"), &list);
    }
}

#[test]
fn usual_lists_are_only_checked() {
    if !has_vectors() {
        return;
    }
    let rules = rules_of(&[
        json!({"name": "unit", "datatype": "FP32", "shape": [200], "range": [0, 1]}),
        json!({"name": "any", "datatype": "FP64", "shape": [200]}),
        json!({"name": "normal", "datatype": "FP32", "shape": [10, 20], "range": [-3, 3]}),
        json!({"name": "pixels", "datatype": "UINT8", "shape": [200]}),
        json!({"name": "tokens", "datatype": "INT64", "shape": [200], "range": [0, 50256]}),
        json!({"name": "counted", "datatype": "UINT8", "shape": [200], "min_distinct": 2}),
    ]);
    let list = |number: &dyn Fn(usize) -> String| {
        let numbers: Vec<String> = (0..200).map(number).collect();
        format!("[{}]", numbers.join(", "))
    };
    let tenths = list(&|at| format!("{:.1}", (at % 11) as f64 / 10.0));
    assert!(is_checked(&rules[0], "[200]", &tenths));
    let doubles = list(&|at| format!("{}", 1.0 / (at as f64 - 99.5)));
    assert!(is_checked(&rules[1], "[200]", &doubles));
    let exponents = list(&|at| format!("1.{at}e-{}", at % 30));
    assert!(
        !is_checked(&rules[1], "[200]", &exponents),
        "parsed one by one"
    );
    let lines = list(&|at| format!("\r\n  {at}"));
    assert!(is_checked(&rules[3], "[200]", &lines));
    let rows = list(&|at| {
        let (open, close) = (at % 20 == 0, at % 20 == 19);
        let number = (at % 59) as f64 / 10.0 - 2.9;
        format!(
            "{}{number:.2}{}",
            if open { "[" } else { "" },
            if close { "]" } else { "" }
        )
    });
    assert!(is_checked(&rules[2], "[10,20]", &rows));
    let pixels = list(&|at| (at + 56).to_string());
    assert!(is_checked(&rules[3], "[200]", &pixels));
    assert!(is_checked(
        &rules[4],
        "[200]",
        &list(&|at| (at * 251).to_string())
    ));
    assert!(
        !is_checked(&rules[5], "[200]", &pixels),
        "needs the elements"
    );
    // Before its datatype and shape, or without its name, a list is converted.
    let body = format!(
        r#"{{"inputs":[{{"data":{pixels},"name":"pixels","datatype":"UINT8","shape":[200]}}]}}"#
    );
    let by = ReadBy::from(&rules[3..4]).for_check();
    assert_eq!(verdict(&body, by, false), (Ok((200, Vec::new())), 0));
}

#[test]
fn a_list_that_would_be_read_in_short_runs_is_converted() {
    if !has_vectors() {
        return;
    }
    let rules = rules_of(&[
        json!({"name": "images", "datatype": "UINT8", "shape": [200, 28]}),
        json!({"name": "pairs", "datatype": "UINT8", "shape": [200, 2]}),
        json!({"name": "any", "datatype": "FP64", "shape": [200]}),
    ]);
    let rows = |columns: usize| {
        let row = format!("[{}]", vec!["255"; columns].join(", "));
        format!("[{}]", vec![row; 200].join(", "))
    };
    assert!(is_checked(&rules[0], "[200,28]", &rows(28)));
    assert!(!is_checked(&rules[1], "[200,2]", &rows(2)));
    // One number of many digits, which are zeros except for one, and which are not.
    let numbers = |first: &str| format!("[{first}{}1{}]", "0".repeat(40), ",1".repeat(199));
    assert!(is_checked(&rules[2], "[200]", &numbers("0.")));
    assert!(!is_checked(&rules[2], "[200]", &numbers("1.")));
}

#[test]
fn elements_that_were_checked_against_another_rule_are_refused() {
    if !has_vectors() {
        return;
    }
    let rule = |range| {
        rules_of(&[json!({"name": "x", "datatype": "FP32", "shape": [40], "range": range})])
    };
    let (wide, narrow) = (rule(json!([0, 100])), rule(json!([0, 10])));
    let list = vec!["50.0"; 40].join(",");
    let body =
        format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[40],"data":[{list}]}}]}}"#);
    let by = ReadBy::from(&wide).for_check();
    let request = tensorgate_wire::decode(OipJson, body.as_bytes(), by).unwrap();
    assert!(matches!(request.inputs[0].data, Ok(TensorData::Checked(_))));
    assert_eq!(check_tensors(&wide, &request.inputs, &mut Err), Ok(()));
    let denial = check_tensors(&narrow, &request.inputs, &mut |_| Ok(())).unwrap_err();
    assert_eq!(denial.reason, Reason::OutOfRange);
}
