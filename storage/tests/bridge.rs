//! Tests the bridge's promises, on a store that can be delayed and made to fail.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::staged::*;
use common::*;
use engine::persist::{StoreQuestion, StoreReceipt, StoreWrite, Ticket};
use storage::account::{Changed, CredentialOwner, Expiry, Registered, Revocation};
use storage::bridge::{Bridge, NotTaken};
use storage::memory::Memory;
use storage::{Failure, PageStart, Part, Store, Write, Written};

/// How often a query is repeated: a busy machine may refuse it again.
const TRIES_MAX: usize = 1000;

#[test]
fn writes_are_answered_by_ticket_and_kept() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let (bridge, ends) = Bridge::start(store.clone(), 2).unwrap();
    let lobby = room("lobby");
    for number in 1..=100 {
        send_insert(&ends[(number % 2) as usize], &lobby, number);
    }
    for (shard, end) in ends.iter().enumerate() {
        for _ in 0..50 {
            let (ticket, receipt) = receive(end);
            assert_eq!(ticket.0 % 2, shard as u64, "a receipt of the other shard");
            assert_eq!(receipt, Ok(StoreReceipt::Inserted));
        }
        assert_eq!(end.in_flight(), 0);
    }
    let page = wait(bridge.client().messages(lobby.clone(), PageStart::Newest, 3)).unwrap().items;
    assert_eq!(page, [100, 99, 98].map(|number| message(&lobby, number, 7)));
    bridge.stop().unwrap();
}

#[test]
fn what_waits_during_a_commit_becomes_one_group() {
    let stage = stage();
    let (bridge, ends) = Bridge::start(stage.store.clone(), 1).unwrap();
    let lobby = room("lobby");
    send_insert(&ends[0], &lobby, 1);
    assert_eq!(stage.groups.recv(), Ok(1), "a lone write waits for nobody");
    for number in 2..=1500 {
        send_insert(&ends[0], &lobby, number);
    }
    assert_eq!(ends[0].try_receive(), None, "nothing is answered before it is committed");
    for _ in 0..3 {
        stage.outcomes.send(Ok(())).unwrap();
    }
    assert_eq!([stage.groups.recv(), stage.groups.recv()], [Ok(1024), Ok(475)]);
    for number in 1..=1500 {
        assert_eq!(receive(&ends[0]), (Ticket(number), Ok(StoreReceipt::Inserted)));
    }
    bridge.stop().unwrap();
}

