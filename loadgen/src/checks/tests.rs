//! Properties of the checks: what is counted is what came, and adding up parts forgets none of them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::base::content::ScheduleSlot;
use crate::checks::acceptances::{Acceptance, Acceptances, MessageId};
use crate::checks::check::{Answers, Checker, DeliveryResult, Member, Sightings, fingerprint, reconcile};
use crate::checks::figures::{Figures, ThreadFigures};
use crate::checks::known_pages::{corrupt_items, digest};
use crate::checks::latency::Latency;
use crate::checks::reach::Reach;
use crate::checks::whole_history::HistoryFigures;
use crate::plan::run_plan::OrderDemand;
use crate::plan::schedule::Schedule;
use crate::wire::Kind;
use crate::wire::history_page::Item;

/// The same figures with a different number in every place for one, and a duration in every latency.
pub fn filled<T: Serialize + DeserializeOwned>(empty: &T) -> T {
    let mut value = serde_json::to_value(empty).expect("figures travel as JSON");
    let mut next = 0;
    fill(&mut value, &mut next);
    assert!(next > 1, "there are places to fill");
    serde_json::from_value(value).expect("the same form with other numbers")
}

fn fill(value: &mut Value, next: &mut u64) {
    match value {
        Value::Object(members) => members.values_mut().for_each(|member| fill(member, next)),
        Value::Array(values) => values.iter_mut().for_each(|value| fill(value, next)),
        Value::Number(_) => {
            *next += 1;
            *value = (*next).into();
        }
        Value::String(_) => {
            if let Some(mut latency) = latency(value) {
                *next += 1;
                latency.record_ns(*next * 1_000_000);
                *value = serde_json::to_value(latency).expect("text");
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// An empty text is no latency: its histogram has a head at least.
fn latency(value: &Value) -> Option<Latency> {
    serde_json::from_value(value.clone()).ok()
}

/// Every number and the count of every latency, by its path.
pub fn numbers<T: Serialize>(figures: &T) -> Vec<(String, u64)> {
    let value = serde_json::to_value(figures).expect("figures travel as JSON");
    let mut found = Vec::new();
    collect("", &value, &mut found);
    found
}

fn collect(path: &str, value: &Value, found: &mut Vec<(String, u64)>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| collect(&below(name), value, found)),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(at, value)| collect(&below(&at.to_string()), value, found));
        }
        leaf => {
            let number = leaf.as_u64().or_else(|| Some(latency(leaf)?.percentiles().count));
            found.extend(number.map(|number| (path.to_owned(), number)));
        }
    }
}

/// Checks that `add` forgets no field: with nothing it is the same, and twice it is the double, except in these fields,
/// of which the larger counts.
pub fn check_adding<T: Serialize + DeserializeOwned + Default>(add: impl Fn(&mut T, T), of_maxima: &[&str]) {
    let one = filled(&T::default());
    let again = || filled(&T::default());
    let mut sum = T::default();
    add(&mut sum, again());
    assert_eq!(numbers(&sum), numbers(&one), "nothing and one are one");
    add(&mut sum, again());
    let expected = |(path, number): (String, u64)| {
        let factor = if of_maxima.contains(&path.as_str()) { 1 } else { 2 };
        (path, number * factor)
    };
    assert_eq!(numbers(&sum), numbers(&one).into_iter().map(expected).collect::<Vec<_>>(), "one twice");
}

#[test]
fn figures_of_threads_add_up_in_every_field() {
    check_adding(|sum: &mut Figures, part| sum.add(part), &["last_delivery_ns"]);
}

#[test]
fn figures_of_threads_keep_every_thread_room_and_sample() {
    let part = |number: u32| {
        let mut figures = Figures { threads: vec![ThreadFigures::between(100, 50, None)], ..Figures::default() };
        figures.sightings.push((number, Sightings { members: 3, order: vec![number], ids: vec![(number, 7)] }));
        figures.samples.put(|| format!("fault {number}"));
        figures
    };
    let mut sum = part(0);
    sum.add(part(1));
    assert_eq!((sum.threads.len(), sum.sightings.len(), sum.samples.into_texts().len()), (2, 2, 2));
}

#[test]
fn figures_of_histories_add_up_in_every_field() {
    // Figures of a history do not travel, so they are written by hand.
    let one = HistoryFigures {
        expected: 1,
        found: 2,
        missing: 3,
        duplicates: 4,
        out_of_order: 5,
        corrupt: 6,
        reworded: 7,
        removed_but_there: 8,
        unknown: 9,
        directions_differ: 10,
        foreign: 11,
        unread: 12,
    };
    let mut sum = HistoryFigures::default();
    sum.add(&one);
    assert_eq!(sum, one);
    sum.add(&one);
    let doubled = numbers(&one).into_iter().map(|(path, number)| (path, 2 * number)).collect::<Vec<_>>();
    assert_eq!(numbers(&sum), doubled);
}

