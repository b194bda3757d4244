//! The second wall: what this process can do is bounded by the kernel, whatever comes to run in it. The first is wasm; who gets past it finds
//! a process without privileges, which can start no program, open no file and reach no port but those that the host needs.
//!
//! It is raised before the process has a second thread, so that every thread stands behind it, and it never comes down. Where the kernel
//! lacks a part, the log says so; whether that is reason not to start is the operator's to say.

mod calls;
mod files;
mod privileges;
mod reach;

use std::sync::atomic::{AtomicBool, Ordering};

use self::calls::Whose;
pub use self::reach::{Reach, beside};

/// Whether a thread of this process stands behind one.
static RAISED: AtomicBool = AtomicBool::new(false);

/// How far a part of the wall stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stands {
    /// As meant; what it is.
    Whole(String),
    /// Less than that, or nothing; why.
    Less(String),
}

/// The wall, part by part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wall {
    /// Each part's name, and how far it stands.
    pub parts: Vec<(&'static str, Stands)>,
}

impl Wall {
    /// Whether every part stands as meant.
    pub fn is_whole(&self) -> bool {
        let whole = |(_, stands): &(_, Stands)| matches!(stands, Stands::Whole(_));
        self.parts.iter().all(whole)
    }

    /// What stands and what does not, for the log.
    pub fn told(&self) -> String {
        let part = |(name, stands): &(&str, Stands)| match stands {
            Stands::Whole(what) => format!("{name}: {what}"),
            Stands::Less(why) => format!("{name}: NOT IN FORCE AS MEANT: {why}"),
        };
        self.parts.iter().map(part).collect::<Vec<_>>().join("; ")
    }
}

/// Raises it around this thread and all that it will start. Nothing takes it down again.
pub fn raise(reach: &Reach) -> Wall {
    around(reach, Whose::Host)
}

/// The same around one that has to reach nothing at all: no file, no port, and no socket of any kind.
pub fn raise_around_a_compiler() -> Wall {
    around(&Reach::default(), Whose::Compiler)
}

/// A cause as an operator should read it: where a wall was raised, what is not allowed may be its doing.
#[must_use]
pub fn told_of(cause: &str) -> String {
    if RAISED.load(Ordering::Relaxed) && cause.contains("Permission denied") {
        format!(
            "{cause} (behind the second wall a host reaches what it was started with and what its first policy named, as the log's line about the wall lists it; a restart raises it anew)"
        )
    } else {
        cause.to_owned()
    }
}

fn around(reach: &Reach, whose: Whose) -> Wall {
    RAISED.store(true, Ordering::Relaxed);
    let parts = vec![
        // While the right to give up rights is there.
        ("capabilities", privileges::drop_all()),
        // Sets that no program that is started gets more than this process has.
        ("files and ports", files::restrict(reach)),
        // Last: it takes the calls that the others need.
        ("system calls", calls::restrict(whose)),
    ];
    Wall { parts }
}
