//! Tests of the calls of a streamed choice: what a client joins of the pieces that it gets.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "tests")]
use super::*;

fn piece<'p>(index: Option<u64>, id: &'p str, name: &'p str) -> WrittenPiece<'p> {
    WrittenPiece {
        index,
        id: Some(id).filter(|id| !id.is_empty()),
        name,
        has_arguments: false,
    }
}

fn named(offered: &[&str]) -> OfferedCalls {
    OfferedCalls::Named(offered.iter().map(|name| (*name).to_owned()).collect())
}

/// Whether these pieces of calls pass: an index, a piece of a name, whether arguments come.
fn passes(offered: &OfferedCalls, pieces: &[(u64, &str, bool)]) -> bool {
    let mut calls = CallNames::default();
    let added = pieces.iter().try_for_each(|(index, name, has_arguments)| {
        let piece = WrittenPiece {
            has_arguments: *has_arguments,
            ..piece(Some(*index), "", name)
        };
        calls.add(offered, piece).and(Ok(()))
    });
    added.and_then(|()| calls.check_end(offered)).is_ok()
}

/// The name that a client joins of these pieces.
fn joined(offered: &OfferedCalls, pieces: &[&str]) -> String {
    let mut calls = CallNames::default();
    let sent = pieces.iter().filter(|name| {
        let sent = calls.add(offered, piece(Some(0), "", name));
        sent.unwrap().sends_name
    });
    sent.copied().collect()
}

#[test]
fn names_are_compared_as_clients_join_them() {
    let offered = named(&["get", "get_all"]);
    for (pieces, expected) in [
        (&[(0, "get", true)][..], true),
        (&[(0, "get", false), (0, "", true), (0, "", true)], true),
        (
            &[(0, "get", true), (0, "get", true), (0, "get", true)],
            true,
        ),
        (
            &[(0, "ge", false), (0, "t_a", false), (0, "ll", true)],
            true,
        ),
        (&[(0, "get", false), (1, "ge", false), (1, "t", true)], true),
        (&[(99, "get", true)], true),
        (&[(0, "other", false)], false),
        (&[(0, "get", false), (0, "_x", false)], false),
        // A fragment is repeated, or a name with more behind it.
        (&[(0, "ge", false), (0, "ge", false)], false),
        (&[(0, "get", false), (0, "get_all", false)], false),
        // Not complete: before arguments, and at the end.
        (&[(0, "ge", true), (0, "t", false)], false),
        (&[(0, "ge", false)], false),
        (&[(0, "", true)], false),
        (&[(0, "", false)], false),
    ] {
        assert_eq!(passes(&offered, pieces), expected, "{pieces:?}");
    }
}

#[test]
fn a_repeated_name_is_sent_once_and_fragments_are_joined() {
    let any = || OfferedCalls::Any;
    for (offered, pieces, expected) in [
        (any(), &["look_up"; 3][..], "look_up"),
        (any(), &["look", "_up", "", "look_up"], "look_up"),
        (any(), &["a", "a"], "a"),
        (any(), &["a", "b", "a", "b"], "abab"),
        (named(&["look_up"]), &["look_up"; 3], "look_up"),
        (named(&["look_up"]), &["look", "_up", "look_up"], "look_up"),
        (named(&["aa"]), &["a", "a", "aa"], "aa"),
        // Which of the two is meant cannot be told.
        (named(&["a", "aa"]), &["a", "a"], "a"),
    ] {
        assert_eq!(joined(&offered, pieces), expected, "{offered:?} {pieces:?}");
    }
    let long = "f".repeat(MAX_WORD_BYTES);
    for (second, expected) in [(&*long, true), ("g", false)] {
        let pieces = [(0, &*long, true), (0, second, true)];
        assert_eq!(passes(&OfferedCalls::Any, &pieces), expected, "{second}");
    }
}

#[test]
fn an_id_is_sent_once() {
    let long = "x".repeat(129);
    for (pieces, expected) in [
        (
            &[("c1", "f"), ("c1", "f"), ("c1", "")][..],
            &[true, false, false][..],
        ),
        (&[("", "f"), ("", "")], &[true, false]),
        // Of a server that writes the ID late, the caller has another one already.
        (&[("", "f"), ("c1", "")], &[true, false]),
        (&[("", ""), ("c1", "f"), ("c2", "")], &[false, true, false]),
        (&[("", ""), ("", "f")], &[false, true]),
        (&[(&*long, "f"), (&*long, "f")], &[true, false]),
    ] {
        let mut calls = CallNames::default();
        let sent = pieces.iter().map(|(id, name)| {
            let sent = calls
                .add(&OfferedCalls::Any, piece(Some(0), id, name))
                .unwrap();
            assert_eq!(sent.index, 0, "{pieces:?}");
            sent.sends_id
        });
        assert_eq!(sent.collect::<Vec<_>>(), expected, "{pieces:?}");
    }
}