#[test]
fn a_share_of_no_time_is_finite() {
    for (elapsed_ns, cpu_ns, waited_ns, busy, waiting) in
        [(0, 0, None, 0.0, None), (0, 5, Some(0), 5.0, Some(0.0)), (200, 50, Some(100), 0.25, Some(0.5))]
    {
        let found = ThreadFigures::between(elapsed_ns, cpu_ns, waited_ns);
        assert_eq!((found.busy, found.waiting), (busy, waiting), "{elapsed_ns} ns");
    }
}

#[test]
fn a_latency_without_a_sample_is_zero_and_one_sample_is_every_percentile() {
    let none = Latency::default();
    assert!(none.is_empty());
    assert_eq!(none.percentiles().count, 0);
    assert_eq!([0.0, 0.5, 1.0].map(|quantile| none.at_quantile_us(quantile)), [0; 3]);
    assert_eq!(none.quantiles().count(), 0);
    assert!(none.distribution().contains("Total count    =            0]"), "{}", none.distribution());
    for (ns, us) in [(0, 0), (999, 0), (1_000, 1), (7_999, 7), (1_500_000, 1_500)] {
        let mut latency = Latency::default();
        latency.record_ns(ns);
        let found = latency.percentiles();
        let all = [found.p50_us, found.p90_us, found.p99_us, found.p999_us, found.max_us];
        assert!(all.iter().all(|found| found.abs_diff(us) <= us / 1_000), "{ns} ns: {all:?}");
    }
}

#[test]
fn a_coarse_latency_grows_and_can_be_added_to_a_fine_one() {
    let mut coarse = Latency::coarse();
    for ns in [0, 1_000, 5_000_000_000, u64::MAX] {
        coarse.record_ns(ns);
    }
    let mut fine = Latency::default();
    fine.add(&coarse);
    coarse.add(&fine);
    assert_eq!((fine.percentiles().count, coarse.percentiles().count), (4, 8));
    let text = serde_json::to_string(&coarse).expect("text");
    let mut travelled: Latency = serde_json::from_str(&text).expect("what was written");
    travelled.record_ns(u64::MAX);
    assert_eq!(travelled.percentiles().count, 9);
    for broken in ["\"\"", "\"AAAA\"", "\"?\"", "7", "null"] {
        assert!(serde_json::from_str::<Latency>(broken).is_err(), "{broken}");
    }
}

#[test]
fn items_of_no_run_are_corrupt_and_those_of_any_run_are_not() {
    let item = |content: &str| Item { message_id: "m".to_owned(), code: 0, content: content.to_owned() };
    let mut written = String::new();
    let content = crate::base::content::Content { slot: ScheduleSlot { publisher: 1, number: 2 }, intended_ns: 3 };
    crate::base::content::write(&mut written, 7, content, 100);
    let items = [item(&written), item("{}"), item(&written.replace(":2", ":3")), item("")];
    assert_eq!((corrupt_items(&items, 7), corrupt_items(&items, 8), corrupt_items(&[], 7)), (3, 3, 0));
    assert_ne!(digest(&items), digest(&items[..3]));
}

fn schedule() -> Schedule {
    Schedule::steady(20.0, 3, Duration::ZERO, Duration::from_secs(1)).expect("a valid schedule")
}

fn answers(refused: &BTreeSet<u32>, unanswered: &BTreeSet<u32>) -> Answers {
    let of = |indices: &BTreeSet<u32>| {
        let mut numbers: HashMap<u32, Vec<u32>> = HashMap::new();
        for slot in indices.iter().map(|index| schedule().slot(*index)) {
            numbers.entry(slot.publisher).or_default().push(slot.number);
        }
        numbers
    };
    Answers { refused: of(refused), unanswered: of(unanswered), ..Answers::default() }
}

