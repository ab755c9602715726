//! A change of several batches is atomic, wherever the server dies. Needs a node, as `common/cql.rs` says.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

use common::cql::{OnCql, node, open, wall, with_node};
use common::gate::Gate;
use common::gate::Verdict::{self, Cut, Pass, Refuse, Unheard};
use common::people::*;
use common::*;
use engine::social::friend::FriendAct;
use engine::social::group::GroupAct;
use storage::memory::Memory;
use storage::{Failure, Lanes, Store, Submission, Write, Written};
use storage_scylla::{Scylla, apply_schema, schema};
use uuid::Uuid;

/// The number of users.
const PEOPLE: u32 = 91;
/// The first user befriends users 2 to this one.
const BEFRIENDED: u32 = 67;
/// The first user lets users 2 to this one into a group.
const LET_IN: u32 = 61;
/// The number of batches of either change.
const CHANGE_BATCHES: usize = 3;
/// More batches than a change and its undo have together.
const BATCHES_MAX: usize = 30;

/// A store and the model, to which the same changes were made.
struct Stage {
    world: World<OnCql>,
    model: Memory,
}

impl Stage {
    /// Users, the first of whom has a group with a message in it.
    fn begin() -> Self {
        let mut world = World::<OnCql>::of(PEOPLE);
        world.make(1, 1);
        commit(world.store(), &[insert(&channel_of(1), 1, 1)]);
        let mut stage = Self { world, model: Memory::new() };
        let people =
            (1..=PEOPLE).map(|number| register(number, &format!("name-{number}"), device(&format!("device-{number}"))));
        commit(&stage.model, &people.collect::<Vec<_>>());
        let made = stage.world.store().group(group_id(1)).unwrap().unwrap();
        commit(&stage.model, &[Write::CreateGroup(made), insert(&channel_of(1), 1, 1)]);
        stage.world.place();
        stage
    }

    fn tested(&mut self) -> &mut OnCql {
        &mut self.world.tested
    }

    /// Befriends many at once.
    fn befriend(&mut self) -> Write {
        let others = (2..=BEFRIENDED).map(user).collect();
        Write::Relate { act: FriendAct::Add, user: user(1), others, metadata: NOTES[1].into(), time: self.world.now() }
    }

    /// Lets many into a group at once.
    fn let_in(&mut self) -> Write {
        self.world.request(1, 1, GroupAct::Add((2..=LET_IN).map(user).collect()))
    }

    /// The contents of all tables except: the seats that a transaction has counted, because the next change of the
    /// group counts them again; and the notes of where a user may have written, because they are only read when that
    /// user is deleted.
    fn tables(&self) -> BTreeSet<String> {
        let left_out = ["servers", "intents", "group_seats", "author_buckets"];
        let named = schema::tables().filter(|table| !left_out.contains(table));
        let rows = |table| {
            let columns = match table {
                // The head is left out: it stays where it was when the newest message is removed.
                "messages" => "channel_id, bucket, message_id, seq, code, sender_id, content, create_ns, update_ns",
                _ => "*",
            };
            let rows = self.world.tested.rows(&format!("SELECT {columns} FROM {table}"));
            rows.into_iter().map(move |row| format!("{table} {row}"))
        };
        named.flat_map(rows).collect()
    }

    fn check_tables(&self, expected: &BTreeSet<String>) {
        let found = self.tables();
        let differences: Vec<_> = found.symmetric_difference(expected).collect();
        assert!(differences.is_empty(), "{differences:#?}");
    }

    /// Ends the running store, and begins the next server's life.
    fn take_over(&mut self) -> Result<(), Failure> {
        self.tested().reopen();
        self.world.store().next_epoch().map(|_| ())
    }

    /// Clears the holder, so that the next server need not wait for the one that was cut off.
    fn forget_server(&mut self) {
        self.tested().say(&format!("UPDATE servers SET holder = {} WHERE id = 0 IF EXISTS", Uuid::nil()));
    }

