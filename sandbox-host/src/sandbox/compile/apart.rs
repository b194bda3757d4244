//! A compiler in a process of its own: what it is given was written by somebody who is not trusted, and may make it take for ever, take all
//! memory, or worse. The process has a bound on both, can open no file and no socket, and is ended when it is late.
//!
//! Three of this program: the host asks the second over a pipe, which starts a third for each component, several at once if the host asks for several. The
//! second is started before the host gives up the right to start programs, and never looks at what passes through it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Resource, Rlimit, Signal};

use super::super::bounds::{
    COMPILE_MEMORY_BYTES, COMPILE_TIME, MAX_COMPILED_BYTES, MAX_COMPILERS, MAX_COMPONENT_BYTES,
    MAX_MESSAGE_BYTES, STEP_BACK,
};
use super::super::engine;
use crate::wall;

/// What the second and the third are started with.
const SERVES: &str = "compiler";
const COMPILES: &str = "compile";
/// Behind that: the third's wall has to stand whole.
const WALLED: &str = "walled";
/// This program, whatever lies at its path by now.
const SELF: &str = "/proc/self/exe";

const MADE: u8 = 0;
const REFUSED: u8 = 1;

/// Asks the second.
#[derive(Debug)]
pub struct CompilerProcess {
    /// What is asked, and the number of the next question. `None` once it did not keep to the form.
    input: Mutex<(Option<ChildStdin>, u64)>,
    answers: Mutex<Answers>,
    /// Somebody has read an answer.
    read: Condvar,
    child: Mutex<Child>,
    at_once: usize,
}

/// What comes of a component: its code, or why there is none.
type Answer = Result<Vec<u8>, String>;

/// What came back. Whoever waits and finds nobody reading reads for all.
#[derive(Debug)]
struct Answers {
    /// `None` while somebody reads.
    output: Option<ChildStdout>,
    /// Of questions whose askers have not taken them yet.
    came: HashMap<u64, Answer>,
    /// It did not keep to the form: why.
    gone: Option<String>,
}

/// How many components are compiled at once: as many as there are cores, and as there is memory for what each may take.
fn compilers() -> usize {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let told = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = told.lines().find_map(|line| {
        let (name, kib) = line.split_once(':')?;
        let kib = (name == "MemTotal").then(|| kib.trim().trim_end_matches(" kB"))?;
        kib.parse::<u64>().ok()?.checked_mul(1 << 10)
    });
    let fit = total.unwrap_or(0).div_euclid(COMPILE_MEMORY_BYTES);
    let fit = usize::try_from(fit).unwrap_or(usize::MAX);
    cores.min(fit).clamp(1, MAX_COMPILERS)
}

