//! Rules of `BYTES` elements: minimum length, text, allowed values, file type or URL. Elements are
//! checked as a stream: a few dozen bytes of state, or at most [`MAX_URL_BYTES`] for an element
//! that is compared as a whole.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::Shared;

use super::media::{MediaRule, Probe};
use super::pattern::{self, Pattern};
use super::url::{MAX_URL_BYTES, UrlRule};
use crate::denial::Reason;

/// Maximum size of an allowed value.
pub const MAX_LISTED_BYTES: usize = 256;

/// Rules of a tensor's elements; the default allows all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Items {
    /// Minimum size of an element, in bytes.
    pub min_bytes: usize,
    /// Whether elements must be UTF-8.
    pub utf8: bool,
    /// Allowed values in ascending order; none is longer than [`MAX_LISTED_BYTES`].
    pub allowed: Option<Vec<Vec<u8>>>,
    /// Pattern of the text; an element with a pattern is UTF-8.
    pub pattern: Option<Shared<Pattern>>,
    /// Allowed file types.
    pub media: Option<MediaRule>,
    /// Allowed URLs.
    pub url: Option<UrlRule>,
}

/// A reason and its cause; the caller adds the field.
pub(super) type Fault = (Reason, String);

/// [`super::OnValueFault`] for one tensor.
pub(super) type Values<'f> = dyn FnMut(Fault) -> Result<(), Fault> + 'f;

/// An element in progress.
#[derive(Clone, Debug)]
pub(super) struct Item {
    index: usize,
    /// Fault of its length.
    length: Option<String>,
    /// Whether a fault was reported and allowed to pass. After that only URLs are still checked.
    reported: bool,
    /// A character that is split between chunks.
    split: [u8; 4],
    split_bytes: usize,
    /// State of the pattern.
    state: pattern::State,
    probe: Option<Probe>,
    /// The whole element, if it is compared as a whole.
    buffered: Option<Vec<u8>>,
}

impl Items {
    /// Whether the bytes of elements need no check.
    pub(super) fn are_any(&self) -> bool {
        *self == Self::default()
    }

    /// Whether no more checks are needed after a fault of the tensor was `reported`.
    pub(super) const fn is_over(&self, reported: bool) -> bool {
        reported && self.url.is_none()
    }

    /// Begins an element of `bytes` bytes. `reported`: a fault of the tensor was already allowed to
    /// pass.
    pub(super) fn begin(&self, index: usize, bytes: usize, reported: bool) -> Result<Item, Fault> {
        if self.url.is_some() && bytes > MAX_URL_BYTES {
            return Err(of_element(index, Reason::UrlBlocked, "the URL is too long"));
        }
        let listed = self.allowed.is_none() || bytes <= MAX_LISTED_BYTES;
        let least = self.min_bytes;
        let length = if reported {
            None
        } else if bytes < least {
            Some(format!("has {bytes} bytes, at least {least} are required"))
        } else if listed {
            None
        } else {
            Some(NOT_LISTED.into())
        };
        let compared = (!reported && self.allowed.is_some() && listed) || self.url.is_some();
        Ok(Item {
            index,
            length,
            reported,
            split: [0; 4],
            split_bytes: 0,
            state: self
                .pattern
                .as_ref()
                .map_or(pattern::State::ZERO, |pattern| pattern.start()),
            probe: self
                .media
                .as_ref()
                .filter(|_| !reported)
                .map(|_| Probe::new(bytes)),
            buffered: compared.then(|| Vec::with_capacity(bytes.min(MAX_URL_BYTES))),
        })
    }
}

const NOT_LISTED: &str = "is not an allowed value";
const NOT_TEXT: &str = "is not UTF-8";
const NO_MATCH: &str = "does not match the pattern";

fn of_element(index: usize, reason: Reason, cause: &str) -> Fault {
    (reason, format!("element {index}: {cause}"))
}

impl Item {
    /// Whether a fault was reported.
    pub(super) const fn is_reported(&self) -> bool {
        self.reported
    }