    fn check_no_intents(&self) {
        let left = self.world.tested.rows("SELECT parts, record FROM intents");
        assert!(left.iter().all(|row| row == "[Some(Int(0)), None]"), "{left:?}");
    }

    /// Checks that nothing of the change is there, then makes the change, and checks that all of it is there.
    fn check_nothing_then_all(&mut self, before: &BTreeSet<String>, write: &Write) {
        self.check_tables(before);
        self.check_no_intents();
        let write = std::slice::from_ref(write);
        assert_eq!(commit(self.world.store(), write), commit(&self.model, write));
        self.check_all();
    }

    fn check_all(&self) {
        compare(&self.model, self.world.store(), 1, PEOPLE);
        check_sound(self.world.store(), 1, PEOPLE);
        let seats = self.world.tested.numbers("SELECT edge_count FROM group_seats");
        let shown = self.world.tested.numbers("SELECT edge_count FROM groups");
        assert_eq!(seats, shown);
        self.check_no_intents();
    }
}

/// A store behind a gate.
fn behind(tested: &OnCql, verdicts: &[Verdict]) -> (Gate, mpsc::Receiver<()>, Scylla) {
    let (gate, cut) = Gate::before(&node().unwrap(), verdicts.iter().copied());
    let mut options = tested.options.clone();
    options.nodes = vec![gate.address()];
    let store = open(&options);
    (gate, cut, store)
}

/// The result of a write; `None` if the server was cut off before.
fn ask(tested: &OnCql, write: &Write, verdicts: &[Verdict]) -> Option<Result<Written, Failure>> {
    let (_gate, cut, store) = behind(tested, verdicts);
    let (answer, answered) = mpsc::channel();
    let lanes: &dyn Lanes = store.lanes().unwrap();
    lanes.take(vec![Submission::Write(write.clone(), Box::new(move |done| drop(answer.send(done))))]);
    loop {
        // The server counts as dead then, and its answers are ignored.
        if cut.try_recv().is_ok() {
            return None;
        }
        match answered.recv_timeout(Duration::from_millis(5)) {
            Ok(done) => return cut.try_recv().is_err().then_some(done),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("a write without an answer"),
        }
    }
}

/// Requests the same change again and again. After the batches of `first`, the server dies one batch later each time,
/// and another server takes over. Returns how many batches passed when the server did not die, and its answer then.
fn die_at_every_batch(
    stage: &mut Stage,
    write: &Write,
    first: &[Verdict],
    from: usize,
) -> (usize, Result<Written, Failure>) {
    let before = stage.tables();
    for passed in from..BATCHES_MAX {
        let mut verdicts = first.to_vec();
        verdicts.extend(std::iter::repeat_n(Pass, passed));
        verdicts.push(Cut);
        match ask(&stage.world.tested, write, &verdicts) {
            Some(answer) => return (passed, answer),
            None => stage.take_over().unwrap(),
        }
        stage.check_no_intents();
        println!("cut behind {passed}");
        stage.check_tables(&before);
    }
    panic!("{BATCHES_MAX} batches are not all");
}

fn all_or_nothing(write: impl Fn(&mut Stage) -> Write) {
    let mut stage = Stage::begin();
    let write = write(&mut stage);
    let (passed, answer) = die_at_every_batch(&mut stage, &write, &[], 0);
    assert_eq!(passed, CHANGE_BATCHES + 2, "the intent, the change, the intent's end");
    assert_eq!(commit(&stage.model, &[write]), [answer.unwrap()]);
    stage.check_all();
    stage.take_over().unwrap();
    stage.check_all();
}

#[test]
fn a_server_that_dies_in_the_middle_has_made_no_friendship() {
    with_node(|| all_or_nothing(Stage::befriend));
}

#[test]
fn a_server_that_dies_in_the_middle_has_let_in_no_user() {
    with_node(|| all_or_nothing(Stage::let_in));
}

