//! Samples of what processes hold while they work, and whether it grows.
//!
//! The first quarter of a run is the warm-up: pools, caches and allocators reach their size. For
//! the other three quarters each process has these rules:
//!
//! - Resident memory: the straight line through the samples (least squares) rises by no more than
//!   `rises_bytes`, or `percent` of their mean if that is more. The highest sample of the last
//!   quarter exceeds the highest of the second by no more than that.
//! - Open files and threads: the highest sample of the last quarter exceeds the highest of the
//!   second by no more than `files` or `threads`. When the load has ended and settled, they exceed
//!   their number before it by no more than that.
//!
//! The line finds steady growth below the samples' fluctuation; the peaks find growth by steps.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tensorgate_tests::ask::PATIENCE;

const MIB: f64 = 1_048_576.0;

/// The bounds within which a series counts as flat.
pub struct Bounds {
    pub rises_bytes: f64,
    pub percent: f64,
    pub files: f64,
    pub threads: f64,
}

impl Bounds {
    /// Memory: an allocator's fluctuation; a leak of a hundred bytes per request exceeds it within
    /// minutes. Files: connections that are kept for the next request, between the processes and to
    /// the backend. Threads: those of the blocking pool, which are kept for a while.
    pub const DEFAULT: Self = Self {
        rises_bytes: 16.0 * MIB,
        percent: 5.0,
        files: 32.0,
        threads: 8.0,
    };
}

/// What one process holds at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    bytes: f64,
    files: f64,
    threads: f64,
}

impl Held {
    fn of(process: u32) -> Self {
        let place = |name: &str| format!("/proc/{process}/{name}");
        let status = std::fs::read_to_string(place("status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.unwrap_or_default().trim().trim_end_matches(" kB");
            number.parse().unwrap_or(0.0)
        };
        let files = std::fs::read_dir(place("fd")).map_or(0, Iterator::count);
        Self {
            bytes: field("VmRSS:") * 1024.0,
            files: files as f64,
            threads: field("Threads:"),
        }
    }
}

/// One process.
struct Process {
    name: String,
    id: u32,
    before: Held,
    /// The time in seconds, and the sample.
    samples: Vec<(f64, Held)>,
    after: Held,
}

/// The processes of a gate.
pub struct Watched {
    processes: Vec<Process>,
}

/// A series that must be flat, and whether it is.
struct Finding {
    what: String,
    flat: bool,
}

impl Watched {
    /// Before the load begins.
    pub fn new(ids: &[u32]) -> Self {
        let process = |id: &u32| {
            let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap();
            Process {
                name: name.trim().to_owned(),
                id: *id,
                before: Held::of(*id),
                samples: Vec::new(),
                after: Held::default(),
            }
        };
        Self {
            processes: ids.iter().map(process).collect(),
        }
    }

    /// Takes a sample of each process.
    pub fn take(&mut self, at: Duration) {
        for process in &mut self.processes {
            let held = Held::of(process.id);
            process.samples.push((at.as_secs_f64(), held));
        }
    }

    /// Samples so far.
    pub fn taken(&self) -> u32 {
        let taken = self.processes.first().map_or(0, |it| it.samples.len());
        u32::try_from(taken).unwrap()
    }