#[test]
fn pieces_without_an_index_belong_to_the_call_that_the_last_name_began() {
    let mut calls = CallNames::default();
    for (index, id, name, expected) in [
        (None, "", "f", (0, true)),
        (None, "", "", (0, false)),
        (None, "", "f", (1, true)),
        (Some(0), "", "", (0, false)),
        (None, "", "", (1, false)),
        // Unless they have the ID of a call.
        (None, "a", "f", (2, true)),
        (None, "b", "f", (3, true)),
        (None, "a", "f", (2, false)),
        (None, "a", "", (2, false)),
        (None, "", "", (3, false)),
        (Some(5), "", "f", (5, true)),
        (Some(5), "", "f", (5, false)),
        (Some(4), "", "f", (4, true)),
        (Some(u64::MAX), "", "f", (u64::MAX, true)),
        (Some(u64::MAX), "", "f", (u64::MAX, false)),
    ] {
        let sent = calls
            .add(&OfferedCalls::Any, piece(index, id, name))
            .unwrap();
        assert_eq!((sent.index, sent.is_first), expected, "{index:?} {id}");
    }
    let sent = CallNames::default().add(&OfferedCalls::Any, piece(None, "", ""));
    assert_eq!(sent.unwrap().index, 0);
}

#[test]
fn another_id_with_a_name_begins_another_call() {
    let mut calls = CallNames::default();
    for (index, id, name, expected) in [
        (0, "a", "f", (0, true)),
        (0, "", "", (0, false)),
        // A server may write another ID with each piece, but then no name.
        (0, "x", "", (0, false)),
        (0, "b", "f", (1, true)),
        (0, "", "", (1, false)),
        (0, "b", "f", (1, false)),
        (1, "c", "f", (2, true)),
        (1, "", "", (2, false)),
        (0, "d", "f", (3, true)),
        (3, "d", "", (3, false)),
        // Back to the first call.
        (0, "a", "f", (0, false)),
        (0, "", "", (0, false)),
    ] {
        let piece = piece(Some(index), id, name);
        let sent = calls.add(&OfferedCalls::Any, piece).unwrap();
        assert_eq!((sent.index, sent.is_first), expected, "{index} {id}");
    }
}

#[test]
fn what_is_kept_of_a_stream_is_bounded() {
    let long = "x".repeat(1_000);
    let mut calls = CallNames::default();
    for number in 0..100_000_u64 {
        let written = piece(Some(number % 3), &long, "look_up");
        let sent = calls.add(&OfferedCalls::Any, written).unwrap();
        assert_eq!(sent.sends_name, number < 3);
    }
    assert_eq!((calls.calls.len(), calls.moved.len()), (3, 0));
    for call in calls.calls.values() {
        assert_eq!(call.name, "look_up");
        assert_eq!(call.written_id.as_ref().map(String::len), Some(128));
    }
    let mut calls = CallNames::default();
    let sent = (0..1_000_u64).map(|number| {
        let (id, index) = (number.to_string(), (number % 2).saturating_mul(number));
        calls
            .add(&OfferedCalls::Any, piece(Some(index), &id, "f"))
            .is_ok()
    });
    assert_eq!(sent.filter(|is_ok| *is_ok).count(), MAX_CALLS);
    assert!(calls.calls.len() == MAX_CALLS && calls.moved.len() <= MAX_CALLS);
}

#[test]
fn a_generated_id_is_short_and_differs_between_calls() {
    assert_eq!(generated_id("id-1", 0, 2), "call_id-1_0_2");
    assert!(generated_id(&"x".repeat(128), 127, 31).len() < 64);
}

#[test]
fn any_call_is_a_fault_if_nothing_was_offered() {
    for pieces in [(0, "", false), (0, "", true), (0, "a", true)] {
        assert!(!passes(&named(&[]), &[pieces]), "{pieces:?}");
        assert!(passes(&OfferedCalls::Any, &[pieces]), "{pieces:?}");
    }
}