#[test]
fn a_change_that_failed_is_nothing_although_the_server_dies_while_it_takes_it_back() {
    with_node(|| {
        let mut stage = Stage::begin();
        let (before, write) = (stage.tables(), stage.let_in());
        // All batches except the last.
        let first = [vec![Pass; CHANGE_BATCHES], vec![Refuse]].concat();
        let (passed, answer) = die_at_every_batch(&mut stage, &write, &first, 0);
        assert_eq!(passed, CHANGE_BATCHES + 1, "the change back, the intent's end");
        assert!(matches!(answer, Err(Failure::Passing(_))), "{answer:?}");
        stage.check_nothing_then_all(&before, &write);
    });
}

#[test]
fn a_server_that_takes_over_may_die_as_well() {
    with_node(|| {
        let mut stage = Stage::begin();
        let (before, write) = (stage.tables(), stage.befriend());
        assert!(ask(&stage.world.tested, &write, &[vec![Pass; 3], vec![Cut]].concat()).is_none());
        assert_ne!(stage.tables(), before, "two of three batches are there");
        for passed in [0, 2, 3] {
            let (_gate, _cut, next) = behind(&stage.world.tested, &[vec![Pass; passed], vec![Cut]].concat());
            assert!(matches!(next.next_epoch(), Err(Failure::Passing(_))));
            drop(next);
            stage.forget_server();
        }
        stage.take_over().unwrap();
        stage.check_nothing_then_all(&before, &write);
    });
}

/// The server carries out the last batch, with which a change is done, but cannot know that it did.
#[test]
fn a_change_with_an_unknown_outcome_is_whole() {
    with_node(|| {
        let mut stage = Stage::begin();
        let (before, write) = (stage.tables(), stage.befriend());
        let first = [vec![Pass; CHANGE_BATCHES + 1], vec![Unheard, Refuse]].concat();
        // The intent again, the undo, the intent's removal.
        let (passed, answer) = die_at_every_batch(&mut stage, &write, &first, 1);
        assert_eq!(passed, CHANGE_BATCHES + 2);
        assert!(matches!(answer, Err(Failure::Passing(_))), "{answer:?}");
        stage.check_tables(&before);
        stage.check_no_intents();
        // Nothing of the change is undone unless all of it can be undone.
        assert!(ask(&stage.world.tested, &write, &[first, vec![Cut]].concat()).is_none());
        stage.take_over().unwrap();
        commit(&stage.model, &[write]);
        stage.check_all();
    });
}

#[test]
fn what_came_later_is_not_taken_back() {
    with_node(|| {
        let mut stage = Stage::begin();
        let (before, write) = (stage.tables(), stage.befriend());
        // The change is undone, and its intent stays.
        let verdicts = [vec![Pass; CHANGE_BATCHES], vec![Refuse], vec![Pass; CHANGE_BATCHES], vec![Refuse]].concat();
        assert!(matches!(ask(&stage.world.tested, &write, &verdicts), Some(Err(Failure::Passing(_)))));
        stage.check_tables(&before);
        let parts = stage.world.tested.numbers("SELECT parts FROM intents");
        assert_eq!(parts, [CHANGE_BATCHES as i64; CHANGE_BATCHES]);
        // Changes so small that they need no intent.
        let time = stage.world.now();
        let add = |one, others: &[u32], note: &str| Write::Relate {
            act: FriendAct::Add,
            user: user(one),
            others: users(others),
            metadata: note.into(),
            time,
        };
        let (few, answer) = (add(1, &[2, 9], NOTES[1]), add(9, &[1], NOTES[2]));
        for write in [few, answer] {
            let write = std::slice::from_ref(&write);
            assert_eq!(commit(stage.world.store(), write), commit(&stage.model, write));
        }
        stage.take_over().unwrap();
        stage.check_all();
    });
}

