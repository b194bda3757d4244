//! Which record counts, for how long, and what rules may add.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests"
)]

use tensorgate_policy::Policy;
use tensorgate_policy::values::AlertAction;
use tensorgate_policy_compiler::validate::validate;

use super::*;

/// A time of day, in Unix milliseconds.
const NOON_MS: u64 = 1_764_072_000_000;
const MINUTE_MS: u64 = 60_000;

/// So long after noon, by both clocks.
const fn after(ms: u64) -> Now {
    Now {
        unix_ms: NOON_MS + ms,
        mono_ms: ms,
    }
}

/// A block by an operator.
fn block(lasts_ms: u64, earlier: Option<&BlockRecord>, now: Now) -> BlockRecord {
    let record = BlockRecord::new("web", BlockAction::Block, lasts_ms, earlier, now.unix_ms);
    record.made_by("user 1000".to_owned(), "odd requests")
}

/// A block of this client at noon.
fn block_of(client: &str) -> BlockRecord {
    BlockRecord {
        client: client.to_owned(),
        ..block(MINUTE_MS, None, after(0))
    }
}

fn list(record: BlockRecord, now: Now) -> BlockList {
    let mut list = BlockList::default();
    assert!(list.merge(record, now));
    list
}

#[test]
fn a_block_ends_by_itself_and_only_its_client_is_denied() {
    let list = list(block(MINUTE_MS, None, after(0)), after(0));
    assert!(list.in_force("web", after(MINUTE_MS - 1)).is_some());
    assert!(list.in_force("web", after(MINUTE_MS)).is_none());
    assert!(list.in_force("Web", after(0)).is_none());
}

#[test]
fn a_jump_of_the_clock_neither_ends_nor_prolongs_a_block() {
    let taken = after(0);
    let list = list(block(MINUTE_MS, None, taken), taken);
    for unix_ms in [0, NOON_MS + 1_000 * MINUTE_MS] {
        let at = |mono_ms| Now { unix_ms, mono_ms };
        assert!(list.in_force("web", at(MINUTE_MS - 1)).is_some());
        assert!(list.in_force("web", at(MINUTE_MS)).is_none());
    }
}

#[test]
fn a_host_whose_clock_is_behind_blocks_no_longer_than_stated() {
    let behind = Now {
        unix_ms: 0,
        mono_ms: 0,
    };
    let list = list(block(MINUTE_MS, None, after(0)), behind);
    let end = Now {
        unix_ms: MINUTE_MS,
        mono_ms: MINUTE_MS,
    };
    assert!(list.in_force("web", end).is_none());
}

#[test]
fn a_record_that_is_over_does_not_begin_again_where_the_clock_is_behind() {
    let record = block(MINUTE_MS, None, after(MINUTE_MS));
    let mut list = list(record.clone(), after(0));
    let end = after(MINUTE_MS);
    assert_eq!(list.sweep(end), 0);
    // Another gateway's list has it for another minute.
    assert!(!list.merge(record, end));
    assert!(list.in_force("web", end).is_none());
    assert_eq!(list.sweep(after(2 * MINUTE_MS)), 0);
    assert!(list.is_empty());
}

#[test]
fn the_later_record_counts_in_any_order() {
    let first = block(10 * MINUTE_MS, None, after(0));
    // The second operator's clock is behind.
    let lifted = block(0, Some(&first), after(0));
    let again = block(MINUTE_MS, Some(&lifted), after(0));
    for order in [[&first, &lifted], [&lifted, &first]] {
        let mut list = BlockList::default();
        for record in order {
            list.merge(record.clone(), after(1));
        }
        assert!(list.in_force("web", after(2)).is_none(), "it is lifted");
        assert!(!list.merge(first.clone(), after(3)));
        assert!(list.merge(again.clone(), after(4)));
        assert!(list.in_force("web", after(5)).is_some());
        // The first record would still be in force, so the later ones are kept.
        assert_eq!(list.sweep(after(9 * MINUTE_MS)), 0);
        assert!(!list.merge(first.clone(), after(9 * MINUTE_MS)));
        assert_eq!(list.sweep(after(10 * MINUTE_MS)), 0);
        assert!(list.is_empty());
        assert!(!list.merge(first.clone(), after(10 * MINUTE_MS)), "over");
    }
}

