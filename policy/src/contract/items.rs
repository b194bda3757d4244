//! What an item of `BYTES` may be: its least length, its text, its list, the file or the URL that it is. Checked as it passes: what is kept of an item
//! is a few dozen bytes, of one that is compared as a whole at most [`MAX_URL_BYTES`].

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::media::{MediaRule, Probe};
use super::pattern::{self, Pattern};
use super::url::{MAX_URL_BYTES, UrlRule};
use crate::denial::Reason;

/// Bytes of an item that is listed.
pub(crate) const MAX_LISTED_BYTES: usize = 256;

/// Rules for a tensor's items; a default one lets every item through.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Items {
    /// Bytes of an item at least.
    pub(crate) min_bytes: usize,
    /// Whether it must be UTF-8.
    pub(crate) utf8: bool,
    /// The only ones that may be, ascending; none is longer than [`MAX_LISTED_BYTES`].
    pub(crate) allowed: Option<Vec<Vec<u8>>>,
    /// What its text looks like; what has one is UTF-8.
    pub(crate) pattern: Option<Arc<Pattern>>,
    /// Which files it may be.
    pub(crate) media: Option<MediaRule>,
    /// Where it leads.
    pub(crate) url: Option<UrlRule>,
}

/// A reason and its cause; the field is the tensor's.
pub(super) type Fault = (Reason, String);

/// [`super::Unkept`], of one tensor.
pub(super) type Values<'f> = dyn FnMut(Fault) -> Result<(), Fault> + 'f;

/// An item on its way.
#[derive(Clone, Debug)]
pub(super) struct Item {
    index: usize,
    /// What its length says against it.
    length: Option<String>,
    /// Whether something against it was told, and it passes all the same: then only where it leads is looked at.
    told: bool,
    /// A character that a cut has split.
    split: [u8; 4],
    split_bytes: usize,
    /// The pattern's.
    state: u16,
    probe: Option<Probe>,
    /// All of it, where it is compared as a whole.
    whole: Option<Vec<u8>>,
}

impl Items {
    /// Whether an item's bytes need not be looked at.
    pub(super) fn are_any(&self) -> bool {
        *self == Self::default()
    }

    /// Whether nothing of an item is looked at once something was `told` of its tensor.
    pub(super) const fn is_over(&self, told: bool) -> bool {
        told && self.url.is_none()
    }

    /// Begins with an item of so many bytes. `told`: whether something against an earlier one of the tensor was told, and it passes all the same.
    pub(super) fn begin(&self, index: usize, bytes: usize, told: bool) -> Result<Item, Fault> {
        if self.url.is_some() && bytes > MAX_URL_BYTES {
            return Err(of_element(index, Reason::UrlBlocked, "the URL is too long"));
        }
        let listed = self.allowed.is_none() || bytes <= MAX_LISTED_BYTES;
        let least = self.min_bytes;
        let length = if told {
            None
        } else if bytes < least {
            Some(format!("has {bytes} bytes, at least {least} must be"))
        } else if listed {
            None
        } else {
            Some(NOT_LISTED.into())
        };
        let compared = (!told && self.allowed.is_some() && listed) || self.url.is_some();
        Ok(Item {
            index,
            length,
            told,
            split: [0; 4],
            split_bytes: 0,
            state: pattern::START,
            probe: self
                .media
                .as_ref()
                .filter(|_| !told)
                .map(|_| Probe::new(bytes)),
            whole: compared.then(|| Vec::with_capacity(bytes.min(MAX_URL_BYTES))),
        })
    }
}

const NOT_LISTED: &str = "is not one of those that are allowed";
const NOT_TEXT: &str = "is not UTF-8";
const NO_MATCH: &str = "does not match the pattern";

fn of_element(index: usize, reason: Reason, cause: &str) -> Fault {
    (reason, format!("element {index}: {cause}"))
}

impl Item {
    /// Whether something against it was told.
    pub(super) const fn told(&self) -> bool {
        self.told
    }

    /// The next bytes of it.
    pub(super) fn take(
        &mut self,
        rule: &Items,
        piece: &[u8],
        unkept: &mut Values<'_>,
    ) -> Result<(), Fault> {
        if let Some(whole) = &mut self.whole {
            // Its length was looked at when it began.
            whole.extend_from_slice(piece);
        }
        let judged = self.look(rule, piece);
        self.tell(judged, unkept)
    }

    /// That was all of it.
    pub(super) fn end(&mut self, rule: &Items, unkept: &mut Values<'_>) -> Result<(), Fault> {
        let judged = self.last_look(rule);
        self.tell(judged, unkept)?;
        let Some(url) = &rule.url else {
            return Ok(());
        };
        let whole = self.whole.as_deref().unwrap_or(&[]);
        url.check(whole)
            .map_err(|cause| of_element(self.index, Reason::UrlBlocked, cause))
    }

    /// Tells of the first thing that is wrong.
    fn tell(&mut self, judged: Result<(), String>, unkept: &mut Values<'_>) -> Result<(), Fault> {
        match judged {
            Err(cause) if !self.told => {
                self.told = true;
                unkept(of_element(self.index, Reason::OutOfRange, &cause))
            }
            _ => Ok(()),
        }
    }

    fn look(&mut self, rule: &Items, piece: &[u8]) -> Result<(), String> {
        if self.told {
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
        if self.told {
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
        let whole = self.whole.as_deref().unwrap_or(&[]);
        match &rule.allowed {
            Some(allowed)
                if allowed
                    .binary_search_by(|item| item.as_slice().cmp(whole))
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
        self.state = text.chars().fold(self.state, |state, character| {
            pattern.step(state, character)
        });
        if self.state == pattern::DEAD {
            return Err(NO_MATCH.into());
        }
        Ok(())
    }
}
