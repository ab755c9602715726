//! A commit that does not end: its writers learn that the outcome is unknown, everything behind it is refused, and nothing
//! of what was refused is ever done.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::staged::*;
use common::*;
use engine::persist::{StoreFailure, StoreQuestion, StoreReceipt, Ticket};
use storage::account::Revocation;
use storage::bridge::{Bridge, StoreQueue};
use storage::{Failure, PageStart, Store};

const PATIENCE: Duration = Duration::from_millis(30);
const DEADLINE: Duration = Duration::from_secs(30);

/// A bridge whose committer waits in the commit of message 1 of the lobby, with a question behind the message.
fn stalled(stage: &Stage) -> (Bridge, StoreQueue) {
    let (bridge, mut ends) = Bridge::start_with(stage.store.clone(), 1, PATIENCE).unwrap();
    let end = ends.pop().unwrap();
    // The bell is rung once for both, so that they are in one group.
    end.put(Ticket(1), request(insert(&room("lobby"), 1, 7))).unwrap();
    end.put(Ticket(2), StoreQuestion::Head { channel: room("lobby") }).unwrap();
    end.ring();
    assert_eq!(stage.groups.recv(), Ok(1));
    (bridge, end)
}

/// The failures of the next receipts, by ticket.
fn failures(end: &StoreQueue, count: usize) -> Vec<(Ticket, StoreFailure)> {
    let mut found: Vec<_> =
        (0..count).map(|_| receive(end)).map(|(ticket, found)| (ticket, found.unwrap_err())).collect();
    found.sort_by_key(|(ticket, _)| ticket.0);
    found
}

#[test]
fn the_writers_of_a_stalled_commit_learn_that_its_outcome_is_unknown() {
    let stage = stage();
    let (bridge, end) = stalled(&stage);
    let told = failures(&end, 2);
    assert!(told[0].1.outcome_unknown && told[0].1.message.contains("not answered within"), "{told:?}");
    assert!(!told[1].1.outcome_unknown, "a question changes nothing: {told:?}");
    let reason = bridge.client().unready().expect("writes are refused");
    assert!(reason.contains("the disk does not answer"), "{reason}");

    // The disk answers: the group is stored after all, and once.
    stage.outcomes.send(Ok(())).unwrap();
    drop(stage.outcomes);
    await_ready(&bridge);
    send_insert(&end, &room("lobby"), 2);
    assert_eq!(receive(&end), (Ticket(2), Ok(StoreReceipt::Inserted)));
    let page = wait(bridge.client().messages(room("lobby"), PageStart::Oldest, 9)).unwrap().items;
    assert_eq!(page, [1, 2].map(|number| message(&room("lobby"), number, 7)));
    bridge.stop().unwrap();
}

#[test]
fn what_waits_behind_a_stalled_commit_is_refused_and_never_done() {
    let stage = stage();
    let (bridge, end) = stalled(&stage);
    let mut sent = 0;
    while end.has_room() {
        sent += 1;
        send_insert(&end, &room("other"), 100 + sent);
    }
    let client = bridge.client();
    let revoked = wait(client.revoke(Revocation::User { id: user(1), issued_before: Default::default() }));
    assert!(matches!(&revoked, Err(Failure::Passing(reason)) if reason.contains("does not answer")), "{revoked:?}");
    let told = failures(&end, sent as usize + 2);
    let unknown: BTreeSet<_> =
        told.iter().filter(|(_, told)| told.outcome_unknown).map(|(ticket, _)| ticket.0).collect();
    assert_eq!(unknown, BTreeSet::from([1]), "only what was being written");
    assert_eq!(end.in_flight(), 0, "the shard may send again");
    send_insert(&end, &room("other"), 9);
    assert!(!failures(&end, 1)[0].1.outcome_unknown, "as long as it lasts");
    assert_eq!(wait(client.messages(room("other"), PageStart::Oldest, 9)).unwrap().items, [], "reads go on");

    drop(stage.outcomes);
    await_ready(&bridge);
    assert_eq!(stage.store.memory.messages(&room("other"), PageStart::Oldest, 9).unwrap(), []);
    assert_eq!(stage.store.memory.revocations().unwrap(), []);
    assert_eq!(stage.store.memory.messages(&room("lobby"), PageStart::Oldest, 9).unwrap().len(), 1);
    bridge.stop().unwrap();
}

#[test]
fn a_stalled_commit_that_fails_ends_the_store() {
    let stage = stage();
    let (bridge, end) = stalled(&stage);
    failures(&end, 2);
    stage.outcomes.send(Err(Failure::Broken("the disk is gone".into()))).unwrap();
    assert_eq!(bridge.fatal().recv(), Ok(Failure::Broken("the disk is gone".into())));
    assert!(matches!(bridge.stop(), Err(Failure::Final(_))));
}

#[test]
fn a_stop_does_not_wait_for_a_disk_that_does_not_answer() {
    let stage = stage();
    let (bridge, end) = stalled(&stage);
    let stopped = bridge.stop();
    assert!(matches!(&stopped, Err(Failure::Broken(reason)) if reason.contains("may be stored")), "{stopped:?}");
    assert!(failures(&end, 2)[0].1.outcome_unknown);
    stage.outcomes.send(Ok(())).unwrap();
}

fn await_ready(bridge: &Bridge) {
    let begun = Instant::now();
    while let Some(reason) = bridge.client().unready() {
        assert!(begun.elapsed() < DEADLINE, "{reason}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