#[test]
fn records_of_other_gateways_leave_room_for_those_of_the_file() {
    let mut list = BlockList::default();
    let shared = (0..1_000).map(|number| block_of(&format!("shared-{number}")));
    let taken = shared.filter(|record| list.merge_shared(record.clone(), after(0)));
    assert_eq!(taken.count(), 64);
    let mut own = (0..256).map(|number| block_of(&format!("own-{number}")));
    assert!(own.all(|record| list.merge(record, after(0))));
    // A later record about a client needs no room.
    let lifted = |client: &str| {
        let first = block_of(client);
        BlockRecord::new(client, BlockAction::Block, 0, Some(&first), NOON_MS)
    };
    for client in ["shared-0", "own-0"] {
        assert!(list.merge_shared(lifted(client), after(0)), "{client}");
    }
    assert!(!list.merge_shared(block_of("another"), after(0)));
}

#[test]
fn a_client_that_the_file_names_too_leaves_its_room_to_other_gateways() {
    let mut list = BlockList::default();
    for number in 0..64 {
        assert!(list.merge_shared(block_of(&format!("shared-{number}")), after(0)));
    }
    assert!(!list.merge_shared(block_of("another"), after(0)));
    // The file has the same record.
    assert!(!list.merge(block_of("shared-0"), after(0)));
    assert!(list.merge_shared(block_of("another"), after(0)));
}

#[test]
fn a_record_of_another_gateway_from_far_ahead_is_not_taken() {
    const LATEST_MS: u64 = (1 << 53) - 1;
    let at = |unix_ms| Now {
        unix_ms,
        ..after(0)
    };
    let far = block(MINUTE_MS, None, at(LATEST_MS - MINUTE_MS));
    far.check().unwrap();
    let mut list = BlockList::default();
    assert!(!list.merge_shared(far, after(0)));
    let near = block(MINUTE_MS, None, after(MAX_BLOCK_MS));
    assert!(list.merge_shared(near.clone(), after(0)));
    // An operator can still change it.
    block(MAX_BLOCK_MS, Some(&near), after(0)).check().unwrap();
}

#[test]
fn only_records_that_another_list_lacks_are_news() {
    let first = block(MINUTE_MS, None, after(0));
    let later = block(0, Some(&first), after(0));
    let list = list(later.clone(), after(0));
    let newer = |known: &BlockRecord| {
        let known = BTreeMap::from([("web".to_owned(), known.version())]);
        list.newer_than(&known, after(1))
    };
    assert_eq!(newer(&first), std::slice::from_ref(&later));
    assert!(newer(&later).is_empty());
    assert_eq!(list.newer_than(&BTreeMap::new(), after(1)), [later]);
    assert!(
        list.newer_than(&BTreeMap::new(), after(MINUTE_MS))
            .is_empty(),
        "it is over"
    );
}

#[test]
fn a_throttled_client_has_one_request_in_ten_served() {
    let throttle = BlockRecord {
        action: BlockAction::Throttle,
        ..block(MINUTE_MS, None, after(0))
    };
    let mut list = list(throttle, after(0));
    let mut passes = |at| list.refuse_request("web", after(at)).is_none();
    let served: Vec<_> = (0..30).filter(|_| passes(1)).collect();
    assert_eq!(served, [0, 10, 20]);
    assert!((0..30).all(|_| passes(MINUTE_MS)), "it is over");
}

/// A policy with so many clients, all with a grant, whose rule on volume does this.
fn responses(clients: usize, action: &str) -> Responses {
    let client = |number: usize| {
        let digest = format!("{number:064x}");
        let key = serde_json::json!({"api_keys": [{"sha256": digest}]});
        (format!("client-{number}"), key)
    };
    let clients: serde_json::Map<_, _> = (0..clients).map(client).collect();
    let names: Vec<_> = clients.keys().cloned().collect();
    let tensor = serde_json::json!({"name": "x", "datatype": "FP32", "shape": [1]});
    let policy = serde_json::json!({
        "version": 1,
        "clients": clients,
        "backends": {"gpu": {"kind": "embedded", "models": "models/"}},
        "models": {"m": {
            "backend": "gpu", "versions": ["1"], "protocols": ["oip-rest"],
            "inputs": [tensor], "outputs": [tensor]
        }},
        "grants": [{"name": "g", "clients": names, "models": ["m"], "operations": ["infer"]}],
        "watch": {"on_alert": {"volume": action}, "response_s": 60}
    });
    let (policy, _): (Policy, _) = validate(&serde_json::from_value(policy).unwrap()).unwrap();
    Responses::from_policy(&policy)
}

const fn alert(rule: WatchRule, client: &str) -> ClientAlert<'_> {
    let what = "sends far more requests than usual";
    ClientAlert { rule, client, what }
}

