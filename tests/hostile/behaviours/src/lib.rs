//! A hostile handler. Its config's `behaviour` selects what it does, honest mistakes included.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::string_slice,
    unconditional_panic,
    reason = "what is forbidden elsewhere is what this is for"
)]

use core::hint::black_box;

use tensorgate_handler::{
    Datatype, Error, Payload, Preprocess, Tensor, config, export_preprocess, log,
};

struct Behaviours;

impl Preprocess for Behaviours {
    fn preprocess(_: Payload) -> Result<Vec<Tensor>, Error> {
        let behaviour = config("behaviour").unwrap_or_default();
        let number = match behaviour.as_str() {
            "spin" => spin(),
            "floats" => floats(),
            "recurse" => recurse(1),
            "hoard" => hoard(),
            "leak" => leak(),
            "capacity" => black_box(vec![0_u8; black_box(usize::MAX / 4)]).len(),
            "text" => text(),
            "sort" => sort(),
            "log" => loop {
                log::info("again");
            },
            "log-large" => {
                let line = "x".repeat(8 << 20);
                loop {
                    log::warn(&line);
                }
            }
            "ask" => loop {
                black_box(config("behaviour"));
            },
            "ask-large" => {
                let key = "k".repeat(1 << 20);
                loop {
                    black_box(config(&key));
                }
            }
            "index" => [1_usize, 2][black_box(7)],
            "slice" => black_box("é")
                .get(..1)
                .map_or_else(|| "é"[..black_box(1)].len(), str::len),
            "divide" => 7 / black_box(0),
            "borrow" => {
                let cell = core::cell::RefCell::new(0);
                let held = cell.borrow_mut();
                *cell.borrow_mut() + *held
            }
            "reject" => return Err(Error::bad_input("no good\nERROR forged")),
            "fail" => return Err(Error::fault("x".repeat(1 << 20))),
            "nan" => return Ok(vec![tensor("x", vec![3], nans())]),
            "names" => {
                return Ok(vec![
                    tensor("x", vec![1], vec![0; 4]),
                    tensor("x", vec![1], vec![0; 4]),
                ]);
            }
            "scalar-lists" => {
                return Ok((0..64)
                    .map(|_| tensor("", vec![0; 16], Vec::new()))
                    .collect());
            }
            other => return Err(Error::fault(format!("no behaviour is called {other}"))),
        };
        Err(Error::fault(format!("came to {number}")))
    }
}

fn tensor(name: &str, shape: Vec<u64>, data: Vec<u8>) -> Tensor {
    Tensor {
        name: name.into(),
        datatype: Datatype::Fp32,
        shape,
        data,
    }
}

/// A quiet NaN with a payload, a signalling one, an infinity.
fn nans() -> Vec<u8> {
    [0xffc1_2345_u32, 0x7fa0_0001, 0x7f80_0000]
        .iter()
        .flat_map(|bits| bits.to_le_bytes())
        .collect()
}

fn spin() -> usize {
    let mut number = 1_usize;
    loop {
        number = black_box(number.rotate_left(1) ^ 0x5bd1);
    }
}

fn floats() -> usize {
    let mut numbers = [1.5_f32; 64];
    loop {
        for number in &mut numbers {
            *number = number.mul_add(1.000_1, 0.5).sqrt();
        }
        black_box(&mut numbers);
    }
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
fn recurse(depth: usize) -> usize {
    let frame = black_box([depth; 64]);
    recurse(black_box(frame[3] + 1)) + frame[5]
}

fn hoard() -> usize {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(vec![1_u8; 1 << 16]));
    }
}

fn leak() -> usize {
    loop {
        black_box(Box::leak(Box::new([0_u8; 4_096])));
    }
}

fn text() -> usize {
    let mut text = String::from("ab");
    loop {
        text = format!("{text}{text}");
    }
}

/// Work that grows faster than its input.
fn sort() -> usize {
    let mut numbers: Vec<usize> = (0..1 << 20).rev().collect();
    loop {
        numbers.sort_unstable_by_key(|number| number.wrapping_mul(0x9e37_79b9));
        numbers.reverse();
        black_box(&mut numbers);
    }
}

export_preprocess!(Behaviours);
