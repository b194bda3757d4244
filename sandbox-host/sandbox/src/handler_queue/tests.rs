//! Tests of the job order, in tables and over thousands of random steps.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
use super::*;

/// Limits that no job reaches in these tests.
fn patient() -> QueueDelayLimits {
    QueueDelayLimits::from_queue_wait(Duration::from_secs(3_600))
}

fn idle() -> QueuedJob {
    came(Instant::now())
}

fn came(since: Instant) -> QueuedJob {
    QueuedJob::new(Arc::default(), Priority::Normal, Box::new(|| {}), since)
}

fn next(queues: &mut HandlerQueues) -> Option<u64> {
    let (running, _) = queues.pop(Instant::now(), Priority::Normal)?;
    Some(running.handler.0)
}

fn who(name: usize) -> ClientKey {
    ClientKey::from_name(Some(&name.to_string()))
}

/// A job of client 0.
fn push(queues: &mut HandlerQueues, handler: u64, job: QueuedJob) -> Option<QueuePosition> {
    Some(queues.push(HandlerId(handler), who(0), job).ok()?.0)
}

fn done(queues: &mut HandlerQueues, handler: u64) {
    done_of(queues, handler, 0);
}

fn done_of(queues: &mut HandlerQueues, handler: u64, client: usize) {
    let running = RunningJob {
        handler: HandlerId(handler),
        client_key: who(client),
    };
    queues.finish(running, Duration::from_millis(1));
}

#[test]
fn lanes_are_served_in_turn_whatever_they_queue() {
    let mut queues = HandlerQueues::new(9, 9, patient());
    for handler in [1, 1, 1, 1, 2, 3, 3] {
        assert!(push(&mut queues, handler, idle()).is_some());
    }
    let order: Vec<_> = std::iter::from_fn(|| next(&mut queues)).collect();
    assert_eq!(order, [1, 2, 3, 1, 3, 1, 1]);
}

#[test]
fn a_lane_at_its_width_leaves_the_last_thread_to_others() {
    let mut queues = HandlerQueues::new(2, 9, patient());
    for _ in 0..5 {
        assert!(push(&mut queues, 1, idle()).is_some());
    }
    assert_eq!(
        (next(&mut queues), next(&mut queues), next(&mut queues)),
        (Some(1), Some(1), None)
    );
    assert!(push(&mut queues, 2, idle()).is_some());
    assert_eq!(next(&mut queues), Some(2));
    done(&mut queues, 1);
    assert_eq!((next(&mut queues), next(&mut queues)), (Some(1), None));
}

#[test]
fn every_lane_has_its_thread_while_others_run_all_that_they_may() {
    let mut queues = HandlerQueues::new(3, 9, patient());
    for handler in [1, 1, 1, 1, 2, 2, 2, 3, 4] {
        assert!(push(&mut queues, handler, idle()).is_some());
    }
    // Two shared ones and one for each handler: all threads for four handlers and one client.
    let order: Vec<_> = std::iter::from_fn(|| next(&mut queues)).collect();
    assert_eq!(order, [1, 2, 3, 4, 1, 2]);
    assert_eq!(order.len() + extra_threads(3), threads(3, 4));
    done(&mut queues, 3);
    assert_eq!(
        next(&mut queues),
        None,
        "the kept thread of lane 3 stays free"
    );
    done(&mut queues, 2);
    assert_eq!((next(&mut queues), next(&mut queues)), (Some(1), None));
    for (width, handlers, expected) in [
        (1, 1, 1),
        (2, 1, 3),
        (3, 0, 4),
        (3, 1, 4),
        (3, 4, 7),
        (3, 10_000, MAX_RESERVED_THREADS + 3),
        (16, 1, 18),
    ] {
        assert_eq!(threads(width, handlers), expected, "{width} {handlers}");
    }
}

#[test]
fn a_full_lane_refuses_its_own_jobs_only() {
    let mut queues = HandlerQueues::new(1, 2, patient());
    for (handler, taken) in [(1, true), (1, true), (1, false), (2, true)] {
        assert_eq!(push(&mut queues, handler, idle()).is_some(), taken);
    }
}