impl CompilerProcess {
    /// Starts the second from this program's own file. `walled`: nothing is compiled where the kernel gives less than all of the wall
    /// that a compiler should stand behind.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start(walled: bool) -> std::io::Result<Self> {
        Self::of(Path::new(SELF), walled)
    }

    /// The same from another file with this program.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn of(program: &Path, walled: bool) -> std::io::Result<Self> {
        let mut child = Command::new(program)
            .arg(SERVES)
            .args(walled.then_some(WALLED))
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        Ok(Self {
            input: Mutex::new((input, 0)),
            answers: Mutex::new(Answers {
                output,
                came: HashMap::new(),
                gone: None,
            }),
            read: Condvar::new(),
            child: Mutex::new(child),
            // Behind the wall nothing tells of memory.
            at_once: compilers(),
        })
    }

    /// How many components are best compiled at once.
    pub(super) const fn at_once(&self) -> usize {
        self.at_once
    }

    /// What a compiler made of a component.
    pub(super) fn compile(&self, file: &[u8]) -> Answer {
        let number = self
            .ask(file)
            .map_err(|error| format!("the process that compiles is gone: {error}"))?;
        let mut answers = self.answers();
        loop {
            if let Some(answer) = answers.came.remove(&number) {
                return answer;
            }
            if let Some(gone) = &answers.gone {
                return Err(format!("the process that compiles is gone: {gone}"));
            }
            let Some(mut output) = answers.output.take() else {
                answers = self
                    .read
                    .wait(answers)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(answers);
            let came = answer(&mut output);
            answers = self.answers();
            match came {
                Ok((whose, answer)) => {
                    answers.came.insert(whose, answer);
                    answers.output = Some(output);
                }
                Err(error) => answers.gone = Some(error.to_string()),
            }
            self.read.notify_all();
        }
    }

    /// Asks, and says under which number.
    fn ask(&self, file: &[u8]) -> std::io::Result<u64> {
        // Whoever panicked here left a pipe in the middle of something.
        let mut asking = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, next) = &mut *asking;
        let number = *next;
        *next = next.wrapping_add(1);
        let Some(pipe) = input else {
            return Err(std::io::Error::other("restart the host"));
        };
        let asked = (pipe.write_all(&number.to_le_bytes()))
            .and_then(|()| send(pipe, file))
            .and_then(|()| pipe.flush());
        if asked.is_err() {
            *input = None;
        }
        asked.map(|()| number)
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        // Nothing panics while it holds them.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CompilerProcess {
    fn drop(&mut self) {
        // The end of its input ends it, too.
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.try_wait();
    }
}

/// The next answer, and to which question.
fn answer(output: &mut ChildStdout) -> std::io::Result<(u64, Answer)> {
    let (mut number, mut status) = ([0; 8], [0]);
    output.read_exact(&mut number)?;
    output.read_exact(&mut status)?;
    let answer = receive(output, MAX_COMPILED_BYTES)?
        .ok_or_else(|| std::io::Error::other("it ended in the middle"))?;
    let answer = match status {
        [MADE] => Ok(answer),
        _ => Err(String::from_utf8_lossy(&answer).into_owned()),
    };
    Ok((u64::from_le_bytes(number), answer))
}

/// A length and as many bytes.
fn send(to: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    let count = u64::try_from(bytes.len()).map_err(std::io::Error::other)?;
    to.write_all(&count.to_le_bytes())?;
    to.write_all(bytes)
}

/// The same back; `None` at the end of what comes.
fn receive(from: &mut impl Read, max_bytes: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut count = [0; 8];
    match from.read_exact(&mut count) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let count = u64::from_le_bytes(count);
    if usize::try_from(count).map_or(true, |count| count > max_bytes) {
        return Err(std::io::Error::other(format!(
            "{count} bytes, at most {max_bytes} are taken"
        )));
    }
    let mut bytes = Vec::new();
    let read = from.take(count).read_to_end(&mut bytes)?;
    if u64::try_from(read).ok() == Some(count) {
        Ok(Some(bytes))
    } else {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

/// Whether this process was started as the second or the third; it is that until it ends.
pub fn compiler_process(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let first = arguments.next()?;
    let mut walled = || arguments.next().is_some_and(|next| next == WALLED);
    let code = match first.to_str()? {
        SERVES => serves(walled()),
        COMPILES => compiles(walled()),
        _ => return None,
    };
    Some(code)
}

/// The second: until its input ends.
fn serves(walled: bool) -> ExitCode {
    // Whatever becomes of the host.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let mut input = std::io::stdin().lock();
    let output = Arc::new(Mutex::new(std::io::stdout()));
    loop {
        let mut number = [0; 8];
        match input.read_exact(&mut number) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return ExitCode::SUCCESS;
            }
            Err(_) => return ExitCode::FAILURE,
            Ok(()) => {}
        }
        let Ok(Some(file)) = receive(&mut input, MAX_COMPONENT_BYTES) else {
            return ExitCode::FAILURE;
        };
        let output = Arc::clone(&output);
        // The host bounds how many there are.
        let started = thread::Builder::new().spawn(move || {
            let (status, answer) = match in_the_third(&file, walled) {
                Ok(code) => (MADE, code),
                Err(text) => (REFUSED, text.into_bytes()),
            };
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            let told = (output.write_all(&number))
                .and_then(|()| output.write_all(&[status]))
                .and_then(|()| send(&mut *output, &answer))
                .and_then(|()| output.flush());
            if told.is_err() {
                // Nobody hears answers any more.
                std::process::exit(i32::from(REFUSED));
            }
        });
        if started.is_err() {
            return ExitCode::FAILURE;
        }
    }
}