#[test]
fn a_commit_that_does_not_end_makes_the_store_unready_until_it_does() {
    let stage = stage();
    let (bridge, ends) = Bridge::start(stage.store.clone(), 1).unwrap();
    let client = bridge.client();
    assert_eq!(client.unready(), None);
    send_insert(&ends[0], &room("lobby"), 1);
    assert_eq!(stage.groups.recv(), Ok(1));
    let deadline = Instant::now() + Duration::from_secs(30);
    let reason = loop {
        assert!(Instant::now() < deadline, "a commit under way for so long is noticed");
        match client.unready() {
            Some(reason) => break reason,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    assert!(reason.contains("a commit has been under way"), "{reason}");
    stage.outcomes.send(Ok(())).unwrap();
    assert_eq!(receive(&ends[0]), (Ticket(1), Ok(StoreReceipt::Inserted)));
    assert_eq!(client.unready(), None);
    bridge.stop().unwrap();
}

#[test]
fn a_group_ends_at_a_mebibyte() {
    let stage = stage();
    let (bridge, ends) = Bridge::start(stage.store.clone(), 1).unwrap();
    let lobby = room("lobby");
    send_insert(&ends[0], &lobby, 1);
    assert_eq!(stage.groups.recv(), Ok(1));
    for number in 2..=9 {
        let mut large = message(&lobby, number, 7);
        large.content = "x".repeat(300_000).into();
        ends[0].try_send(Ticket(u64::from(number)), StoreWrite::Insert(large)).unwrap();
    }
    drop(stage.outcomes);
    assert_eq!([stage.groups.recv(), stage.groups.recv()], [Ok(4), Ok(4)]);
    bridge.stop().unwrap();
}

#[test]
fn reads_of_a_shard_see_its_writes_before_them() {
    let (bridge, ends) = Bridge::start(Arc::new(Memory::new()), 1).unwrap();
    let lobby = room("lobby");
    let mut expected = HashMap::new();
    for number in 1..=500u32 {
        send_insert(&ends[0], &lobby, number);
        ends[0].try_send(Ticket(10_000 + u64::from(number)), StoreQuestion::Head { channel: lobby.clone() }).unwrap();
        ends[0]
            .try_send(Ticket(20_000 + u64::from(number)), StoreQuestion::Newest { channel: lobby.clone(), limit: 1 })
            .unwrap();
        expected.insert(10_000 + u64::from(number), number);
    }
    for _ in 0..1500 {
        match receive(&ends[0]) {
            (ticket, Ok(StoreReceipt::Head(head))) => {
                let least = u64::from(expected.remove(&ticket.0).expect("asked once"));
                assert!(head.is_some_and(|head| head.sequence.0 >= least), "{head:?} after {least} was sent");
            }
            (ticket, Ok(StoreReceipt::Newest(newest))) => {
                let least = ticket.0 - 20_000;
                assert!(newest[0].sequence.0 >= least, "{newest:?} after {least} was sent");
            }
            (_, other) => assert_eq!(other, Ok(StoreReceipt::Inserted)),
        }
    }
    assert!(expected.is_empty());
    bridge.stop().unwrap();
}

#[test]
fn full_queues_refuse_at_once() {
    let stage = stage();
    let (bridge, ends) = Bridge::start(stage.store.clone(), 2).unwrap();
    let lobby = room("lobby");
    send_insert(&ends[0], &lobby, 1);
    assert_eq!(stage.groups.recv(), Ok(1), "the committer is busy from here on");
    let mut taken = 1;
    while ends[0].has_room() {
        taken += 1;
        send_insert(&ends[0], &lobby, taken);
    }
    let refused = ends[0].try_send(Ticket(0), request(insert(&lobby, taken + 1, 7)));
    assert_eq!(refused, Err(NotTaken::Full));
    send_insert(&ends[1], &room("other"), 1);

    let client = bridge.client();
    let answers: Vec<_> = (0..3000)
        .map(|number| {
            let client = client.clone();
            let mut future = Box::pin(async move {
                client.revoke(Revocation::User { id: user(number), issued_before: Default::default() }).await
            });
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let first = future.as_mut().poll(&mut context);
            (future, first)
        })
        .collect();
    let refused =
        answers.iter().filter(|(_, first)| matches!(first, std::task::Poll::Ready(Err(Failure::Passing(_))))).count();
    assert_eq!(refused, 3000 - 1024);
    let page = wait(client.messages(lobby, PageStart::Oldest, 9));
    assert_eq!(page, Ok(Part::whole(vec![])), "readers are not held up by writes");

    drop(stage.outcomes);
    for _ in 0..taken {
        assert_eq!(receive(&ends[0]).1, Ok(StoreReceipt::Inserted));
    }
    assert_eq!(receive(&ends[1]).1, Ok(StoreReceipt::Inserted));
    for (future, first) in answers {
        if first.is_pending() {
            wait(future).unwrap();
        }
    }
    bridge.stop().unwrap();
}

#[test]
fn the_user_who_asks_most_gives_way_when_the_readers_are_busy() {
    let (let_go, stuck) = flume::bounded(0);
    let store = Arc::new(Staged { stuck, ..Arc::into_inner(stage().store).unwrap() });
    let (bridge, _ends) = Bridge::start(store, 1).unwrap();
    let ask = |number| {
        let client = bridge.client().of(user(number));
        let mut future = Box::pin(async move { client.account(user(number)).await });
        let first = future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        (future, first)
    };
    let many: Vec<_> = (0..1100).map(|_| ask(1)).collect();
    let other = ask(2);
    assert!(other.1.is_pending(), "another user has a place");
    let (waiting, refused): (Vec<_>, Vec<_>) = many.into_iter().partition(|(_, first)| first.is_pending());
    assert!((1024..=1026).contains(&waiting.len()), "{}: two may be with the readers", waiting.len());
    for (_, first) in &refused {
        let text = format!("{first:?}");
        assert!(text.contains("requests of one user wait"), "{text}");
    }
    drop(let_go);
    assert_eq!(wait(other.0), Ok(None));
    let displaced = waiting.into_iter().map(|(future, _)| wait(future)).filter(Result::is_err).count();
    assert!(displaced <= 1, "{displaced} gave way to one");
    bridge.stop().unwrap();
}

#[test]
fn a_query_of_a_stuck_store_is_refused_in_time() {
    let (let_go, stuck) = flume::bounded(0);
    let store = Arc::new(Staged { stuck, ..Arc::into_inner(stage().store).unwrap() });
    let (bridge, ends) = Bridge::start_with(store, 1, Duration::from_millis(20)).unwrap();
    // Two readers block in the store, and the other queries wait behind them.
    let clients: Vec<_> = (1..=9)
        .map(|number| {
            let client = bridge.client();
            std::thread::spawn(move || wait(client.account(user(number))))
        })
        .collect();
    for client in clients {
        let answer = client.join().unwrap();
        assert!(matches!(&answer, Err(Failure::Passing(reason)) if reason.contains("in time")), "{answer:?}");
    }
    ends[0].try_send(Ticket(1), StoreQuestion::Head { channel: room("lobby") }).unwrap();
    let (ticket, refused) = receive(&ends[0]);
    assert!(ticket == Ticket(1) && refused.unwrap_err().message.contains("in time"));
    // Refused queries are not run any more, so the next query is answered at once.
    drop(let_go);
    let client = bridge.client();
    let answered = (0..TRIES_MAX).find_map(|_| wait(client.account(user(1))).ok());
    assert_eq!(answered, Some(None));
    assert_eq!(ends[0].try_receive(), None);
    bridge.stop().unwrap();
}

#[test]
fn a_passing_failure_fails_its_group_and_no_other() {
    let stage = stage();
    let (bridge, ends) = Bridge::start(stage.store.clone(), 1).unwrap();
    let lobby = room("lobby");
    let outcomes = [Ok(()), Err(Failure::Passing("full".into())), Ok(())];
    for (number, outcome) in (1u32..).zip(outcomes) {
        send_insert(&ends[0], &lobby, number);
        stage.outcomes.send(outcome.clone()).unwrap();
        let (ticket, receipt) = receive(&ends[0]);
        assert_eq!(ticket, Ticket(u64::from(number)));
        match outcome {
            Ok(()) => assert_eq!(receipt, Ok(StoreReceipt::Inserted)),
            Err(_) => assert!(receipt.unwrap_err().message.contains("full")),
        }
    }
    assert!(bridge.fatal().is_empty());
    let page = wait(bridge.client().messages(lobby.clone(), PageStart::Oldest, 9)).unwrap().items;
    assert_eq!(page, [message(&lobby, 1, 7), message(&lobby, 3, 7)]);
    bridge.stop().unwrap();
}

#[test]
fn one_unfit_write_does_not_fail_its_neighbours() {
    let stage = stage();
    let (bridge, ends) = Bridge::start(stage.store.clone(), 1).unwrap();
    let (lobby, client) = (room("lobby"), bridge.client());
    send_insert(&ends[0], &lobby, 1);
    assert_eq!(stage.groups.recv(), Ok(1));
    let register = |number, name: &str| match register(number, name, device(&format!("device-{number}"))) {
        Write::Register(registration) => registration,
        other => panic!("{other:?}"),
    };
    let registrations = [(1, "ann"), (2, ""), (3, "ann"), (4, "bob")];
    let answers = registrations.map(|(number, name)| {
        let (client, registration) = (client.clone(), register(number, name));
        std::thread::spawn(move || wait(client.register(registration)))
    });
    drop(stage.outcomes);
    let [ann, unfit, taken, bob] = answers.map(|answer| answer.join().unwrap());
    assert!(matches!(unfit, Err(Failure::Unfit(_))), "{unfit:?}");
    assert_eq!(bob, Ok(Registered::Created));
    let mut anns = [ann.unwrap(), taken.unwrap()];
    anns.sort_by_key(|registered| *registered == Registered::UsernameTaken);
    assert_eq!(anns, [Registered::Created, Registered::UsernameTaken]);
    assert_eq!(receive(&ends[0]).1, Ok(StoreReceipt::Inserted));
    bridge.stop().unwrap();
}

#[test]
fn after_a_final_failure_everything_fails_at_once_and_the_process_is_told() {
    let stage = stage();
    let (bridge, ends) = Bridge::start(stage.store.clone(), 1).unwrap();
    let (lobby, client, fatal) = (room("lobby"), bridge.client(), bridge.fatal());
    let (broken, failure) = (Failure::Broken("sync failed".into()), Failure::Final("sync failed".into()));
    send_insert(&ends[0], &lobby, 1);
    stage.groups.recv().unwrap();
    send_insert(&ends[0], &lobby, 2);
    ends[0].try_send(Ticket(3), StoreQuestion::Head { channel: lobby.clone() }).unwrap();
    stage.outcomes.send(Err(broken.clone())).unwrap();
    for _ in 0..3 {
        let (ticket, receipt) = receive(&ends[0]);
        let refused = receipt.unwrap_err();
        assert!(refused.message.contains("sync failed"), "{refused:?}");
        assert_eq!(refused.outcome_unknown, ticket == Ticket(1), "only of what was being written");
    }
    assert_eq!(fatal.recv(), Ok(broken));
    assert_eq!(stage.groups.try_recv().ok(), None, "a failed store is not asked again");
    assert_eq!(wait(client.account(user(1))), Err(failure.clone()));
    assert_eq!(
        wait(client.revoke(Revocation::User { id: user(1), issued_before: Default::default() })),
        Err(failure.clone())
    );
    send_insert(&ends[0], &lobby, 4);
    assert!(receive(&ends[0]).1.is_err());
    assert_eq!(bridge.stop(), Err(failure));
    assert!(!stage.store.closed.load(Ordering::SeqCst), "a failed store is left alone");
}

#[test]
fn stop_answers_all_that_was_taken_and_closes() {
    let stage = stage();
    let (bridge, mut ends) = Bridge::start(stage.store.clone(), 1).unwrap();
    let (lobby, client, end) = (room("lobby"), bridge.client(), ends.remove(0));
    send_insert(&end, &lobby, 1);
    assert_eq!(stage.groups.recv(), Ok(1));
    for number in 2..=3000 {
        send_insert(&end, &lobby, number);
    }
    end.try_send(Ticket(9999), StoreQuestion::Head { channel: lobby.clone() }).unwrap();
    let stopped = std::thread::spawn(move || bridge.stop());
    drop(stage.outcomes);
    stopped.join().unwrap().unwrap();
    assert!(stage.store.closed.load(Ordering::SeqCst));
    let receipts: Vec<_> = std::iter::from_fn(|| wait(end.receive())).collect();
    assert_eq!(receipts.len(), 3001);
    assert!(receipts.iter().all(|(_, receipt)| receipt.is_ok()));
    assert_eq!(end.try_send(Ticket(1), StoreQuestion::Head { channel: lobby }), Err(NotTaken::Gone));
    assert!(matches!(wait(client.account(user(1))), Err(Failure::Passing(_))));
}

#[test]
fn a_store_with_lanes_gets_requests_in_order_and_may_answer_in_any_order() {
    let (store, taken, drained) = stage_with_lanes();
    let (bridge, ends) = Bridge::start(store, 2).unwrap();
    let (lobby, client) = (room("lobby"), bridge.client());
    for number in 1..=3 {
        send_insert(&ends[0], &lobby, number);
    }
    ends[0].try_send(Ticket(4), StoreQuestion::Head { channel: lobby.clone() }).unwrap();
    let (writes, answers): (Vec<_>, Vec<_>) = (0..3).map(|_| taken_write(&taken)).unzip();
    assert_eq!(writes, (1..=3).map(|number| insert(&lobby, number, 7)).collect::<Vec<_>>());
    let (question, answer_question) = taken_question(&taken);
    assert_eq!(question, StoreQuestion::Head { channel: lobby.clone() });

    // Neither another shard nor a client waits for the writes that are not decided.
    send_insert(&ends[1], &lobby, 5);
    let (_, answer) = taken_write(&taken);
    answer(Ok(Written::Receipt(StoreReceipt::Inserted)));
    assert_eq!(receive(&ends[1]), (Ticket(5), Ok(StoreReceipt::Inserted)));
    let client = std::thread::spawn(move || {
        wait(client.revoke(Revocation::User { id: user(1), issued_before: Default::default() }))
    });
    let (_, answer) = taken_write(&taken);
    answer(Err(Failure::Passing("not now".into())));
    assert_eq!(client.join().unwrap(), Err(Failure::Passing("not now".into())));

    assert_eq!(ends[0].try_receive(), None);
    answer_question(Ok(StoreReceipt::Head(None)));
    assert_eq!(receive(&ends[0]), (Ticket(4), Ok(StoreReceipt::Head(None))));
    let receipts = [Err("lost"), Ok(StoreReceipt::Inserted), Ok(StoreReceipt::Inserted)];
    for (number, (answer, receipt)) in answers.into_iter().zip(receipts).enumerate().rev() {
        let failed = |reason: &str| Failure::Passing(reason.into());
        answer(receipt.clone().map(Written::Receipt).map_err(failed));
        let heard = receive(&ends[0]);
        assert_eq!((heard.0, heard.1.is_ok()), (Ticket(number as u64 + 1), receipt.is_ok()));
    }
    drained.send(()).unwrap();
    bridge.stop().unwrap();
}

#[test]
fn stop_waits_until_a_store_with_lanes_has_answered_all() {
    let (store, taken, drained) = stage_with_lanes();
    let (bridge, ends) = Bridge::start(store.clone(), 1).unwrap();
    send_insert(&ends[0], &room("lobby"), 1);
    let (_, answer) = taken_write(&taken);
    let stopped = std::thread::spawn(move || bridge.stop());
    answer(Ok(Written::Receipt(StoreReceipt::Inserted)));
    assert!(!store.closed.load(Ordering::SeqCst), "the store has not said that all is answered");
    drained.send(()).unwrap();
    stopped.join().unwrap().unwrap();
    assert!(store.closed.load(Ordering::SeqCst));
    assert_eq!(receive(&ends[0]), (Ticket(1), Ok(StoreReceipt::Inserted)));
}

#[test]
fn a_store_with_lanes_gets_no_request_after_a_final_failure() {
    let (store, taken, drained) = stage_with_lanes();
    let (bridge, ends) = Bridge::start(store, 1).unwrap();
    let (lobby, fatal, failure) = (room("lobby"), bridge.fatal(), Failure::Final("taken over".into()));
    send_insert(&ends[0], &lobby, 1);
    let (_, answer) = taken_write(&taken);
    answer(Err(failure.clone()));
    assert!(receive(&ends[0]).1.is_err());
    assert_eq!(fatal.recv(), Ok(failure.clone()));
    send_insert(&ends[0], &lobby, 2);
    ends[0].try_send(Ticket(3), StoreQuestion::Head { channel: lobby }).unwrap();
    for _ in 0..2 {
        assert!(receive(&ends[0]).1.unwrap_err().message.contains("taken over"));
    }
    assert!(taken.is_empty());
    drained.send(()).unwrap();
    assert_eq!(bridge.stop(), Err(failure));
}

#[test]
fn stop_does_not_leave_a_client_waiting() {
    for _ in 0..50 {
        let (bridge, _ends) = Bridge::start(Arc::new(Memory::new()), 1).unwrap();
        let clients: Vec<_> = (1..=4)
            .map(|number| {
                let client = bridge.client();
                std::thread::spawn(move || {
                    let mut done = 0;
                    while wait(client.revoke(Revocation::User { id: user(number), issued_before: Default::default() }))
                        .is_ok()
                        && wait(client.account(user(number))).is_ok()
                    {
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        wait(bridge.client().revocations()).unwrap();
        bridge.stop().unwrap();
        for client in clients {
            client.join().unwrap();
        }
    }
}

#[test]
fn clients_use_every_call() {
    let directory = tempfile::tempdir().unwrap();
    let (bridge, _ends) = Bridge::start(open_shared(&directory), 1).unwrap();
    let client = bridge.client();
    wait(async {
        let Write::Register(registration) = register(1, "ann", device("device-1")) else { panic!() };
        assert_eq!(client.register(registration.clone()).await, Ok(Registered::Created));
        let owner = CredentialOwner { user: user(1), secret: "$hash-1".into() };
        assert_eq!(client.register(registration).await, Ok(Registered::Existing(owner.clone())));
        assert_eq!(client.credential(device("device-1")).await, Ok(Some(owner)));
        assert_eq!(client.user_by_username("ann").await, Ok(Some(user(1))));
        assert_eq!(client.account(user(1)).await, Ok(Some(account(1, "ann"))));
        assert_eq!(client.own_account(user(1)).await, Ok(Some((account(1, "ann"), 0))));
        assert_eq!(client.own_account(user(2)).await, Ok(None));
        assert_eq!(client.existing(&[user(2), user(1)]).await, Ok(vec![user(1)]));
        assert_eq!(client.people(&[user(2), user(1)]).await, Ok(vec![(account(1, "ann").into(), 0)]));
        let change = storage::account::AccountChange { timezone: Some("UTC".into()), ..Default::default() };
        assert_eq!(client.change_account(user(1), change, Default::default()).await, Ok(Changed::Done));
        assert_eq!(client.account(user(1)).await.unwrap().unwrap().timezone, "UTC");
        let token = |expires| Revocation::Token { id: uuid::Uuid::nil(), expires: engine::id::Timestamp(expires) };
        client.revoke(token(5)).await.unwrap();
        assert_eq!(client.revocations().await, Ok(vec![token(5)]));
        let expiry = Expiry { tokens: engine::id::Timestamp(5), users: engine::id::Timestamp(0) };
        assert_eq!(client.expired_revocations(expiry, None, 9).await, Ok((vec![token(5)], None)));
        client.forget_revocations(vec![token(5)]).await.unwrap();
        assert_eq!(client.revocations().await, Ok(vec![]));
        assert_eq!(client.messages(room("lobby"), PageStart::Newest, 9).await, Ok(Part::whole(vec![])));
    });
    bridge.stop().unwrap();
}
