//! Which job comes next, in tables and among thousands of steps.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
use super::*;

/// Nobody waits for longer than this here.
fn patient() -> Patience {
    Patience::of(Duration::from_secs(3_600))
}

fn idle() -> Queued {
    came(Instant::now())
}

fn came(since: Instant) -> Queued {
    Queued::new(Arc::default(), Rank::Usual, Box::new(|| {}), since)
}

fn next(lanes: &mut Lanes) -> Option<u64> {
    let (seat, _) = lanes.pop(Instant::now(), Rank::Usual)?;
    Some(seat.lane.0)
}

fn who(name: usize) -> Whose {
    Whose::of(Some(&name.to_string()))
}

/// A job of client 0.
fn push(lanes: &mut Lanes, lane: u64, job: Queued) -> Option<Place> {
    Some(lanes.push(LaneId(lane), who(0), job).ok()?.0)
}

fn done(lanes: &mut Lanes, lane: u64) {
    done_of(lanes, lane, 0);
}

fn done_of(lanes: &mut Lanes, lane: u64, client: usize) {
    let seat = Seat {
        lane: LaneId(lane),
        whose: who(client),
    };
    lanes.done(seat, Duration::from_millis(1));
}

#[test]
fn lanes_are_served_in_turn_whatever_they_queue() {
    let mut lanes = Lanes::new(9, 9, patient());
    for lane in [1, 1, 1, 1, 2, 3, 3] {
        assert!(push(&mut lanes, lane, idle()).is_some());
    }
    let order: Vec<_> = std::iter::from_fn(|| next(&mut lanes)).collect();
    assert_eq!(order, [1, 2, 3, 1, 3, 1, 1]);
}

#[test]
fn a_lane_at_its_width_leaves_the_last_thread_to_others() {
    let mut lanes = Lanes::new(2, 9, patient());
    for _ in 0..5 {
        assert!(push(&mut lanes, 1, idle()).is_some());
    }
    assert_eq!(
        (next(&mut lanes), next(&mut lanes), next(&mut lanes)),
        (Some(1), Some(1), None)
    );
    assert!(push(&mut lanes, 2, idle()).is_some());
    assert_eq!(next(&mut lanes), Some(2));
    done(&mut lanes, 1);
    assert_eq!((next(&mut lanes), next(&mut lanes)), (Some(1), None));
}

#[test]
fn every_lane_has_its_thread_while_others_run_all_that_they_may() {
    let mut lanes = Lanes::new(3, 9, patient());
    for lane in [1, 1, 1, 1, 2, 2, 2, 3, 4] {
        assert!(push(&mut lanes, lane, idle()).is_some());
    }
    // Two beside their own lane's first, and one of each lane: all threads that there are for four handlers and one client.
    let order: Vec<_> = std::iter::from_fn(|| next(&mut lanes)).collect();
    assert_eq!(order, [1, 2, 3, 4, 1, 2]);
    assert_eq!(order.len() + kept(3), threads(3, 4));
    done(&mut lanes, 3);
    assert_eq!(
        next(&mut lanes),
        None,
        "the kept thread of lane 3 stays free"
    );
    done(&mut lanes, 2);
    assert_eq!((next(&mut lanes), next(&mut lanes)), (Some(1), None));
    for (width, handlers, expected) in [
        (1, 1, 1),
        (2, 1, 3),
        (3, 0, 4),
        (3, 1, 4),
        (3, 4, 7),
        (3, 10_000, MAX_KEPT_THREADS + 3),
        (16, 1, 18),
    ] {
        assert_eq!(threads(width, handlers), expected, "{width} {handlers}");
    }
}

#[test]
fn a_full_lane_refuses_its_own_jobs_only() {
    let mut lanes = Lanes::new(1, 2, patient());
    for (lane, taken) in [(1, true), (1, true), (1, false), (2, true)] {
        assert_eq!(push(&mut lanes, lane, idle()).is_some(), taken);
    }
}