#[test]
fn a_queue_that_stands_sheds_who_has_waited_in_vain_and_serves_who_came_late() {
    let ms = Duration::from_millis;
    let start = Instant::now();
    // Calls wait at most a second. So a queue may be busy for half of it, and then a job may wait
    // for a tenth of it.
    for (what, run, at, expected) in [
        ("it does not stand yet", Some(ms(1)), ms(500), 1),
        ("it stands", Some(ms(1)), ms(501), 3),
        ("its calls take long", Some(ms(80)), ms(501), 2),
        ("no call has ended", None, ms(501), 1),
        ("all came too early", Some(ms(1)), ms(700), 0),
    ] {
        let mut queues = HandlerQueues::new(1, 9, QueueDelayLimits::from_queue_wait(ms(1_000)));
        let came = |after| came(start + after);
        let mut tickets = Vec::new();
        for after in [ms(0), ms(200), ms(410)] {
            let queued = came(after);
            tickets.push(Arc::clone(&queued.handle));
            assert!(push(&mut queues, 1, queued).is_some());
        }
        queues.queues.get_mut(&HandlerId(1)).unwrap().run_time = run;
        let served = queues.pop(start + at, Priority::Normal).is_some();
        let late = queues.expired.len();
        assert_eq!(if served { late + 1 } else { 0 }, expected, "{what}");
        for (position, ticket) in tickets.iter().enumerate() {
            let shed = (position < late).then_some(Overload::QueueDelay);
            assert_eq!(ticket.withdrawn(), shed, "{what}: {position}");
        }
    }
}

#[test]
fn a_queue_that_was_empty_in_between_does_not_stand() {
    let ms = Duration::from_millis;
    let start = Instant::now();
    let mut queues = HandlerQueues::new(1, 9, QueueDelayLimits::from_queue_wait(ms(1_000)));
    let came = |after| came(start + after);
    for after in [ms(0), ms(600)] {
        assert!(push(&mut queues, 1, came(after)).is_some());
        assert!(
            queues
                .pop(start + after + ms(300), Priority::Normal)
                .is_some(),
            "{after:?}"
        );
        done(&mut queues, 1);
    }
}

#[test]
fn a_lane_without_work_is_forgotten() {
    let mut queues = HandlerQueues::new(1, 1, patient());
    assert!(push(&mut queues, 7, idle()).is_some());
    assert_eq!(next(&mut queues), Some(7));
    done(&mut queues, 7);
    assert!(queues.queues.is_empty());
}

#[test]
fn a_job_that_is_forgotten_frees_its_place_and_leaves_the_others() {
    let mut queues = HandlerQueues::new(1, 2, patient());
    let first = push(&mut queues, 1, idle()).unwrap();
    let second = push(&mut queues, 1, idle()).unwrap();
    let other = QueuePosition {
        handler: HandlerId(2),
        ..first
    };
    assert!(queues.remove(other).is_none(), "not its lane");
    assert!(queues.remove(first).is_some());
    assert!(queues.remove(first).is_none(), "it is gone");
    assert!(push(&mut queues, 1, idle()).is_some(), "its place is free");
    assert!(queues.remove(second).is_some());
    assert_eq!((next(&mut queues), next(&mut queues)), (Some(1), None));
    done(&mut queues, 1);
    assert!(queues.queues.is_empty());

    let only = push(&mut queues, 1, idle()).unwrap();
    assert!(queues.remove(only).is_some());
    assert!(queues.queues.is_empty(), "a lane without work is forgotten");
    assert!(queues.waiting.is_empty());
}

/// The queue and the client that are served next.
fn served(queues: &mut HandlerQueues, now: Instant) -> Option<(u64, usize)> {
    let (running, _) = queues.pop(now, Priority::Normal)?;
    let client = (0..9)
        .find(|client| who(*client) == running.client_key)
        .unwrap();
    Some((running.handler.0, client))
}

/// Queues a client's job that arrived at this time. Returns the preempted one.
fn joins(
    queues: &mut HandlerQueues,
    client: usize,
    since: Instant,
) -> Result<Option<Arc<JobHandle>>, ()> {
    match queues.push(HandlerId(1), who(client), came(since)) {
        Ok((_, gave_way)) => Ok(gave_way.map(|other| other.handle)),
        Err(_) => Err(()),
    }
}