proptest! {
    /// Whatever one member hears, in any order and any number of times: each message is delivered or missing, each
    /// further arrival is a duplicate, and what was not accepted is counted apart.
    #[test]
    fn every_arrival_is_accounted_for(
        heard in vec(0_u32..20, 0..60),
        refused in proptest::collection::btree_set(0_u32..20, 0..6),
        unanswered in proptest::collection::btree_set(0_u32..20, 0..6),
        room: bool,
    ) {
        let demand = if room { OrderDemand::Room } else { OrderDemand::Publisher };
        let mut checker = Checker::new(schedule(), demand);
        let mut member = Member::new(&schedule());
        let mut duplicates = 0;
        for index in &heard {
            let found = checker.observe(&mut member, schedule().slot(*index), u64::from(*index)).result;
            duplicates += usize::from(found == DeliveryResult::Duplicate);
        }
        let unanswered: BTreeSet<u32> = unanswered.difference(&refused).copied().collect();
        let distinct: BTreeSet<u32> = heard.iter().copied().collect();
        prop_assert_eq!(duplicates, heard.len() - distinct.len());
        prop_assert_eq!(member.count(), distinct.len() as u64);
        for index in 0..20 {
            prop_assert_eq!(member.has_seen(schedule().slot(index)), distinct.contains(&index));
        }
        let tally = checker.tally(&member, &answers(&refused, &unanswered));
        let accepted = |index: &&u32| !refused.contains(index) && !unanswered.contains(index);
        let delivered = distinct.iter().filter(accepted).count() as u64;
        prop_assert_eq!(tally.expected, (20 - refused.len() - unanswered.len()) as u64);
        prop_assert_eq!((tally.delivered, tally.missing), (delivered, tally.expected - delivered));
        prop_assert_eq!(tally.refused_but_delivered, distinct.intersection(&refused).count() as u64);
        prop_assert_eq!(tally.unanswered_but_delivered, distinct.intersection(&unanswered).count() as u64);
    }

    /// Two threads that saw one order agree, whatever each of them missed. One exchange is found.
    #[test]
    fn threads_disagree_only_about_what_differs(
        order in Just((0_u32..20).collect::<Vec<_>>()).prop_shuffle(),
        missed in proptest::collection::btree_set(0_u32..20, 0..10),
        at in 0_usize..19,
    ) {
        let view = |order: &[u32]| Sightings {
            members: 2,
            order: order.to_vec(),
            ids: order.iter().map(|index| (*index, u64::from(*index) + 100)).collect(),
        };
        let part: Vec<u32> = order.iter().copied().filter(|index| !missed.contains(index)).collect();
        let (whole, part) = (view(&order), view(&part));
        let agreed = reconcile(&[&whole, &part], &whole.ids);
        prop_assert_eq!(agreed, Default::default());
        let mut exchanged = order.clone();
        exchanged.swap(at, at + 1);
        let found = reconcile(&[&whole, &view(&exchanged)], &[]);
        prop_assert_eq!((found.out_of_order, found.other_ids, found.shared_ids), (2, 0, 0));
    }

    #[test]
    fn acceptances_travel_unchanged(entries in vec((any::<u32>(), 0_u8..4, any::<u64>(), any::<u128>()), 0..40)) {
        let kinds = [Kind::New, Kind::Update, Kind::Removal, Kind::Event];
        let acceptance = |(index, kind, at_ns, id): (u32, u8, u64, u128)| {
            Acceptance { index, kind: kinds[usize::from(kind)], at_ns, id: MessageId(id) }
        };
        let acceptances = Acceptances(entries.into_iter().map(acceptance).collect());
        let text = serde_json::to_string(&acceptances).expect("text");
        prop_assert_eq!(serde_json::from_str::<Acceptances>(&text).expect("what was written"), acceptances);
    }

    #[test]
    fn an_id_is_known_by_its_text_and_a_uuid_keeps_its_order(one: u128, other: u128, text in ".{0,40}") {
        let uuid = |number: u128| {
            let digits = format!("{number:032x}");
            [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
        };
        prop_assert_eq!(MessageId::read(&uuid(one)), MessageId(one));
        prop_assert_eq!(MessageId::read(&uuid(one)).cmp(&MessageId::read(&uuid(other))), one.cmp(&other));
        prop_assert_eq!(MessageId::read(&text), MessageId::read(&text.clone()));
        let kinds = [Kind::New, Kind::Update, Kind::Removal].map(|kind| fingerprint(kind, &text));
        prop_assert!(kinds[0] != kinds[1] && kinds[1] != kinds[2] && kinds[0] != kinds[2]);
    }

    /// Parts of a reach may be added in any order and more than once: the last member counts.
    #[test]
    fn the_reach_of_all_is_the_longest_of_each(notes in vec((0_u32..20, 0_u64..10_000_000_000, 0_usize..3), 0..60)) {
        let mut parts = vec![Reach::new(&schedule(), 20); 3];
        let mut longest: HashMap<u32, u64> = HashMap::new();
        for (index, latency_ns, part) in notes {
            parts[part].note(index, latency_ns);
            let us = latency_ns.div_ceil(1_000).max(1);
            longest.entry(index).and_modify(|most| *most = us.max(*most)).or_insert(us);
        }
        let (mut forward, mut backward) = (Reach::default(), Reach::default());
        parts.iter().for_each(|part| forward.add(part));
        parts.iter().rev().chain(&parts).for_each(|part| backward.add(part));
        prop_assert_eq!(&forward, &backward);
        prop_assert_eq!(forward.count(), longest.len());
        let (mut measured, mut expected) = (Latency::default(), Latency::default());
        forward.measure(&schedule(), &mut measured);
        longest.values().for_each(|us| expected.record_ns(us * 1_000));
        prop_assert_eq!(measured.percentiles(), expected.percentiles());
        let text = serde_json::to_string(&forward).expect("text");
        prop_assert_eq!(serde_json::from_str::<Reach>(&text).expect("what was written"), forward);
    }
}