/// Has one component compiled.
fn in_the_third(file: &[u8], walled: bool) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot start a compiler: {error}");
    let mut child = Command::new(SELF)
        .arg(COMPILES)
        .args(walled.then_some(WALLED))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (done, end) = channel();
    let (code, said, late) = thread::scope(|scope| {
        scope.spawn(move || {
            // One that ends early takes no more.
            input.map(|mut input| input.write_all(file));
        });
        let said = scope.spawn(move || take(errors, MAX_MESSAGE_BYTES).unwrap_or_default());
        let made = scope.spawn(move || {
            let made = take(output, MAX_COMPILED_BYTES);
            // Nobody waits for one that is late.
            let _ = done.send(());
            made
        });
        let late = end.recv_timeout(COMPILE_TIME).is_err();
        if late {
            let _ = child.kill();
        }
        (
            made.join().ok().flatten(),
            said.join().unwrap_or_default(),
            late,
        )
    });
    let ended = child.wait().map_err(failed)?;
    match code {
        _ if late => Err(format!(
            "it was not compiled within {} s",
            COMPILE_TIME.as_secs()
        )),
        Some(code) if ended.success() => Ok(code),
        _ if ended.code() == Some(i32::from(REFUSED)) => {
            Err(String::from_utf8_lossy(&said).into_owned())
        }
        _ => Err(format!(
            "its compiler ended ({ended}): it may take {} MiB of memory and {} s",
            COMPILE_MEMORY_BYTES >> 20,
            COMPILE_TIME.as_secs()
        )),
    }
}

/// What comes to its end within a bound.
fn take(from: Option<impl Read>, max_bytes: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(max_bytes).ok()?.checked_add(1)?;
    from?.take(most).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= max_bytes).then_some(bytes)
}

/// The third: compiles what comes in, and can do nothing else.
fn compiles(walled: bool) -> ExitCode {
    match confined(walled) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprint!("{text}");
            ExitCode::from(REFUSED)
        }
    }
}

fn confined(walled: bool) -> Result<(), String> {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // Requests come first.
    let _ = rustix::process::getpriority_process(None)
        .and_then(|now| rustix::process::setpriority_process(None, now.saturating_add(STEP_BACK)));
    for (resource, most) in [
        // Of memory that is not written there may be any amount: engines reserve it.
        (Resource::Data, COMPILE_MEMORY_BYTES),
        (Resource::Cpu, COMPILE_TIME.as_secs().saturating_mul(4)),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
    ] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        rustix::process::setrlimit(resource, limit)
            .map_err(|error| format!("no bound: {error}"))?;
    }
    // The host's own wall is its operator's choice, this one is not: as far as this kernel goes, and whole where that is required.
    let wall = wall::raise_around_a_compiler();
    if walled && !wall.is_whole() {
        return Err(format!(
            "nothing is compiled: the second wall is required, and a compiler's is not whole: {}",
            wall.told()
        ));
    }
    let mut file = Vec::new();
    let most = u64::try_from(MAX_COMPONENT_BYTES).unwrap_or(u64::MAX);
    (std::io::stdin().lock().take(most))
        .read_to_end(&mut file)
        .map_err(|error| error.to_string())?;
    let code = engine::compiler()
        .and_then(|engine| engine.precompile_component(&file))
        .map_err(|error| super::super::cause::told(&error))?;
    let mut output = std::io::stdout().lock();
    (output.write_all(&code))
        .and_then(|()| output.flush())
        .map_err(|error| error.to_string())
}
