//! Cost of metering a handler: the same component in an engine that counts fuel, one that checks
//! epochs, and one that does neither. The same function compiled for this machine is the baseline.

use std::time::Instant;

use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, OptLevel, Store};

use self::bindings::tensorgate::handler::types::{Datatype, Tensor};
use self::bindings::{Payload, Preprocess};
use super::sandbox::micros;
use crate::cores::CoreSet;
use crate::figures::{median, quantile};
use crate::lab::Lab;
use crate::models::{CHANNELS, SIDE, photo};
use crate::outcome::{Outcome, failure};
use crate::policy::read_component;
use crate::report::Report;

mod bindings {
    #![allow(
        missing_docs,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::allow_attributes_without_reason,
        unused_qualifications,
        reason = "generated code"
    )]
    wasmtime::component::bindgen!({
        path: "../wit/handler.wit",
        world: "preprocess",
    });
}

/// The engines: name, fuel, epochs.
const KINDS: [(&str, bool, bool); 3] = [
    ("no metering", false, false),
    ("epochs", false, true),
    ("fuel and epochs, as in the host", true, true),
];

/// A component in one engine, which is called repeatedly.
struct Guest {
    name: &'static str,
    fuel: bool,
    store: Store<()>,
    handler: Preprocess,
    calls: Vec<f64>,
}

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    lab.cores.enter(CoreSet::Subject)?;
    let outcome = measure(lab, report);
    lab.cores.enter(CoreSet::Load)?;
    outcome
}

fn measure(lab: &Lab, report: &mut Report) -> Outcome<()> {
    report.section(
        "The cost of metering a handler",
        "The normalise handler, 224×224×3 bytes to FP32 NCHW, in one instance that is reused. A call is only `preprocess` and the copies in and out, so the rows differ only in the metering code. Native is the same function compiled for this machine, with a newly allocated output and no input copy.",
    );
    let component = read_component(&lab.components.join("normalise.wasm"))?;
    let mut guests = Vec::new();
    for kind in KINDS {
        guests.push(Guest::new(&component, kind)?);
    }
    let pixels = photo();
    let mut native = Vec::new();
    let rounds = if lab.quick { 5 } else { 2_000 };
    for _ in 0..rounds {
        for guest in &mut guests {
            guest.call(&pixels)?;
        }
        let began = Instant::now();
        let mut image = vec![0.0_f32; pixels.len()];
        normalise::planes(std::hint::black_box(&pixels), &mut image);
        std::hint::black_box(&image);
        native.push(micros(began.elapsed()));
    }
    let (mut rows, base) = (Vec::new(), median(&native));
    let mut row = |name: &str, all: &mut Vec<f64>| {
        all.sort_by(f64::total_cmp);
        rows.push(vec![
            name.to_owned(),
            format!("{:.1}", quantile(all, 0.5)),
            format!("{:.1}", quantile(all, 0.99)),
            format!("{:.2}", quantile(all, 0.5) / base),
        ]);
    };
    row("native", &mut native);
    for guest in &mut guests {
        row(guest.name, &mut guest.calls);
    }
    report.table(&["", "p50 µs", "p99 µs", "× native"], &rows);
    Ok(())
}

impl Guest {
    fn new(component: &[u8], (name, fuel, epochs): (&'static str, bool, bool)) -> Outcome<Self> {
        let mut config = Config::new();
        config
            .consume_fuel(fuel)
            .epoch_interruption(epochs)
            .cranelift_opt_level(OptLevel::Speed)
            .wasm_multi_memory(true)
            .wasm_relaxed_simd(false);
        let engine = Engine::new(&config)?;
        let component = Component::new(&engine, component)?;
        let mut linker = Linker::new(&engine);
        // The measured call uses no import.
        linker.define_unknown_imports_as_traps(&component)?;
        let mut store = Store::new(&engine, ());
        if fuel {
            store.set_fuel(u64::MAX)?;
        }
        if epochs {
            store.set_epoch_deadline(u64::from(u32::MAX));
        }
        let handler = Preprocess::instantiate(&mut store, &component, &linker)?;
        Ok(Self {
            name,
            fuel,
            store,
            handler,
            calls: Vec::new(),
        })
    }

    fn call(&mut self, pixels: &[u8]) -> Outcome<()> {
        let wide = |dim: usize| u64::try_from(dim).unwrap_or_default();
        let input = Payload::Tensors(vec![Tensor {
            name: "photo".to_owned(),
            datatype: Datatype::Uint8,
            shape: vec![1, wide(SIDE), wide(SIDE), wide(CHANNELS)],
            data: pixels.to_vec(),
        }]);
        if self.fuel {
            self.store.set_fuel(u64::MAX)?;
        }
        let began = Instant::now();
        let answer = self.handler.call_preprocess(&mut self.store, &input)?;
        self.calls.push(micros(began.elapsed()));
        match answer {
            Ok(tensors) if tensors.len() == 1 => Ok(()),
            other => failure(format!("{}: {other:?}", self.name)),
        }
    }
}