#[test]
fn a_queue_that_stands_sheds_who_has_waited_in_vain_and_serves_who_came_late() {
    let ms = Duration::from_millis;
    let start = Instant::now();
    // Up to a second is waited: a queue may stand for half of it, and then a tenth of it is waited.
    for (what, run, at, expected) in [
        ("it does not stand yet", Some(ms(1)), ms(500), 1),
        ("it stands", Some(ms(1)), ms(501), 3),
        ("its calls take long", Some(ms(80)), ms(501), 2),
        ("no call has ended", None, ms(501), 1),
        ("all came too early", Some(ms(1)), ms(700), 0),
    ] {
        let mut lanes = Lanes::new(1, 9, Patience::of(ms(1_000)));
        let came = |after| came(start + after);
        let mut tickets = Vec::new();
        for after in [ms(0), ms(200), ms(410)] {
            let queued = came(after);
            tickets.push(Arc::clone(&queued.ticket));
            assert!(push(&mut lanes, 1, queued).is_some());
        }
        lanes.lanes.get_mut(&LaneId(1)).unwrap().run = run;
        let served = lanes.pop(start + at, Rank::Usual).is_some();
        let late = lanes.late.len();
        assert_eq!(if served { late + 1 } else { 0 }, expected, "{what}");
        for (place, ticket) in tickets.iter().enumerate() {
            let shed = (place < late).then_some(Overload::Shed);
            assert_eq!(ticket.withdrawn(), shed, "{what}: {place}");
        }
    }
}

#[test]
fn a_queue_that_was_empty_in_between_does_not_stand() {
    let ms = Duration::from_millis;
    let start = Instant::now();
    let mut lanes = Lanes::new(1, 9, Patience::of(ms(1_000)));
    let came = |after| came(start + after);
    for after in [ms(0), ms(600)] {
        assert!(push(&mut lanes, 1, came(after)).is_some());
        assert!(
            lanes.pop(start + after + ms(300), Rank::Usual).is_some(),
            "{after:?}"
        );
        done(&mut lanes, 1);
    }
}

#[test]
fn a_lane_without_work_is_forgotten() {
    let mut lanes = Lanes::new(1, 1, patient());
    assert!(push(&mut lanes, 7, idle()).is_some());
    assert_eq!(next(&mut lanes), Some(7));
    done(&mut lanes, 7);
    assert!(lanes.lanes.is_empty());
}

#[test]
fn a_job_that_is_forgotten_frees_its_place_and_leaves_the_others() {
    let mut lanes = Lanes::new(1, 2, patient());
    let first = push(&mut lanes, 1, idle()).unwrap();
    let second = push(&mut lanes, 1, idle()).unwrap();
    let other = Place {
        lane: LaneId(2),
        ..first
    };
    assert!(lanes.take(other).is_none(), "not its lane");
    assert!(lanes.take(first).is_some());
    assert!(lanes.take(first).is_none(), "it is gone");
    assert!(push(&mut lanes, 1, idle()).is_some(), "its place is free");
    assert!(lanes.take(second).is_some());
    assert_eq!((next(&mut lanes), next(&mut lanes)), (Some(1), None));
    done(&mut lanes, 1);
    assert!(lanes.lanes.is_empty());

    let only = push(&mut lanes, 1, idle()).unwrap();
    assert!(lanes.take(only).is_some());
    assert!(lanes.lanes.is_empty(), "a lane without work is forgotten");
    assert!(lanes.waiting.is_empty());
}

/// Who is served next, and in which lane.
fn served(lanes: &mut Lanes, now: Instant) -> Option<(u64, usize)> {
    let (seat, _) = lanes.pop(now, Rank::Usual)?;
    let client = (0..9).find(|client| who(*client) == seat.whose).unwrap();
    Some((seat.lane.0, client))
}

/// Queues a client's job, which came then; who gives way.
fn joins(lanes: &mut Lanes, client: usize, since: Instant) -> Result<Option<Arc<Ticket>>, ()> {
    match lanes.push(LaneId(1), who(client), came(since)) {
        Ok((_, gave_way)) => Ok(gave_way.map(|other| other.ticket)),
        Err(_) => Err(()),
    }
}