#[test]
fn clients_of_one_lane_are_served_in_turn_whatever_they_queue() {
    let mut queues = HandlerQueues::new(1, 99, patient());
    let now = Instant::now();
    for client in [0, 0, 0, 0, 1, 2, 2] {
        assert!(joins(&mut queues, client, now).is_ok());
    }
    let mut order = Vec::new();
    while let Some((_, client)) = served(&mut queues, now) {
        order.push(client);
        done_of(&mut queues, 1, client);
    }
    assert_eq!(order, [0, 1, 2, 0, 2, 0, 0]);
}

#[test]
fn who_has_nothing_running_has_a_thread_where_another_runs_all_that_it_may() {
    let now = Instant::now();
    // Of 16 threads, two more.
    for (width, kept) in [(1, 0), (2, 1), (8, 1), (16, 2)] {
        let mut queues = HandlerQueues::new(width, 99, patient());
        for _ in 0..40 {
            assert!(joins(&mut queues, 0, now).is_ok());
        }
        let flood: Vec<_> = std::iter::from_fn(|| served(&mut queues, now)).collect();
        assert_eq!(flood, vec![(1, 0); width]);
        for client in [1, 1, 2, 2, 3, 3] {
            assert!(joins(&mut queues, client, now).is_ok());
        }
        let few: Vec<_> = std::iter::from_fn(|| served(&mut queues, now)).collect();
        assert_eq!(few, [(1, 1), (1, 2)][..kept], "{width}");
        if kept > 0 {
            // A flood does not get more. When a job ends, another client is next.
            done_of(&mut queues, 1, 1);
            assert_eq!(
                served(&mut queues, now),
                Some((1, if kept > 1 { 3 } else { 2 }))
            );
        }
        // Every other handler still has its own thread.
        assert!(push(&mut queues, 2, idle()).is_some());
        assert_eq!(served(&mut queues, now), Some((2, 0)));
    }
}

#[test]
fn a_full_lane_makes_room_for_who_has_less_there() {
    let now = Instant::now();
    let mut queues = HandlerQueues::new(1, 3, patient());
    for _ in 0..3 {
        assert!(joins(&mut queues, 0, now).unwrap().is_none());
    }
    assert!(joins(&mut queues, 0, now).is_err(), "its own jobs fill it");
    let gave_way = joins(&mut queues, 1, now).unwrap().unwrap();
    // The caller of the preempted job is notified.
    assert_eq!(gave_way.withdrawn(), Some(Overload::Preempted));
    // Two and one jobs: a preemption would only swap them.
    assert!(joins(&mut queues, 1, now).is_err());
    assert!(joins(&mut queues, 2, now).unwrap().is_some());
    assert!(joins(&mut queues, 3, now).is_err(), "each has one");
    let order: Vec<_> = std::iter::from_fn(|| {
        let (_, client) = served(&mut queues, now)?;
        done_of(&mut queues, 1, client);
        Some(client)
    })
    .collect();
    assert_eq!(order, [0, 1, 2]);
}

#[test]
fn in_a_queue_that_stands_each_client_has_its_part_of_the_time() {
    let ms = Duration::from_millis;
    let start = Instant::now();
    // One client floods from the start. Others arrive with three jobs each after half a second,
    // when the queue may not be busy any longer.
    for (what, others, at, expected) in [
        ("one is alone by its turn", 1, ms(990), vec![1, 1, 1]),
        (
            "two have half of the time",
            2,
            ms(749),
            vec![1, 2, 1, 2, 1, 2],
        ),
        ("and no more", 2, ms(751), vec![2, 2, 2]),
        ("three have a third", 3, ms(670), vec![2, 3, 2, 3, 2, 3]),
        ("no job waits for so long", 3, ms(1_010), vec![]),
    ] {
        let mut queues = HandlerQueues::new(1, 99, QueueDelayLimits::from_queue_wait(ms(1_000)));
        assert!(joins(&mut queues, 0, start).is_ok());
        assert_eq!(served(&mut queues, start), Some((1, 0)));
        for _ in 0..8 {
            assert!(joins(&mut queues, 0, start).is_ok());
        }
        for client in (1..=others).flat_map(|client| [client; 3]) {
            assert!(joins(&mut queues, client, start + ms(500)).is_ok());
        }
        done_of(&mut queues, 1, 0);
        let mut order = Vec::new();
        while let Some((_, client)) = served(&mut queues, start + at) {
            order.push(client);
            done_of(&mut queues, 1, client);
        }
        assert_eq!(order, expected, "{what}");
        assert_eq!(
            queues.expired.len(),
            8 + 3 * others - expected.len(),
            "{what}"
        );
    }
}

