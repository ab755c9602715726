//! What coordinator and workers send to each other arrives unchanged, and parts add up without loss.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::checks::acceptances::{Acceptance, Acceptances, MessageId};
use crate::checks::known_pages::{KnownPage, PageKind};
use crate::checks::latency::Latency;
use crate::checks::tests::{check_adding, filled, numbers};
use crate::orders::idle_users::Resident;
use crate::plan::actions::ActionShares;
use crate::plan::lives::Conduct;
use crate::plan::run_plan::{OrderDemand, RoomPlan};
use crate::plan::schedule::Schedule;
use crate::plan::target::{SignInKind, Target};
use crate::plan::timetable::Timetable;
use crate::wire::{Dialect, Entrance, Kind, Plain};

fn target() -> Target {
    let plain = Plain {
        url: "ws://[::1]:9/{room}".to_owned(),
        greeting: Some("hi {user}".to_owned()),
        welcome: None,
        send: "{content}".to_owned(),
    };
    Target {
        server: ([127, 0, 0, 1], 7350).into(),
        dialect: Dialect::Plain(plain),
        server_key: "key".to_owned(),
        sign_in: SignInKind::Device,
        account_prefix: "p-".to_owned(),
        read_buffer_bytes: 512,
    }
}

fn entrance() -> Entrance {
    Entrance { room: "ro\"om".to_owned(), hidden: true, persistence: false }
}

fn plan() -> Plan {
    let schedule = Schedule::steady(12.5, 3, Duration::from_millis(250), Duration::from_secs(2)).expect("valid");
    let actions = ActionShares { updates: 4, removals: 2 };
    let conduct = Conduct {
        ramp_ns: 1,
        end_ns: u64::MAX,
        churn_a_second: 0.02,
        away_max_ns: 2,
        reconnect_ns: 3,
        reconnect_share: 0.125,
        slow_share: 1.0,
        slow_frames_a_second: 10.0,
        skip_share: 0.0,
        history_reads_a_second: 0.1,
        drain_secs: None,
    };
    Plan {
        run: u32::MAX,
        seed: u64::MAX,
        target: target(),
        rooms: vec![RoomPlan { users: 0..9, entrance: entrance(), schedule, payload_bytes: 100, actions }],
        order: OrderDemand::Publisher,
        threads: Some(2),
        conduct: Some(conduct),
        in_flight: 7,
        reads_only: true,
    }
}

/// Checks that the other side reads what this side writes: written again, it is the same.
fn check_travelling<T: Serialize + for<'a> Deserialize<'a>>(message: &T) {
    let line = serde_json::to_string(message).expect("text");
    assert!(!line.contains('\n'), "a message is one line: {line}");
    let read: T = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    // As values, because maps have no order.
    let written: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), written);
}

#[test]
fn every_order_travels_unchanged() {
    let page = KnownPage { kind: PageKind::Back, forward: true, cursor: "c=".to_owned(), items: 7, digest: u64::MAX };
    let sources = Sources::choose(100_000, [127, 0, 0, 1].into(), 100, 3);
    assert!(sources.is_some(), "too many users for one address");
    let reading = Reading {
        target: target(),
        run: 1,
        seed: u64::MAX,
        channel_id: "2...r".to_owned(),
        limit: 100,
        pages: vec![page.clone(), KnownPage { kind: PageKind::Newest, ..page }],
        newest: 0.1,
        timetable: Timetable { rate_milli: 1, warmup_ns: 2, end_ns: u64::MAX },
        readers: 1..5,
        readers_total: 9,
        threads: None,
        in_flight: 3,
    };
    let holding = Holding {
        target: target(),
        entrance: Some(entrance()),
        users: 4..9,
        threads: Some(3),
        in_flight: 2,
        sources,
        expects_drain: true,
    };
    let acceptance = Acceptance { index: 3, kind: Kind::Removal, at_ns: u64::MAX, id: MessageId(u128::MAX) };
    let answers = Answers {
        refused: HashMap::from([(0, vec![1, 2])]),
        unanswered: HashMap::from([(1, vec![])]),
        acceptances: Acceptances(vec![acceptance]),
    };
    for order in [
        Order::SignIn(Assignment { plan: plan(), users: 3..7, in_flight: 2, sources }),
        Order::SignIn(Assignment { plan: Plan { conduct: None, ..plan() }, users: 0..0, in_flight: 0, sources: None }),
        Order::Hold(holding.clone()),
        Order::Hold(Holding { entrance: None, sources: None, threads: None, ..holding }),
        Order::Read(reading),
        Order::Join,
        Order::Begin { start_ns: u64::MAX },
        Order::Stop,
        Order::Tally { answers: HashMap::from([(u32::MAX, answers)]), clock_margin_ns: u64::MAX },
        Order::Tally { answers: HashMap::new(), clock_margin_ns: 0 },
    ] {
        check_travelling(&order);
    }
}