#[test]
fn rules_block_a_bounded_number_of_clients() {
    for (clients, most) in [(2, 1), (19, 1), (20, 2), (100, 5)] {
        let responses = responses(clients, "block");
        let mut list = BlockList::default();
        // Neither a block by an operator nor one of a client without a grant counts.
        list.merge(block(MINUTE_MS, None, after(0)), after(0));
        let without_grant = block_of("without-grant");
        list.merge(
            without_grant.made_by(BlockRecord::by_rule("volume"), ""),
            after(0),
        );
        let unknown = alert(WatchRule::Volume, "unknown");
        let response = list.respond(&unknown, &responses, after(0));
        assert_eq!(response, Response::NoGrant);
        let mut respond = |number: usize, now| {
            let client = format!("client-{number}");
            list.respond(&alert(WatchRule::Volume, &client), &responses, now)
        };
        for number in 0..most {
            let response = respond(number, after(0));
            assert!(matches!(response, Response::Taken(_)), "{response:?}");
        }
        assert_eq!(respond(most, after(0)), Response::Beyond(most));
        assert!(matches!(respond(0, after(1)), Response::InForce(_)));
        // Blocks end by themselves, which makes room.
        let response = respond(most, after(MINUTE_MS));
        assert!(matches!(response, Response::Taken(_)), "{response:?}");
    }
}

#[test]
fn a_rule_does_what_the_policy_says_and_an_operator_has_the_last_word() {
    let mut list = BlockList::default();
    let [notify, throttle, all] = ["notify", "throttle", "block"].map(|it| responses(1, it));
    let volume = alert(WatchRule::Volume, "client-0");
    let other = alert(WatchRule::NewSource, "client-0");
    assert_eq!(list.respond(&volume, &notify, after(0)), Response::Notify);
    assert_eq!(list.respond(&other, &all, after(0)), Response::Notify);
    let Response::Taken(record) = list.respond(&volume, &throttle, after(0)) else {
        panic!("it throttles")
    };
    assert_eq!(record.check(), Ok(()));
    assert_eq!(
        (record.by.as_str(), record.action),
        ("rule volume", BlockAction::Throttle)
    );
    let stronger = list.respond(&volume, &all, after(1));
    assert!(matches!(stronger, Response::Taken(_)), "{stronger:?}");
    let weaker = list.respond(&volume, &throttle, after(2));
    assert!(matches!(weaker, Response::InForce(_)));
    let known = list.in_force("client-0", after(3)).cloned();
    let lifted = BlockRecord {
        client: "client-0".to_owned(),
        ..block(0, known.as_ref(), after(3))
    };
    assert!(list.merge(lifted, after(3)));
    let lifted = list.respond(&volume, &all, after(4));
    assert_eq!(lifted, Response::Lifted);
    let later = list.respond(&volume, &all, after(2 * MINUTE_MS));
    assert!(matches!(later, Response::Taken(_)), "{later:?}");
}

#[test]
fn an_alert_beyond_the_bound_is_answered_once_a_block_ends() {
    const HOUR_MS: u64 = 60 * MINUTE_MS;
    let responses = responses(100, "block");
    let mut list = BlockList::default();
    let mut waiting = WaitingAlerts::default();
    let names: Vec<_> = (0..100).map(|number| format!("client-{number}")).collect();
    let alerts: Vec<_> = names
        .iter()
        .map(|name| alert(WatchRule::Volume, name))
        .collect();
    for blocked in &alerts[..5] {
        let response = list.respond(blocked, &responses, after(0));
        assert!(matches!(response, Response::Taken(_)), "{response:?}");
    }
    let kept = alerts[5..]
        .iter()
        .filter(|alert| waiting.add(alert, &responses, after(0)));
    assert_eq!(kept.count(), 64, "the number that wait is bounded");
    assert!(
        waiting.add(&alerts[5], &responses, after(1)),
        "it waits already"
    );
    let mut answered = |ms| -> Vec<_> {
        let taken = waiting.answer(&mut list, &responses, after(ms));
        taken.into_iter().map(|record| record.client).collect()
    };
    assert!(answered(MINUTE_MS - 1).is_empty());
    assert_eq!(answered(MINUTE_MS), names[5..10], "in the order of alerts");
    assert!(answered(2 * MINUTE_MS - 1).is_empty());
    assert_eq!(answered(2 * MINUTE_MS), names[10..15]);
    assert!(
        answered(HOUR_MS).is_empty(),
        "a rule can repeat its alert by now"
    );
}

