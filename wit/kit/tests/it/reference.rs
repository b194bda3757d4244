//! Compares the kit with numpy and Pillow on small arrays, images and sounds (`reference.json`,
//! which `make-reference.py` generates).

use serde_json::Value;
use tensorgate_kit::{
    Array, Channels, Datatype, Failure, Filter, Function, Operator, Reduction, Span, arithmetic,
    boxes, decode_image, decode_wav, moves, planes, reduce, resize, unary,
};

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn datatype(name: &str) -> Datatype {
    match name {
        "BOOL" => Datatype::Bool,
        "UINT8" => Datatype::Uint8,
        "UINT16" => Datatype::Uint16,
        "UINT32" => Datatype::Uint32,
        "UINT64" => Datatype::Uint64,
        "INT8" => Datatype::Int8,
        "INT16" => Datatype::Int16,
        "INT32" => Datatype::Int32,
        "INT64" => Datatype::Int64,
        "FP32" => Datatype::Fp32,
        "FP64" => Datatype::Fp64,
        other => panic!("{other}"),
    }
}

fn sizes(list: &Value) -> Vec<usize> {
    let list = list.as_array().unwrap();
    list.iter()
        .map(|each| each.as_u64().unwrap() as usize)
        .collect()
}

fn singles(list: &Value) -> Vec<f32> {
    let list = list.as_array().unwrap();
    list.iter()
        .map(|each| each.as_f64().unwrap() as f32)
        .collect()
}

fn array(value: &Value) -> Array {
    let kind = datatype(value["datatype"].as_str().unwrap());
    let data = hex(value["hex"].as_str().unwrap());
    Array::from_bytes(kind, &sizes(&value["shape"]), &data).unwrap()
}

fn operator(name: &str) -> Operator {
    match name {
        "add" => Operator::Add,
        "subtract" => Operator::Subtract,
        "multiply" => Operator::Multiply,
        "divide" => Operator::Divide,
        "floor-divide" => Operator::FloorDivide,
        "remainder" => Operator::Remainder,
        "minimum" => Operator::Minimum,
        "maximum" => Operator::Maximum,
        "equal" => Operator::Equal,
        "not-equal" => Operator::NotEqual,
        "less" => Operator::Less,
        "less-equal" => Operator::LessEqual,
        "greater" => Operator::Greater,
        "greater-equal" => Operator::GreaterEqual,
        other => panic!("{other}"),
    }
}

fn function(name: &str) -> Function {
    match name {
        "negative" => Function::Negative,
        "absolute" => Function::Absolute,
        "exp" => Function::Exp,
        "sqrt" => Function::Sqrt,
        "tanh" => Function::Tanh,
        "floor" => Function::Floor,
        "ceil" => Function::Ceil,
        "round" => Function::Round,
        other => panic!("{other}"),
    }
}

fn reduction(name: &str) -> Reduction {
    match name {
        "sum" => Reduction::Sum,
        "mean" => Reduction::Mean,
        "minimum" => Reduction::Minimum,
        "maximum" => Reduction::Maximum,
        "argmax" => Reduction::Argmax,
        "argmin" => Reduction::Argmin,
        other => panic!("{other}"),
    }
}

fn moved(call: &str, with: &Value, first: &Array) -> Result<Array, Failure> {
    let size = |key: &str| with[key].as_u64().unwrap() as usize;
    let number = |key: &str| with[key].as_f64().unwrap();
    match call {
        "transpose" => moves::transpose(first, &sizes(&with["axes"])),
        "slice" => {
            let spans = with["spans"].as_array().unwrap().iter().map(|span| Span {
                start: span[0].as_u64().unwrap() as usize,
                count: span[1].as_u64().unwrap() as usize,
                step: span[2].as_i64().unwrap() as isize,
            });
            moves::slice(first, &spans.collect::<Vec<_>>())
        }
        "gather" => moves::gather(first, size("axis"), &sizes(&with["indices"])),
        "pad" => moves::pad(
            first,
            &sizes(&with["before"]),
            &sizes(&with["after"]),
            number("value"),
        ),
        "fit" => moves::fit(first, size("axis"), size("length"), number("value")),
        "resize" => {
            let filter = match with["filter"].as_str().unwrap() {
                "nearest" => Filter::Nearest,
                "bilinear" => Filter::Bilinear,
                _ => Filter::Antialias,
            };
            resize::resize(first, 0, size("height"), size("width"), filter)
        }
        other => panic!("{other}"),
    }
}