#[test]
fn every_word_travels_unchanged() {
    let mut fetched = filled(&Fetched::default());
    fetched.latencies.insert(PageKind::Newest, Latency::coarse());
    fetched.samples.put(|| "a \"fault\"\nof two lines".to_owned());
    let mut figures = filled(&Figures::default());
    figures.sightings.push((7, Sightings { members: 1, order: vec![2, 0], ids: vec![(2, u64::MAX)] }));
    let mut held = filled(&Held::default());
    held.resident.push(Resident { first_user: 3, before_bytes: 4, held_bytes: u64::MAX });
    let publishes = PublishAnswers {
        answers: Answers { refused: HashMap::from([(3, vec![0])]), ..Answers::default() },
        acknowledged: Identities(vec![(0, 1), (u32::MAX, u64::MAX)]),
    };
    for word in [
        Word::Progress(filled(&Progress::default())),
        Word::Second(Box::new(filled(&Second::new(3)))),
        Word::SignedIn,
        Word::Joined,
        Word::Answers(Publishes(HashMap::from([(5, publishes)]))),
        Word::Figures(Box::new(figures)),
        Word::Held(Box::new(held)),
        Word::Fetched(Box::new(fetched)),
        Word::Failed { what: "no \"way\"\n".to_owned() },
        Word::Ended { status: String::new() },
    ] {
        check_travelling(&word);
    }
}