/// A simple model of the queues, which finds everything by search.
#[derive(Default)]
struct Plain {
    /// The waiting jobs in order of arrival: handler, client, position.
    waiting: Vec<(u64, usize, QueuePosition, Arc<JobHandle>)>,
    running: Vec<(u64, usize)>,
}

impl Plain {
    fn load(&self, handler: u64, client: usize) -> usize {
        let waits = (self.waiting.iter())
            .filter(|(its, client_key, ..)| (*its, *client_key) == (handler, client));
        waits.count() + self.has(handler, client)
    }

    fn has(&self, handler: u64, client: usize) -> usize {
        let runs = self
            .running
            .iter()
            .filter(|runs| **runs == (handler, client));
        runs.count()
    }

    fn runs(&self, handler: u64) -> usize {
        self.running
            .iter()
            .filter(|(its, _)| *its == handler)
            .count()
    }

    fn beside(&self) -> usize {
        (1..=LANES)
            .map(|handler| self.runs(handler).saturating_sub(1))
            .sum()
    }

    /// Whether there is a thread for a client's next job.
    fn may(&self, width: usize, handler: u64, client: usize) -> bool {
        let kept = if self.has(handler, client) == 0 {
            extra_threads(width)
        } else {
            0
        };
        self.runs(handler) == 0 || self.beside() < width - 1 + kept
    }
}

const LANES: u64 = 4;
const CLIENTS: usize = 4;
const QUEUE: usize = 6;

#[test]
fn no_job_is_passed_over_across_arrivals_runs_cancellations_and_preemptions() {
    for width in [1, 2, 3, 9] {
        let mut queues = HandlerQueues::new(width, QUEUE, patient());
        let mut plain = Plain::default();
        let mut state = u64::try_from(width).unwrap();
        let mut dice = |sides: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % sides
        };
        for step in 0..20_000 {
            // The first handler and the first client come as often as all others together.
            let handler = u64::try_from([1, 1, 1, 2, 3, 4][dice(6)]).unwrap();
            let client = [0, 0, 0, 1, 2, 3][dice(6)];
            match dice(8) {
                0..4 => {
                    let job = idle();
                    let ticket = Arc::clone(&job.handle);
                    let queued = plain
                        .waiting
                        .iter()
                        .filter(|(its, ..)| *its == handler)
                        .count();
                    let waiting = |client| {
                        plain
                            .waiting
                            .iter()
                            .any(|(its, client_key, ..)| (*its, *client_key) == (handler, client))
                    };
                    let most = (0..CLIENTS).filter(|client| waiting(*client));
                    let most = most
                        .map(|client| plain.load(handler, client))
                        .max()
                        .unwrap_or(0);
                    let room = queued < QUEUE || most > plain.load(handler, client) + 1;
                    let pushed = queues.push(HandlerId(handler), who(client), job);
                    assert_eq!(pushed.is_ok(), room, "{step}");
                    let Ok((position, gave_way)) = pushed else {
                        continue;
                    };
                    assert_eq!(gave_way.is_some(), queued == QUEUE, "{step}");
                    if let Some(other) = gave_way {
                        let mut theirs = plain.waiting.iter();
                        let found = theirs.rposition(|(.., its)| Arc::ptr_eq(its, &other.handle));
                        let (its, client_key, ..) = plain.waiting.remove(found.unwrap());
                        assert_eq!(
                            (its, plain.load(handler, client_key) + 1),
                            (handler, most),
                            "{step}"
                        );
                        let newer = plain.waiting.iter().skip(found.unwrap());
                        let newer = newer.filter(|(a, b, ..)| (*a, *b) == (its, client_key));
                        assert_eq!(newer.count(), 0, "{step}: its newest");
                    }
                    plain.waiting.push((handler, client, position, ticket));
                }
                4 if !plain.waiting.is_empty() => {
                    let (_, _, position, ticket) = plain.waiting.remove(dice(plain.waiting.len()));
                    let taken = queues.remove(position).unwrap();
                    assert!(Arc::ptr_eq(&taken.handle, &ticket), "{step}");
                    assert!(queues.remove(position).is_none(), "{step}");
                }
                5 if !plain.running.is_empty() => {
                    let (handler, client) = plain.running.swap_remove(dice(plain.running.len()));
                    done_of(&mut queues, handler, client);
                }
                _ => {
                    let ready = |(handler, client): (u64, usize)| plain.may(width, handler, client);
                    let any = plain
                        .waiting
                        .iter()
                        .any(|(handler, client, ..)| ready((*handler, *client)));
                    let next = served(&mut queues, Instant::now());
                    assert_eq!(next.is_some(), any, "{step}: no thread is idle in vain");
                    let Some((handler, client)) = next else {
                        continue;
                    };
                    assert!(ready((handler, client)), "{step}");
                    let least = plain.waiting.iter().filter(|(its, ..)| *its == handler);
                    let least = least
                        .map(|(_, client_key, ..)| plain.has(handler, *client_key))
                        .min();
                    assert_eq!(
                        Some(plain.has(handler, client)),
                        least,
                        "{step}: the fewest"
                    );
                    let mut waiting = plain.waiting.iter();
                    let oldest = waiting.position(|(a, b, ..)| (*a, *b) == (handler, client));
                    plain.waiting.remove(oldest.unwrap());
                    plain.running.push((handler, client));
                }
            }
            assert_eq!(queues.extra_jobs, plain.beside(), "{step}");
            assert_eq!(
                queues.waiting.is_empty(),
                plain.waiting.is_empty(),
                "{step}"
            );
            let busy = |handler: &u64| {
                plain.runs(*handler) > 0 || plain.waiting.iter().any(|(its, ..)| its == handler)
            };
            let expected = (1..=LANES).filter(busy).map(HandlerId);
            assert!(queues.queues.keys().copied().eq(expected), "{step}");
            let most = threads(width, usize::try_from(LANES).unwrap());
            assert!(plain.running.len() <= most, "{step}");
        }
    }
}