/// The kit's results for a case.
fn made(case: &Value) -> Result<Vec<Array>, Failure> {
    let with = &case["arguments"];
    let given: Vec<Array> = case["given"]
        .as_array()
        .unwrap()
        .iter()
        .map(array)
        .collect();
    let text = |key: &str| with[key].as_str().unwrap();
    let number = |key: &str| with[key].as_f64().unwrap();
    let size = |key: &str| with[key].as_u64().unwrap() as usize;
    let one = match case["call"].as_str().unwrap() {
        "combine" => arithmetic::combine(&given[0], operator(text("operator")), &given[1]),
        "combine_number" => {
            let (number, reversed) = (number("number"), with["reversed"] == true);
            let real = number.fract() != 0.0;
            arithmetic::combine_number(
                &given[0],
                operator(text("operator")),
                number,
                real,
                reversed,
            )
        }
        "apply" => unary::apply(&given[0], function(text("function"))),
        "clip" => arithmetic::clip(&given[0], number("low"), number("high")),
        "concat" => moves::concat(&given.iter().collect::<Vec<_>>(), size("axis")),
        "choose" => moves::choose(&given[0], &given[1], &given[2]),
        "cast" => given[0].cast(datatype(text("datatype"))),
        "reduce" => {
            let axis = with["axis"].as_u64().map(|axis| axis as usize);
            reduce::reduce(&given[0], reduction(text("reduction")), axis, false)
        }
        "softmax" => reduce::softmax(&given[0], size("axis")),
        "top_k" => {
            return reduce::top_k(&given[0], size("k"))
                .map(|(values, places)| vec![values, places]);
        }
        "planes" => {
            let (mean, std) = (singles(&with["mean"]), singles(&with["std"]));
            planes::planes(&given[0], number("scale") as f32, &mean, &std)
        }
        "nms" => {
            let (overlap, least) = (number("overlap") as f32, number("least") as f32);
            boxes::nms(
                &given[0],
                &given[1],
                given.get(2),
                overlap,
                least,
                size("limit"),
            )
        }
        "decode_image" => {
            let channels = match text("channels") {
                "gray" => Channels::Gray,
                "rgb" => Channels::Rgb,
                _ => Channels::Rgba,
            };
            decode_image(&hex(case["file"].as_str().unwrap()), channels, 1 << 20)
        }
        "decode_wav" => {
            let (samples, rate) = decode_wav(&hex(case["file"].as_str().unwrap()), 100)?;
            assert_eq!(u64::from(rate), with["rate"].as_u64().unwrap());
            Ok(samples)
        }
        call => moved(call, with, &given[0]),
    };
    one.map(|array| vec![array])
}

fn numbers(array: &Array) -> Vec<f64> {
    let wide = array.cast(Datatype::Fp64).unwrap();
    let (eights, _) = wide.bytes().as_chunks::<8>();
    eights
        .iter()
        .map(|eight| f64::from_le_bytes(*eight))
        .collect()
}

#[test]
fn what_numpy_and_pillow_make_is_what_the_kit_makes() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../reference.json")).unwrap();
    assert!(cases.len() > 200);
    let mut wrong = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let what = format!("case {at}: {} {}", case["call"], case["arguments"]);
        let expected: Vec<Array> = case["expected"]
            .as_array()
            .unwrap()
            .iter()
            .map(array)
            .collect();
        let found = match made(case) {
            Ok(found) => found,
            Err(failure) => {
                wrong.push(format!("{what}: {failure}"));
                continue;
            }
        };
        let tolerance = case["tolerance"].as_f64().unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            if (found.datatype(), found.shape()) != (expected.datatype(), expected.shape()) {
                let (kind, shape) = (found.datatype(), found.shape());
                wrong.push(format!(
                    "{what}: {kind:?} {shape:?}, not {:?} {:?}",
                    expected.datatype(),
                    expected.shape()
                ));
                continue;
            }
            let pairs = numbers(found).into_iter().zip(numbers(expected));
            let is_byte = expected.datatype() == Datatype::Uint8;
            let far = pairs.enumerate().find(|(_, (a, b))| {
                (a - b).abs() > tolerance * if is_byte { 1.0 } else { b.abs().max(1.0) }
            });
            if let Some((index, (a, b))) = far {
                wrong.push(format!("{what}: {a}, not {b}, at {index}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}
