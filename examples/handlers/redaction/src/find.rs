//! Finds e-mail addresses and card numbers, in time linear in the text.

use core::ops::Range;

/// The longest part of an address before its `@` (RFC 5321, 4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;
/// The longest domain (RFC 1035, 2.3.4).
const MAX_DOMAIN_BYTES: usize = 253;
/// The digits of a card number (ISO/IEC 7812).
const CARD_DIGITS: Range<usize> = 13..20;

/// A part of a text that should not be passed on.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What it is, by Presidio's name.
    pub kind: &'static str,
    /// Where it is, in bytes.
    pub bytes: Range<usize>,
    /// How certain that is, from 0 to 1.
    pub score: f32,
}

/// The findings of a text in its order. None overlaps another.
#[must_use]
pub fn findings(text: &str) -> Vec<Finding> {
    let bytes = text.as_bytes();
    let mut found = emails(bytes);
    found.extend(cards(bytes));
    found.sort_by_key(|finding| finding.bytes.start);
    let mut apart: Vec<Finding> = Vec::with_capacity(found.len());
    for finding in found {
        match apart.last_mut() {
            Some(last) if finding.bytes.start < last.bytes.end => {
                last.bytes.end = last.bytes.end.max(finding.bytes.end);
            }
            _ => apart.push(finding),
        }
    }
    apart
}

fn emails(bytes: &[u8]) -> Vec<Finding> {
    let is_local = |byte: &&u8| byte.is_ascii_alphanumeric() || b"._%+-'".contains(byte);
    let is_domain = |byte: &&u8| byte.is_ascii_alphanumeric() || b".-".contains(byte);
    let mut found = Vec::new();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'@') {
        let (before, after) = bytes.split_at(at);
        let after = after.get(1..).unwrap_or_default();
        let local = before.iter().rev().take(MAX_LOCAL_BYTES);
        let local = local.take_while(is_local).count();
        let domain = after.iter().take(MAX_DOMAIN_BYTES);
        let domain = domain.take_while(is_domain).count();
        let domain = domain_bytes(after.get(..domain).unwrap_or_default());
        if local > 0 && domain > 0 {
            let end = at.saturating_add(1).saturating_add(domain);
            found.push(Finding {
                kind: "EMAIL_ADDRESS",
                bytes: at.saturating_sub(local)..end,
                score: 0.95,
            });
        }
    }
    found
}

/// The length of a domain without the marks that end a sentence; 0 if it has no two labels.
fn domain_bytes(domain: &[u8]) -> usize {
    let marks = domain
        .iter()
        .rev()
        .take_while(|byte| !byte.is_ascii_alphanumeric());
    let length = domain.len().saturating_sub(marks.count());
    let domain = domain.get(..length).unwrap_or_default();
    let mut labels = domain.rsplit(|byte| *byte == b'.');
    let top = labels.next().unwrap_or_default();
    let has_parent = labels.next().is_some_and(|label| !label.is_empty());
    let is_domain = has_parent && top.len() > 1 && top.iter().all(u8::is_ascii_alphabetic);
    if is_domain { length } else { 0 }
}

fn cards(bytes: &[u8]) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    let mut before = None;
    for (at, byte) in bytes.iter().enumerate() {
        let starts = byte.is_ascii_digit() && !before.is_some_and(|byte: u8| byte.is_ascii_digit());
        before = Some(*byte);
        let is_new = found.last().is_none_or(|last| last.bytes.end <= at);
        // Cards of payment systems begin with 2 to 6.
        if starts
            && is_new
            && matches!(byte, b'2'..=b'6')
            && let Some(length) = card_bytes(bytes.get(at..).unwrap_or_default())
        {
            found.push(Finding {
                kind: "CREDIT_CARD",
                bytes: at..at.saturating_add(length),
                score: 1.0,
            });
        }
    }
    found
}

/// The length of the longest card number at the start: its digits, with single blanks or hyphens
/// between them, end where a group of digits ends, and have the check digit of Luhn.
fn card_bytes(bytes: &[u8]) -> Option<usize> {
    let (mut digits, mut longest) = (0_usize, None);
    // Sums with the digits at even and at odd positions doubled.
    let mut sums = [0_u32; 2];
    let mut rest = bytes.iter().enumerate().peekable();
    while let Some((at, byte)) = rest.next() {
        if !byte.is_ascii_digit() {
            let goes_on = rest.peek().is_some_and(|(_, next)| next.is_ascii_digit());
            match byte {
                b' ' | b'-' if goes_on => continue,
                _ => break,
            }
        }
        let digit = u32::from(byte.saturating_sub(b'0'));
        let doubled = digit.saturating_mul(2);
        let doubled = if doubled > 9 {
            doubled.saturating_sub(9)
        } else {
            doubled
        };
        let is_even = digits.is_multiple_of(2);
        let [even, odd] = sums;
        sums = if is_even {
            [even.saturating_add(doubled), odd.saturating_add(digit)]
        } else {
            [even.saturating_add(digit), odd.saturating_add(doubled)]
        };
        digits = digits.saturating_add(1);
        if digits >= CARD_DIGITS.end {
            break;
        }
        // The last digit is not doubled.
        let [even, odd] = sums;
        let sum = if digits.is_multiple_of(2) { even } else { odd };
        let is_end = rest.peek().is_none_or(|(_, next)| !next.is_ascii_digit());
        if CARD_DIGITS.contains(&digits) && is_end && sum.is_multiple_of(10) {
            longest = Some(at.saturating_add(1));
        }
    }
    longest
}