    /// Checks the next bytes.
    pub(super) fn take(
        &mut self,
        rule: &Items,
        piece: &[u8],
        on_value_fault: &mut Values<'_>,
    ) -> Result<(), Fault> {
        if let Some(buffered) = &mut self.buffered {
            // The length was checked at the beginning.
            buffered.extend_from_slice(piece);
        }
        let judged = self.look(rule, piece);
        self.report(judged, on_value_fault)
    }

    /// Ends the element.
    pub(super) fn end(
        &mut self,
        rule: &Items,
        on_value_fault: &mut Values<'_>,
    ) -> Result<(), Fault> {
        let judged = self.last_look(rule);
        self.report(judged, on_value_fault)?;
        let Some(url) = &rule.url else {
            return Ok(());
        };
        let url_bytes = self.buffered.as_deref().unwrap_or(&[]);
        url.check(url_bytes)
            .map_err(|cause| of_element(self.index, Reason::UrlBlocked, cause))
    }

    /// Reports the first fault.
    fn report(
        &mut self,
        judged: Result<(), String>,
        on_value_fault: &mut Values<'_>,
    ) -> Result<(), Fault> {
        match judged {
            Err(cause) if !self.reported => {
                self.reported = true;
                on_value_fault(of_element(self.index, Reason::OutOfRange, &cause))
            }
            _ => Ok(()),
        }
    }

    fn look(&mut self, rule: &Items, piece: &[u8]) -> Result<(), String> {
        if self.reported {
            return Ok(());
        }
        if let Some(cause) = self.length.take() {
            return Err(cause);
        }
        if let (Some(probe), Some(media)) = (&mut self.probe, &rule.media) {
            probe.take(media, piece)?;
        }
        if rule.utf8 || rule.pattern.is_some() {
            self.text(rule, piece)?;
        }
        Ok(())
    }

    fn last_look(&self, rule: &Items) -> Result<(), String> {
        if self.reported {
            return Ok(());
        }
        if self.split_bytes > 0 {
            return Err(NOT_TEXT.into());
        }
        if let Some(pattern) = &rule.pattern
            && !pattern.may_end(self.state)
        {
            return Err(NO_MATCH.into());
        }
        if let Some(probe) = &self.probe {
            probe.end()?;
        }
        let element = self.buffered.as_deref().unwrap_or(&[]);
        match &rule.allowed {
            Some(allowed)
                if allowed
                    .binary_search_by(|item| item.as_slice().cmp(element))
                    .is_err() =>
            {
                Err(NOT_LISTED.into())
            }
            _ => Ok(()),
        }
    }

    fn text(&mut self, rule: &Items, mut piece: &[u8]) -> Result<(), String> {
        while self.split_bytes > 0 {
            let Some((byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            piece = rest;
            let slot = self.split.get_mut(self.split_bytes).ok_or(NOT_TEXT)?;
            *slot = *byte;
            self.split_bytes = self.split_bytes.saturating_add(1);
            let split = self.split;
            match core::str::from_utf8(split.get(..self.split_bytes).unwrap_or(&[])) {
                Ok(character) => {
                    self.split_bytes = 0;
                    self.characters(rule, character)?;
                }
                Err(error) if error.error_len().is_some() => return Err(NOT_TEXT.into()),
                Err(_) => {}
            }
        }
        match core::str::from_utf8(piece) {
            Ok(text) => self.characters(rule, text),
            Err(error) => {
                let (text, rest) = piece
                    .split_at_checked(error.valid_up_to())
                    .unwrap_or((&[], piece));
                self.characters(rule, core::str::from_utf8(text).unwrap_or_default())?;
                if error.error_len().is_some() || rest.len() >= self.split.len() {
                    return Err(NOT_TEXT.into());
                }
                for (slot, byte) in self.split.iter_mut().zip(rest) {
                    *slot = *byte;
                }
                self.split_bytes = rest.len();
                Ok(())
            }
        }
    }

    fn characters(&mut self, rule: &Items, text: &str) -> Result<(), String> {
        let Some(pattern) = &rule.pattern else {
            return Ok(());
        };
        let state = pattern.advance(self.state, text.as_bytes());
        self.state = state.ok_or(NO_MATCH)?;
        Ok(())
    }
}
