//! JPEG (ITU-T T.81 annex B): segments up to the first scan. The start-of-frame segment has the
//! size; a second one could have another. Decoders skip garbage between segments; here it is
//! rejected.

use alloc::string::String;

use super::{MediaRule, Next, Probe, be};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `FF` and a marker.
    Marker,
    /// A marker after one or more `FF`.
    Filled,
    /// Length of a segment.
    Length,
    /// Start of the frame.
    Frame,
}

pub(super) fn begin(marker: u8) -> Result<Next, String> {
    segment(marker, false)
}

const fn step(skip: u64, bytes: usize, step: Step) -> Next {
    Next::read(skip, bytes, super::Step::Jpeg(step))
}

/// `framed`: whether the frame has started.
fn segment(marker: u8, framed: bool) -> Result<Next, String> {
    match marker {
        0xff => Ok(step(0, 1, Step::Filled)),
        // DHT, JPG and DAC lie among the start-of-frame markers.
        0xc0..=0xcf if !framed && !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
            Ok(step(0, 7, Step::Frame))
        }
        0xda if framed => Ok(Next::Known),
        0xc4 | 0xcc | 0xdb | 0xdd | 0xe0..=0xef | 0xfe => Ok(step(0, 2, Step::Length)),
        _ => Err("a JPEG segment is out of order".into()),
    }
}

pub(super) fn read(
    probe: &mut Probe,
    rule: &MediaRule,
    at: Step,
    read: &[u8],
) -> Result<Next, String> {
    match (at, read) {
        (Step::Marker, [0xff, marker]) | (Step::Filled, [marker]) => {
            segment(*marker, probe.notes.flag)
        }
        (Step::Marker, _) => Err("unexpected bytes between JPEG segments".into()),
        (Step::Length, length) => match be(length).checked_sub(2) {
            Some(rest) => Ok(step(rest, 2, Step::Marker)),
            None => Err("a JPEG segment is shorter than its length".into()),
        },
        (Step::Frame, [l0, l1, _, high, low, wide, narrow]) => {
            // With a height of 0 the real height comes after the data (DNL), which is too late.
            rule.picture(be(&[*wide, *narrow]), be(&[*high, *low]))?;
            rule.frames(1)?;
            probe.notes.flag = true;
            match be(&[*l0, *l1]).checked_sub(7) {
                Some(rest) => Ok(step(rest, 2, Step::Marker)),
                None => Err("a JPEG segment is shorter than its length".into()),
            }
        }
        _ => Err("the JPEG header is malformed".into()),
    }
}