#[test]
fn clients_of_one_lane_are_served_in_turn_whatever_they_queue() {
    let mut lanes = Lanes::new(1, 99, patient());
    let now = Instant::now();
    for client in [0, 0, 0, 0, 1, 2, 2] {
        assert!(joins(&mut lanes, client, now).is_ok());
    }
    let mut order = Vec::new();
    while let Some((_, client)) = served(&mut lanes, now) {
        order.push(client);
        done_of(&mut lanes, 1, client);
    }
    assert_eq!(order, [0, 1, 2, 0, 2, 0, 0]);
}

#[test]
fn who_has_nothing_running_has_a_thread_where_another_runs_all_that_it_may() {
    let now = Instant::now();
    // Of 16 threads, two more.
    for (width, kept) in [(1, 0), (2, 1), (8, 1), (16, 2)] {
        let mut lanes = Lanes::new(width, 99, patient());
        for _ in 0..40 {
            assert!(joins(&mut lanes, 0, now).is_ok());
        }
        let flood: Vec<_> = std::iter::from_fn(|| served(&mut lanes, now)).collect();
        assert_eq!(flood, vec![(1, 0); width]);
        for client in [1, 1, 2, 2, 3, 3] {
            assert!(joins(&mut lanes, client, now).is_ok());
        }
        let few: Vec<_> = std::iter::from_fn(|| served(&mut lanes, now)).collect();
        assert_eq!(few, [(1, 1), (1, 2)][..kept], "{width}");
        if kept > 0 {
            // Whoever floods has no more for it: what ends is another's turn first.
            done_of(&mut lanes, 1, 1);
            assert_eq!(
                served(&mut lanes, now),
                Some((1, if kept > 1 { 3 } else { 2 }))
            );
        }
        // Every other lane has its own all the same.
        assert!(push(&mut lanes, 2, idle()).is_some());
        assert_eq!(served(&mut lanes, now), Some((2, 0)));
    }
}

#[test]
fn a_full_lane_makes_room_for_who_has_less_there() {
    let now = Instant::now();
    let mut lanes = Lanes::new(1, 3, patient());
    for _ in 0..3 {
        assert!(joins(&mut lanes, 0, now).unwrap().is_none());
    }
    assert!(joins(&mut lanes, 0, now).is_err(), "its own jobs fill it");
    let gave_way = joins(&mut lanes, 1, now).unwrap().unwrap();
    // Whoever waits for it is told.
    assert_eq!(gave_way.withdrawn(), Some(Overload::GaveWay));
    // Two and one: they would change places.
    assert!(joins(&mut lanes, 1, now).is_err());
    assert!(joins(&mut lanes, 2, now).unwrap().is_some());
    assert!(joins(&mut lanes, 3, now).is_err(), "each has one");
    let order: Vec<_> = std::iter::from_fn(|| {
        let (_, client) = served(&mut lanes, now)?;
        done_of(&mut lanes, 1, client);
        Some(client)
    })
    .collect();
    assert_eq!(order, [0, 1, 2]);
}

#[test]
fn in_a_queue_that_stands_each_client_has_its_part_of_the_time() {
    let ms = Duration::from_millis;
    let start = Instant::now();
    // One floods from the beginning, others come with three each at half a second: a queue may stand for that.
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
        ("nobody waits for so long", 3, ms(1_010), vec![]),
    ] {
        let mut lanes = Lanes::new(1, 99, Patience::of(ms(1_000)));
        assert!(joins(&mut lanes, 0, start).is_ok());
        assert_eq!(served(&mut lanes, start), Some((1, 0)));
        for _ in 0..8 {
            assert!(joins(&mut lanes, 0, start).is_ok());
        }
        for client in (1..=others).flat_map(|client| [client; 3]) {
            assert!(joins(&mut lanes, client, start + ms(500)).is_ok());
        }
        done_of(&mut lanes, 1, 0);
        let mut order = Vec::new();
        while let Some((_, client)) = served(&mut lanes, start + at) {
            order.push(client);
            done_of(&mut lanes, 1, client);
        }
        assert_eq!(order, expected, "{what}");
        assert_eq!(lanes.late.len(), 8 + 3 * others - expected.len(), "{what}");
    }
}