#[test]
fn what_is_no_message_is_refused() {
    for line in
        ["", "{}", "null", "[]", r#""rest""#, r#"{"begin":{}}"#, r#"{"begin":{"start_ns":-1}}"#, r#"{"tally":7}"#]
    {
        assert!(serde_json::from_str::<Order>(line).is_err(), "{line}");
    }
    for line in ["", "{}", r#""stop""#, r#"{"progress":{}}"#, r#"{"figures":{}}"#, r#"{"failed":{}}"#] {
        assert!(serde_json::from_str::<Word>(line).is_err(), "{line}");
    }
}

#[test]
fn results_of_threads_add_up_in_every_field() {
    check_adding(|sum: &mut Fetched, part| sum.add(part), &[]);
    check_adding(|sum: &mut Held, part| sum.add(part), &[]);
    check_adding(|sum: &mut Progress, part: Progress| sum.add(&part), &[]);
    let one = filled(&Progress::default());
    assert_eq!(numbers(&one.minus(&one)), numbers(&Progress::default()), "what is taken away is every field");
}

#[test]
fn a_second_adds_up_and_keeps_what_was_longest() {
    let one = filled(&Second::new(3));
    let mut sum = one.clone();
    sum.add(&one);
    let maxima = ["at", "lateness_max_us", "lag_max_us", "thread_cpu_us"];
    let expected = |(path, number): (String, u64)| {
        let factor = if maxima.contains(&path.as_str()) { 1 } else { 2 };
        (path, factor * number)
    };
    assert_eq!(numbers(&sum), numbers(&one).into_iter().map(expected).collect::<Vec<_>>());
}

#[test]
fn the_words_of_threads_become_one_of_the_same_kind() {
    let progress = |word: Word| serde_json::to_value(word).expect("JSON");
    let fetched = |asked| Word::Fetched(Box::new(Fetched { asked, ..Fetched::default() }));
    let held = |connected| Word::Held(Box::new(Held { connected, ..Held::default() }));
    let figures = |corrupt| Word::Figures(Box::new(Figures { corrupt, ..Figures::default() }));
    assert_eq!(progress(fetched(1).and(fetched(2)))["fetched"]["asked"], 3);
    assert_eq!(progress(held(1).and(held(2)))["held"]["connected"], 3);
    assert_eq!(progress(figures(1).and(figures(2)))["figures"]["corrupt"], 3);
    assert!(matches!(Word::Joined.and(Word::Joined), Word::Joined));
    for (word, last) in [(fetched(0), true), (held(0), true), (figures(0), true), (Word::Joined, false)] {
        assert_eq!(word.is_last(), last, "{word:?}");
    }
}

proptest! {
    #[test]
    fn sightings_and_identities_of_any_size_travel(
        members: u32,
        order in vec(any::<u32>(), 0..40),
        ids in vec(any::<(u32, u64)>(), 0..40),
    ) {
        let sightings = Sightings { members, order, ids };
        let line = serde_json::to_string(&sightings).expect("text");
        prop_assert_eq!(serde_json::from_str::<Sightings>(&line).expect("what was written"), sightings);
    }

    /// The publishers of a room are on several threads: no answer is lost or taken twice, whoever adds first.
    #[test]
    fn answers_of_threads_add_up_in_any_order(parts in vec((0_u32..3, 0_u32..50, vec(0_u32..9, 0..5)), 0..10)) {
        let part = |number: usize, (room, publisher, refused): &(u32, u32, Vec<u32>)| {
            // A publisher is on one thread.
            let publisher = publisher * 100 + number as u32;
            let answers = Answers { refused: HashMap::from([(publisher, refused.clone())]), ..Answers::default() };
            let acknowledged = Identities(vec![(publisher, 1)]);
            Publishes(HashMap::from([(*room, PublishAnswers { answers, acknowledged })]))
        };
        let (mut forward, mut backward) = (Publishes::default(), Publishes::default());
        let all: Vec<_> = parts.iter().enumerate().collect();
        all.iter().for_each(|(number, answers)| forward.add(part(*number, answers)));
        all.iter().rev().for_each(|(number, answers)| backward.add(part(*number, answers)));
        let sorted = |publishes: &Publishes| {
            let rooms = publishes.answers().into_iter();
            rooms.map(|(room, answers)| (room, answers.refused.into_iter().collect::<BTreeMap<_, _>>()))
                .collect::<BTreeMap<_, _>>()
        };
        prop_assert_eq!(sorted(&forward), sorted(&backward));
        let publishers: usize = sorted(&forward).values().map(BTreeMap::len).sum();
        let acknowledged: usize = forward.0.values().map(|room| room.acknowledged.0.len()).sum();
        prop_assert_eq!((publishers, acknowledged), (parts.len(), parts.len()));
    }
}

#[test]
fn sightings_travel_unchanged() {
    let sightings = Sightings { members: 7, order: vec![3, 1, u32::MAX], ids: vec![(3, 5), (u32::MAX, u64::MAX)] };
    let line = serde_json::to_string(&sightings).expect("text");
    assert_eq!(serde_json::from_str::<Sightings>(&line).expect("what was written"), sightings);
    for broken in [r#"{"members":1,"order":"AAA=","ids":""}"#, r#"{"members":1,"order":"","ids":"AAAA"}"#] {
        assert!(serde_json::from_str::<Sightings>(broken).is_err(), "{broken}");
    }
}

#[test]
fn answers_travel_unchanged() {
    let refused = HashMap::from([(3, vec![1, 2]), (0, Vec::new())]);
    let answers = Answers { refused: refused.clone(), ..Answers::default() };
    let order = Order::Tally { answers: HashMap::from([(5, answers)]), clock_margin_ns: 7 };
    let line = serde_json::to_string(&order).expect("text");
    let Ok(Order::Tally { answers, clock_margin_ns }) = serde_json::from_str(&line) else { panic!("{line}") };
    assert_eq!((&answers[&5].refused, clock_margin_ns), (&refused, 7));
}
