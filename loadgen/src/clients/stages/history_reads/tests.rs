//! Reads of a history beside an event, against a server that answers as a test tells it to.

use std::cell::Cell;

use super::*;
use crate::base::clock::SECOND_NS;
use crate::checks::figures::Figures;
use crate::clients::stages::tests::conduct;
use crate::clients::tests::{answer, plan, run, serve, share, until};

/// In a fifth of a second, at a thousand reads a second.
const READS_END_NS: u64 = SECOND_NS / 5;

/// The reads of the first `readers` of six members, until they are over or `done` holds.
fn read(
    reads_a_second: f64,
    readers: usize,
    door: impl Fn(&str) -> Option<String> + 'static,
    done: impl Fn(&Figures) -> bool + 'static,
) -> Figures {
    let found = Rc::new(Cell::new(None));
    let outcome = found.clone();
    run(async move {
        let mut plan = plan(serve(door, |_, _| std::future::pending()).await, 6);
        let mut conduct = conduct(0.0);
        (conduct.end_ns, conduct.history_reads_a_second) = (READS_END_NS, reads_a_second);
        plan.conduct = Some(conduct);
        let stages = Stages::new(plan.into(), 1, None, share(0..6));
        let (_, crowd, _) = stages.member(0);
        let reading = read_on(stages.clone(), crowd, (0..readers).collect(), clock::now_ns());
        tokio::select! {
            () = reading => {}
            () = until(|| done(&stages.ledger.figures())) => {}
        }
        outcome.set(Some(stages.ledger.figures()));
    });
    found.take().expect("the test has run")
}

fn page(_: &str) -> Option<String> {
    answer("200 OK", "{}")
}

#[test]
fn a_crowd_makes_its_part_of_the_reads() {
    let made = |figures: &Figures| figures.history_reads + figures.history_left_out;
    let (all, half) = (read(1_000.0, 6, page, |_| false), read(1_000.0, 3, page, |_| false));
    assert_eq!((all.history_failures, all.history_faults, half.history_failures), (0, 0, 0));
    assert!((150..250).contains(&made(&all)) && (70..130).contains(&made(&half)), "{} {}", made(&all), made(&half));
    assert_eq!(made(&read(1_000.0, 6, page, |_| false)), made(&all), "the seed decides");
    assert_eq!(made(&read(0.0, 6, page, |_| false)), 0);
}

#[test]
fn reads_that_are_not_answered_are_not_made_without_a_bound() {
    let asked = Rc::new(Cell::new(0));
    let count = asked.clone();
    let silent = move |_: &str| {
        count.set(count.get() + 1);
        // The page itself never comes.
        Some("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n".to_owned())
    };
    let figures = read(1_000.0, 6, silent, |figures| figures.history_left_out >= 10);
    assert!(figures.history_left_out >= 10 && figures.history_reads == 0);
    assert!((1..=UNDER_WAY_MAX).contains(&asked.get()), "{} are under way", asked.get());
}

#[test]
fn a_read_that_fails_is_told_and_an_expired_session_is_replaced() {
    let refuse = |_: &str| answer("503 Later", "no disk");
    let figures = read(50.0, 6, refuse, |_| false);
    assert!(figures.history_failures > 0 && figures.history_reads == 0);
    assert!(figures.samples.into_texts()[0].contains("no disk"));
    let expire = |head: &str| match head {
        _ if head.starts_with("POST") => answer("200 OK", r#"{"token":"new"}"#),
        _ if head.contains("Bearer new") => answer("200 OK", "{}"),
        _ => answer("401 No", ""),
    };
    let figures = read(50.0, 6, expire, |_| false);
    assert!(figures.history_reads > 0 && figures.history_failures == 0);
}
