//! Applies the policy's rule for links to pictures to the texts of one choice, complete or in
//! chunks.

use tensorgate_policy::contract::openai::{AnswerLinks, EmittedMark, LinkScanner};

use super::fault;
use crate::backends::BackendError;

/// The most texts of a choice: content, refusal, and reasoning under each of its names.
const MAX_TEXTS: usize = 4;

/// The texts of a choice so far.
#[derive(Debug, Default)]
pub(super) struct ChoiceTexts {
    scanners: [LinkScanner; MAX_TEXTS],
    /// Of references in all of them.
    emitted: EmittedMark,
    /// Whether the end of the choice was read.
    has_ended: bool,
}

impl ChoiceTexts {
    /// Replaces the next part of each text by what may be sent. The last part has everything that
    /// was held back.
    pub(super) fn apply<const N: usize>(
        &mut self,
        rule: AnswerLinks,
        texts: [&mut Option<String>; N],
        ends: bool,
    ) -> Result<(), BackendError> {
        for (scanner, text) in self.scanners.iter_mut().zip(texts) {
            let received = text.take();
            // What was held back is sent, so a later part could complete a link.
            if self.has_ended && received.as_ref().is_some_and(|part| !part.is_empty()) {
                return fault("a text after the end of its choice");
            }
            let mut sent = String::with_capacity(received.as_ref().map_or(0, String::len));
            let mut emit = |piece: &str| sent.push_str(piece);
            scanner.follow(self.emitted);
            let link = scanner.push(received.as_deref().unwrap_or_default(), &mut emit);
            self.emitted = scanner.emitted();
            if ends {
                scanner.finish(&mut emit);
            }
            if link.is_some() && rule == AnswerLinks::Refuse {
                return fault("a link to a picture, which the policy refuses");
            }
            *text = (received.is_some() || !sent.is_empty()).then_some(sent);
        }
        self.has_ended |= ends;
        Ok(())
    }

    /// As [`Self::apply`], for a choice with one text.
    pub(super) fn apply_text(
        &mut self,
        rule: AnswerLinks,
        text: &mut String,
        ends: bool,
    ) -> Result<(), BackendError> {
        let mut part = Some(std::mem::take(text));
        self.apply(rule, [&mut part], ends)?;
        *text = part.unwrap_or_default();
        Ok(())
    }

    /// Whether a part of a text is held back.
    pub(super) fn is_holding(&self) -> bool {
        self.scanners.iter().any(LinkScanner::is_holding)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// The parts that are sent of these parts, the last of which ends the choice.
    fn sent(
        rule: AnswerLinks,
        parts: &[Option<&str>],
    ) -> Result<Vec<Option<String>>, BackendError> {
        let (mut texts, mut sent) = (ChoiceTexts::default(), Vec::new());
        for (index, part) in parts.iter().enumerate() {
            let (mut other, mut part) = (None, part.map(str::to_owned));
            texts.apply(rule, [&mut other, &mut part], index + 1 == parts.len())?;
            assert_eq!(other, None);
            sent.push(part);
        }
        assert!(!texts.is_holding());
        Ok(sent)
    }

    #[test]
    fn a_link_over_several_parts_is_escaped_or_refused() {
        for (parts, expected) in [
            (&["a !", "[x]", "(u)"][..], &["a ", "![x]", "\\(u)"][..]),
            (&["<i", "mg src", "=u>"], &["", "&lt;img src", "=u>"]),
        ] {
            let parts: Vec<_> = parts.iter().copied().map(Some).collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|part| Some((*part).to_owned()))
                .collect();
            assert_eq!(sent(AnswerLinks::Escape, &parts), Ok(expected));
            assert!(sent(AnswerLinks::Refuse, &parts).is_err(), "{parts:?}");
        }
    }

    #[test]
    fn a_reference_is_escaped_where_its_other_half_is_in_another_text_of_the_choice() {
        for (first, second, expected) in [
            ("[1]: u", "![x][1]", "! [x][1]"),
            ("![x][1]", "[1]: u", "[1]\\: u"),
        ] {
            for is_whole in [true, false] {
                let mut texts = ChoiceTexts::default();
                let (mut first, mut second) = (Some(first.to_owned()), Some(second.to_owned()));
                if is_whole {
                    let both = [&mut first, &mut second];
                    assert_eq!(texts.apply(AnswerLinks::Escape, both, true), Ok(()));
                } else {
                    let applied = texts.apply(AnswerLinks::Escape, [&mut None, &mut first], false);
                    assert_eq!(applied, Ok(()));
                    let applied = texts.apply(AnswerLinks::Escape, [&mut second], true);
                    assert_eq!(applied, Ok(()));
                }
                assert_eq!(second.as_deref(), Some(expected));
            }
        }
    }

    #[test]
    fn the_last_part_has_what_was_held_back_and_nothing_follows_it() {
        let held = sent(AnswerLinks::Refuse, &[Some("wow!"), None]).unwrap();
        assert_eq!(held, [Some("wow".to_owned()), Some("!".to_owned())]);
        let mut texts = ChoiceTexts::default();
        let mut part = |text: &str, ends| {
            let mut text = Some(text.to_owned());
            texts.apply(AnswerLinks::Escape, [&mut text], ends)
        };
        assert_eq!(part("![x]", true), Ok(()));
        assert_eq!(part("", true), Ok(()));
        assert!(part("(u)", false).is_err());
    }
}