#[test]
fn who_has_waited_the_shortest_is_told_of_a_job_and_no_more_than_there_are_cores() {
    let mut queues = HandlerQueues::new(2, 9, patient());
    let threads: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(|| {}).thread().clone())
        .collect();
    for thread in &threads {
        queues.park(thread.clone());
    }
    let tell = |queues: &mut HandlerQueues| queues.thread_to_wake().map(|thread| thread.id());
    assert_eq!(tell(&mut queues), None, "there is no job");
    for handler in [1, 2, 3] {
        assert!(push(&mut queues, handler, idle()).is_some());
    }
    let told: Vec<_> = std::iter::from_fn(|| tell(&mut queues)).collect();
    assert_eq!(told, [threads[3].id(), threads[2].id()]);
    assert!(!queues.try_wake(threads[0].id()), "it was not notified");
    assert!(queues.try_wake(threads[3].id()));
    assert_eq!(tell(&mut queues), Some(threads[1].id()));
    let rest: Vec<_> = queues.stop().iter().map(Thread::id).collect();
    assert_eq!(rest, [threads[0].id()]);
    assert!(queues.is_stopped() && queues.try_wake(threads[0].id()));
}

#[test]
fn a_thread_with_lowered_priority_takes_no_job_of_higher_priority() {
    let mut queues = HandlerQueues::new(4, 9, patient());
    let now = Instant::now();
    let ranks = [Priority::Lowest, Priority::Low, Priority::Normal];
    for rank in ranks {
        let job = QueuedJob::new(Arc::default(), rank, Box::new(|| {}), now);
        assert!(push(&mut queues, 1, job).is_some());
    }
    let mut pops = |rank| queues.pop(now, rank).is_some();
    assert!(pops(Priority::Low), "further back");
    assert!(!pops(Priority::Lowest), "further forward");
    assert!(pops(Priority::Low), "as far back");
    assert!(!pops(Priority::Low) && pops(Priority::Normal));
}
