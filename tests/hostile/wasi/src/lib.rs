//! A hostile handler that uses the standard library as if it had a machine of its own. Its config's
//! `behaviour` selects what it does. It is built for wasm32-wasip2, as users build theirs.
//!
//! An error of the standard library becomes a fault with the text `denied: ERROR`. What the host
//! grants becomes a number in the answer.

use core::fmt::Display;
use core::hint::black_box;
use std::hash::{BuildHasher as _, RandomState};
use std::process::{self, Command};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, io, thread};

use tensorgate_handler::{Datatype, Error, Payload, Preprocess, Tensor, config, export_preprocess};

/// A file of every machine.
const FILE: &str = "/etc/passwd";
/// A file that anybody may make.
const NEW_FILE: &str = "/tmp/hostile-wasi";
/// A year in seconds.
const YEAR: u64 = 31_536_000;

struct Wasi;

impl Preprocess for Wasi {
    fn preprocess(_: Payload) -> Result<Vec<Tensor>, Error> {
        let behaviour = config("behaviour").unwrap_or_default();
        let number = match behaviour.as_str() {
            "read" => granted(fs::read(FILE))?,
            "read-relative" => granted(fs::read("Cargo.toml"))?,
            "write" => granted(fs::write(NEW_FILE, "hostile"))?,
            "append" => granted(fs::OpenOptions::new().append(true).open(FILE))?,
            "list" => granted(fs::read_dir("/"))?,
            "metadata" => granted(fs::metadata("/"))?,
            "create-folder" => granted(fs::create_dir(NEW_FILE))?,
            "remove" => granted(fs::remove_file(FILE))?,
            "rename" => granted(fs::rename(FILE, NEW_FILE))?,
            "environment" => environment()?,
            "input" => input()?,
            "thread" => granted(thread::Builder::new().spawn(|| ()))?,
            "thread-or-panic" => granted(thread::spawn(|| ()).join().map_err(|_| "panicked"))?,
            "process" => granted(Command::new("/bin/true").status())?,
            "sleep" => sleep(),
            "exit" => process::exit(0),
            "abort" => process::abort(),
            "print" => loop {
                println!("again");
            },
            "recurse" => recurse(1),
            "clock" => clock()?,
            "hash" => RandomState::new().hash_one(0_u64),
            other => return Err(Error::fault(format!("no behaviour is called {other}"))),
        };
        Ok(vec![Tensor {
            name: "number".into(),
            datatype: Datatype::Uint64,
            shape: vec![1],
            data: number.to_le_bytes().to_vec(),
        }])
    }
}

/// One, if the host grants what was asked for.
fn granted<T, E: Display>(outcome: Result<T, E>) -> Result<u64, Error> {
    match outcome {
        Ok(value) => {
            black_box(value);
            Ok(1)
        }
        Err(error) => Err(denied(error)),
    }
}

fn denied(error: impl Display) -> Error {
    Error::fault(format!("denied: {error}"))
}

/// The number of variables and arguments.
fn environment() -> Result<u64, Error> {
    match env::vars_os()
        .count()
        .saturating_add(env::args_os().count())
    {
        0 => Err(denied("no variables and arguments")),
        count => u64::try_from(count).map_err(Error::fault),
    }
}

/// The number of bytes in the standard input.
fn input() -> Result<u64, Error> {
    let text = io::read_to_string(io::stdin()).map_err(denied)?;
    match text.len() {
        0 => Err(denied("the standard input is empty")),
        count => u64::try_from(count).map_err(Error::fault),
    }
}

/// A number, if the host waits.
fn sleep() -> u64 {
    thread::sleep(Duration::from_secs(YEAR));
    YEAR
}

/// The time in seconds, if both clocks stand still meanwhile.
fn clock() -> Result<u64, Error> {
    let (time, instant) = (SystemTime::now(), Instant::now());
    for number in 0..100_000_u32 {
        black_box(number);
    }
    if instant.elapsed() != Duration::ZERO || SystemTime::now() != time {
        return Err(Error::fault("a clock moved"));
    }
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.map(|time| time.as_secs()).map_err(Error::fault)
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(black_box(depth.wrapping_add(1))).wrapping_add(frame.iter().sum())
}

export_preprocess!(Wasi);
