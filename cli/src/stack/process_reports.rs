//! Unexpected ends and restarts of processes: each is reported to the operator, and recorded in the
//! description of the gate.

use std::cell::RefCell;
use std::time::SystemTime;

use tensorgate_base::rfc3339::rfc3339;

use super::front::Front;
use super::process_event::ProcessEvent;
use super::running::{Lock, Running};

/// Reports and records events.
pub struct ProcessReports<'a, F> {
    front: &'a RefCell<&'a mut F>,
    lock: &'a Lock,
    running: RefCell<Running>,
}

impl<'a, F: Front> ProcessReports<'a, F> {
    /// Without events so far.
    pub fn new(front: &'a RefCell<&'a mut F>, lock: &'a Lock, running: &Running) -> Self {
        Self {
            front,
            lock,
            running: RefCell::new(running.clone()),
        }
    }

    /// Records the gate's URL.
    pub fn listens(&self, url: &str) -> std::io::Result<()> {
        let mut running = self.running.borrow_mut();
        running.listen = Some(url.to_owned());
        self.lock.describe(&running)
    }

    /// Reports an event. One that cannot be recorded is at least on the terminal.
    pub fn report(&self, event: &ProcessEvent) {
        {
            let mut running = self.running.borrow_mut();
            match event {
                ProcessEvent::Ended(end, _) => running.add_end(end.clone()),
                ProcessEvent::Restarted(process, _) => {
                    running.set_restarted(process, rfc3339(SystemTime::now()));
                }
                ProcessEvent::NotReady(..) => {}
            }
            let _ = self.lock.describe(&running);
        }
        self.front.borrow_mut().process(event);
    }
}