/// One of thousands of steps: what a lane holds, found by looking at all of it.
#[derive(Default)]
struct Plain {
    /// Who waits, in the order in which they came: lane, client, place.
    waiting: Vec<(u64, usize, Place, Arc<Ticket>)>,
    running: Vec<(u64, usize)>,
}

impl Plain {
    fn load(&self, lane: u64, client: usize) -> usize {
        let waits =
            (self.waiting.iter()).filter(|(its, whose, ..)| (*its, *whose) == (lane, client));
        waits.count() + self.has(lane, client)
    }

    fn has(&self, lane: u64, client: usize) -> usize {
        let runs = self.running.iter().filter(|runs| **runs == (lane, client));
        runs.count()
    }

    fn runs(&self, lane: u64) -> usize {
        self.running.iter().filter(|(its, _)| *its == lane).count()
    }

    fn beside(&self) -> usize {
        (1..=LANES)
            .map(|lane| self.runs(lane).saturating_sub(1))
            .sum()
    }

    /// Whether a thread is there for a client's next job.
    fn may(&self, width: usize, lane: u64, client: usize) -> bool {
        let kept = if self.has(lane, client) == 0 {
            kept(width)
        } else {
            0
        };
        self.runs(lane) == 0 || self.beside() < width - 1 + kept
    }
}

const LANES: u64 = 4;
const CLIENTS: usize = 4;
const QUEUE: usize = 6;

#[test]
fn whoever_comes_runs_leaves_or_gives_way_nobody_is_passed_over() {
    for width in [1, 2, 3, 9] {
        let mut lanes = Lanes::new(width, QUEUE, patient());
        let mut plain = Plain::default();
        let mut state = u64::try_from(width).unwrap();
        let mut dice = |sides: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % sides
        };
        for step in 0..20_000 {
            // The first lane and the first client come as often as all others.
            let lane = u64::try_from([1, 1, 1, 2, 3, 4][dice(6)]).unwrap();
            let client = [0, 0, 0, 1, 2, 3][dice(6)];
            match dice(8) {
                0..4 => {
                    let job = idle();
                    let ticket = Arc::clone(&job.ticket);
                    let queued = plain
                        .waiting
                        .iter()
                        .filter(|(its, ..)| *its == lane)
                        .count();
                    let waiting = |client| {
                        plain
                            .waiting
                            .iter()
                            .any(|(its, whose, ..)| (*its, *whose) == (lane, client))
                    };
                    let most = (0..CLIENTS).filter(|client| waiting(*client));
                    let most = most
                        .map(|client| plain.load(lane, client))
                        .max()
                        .unwrap_or(0);
                    let room = queued < QUEUE || most > plain.load(lane, client) + 1;
                    let pushed = lanes.push(LaneId(lane), who(client), job);
                    assert_eq!(pushed.is_ok(), room, "{step}");
                    let Ok((place, gave_way)) = pushed else {
                        continue;
                    };
                    assert_eq!(gave_way.is_some(), queued == QUEUE, "{step}");
                    if let Some(other) = gave_way {
                        let mut theirs = plain.waiting.iter();
                        let found = theirs.rposition(|(.., its)| Arc::ptr_eq(its, &other.ticket));
                        let (its, whose, ..) = plain.waiting.remove(found.unwrap());
                        assert_eq!((its, plain.load(lane, whose) + 1), (lane, most), "{step}");
                        let newer = plain.waiting.iter().skip(found.unwrap());
                        let newer = newer.filter(|(a, b, ..)| (*a, *b) == (its, whose));
                        assert_eq!(newer.count(), 0, "{step}: its newest");
                    }
                    plain.waiting.push((lane, client, place, ticket));
                }
                4 if !plain.waiting.is_empty() => {
                    let (_, _, place, ticket) = plain.waiting.remove(dice(plain.waiting.len()));
                    let taken = lanes.take(place).unwrap();
                    assert!(Arc::ptr_eq(&taken.ticket, &ticket), "{step}");
                    assert!(lanes.take(place).is_none(), "{step}");
                }
                5 if !plain.running.is_empty() => {
                    let (lane, client) = plain.running.swap_remove(dice(plain.running.len()));
                    done_of(&mut lanes, lane, client);
                }
                _ => {
                    let ready = |(lane, client): (u64, usize)| plain.may(width, lane, client);
                    let any = plain
                        .waiting
                        .iter()
                        .any(|(lane, client, ..)| ready((*lane, *client)));
                    let next = served(&mut lanes, Instant::now());
                    assert_eq!(next.is_some(), any, "{step}: no thread is idle in vain");
                    let Some((lane, client)) = next else {
                        continue;
                    };
                    assert!(ready((lane, client)), "{step}");
                    let least = plain.waiting.iter().filter(|(its, ..)| *its == lane);
                    let least = least.map(|(_, whose, ..)| plain.has(lane, *whose)).min();
                    assert_eq!(Some(plain.has(lane, client)), least, "{step}: the fewest");
                    let mut waiting = plain.waiting.iter();
                    let oldest = waiting.position(|(a, b, ..)| (*a, *b) == (lane, client));
                    plain.waiting.remove(oldest.unwrap());
                    plain.running.push((lane, client));
                }
            }
            assert_eq!(lanes.beside, plain.beside(), "{step}");
            assert_eq!(lanes.waiting.is_empty(), plain.waiting.is_empty(), "{step}");
            let busy = |lane: &u64| {
                plain.runs(*lane) > 0 || plain.waiting.iter().any(|(its, ..)| its == lane)
            };
            let expected = (1..=LANES).filter(busy).map(LaneId);
            assert!(lanes.lanes.keys().copied().eq(expected), "{step}");
            lanes.lanes.values().for_each(|lane| lane.turns.sound());
            let most = threads(width, usize::try_from(LANES).unwrap());
            assert!(plain.running.len() <= most, "{step}");
        }
    }
}

