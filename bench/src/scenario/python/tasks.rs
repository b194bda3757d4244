//! The tasks of handlers in Python, and what they are called with.

use std::f64::consts::TAU;

use tensorgate_policy::Tensor;

use crate::figures::number;
use crate::lab::Lab;
use crate::models::{CHANNELS, SIDE, photo, photo_of};
use crate::outcome::Outcome;

/// A file of `handlers/python`, and what its function is called with.
pub struct Task {
    /// The file's name without its end.
    pub name: &'static str,
    /// Its name in tables.
    pub title: &'static str,
    /// The file's text.
    pub source: &'static str,
    /// Makes its input.
    pub inputs: fn() -> Vec<Input>,
    /// Its target.
    pub goal: Goal,
    /// Whether it imports numpy alone.
    pub is_numpy: bool,
    /// What CPython runs beside it (`peers/python/tasks.py`), with names in tables. The first is
    /// the same file.
    pub peers: &'static [(&'static str, &'static str)],
}

/// The target of a task.
#[derive(Clone, Copy)]
pub enum Goal {
    /// The time of a call in milliseconds.
    Milliseconds(&'static str),
    /// The time of a call, divided by that of CPython.
    Ratio(&'static str),
}

/// The task that a gate's handler has.
pub const NCHW: Task = Task {
    name: "nchw",
    title: "NCHW, numpy",
    source: include_str!("../../../handlers/python/nchw.py"),
    inputs: || vec![Input::new("UINT8", &[1, SIDE, SIDE, CHANNELS], photo())],
    goal: Goal::Milliseconds("python-nchw"),
    is_numpy: true,
    peers: &[("nchw", "in CPython")],
};

/// All tasks.
pub static TASKS: [Task; 5] = [
    Task {
        name: "empty",
        title: "an empty handler",
        source: include_str!("../../../handlers/python/empty.py"),
        inputs: || vec![Input::new("UINT8", &[1, 2, 2, CHANNELS], photo_of(2))],
        goal: Goal::Milliseconds("python-start"),
        is_numpy: true,
        peers: &[],
    },
    NCHW,
    Task {
        name: "scaler",
        title: "256 rows, pandas and a scaler",
        source: include_str!("../../../handlers/python/scaler.py"),
        inputs: || vec![numbers()],
        goal: Goal::Ratio("python-scaler"),
        is_numpy: false,
        peers: &[("scaler", "in CPython")],
    },
    Task {
        name: "table",
        title: "256 rows, pandas and a pipeline",
        source: include_str!("../../../handlers/python/table.py"),
        inputs: || vec![numbers(), plans()],
        goal: Goal::Ratio("python-table"),
        is_numpy: false,
        peers: &[("table", "in CPython")],
    },
    Task {
        name: "mel",
        title: "mel spectrogram, numpy",
        source: include_str!("../../../handlers/python/mel.py"),
        inputs: || vec![sound()],
        goal: Goal::Ratio("python-mel"),
        is_numpy: true,
        peers: &[
            ("mel", "in CPython"),
            ("librosa", "by librosa's functions in CPython"),
        ],
    },
];

/// Rows of a table.
const ROWS: usize = 256;

/// Columns with numbers in a table.
const COLUMNS: usize = 4;

/// Samples of a second of sound.
const SAMPLES: usize = 16_000;

/// A tensor of a call.
pub struct Input {
    datatype: &'static str,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Input {
    /// A tensor of these elements.
    pub fn new(datatype: &'static str, shape: &[usize], data: Vec<u8>) -> Self {
        Self {
            datatype,
            shape: shape.to_vec(),
            data,
        }
    }

    /// As the input of a handler.
    pub fn tensor(&self, name: &'static str) -> Tensor<'static> {
        let dims = self.shape.iter();
        Tensor {
            name: name.into(),
            datatype: self.datatype.into(),
            shape: dims
                .map(|&dim| i64::try_from(dim).unwrap_or_default())
                .collect(),
            parameters: Vec::new(),
            data: Ok(self.data.clone().into()),
        }
    }

    /// Writes the data to a file. Returns the argument that names it to `tasks.py`.
    pub fn argument(&self, lab: &Lab) -> Outcome<String> {
        let file = lab.path("input");
        std::fs::write(&file, &self.data)?;
        let dims: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        let (datatype, dims) = (self.datatype, dims.join(","));
        Ok(format!("{datatype}:{dims}:{}", file.display()))
    }
}

/// Numbers between -0.5 and 0.5, the same in each run.
fn noise(count: usize) -> impl Iterator<Item = f64> {
    let mut state = 1_u32;
    (0..count).map(move |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let upper = u16::try_from(state >> 16).unwrap_or_default();
        f64::from(upper) / 65_536.0 - 0.5
    })
}

/// The numbers of a table, of which some are missing.
fn numbers() -> Input {
    let all = noise(ROWS.saturating_mul(COLUMNS));
    let missing = |at: usize| at.is_multiple_of(17);
    let data = all.enumerate().flat_map(|(at, value)| {
        let number = if missing(at) { f64::NAN } else { value };
        (50.0 + 60.0 * number).to_le_bytes()
    });
    Input::new("FP64", &[ROWS, COLUMNS], data.collect())
}

/// The categories of a table. One of them is unknown to the pipeline.
fn plans() -> Input {
    let names = ["basic", "plus", "pro", "other"];
    let mut data = Vec::new();
    for name in names.iter().cycle().take(ROWS) {
        data.extend(u32::try_from(name.len()).unwrap_or_default().to_le_bytes());
        data.extend(name.bytes());
    }
    Input::new("BYTES", &[ROWS], data)
}

/// A second of a tone of 440 Hz in noise.
fn sound() -> Input {
    let data = noise(SAMPLES).enumerate().flat_map(|(at, value)| {
        let seconds = number(at) / number(SAMPLES);
        let sample = 0.5 * (TAU * 440.0 * seconds).sin() + 0.2 * value;
        single(sample).to_le_bytes()
    });
    Input::new("FP32", &[SAMPLES], data.collect())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a sample of sound needs no more digits"
)]
const fn single(value: f64) -> f32 {
    value as f32
}