    /// Waits until files and threads are back at their number before the load, or no longer
    /// decrease.
    pub async fn settle(&mut self) {
        let started = Instant::now();
        loop {
            for process in &mut self.processes {
                process.after = Held::of(process.id);
            }
            let settled = |it: &Process| {
                it.after.files <= it.before.files + Bounds::DEFAULT.files
                    && it.after.threads <= it.before.threads + Bounds::DEFAULT.threads
            };
            if self.processes.iter().all(settled) || started.elapsed() > PATIENCE {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The table's head.
    pub fn head(&self) -> String {
        let mut head = format!("{:>8}", "seconds");
        for process in &self.processes {
            let _ = write!(head, " | {:>15}: MiB files threads", process.name);
        }
        head
    }

    /// The last sample.
    pub fn line(&self) -> String {
        let last = |process: &Process| process.samples.last().copied().unwrap_or_default();
        let at = self.processes.first().map_or(0.0, |it| last(it).0);
        let mut line = format!("{at:>8.1}");
        for process in &self.processes {
            let (_, held) = last(process);
            let (bytes, files, threads) = (held.bytes / MIB, held.files, held.threads);
            let _ = write!(line, " | {bytes:>20.1} {files:>5} {threads:>7}");
        }
        line
    }

    fn findings(&self, bounds: &Bounds) -> Vec<Finding> {
        let each = self.processes.iter().flat_map(|it| it.findings(bounds));
        each.collect()
    }

    /// Everything that is judged, one line each.
    pub fn verdict(&self, bounds: &Bounds) -> String {
        let line =
            |it: &Finding| format!("{:<5} {}", if it.flat { "flat" } else { "GROWS" }, it.what);
        let lines: Vec<_> = self.findings(bounds).iter().map(line).collect();
        lines.join("\n")
    }

    /// # Panics
    ///
    /// If any series grows.
    pub fn judge(&self, bounds: &Bounds) {
        let grows = self.findings(bounds);
        let grows: Vec<_> = grows
            .iter()
            .filter(|it| !it.flat)
            .map(|it| &it.what)
            .collect();
        assert!(grows.is_empty(), "{grows:#?}");
    }
}

impl Process {
    fn findings(&self, bounds: &Bounds) -> Vec<Finding> {
        let series = |of: fn(&Held) -> f64| -> Vec<(f64, f64)> {
            let samples = self.samples.iter();
            samples.map(|(at, held)| (*at, of(held))).collect()
        };
        let name = &self.name;
        let memory = Trend::of(&series(|it| it.bytes));
        let most = bounds.rises_bytes.max(memory.mean * bounds.percent / 100.0);
        let mut findings = vec![Finding {
            what: format!(
                "{name}: {:.1} MiB; the line through it rises by {:+.1} MiB, its peak by {:+.1} MiB (at most {:.1})",
                memory.mean / MIB,
                memory.rises / MIB,
                memory.peak_rises / MIB,
                most / MIB
            ),
            flat: memory.rises <= most && memory.peak_rises <= most,
        }];
        for (what, of, most) in [
            ("files", (|it| it.files) as fn(&Held) -> f64, bounds.files),
            ("threads", |it| it.threads, bounds.threads),
        ] {
            let rises = Trend::of(&series(of)).peak_rises;
            let (before, after) = (of(&self.before), of(&self.after));
            findings.push(Finding {
                what: format!(
                    "{name}: {before} {what} before, {after} afterwards; the peak rises by {rises:+} (at most {most})"
                ),
                flat: rises <= most && after - before <= most,
            });
        }
        findings
    }
}

/// How a series behaves after its first quarter.
#[derive(Debug, Default, PartialEq)]
struct Trend {
    mean: f64,
    /// The rise of the straight line through it.
    rises: f64,
    /// How far the highest sample of the last quarter exceeds the highest of the second.
    peak_rises: f64,
}

impl Trend {
    fn of(series: &[(f64, f64)]) -> Self {
        let Some(end) = series.last().map(|(at, _)| *at) else {
            return Self::default();
        };
        let within = |from: f64, to: f64| {
            let wanted = move |(at, _): &&(f64, f64)| *at > end * from && *at <= end * to;
            series.iter().filter(wanted)
        };
        let count = within(0.25, 1.0).count() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| within(0.25, 1.0).map(of).sum::<f64>() / count;
        let (mean_at, mean) = (mean(|it| it.0), mean(|it| it.1));
        let (mut across, mut along) = (0.0, 0.0);
        for (at, value) in within(0.25, 1.0) {
            across += (at - mean_at) * (value - mean);
            along += (at - mean_at) * (at - mean_at);
        }
        let peak = |from, to| within(from, to).map(|it| it.1).fold(0.0, f64::max);
        Self {
            mean,
            rises: across / along * end * 0.75,
            peak_rises: peak(0.75, 1.0) - peak(0.25, 0.5),
        }
    }
}

/// Whether sixty samples of a process count as flat. Its memory is this function of the time from 0
/// to 1, in MiB.
fn flat(memory: fn(f64) -> f64, threads: fn(f64) -> f64) -> bool {
    let sample = |number: u32| {
        let at = f64::from(number) / 60.0;
        let held = Held {
            bytes: memory(at) * MIB,
            files: 10.0,
            threads: threads(at),
        };
        (at * 900.0, held)
    };
    let process = Process {
        name: "p".into(),
        id: 0,
        before: sample(0).1,
        samples: (1..=60).map(sample).collect(),
        after: sample(0).1,
    };
    let watched = Watched {
        processes: vec![process],
    };
    watched.findings(&Bounds::DEFAULT).iter().all(|it| it.flat)
}

#[test]
fn growing_series_are_distinguished_from_flat_ones() {
    type Curve = fn(f64) -> f64;
    let still = |_: f64| 10.0;
    let wave = |at: f64| (at * 40.0).sin() * 10.0;
    let cases: [(Curve, Curve, bool); 11] = [
        (still, still, true),
        // A rise in the warm-up, and fluctuation from then on.
        (|at| 100.0 + (at * 4.0).min(1.0) * 200.0, still, true),
        (wave, still, true),
        // A rise of 15 MiB in three quarters passes; 20 MiB do not, and neither does a step.
        (|at| 100.0 + at * 20.0, still, true),
        (|at| 100.0 + at * 27.0, still, false),
        (
            |at| 100.0 + (at * 40.0).sin() * 10.0 + at * 27.0,
            still,
            false,
        ),
        (|at| if at > 0.9 { 120.0 } else { 100.0 }, still, false),
        // For a large process a percentage counts.
        (|at| 2_000.0 + at * 80.0, still, true),
        (|at| 2_000.0 + at * 200.0, still, false),
        (still, |at| 10.0 + at * 8.0, true),
        (still, |at| 10.0 + at * 30.0, false),
    ];
    for (memory, threads, expected) in cases {
        assert_eq!(flat(memory, threads), expected, "at 1: {} MiB", memory(1.0));
    }
}