#[test]
fn the_denial_names_who_blocked_and_until_when() {
    let blocks = Blocks::new(Responses::default());
    let now = blocks.now();
    let record = block(MINUTE_MS, None, now);
    let until = record.until();
    blocks.merge([record]);
    let denial = blocks.check_request(Some("web")).unwrap();
    assert_eq!(denial.reason, Reason::Blocked);
    let cause = format!("the client is blocked until {until} by user 1000: odd requests");
    assert_eq!(denial.cause, cause);
    assert_eq!(blocks.check_request(None), None, "a public request");
    assert_eq!(blocks.check_stream(Some("other")), None);
    assert_eq!(blocks.take_news().len(), 1);
    assert!(blocks.take_news().is_empty());
    assert_eq!(blocks.sweep(), 1);
}

/// Changes a valid record to one with a fault.
type Damage = fn(&mut BlockRecord);

#[test]
fn a_file_with_a_fault_is_rejected_whole() {
    let record = block(MINUTE_MS, None, after(0));
    let check = |blocks: Vec<BlockRecord>| BlockFile { blocks }.check();
    assert_eq!(check(vec![record.clone()]), Ok(()));
    let faults: [(&str, Damage); 7] = [
        ("client", |it| it.client = String::new()),
        ("client", |it| it.client = "c".repeat(129)),
        ("by", |it| it.by = "a\nb".to_owned()),
        ("reason", |it| it.reason = "r".repeat(201)),
        ("times", |it| it.until_ms = it.forget_ms + 1),
        ("times", |it| {
            it.forget_ms = it.changed_ms + MAX_BLOCK_MS + 1
        }),
        ("times", |it| it.changed_ms = u64::MAX),
    ];
    for (text, change) in faults {
        let mut record = record.clone();
        change(&mut record);
        let fault = check(vec![record]).unwrap_err();
        assert!(
            fault.starts_with("block 1: ") && fault.contains(text),
            "{fault}"
        );
    }
    assert!(
        check(vec![record.clone(), record.clone()]).is_err(),
        "twice"
    );
    let many = (0..257).map(|number| BlockRecord {
        client: number.to_string(),
        ..record.clone()
    });
    assert!(check(many.collect()).is_err());
    let actions = [AlertAction::Throttle, AlertAction::Block].map(BlockAction::from_alert);
    assert_eq!(
        actions,
        [Some(BlockAction::Throttle), Some(BlockAction::Block)]
    );
}

#[test]
fn a_record_of_an_operator_replaces_the_one_before_and_drops_those_that_are_over() {
    let mut file = BlockFile::default();
    let old = BlockRecord {
        client: "old".to_owned(),
        ..block(1, None, after(0))
    };
    file.put(old, NOON_MS);
    let first = block(MINUTE_MS, None, after(0));
    file.put(first.clone(), NOON_MS);
    let second = block(0, Some(&first), after(2));
    file.put(second.clone(), NOON_MS + 2);
    assert_eq!(file.blocks, [second]);
}

#[test]
fn a_block_of_a_rule_survives_a_restart() {
    let path = std::env::temp_dir().join(format!("tg-rule-blocks-{}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    let file = BlockFile::of_rules(&path.join("decisions.jsonl"));
    assert_eq!(
        BlockFile::read_of_rules(&file).unwrap(),
        BlockFile::default()
    );
    let before = Blocks::new(responses(2, "block"));
    let response = before.respond(WatchRule::Volume, "client-0", "sends too much");
    assert!(matches!(response, Response::Taken(_)), "{response:?}");
    // A block by an operator is in the file of operators.
    let now = before.now().unix_ms;
    let operators = BlockRecord::new("client-1", BlockAction::Block, MINUTE_MS, None, now);
    before.merge([operators.made_by("user 1000".to_owned(), "")]);
    // A link in the folder leads to a file that the host must not change.
    let other = path.join("other");
    std::fs::write(&other, "kept").unwrap();
    std::os::unix::fs::symlink(&other, file.with_extension("json.new")).unwrap();
    BlockFile::write(before.of_rules(), &file).unwrap();
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "kept");
    let next = Blocks::new(responses(2, "block"));
    next.merge(BlockFile::read_of_rules(&file).unwrap().blocks);
    assert!(next.check_request(Some("client-0")).is_some());
    assert!(next.check_request(Some("client-1")).is_none());
    std::fs::remove_dir_all(path).unwrap();
}