#[test]
fn who_has_waited_the_shortest_is_told_of_a_job_and_no_more_than_there_are_cores() {
    let mut lanes = Lanes::new(2, 9, patient());
    let threads: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(|| {}).thread().clone())
        .collect();
    for thread in &threads {
        lanes.wait(thread.clone());
    }
    let tell = |lanes: &mut Lanes| lanes.tell().map(|thread| thread.id());
    assert_eq!(tell(&mut lanes), None, "there is no job");
    for lane in [1, 2, 3] {
        assert!(push(&mut lanes, lane, idle()).is_some());
    }
    let told: Vec<_> = std::iter::from_fn(|| tell(&mut lanes)).collect();
    assert_eq!(told, [threads[3].id(), threads[2].id()]);
    assert!(!lanes.wakes(threads[0].id()), "nobody told it");
    assert!(lanes.wakes(threads[3].id()));
    assert_eq!(tell(&mut lanes), Some(threads[1].id()));
    let rest: Vec<_> = lanes.stop().iter().map(Thread::id).collect();
    assert_eq!(rest, [threads[0].id()]);
    assert!(lanes.is_stopped() && lanes.wakes(threads[0].id()));
}

#[test]
fn whoever_stands_back_gets_no_job_that_starts_further_forward() {
    let mut lanes = Lanes::new(4, 9, patient());
    let now = Instant::now();
    let ranks = [Rank::Last, Rank::Back, Rank::Usual];
    for rank in ranks {
        let job = Queued::new(Arc::default(), rank, Box::new(|| {}), now);
        assert!(push(&mut lanes, 1, job).is_some());
    }
    let mut pops = |rank| lanes.pop(now, rank).is_some();
    assert!(pops(Rank::Back), "further back");
    assert!(!pops(Rank::Last), "further forward");
    assert!(pops(Rank::Back), "as far back");
    assert!(!pops(Rank::Back) && pops(Rank::Usual));
}
