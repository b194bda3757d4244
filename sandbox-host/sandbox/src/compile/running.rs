//! The handlers whose components are being compiled, for readers on other threads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names of handlers whose components are being compiled. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct RunningCompilations(Arc<Mutex<Vec<String>>>);

impl RunningCompilations {
    /// The names, in the order in which the compilations started.
    pub fn names(&self) -> Vec<String> {
        self.list().clone()
    }

    /// Adds a name until the guard is dropped.
    pub(super) fn start(&self, handler: &str) -> RunningCompilation {
        self.list().push(handler.to_owned());
        RunningCompilation {
            all: self.clone(),
            handler: handler.to_owned(),
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<String>> {
        // No code panics while it holds this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One compilation, which runs until this is dropped.
pub(super) struct RunningCompilation {
    all: RunningCompilations,
    handler: String,
}

impl Drop for RunningCompilation {
    fn drop(&mut self) {
        let mut list = self.all.list();
        if let Some(index) = list.iter().position(|name| *name == self.handler) {
            list.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_listed_while_its_compilation_runs() {
        let running = RunningCompilations::default();
        let first = running.start("a");
        let second = running.start("b");
        // Two roles of a handler may compile at once.
        let third = running.start("a");
        assert_eq!(running.clone().names(), ["a", "b", "a"]);
        drop(first);
        assert_eq!(running.names(), ["b", "a"]);
        drop((second, third));
        assert!(running.names().is_empty());
    }
}
