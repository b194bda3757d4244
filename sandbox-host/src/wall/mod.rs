//! The second wall: what this process can do is bounded by the kernel, whatever comes to run in it. The first is wasm; who gets past it finds
//! a process without privileges, which can start no program, open no file and reach no port but those that the host needs.
//!
//! It is raised before the process has a second thread, so that every thread stands behind it, and it never comes down. Where the kernel
//! lacks a part, the log says so; whether that is reason not to start is the operator's to say.

mod calls;
mod files;
mod privileges;
mod reach;

pub use self::reach::Reach;

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
    let parts = vec![
        // While the right to give up rights is there.
        ("capabilities", privileges::drop_all()),
        // Sets that no program that is started gets more than this process has.
        ("files and ports", files::restrict(reach)),
        // Last: it takes the calls that the others need.
        ("system calls", calls::restrict()),
    ];
    Wall { parts }
}
