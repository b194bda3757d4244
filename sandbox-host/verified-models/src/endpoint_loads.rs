//! When a model server has loaded a model version, as far as health checks tell.
//!
//! No protocol tells the time of a load. But a server that had the version, then did not have it,
//! and has it again, has loaded it in between. It began to do so after it was last seen to have it.

/// What a health check saw of a model version at one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// The server has it.
    Present,
    /// The server says that it does not have it, or no process listens at its address.
    Absent,
    /// Neither, such as a timeout or a broken connection.
    Unknown,
}

/// A load that was seen. Times are in milliseconds since the start of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// It began at this time or later. 0 if that is unknown.
    pub began_ms: u64,
    /// When the health check began that saw its end.
    pub seen_ms: u64,
}

/// The loads of a model version at one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EndpointLoads {
    /// When the last health check began that saw the version.
    present_ms: Option<u64>,
    /// Whether it was absent since.
    is_absent: bool,
    last: Option<Load>,
}

impl EndpointLoads {
    /// A server that has loaded the version at this time.
    pub const fn loaded(at_ms: u64) -> Self {
        Self {
            present_ms: Some(at_ms),
            is_absent: false,
            last: Some(Load {
                began_ms: at_ms,
                seen_ms: at_ms,
            }),
        }
    }

    /// Records what a health check saw that began at this time.
    pub fn record(&mut self, sighting: Sighting, began_ms: u64) {
        match sighting {
            Sighting::Unknown => {}
            Sighting::Absent => self.is_absent = true,
            Sighting::Present => {
                if std::mem::take(&mut self.is_absent) {
                    self.last = Some(Load {
                        began_ms: self.present_ms.unwrap_or(0),
                        seen_ms: began_ms,
                    });
                }
                self.present_ms = Some(began_ms);
            }
        }
    }

    /// The last load.
    pub const fn last(&self) -> Option<Load> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Sighting::{Absent, Present, Unknown};

    #[test]
    fn a_load_lies_between_two_sightings_with_an_absence_between_them() {
        let load = |began_ms, seen_ms| Some(Load { began_ms, seen_ms });
        let cases: [(&[Sighting], Option<Load>); 8] = [
            (&[Present, Present], None),
            (&[Present, Unknown, Present], None),
            (&[Present, Absent], None),
            (&[Present, Absent, Present], load(1, 3)),
            (&[Present, Absent, Unknown, Absent, Present], load(1, 5)),
            // It may have begun before the first health check.
            (&[Absent, Present], load(0, 2)),
            (&[Present, Absent, Present, Present], load(1, 3)),
            (&[Absent, Present, Absent, Present], load(2, 4)),
        ];
        for (sightings, expected) in cases {
            let mut loads = EndpointLoads::default();
            for (sighting, began_ms) in sightings.iter().zip(1..) {
                loads.record(*sighting, began_ms);
            }
            assert_eq!(loads.last(), expected, "{sightings:?}");
        }
    }
}