#[test]
fn an_intent_counts_when_it_is_complete_and_stops_the_start_when_it_is_damaged() {
    with_node(|| {
        let mut stage = Stage::begin();
        let (before, write) = (stage.tables(), stage.befriend());
        assert!(ask(&stage.world.tested, &write, &[vec![Pass; 2], vec![Cut]].concat()).is_none());
        let slot = stage.world.tested.numbers("SELECT slot FROM intents")[0];
        let record = "SELECT record FROM intents WHERE part = 1 ALLOW FILTERING";
        let kept = stage.world.tested.blobs(record).remove(0);
        let put = |bytes: &[u8]| {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("INSERT INTO intents (slot, part, record) VALUES ({slot}, 1, 0x{hex})")
        };
        for (place, wrong) in [(kept.len() - 1, "checksum"), (2, "a newer one"), (3, "kind")] {
            let mut damaged = kept.clone();
            damaged[place] ^= 1;
            stage.tested().say(&put(&damaged));
            let refused = stage.take_over();
            let says = |text: &str| text.contains(wrong) && text.contains(&format!("slot = {slot}"));
            assert!(matches!(&refused, Err(Failure::Corrupt(text)) if says(text)), "{refused:?}");
        }
        stage.tested().say(&put(&kept));
        stage.take_over().unwrap();
        stage.check_nothing_then_all(&before, &write);

        // If a part of an intent was never written, its change was not begun.
        let before = stage.tables();
        stage.tested().say(&put(&kept));
        stage.tested().say(&format!("UPDATE intents SET parts = 2 WHERE slot = {slot}"));
        stage.take_over().unwrap();
        stage.check_tables(&before);
        stage.check_no_intents();
    });
}

#[test]
fn tables_of_the_first_version_are_brought_to_this_one() {
    with_node(|| {
        let mut stage = Stage::begin();
        let before = stage.tables();
        stage.tested().say("DROP TABLE intents");
        stage.tested().say("INSERT INTO schema_version (id, version, applied_us) VALUES (0, 1, 1)");
        let options = stage.tested().options.clone();
        let old = Scylla::open(options.clone(), wall).unwrap();
        let refused = loop {
            match old.next_epoch() {
                Err(Failure::Passing(_)) => std::thread::yield_now(),
                done => break done,
            }
        };
        assert!(matches!(&refused, Err(Failure::Corrupt(text)) if text.contains("schema --apply")), "{refused:?}");
        assert_eq!(apply_schema(&options, wall()), Ok(1));
        assert_eq!(apply_schema(&options, wall()), Ok(schema::VERSION));
        stage.take_over().unwrap();
        let write = stage.befriend();
        stage.check_nothing_then_all(&before, &write);
    });
}

/// A schema of version 4 has no metadata of friends. A migration to version 6 may have been cut short between its
/// statements.
#[test]
fn friends_of_version_4_are_read_and_can_get_metadata() {
    with_node(|| {
        for tables in [&["edges", "friends"][..], &["friends"]] {
            let mut world = World::<OnCql>::of(3);
            world.relate(FriendAct::Add, 1, &[2, 3]);
            let earlier = "INSERT INTO schema_version (id, version, applied_us) VALUES (0, 4, 1)".to_owned();
            let drops = tables.iter().map(|table| format!("ALTER TABLE {table} DROP metadata"));
            drops.chain([earlier]).for_each(|cql| world.tested.say(&cql));
            let options = world.tested.options.clone();
            assert_eq!(apply_schema(&options, wall()), Ok(4));
            assert_eq!(apply_schema(&options, wall()), Ok(schema::VERSION));
            world.tested.reopen();
            assert_eq!([world.notes(1), world.notes(2)], ["2: 3:", "1:"]);
            world.relate_and_note(FriendAct::Add, 2, &[1], NOTES[1]);
            world.relate(FriendAct::Add, 3, &[1]);
            assert_eq!([world.notes(1), world.notes(2), world.notes(3)], ["2: 3:", &format!("1:{}", NOTES[1]), "1:"]);
            check_sound(world.store(), 0, 3);
        }
    });
}
