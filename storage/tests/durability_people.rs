//! After a kill, changes of groups, friends and accounts are complete or absent, and acknowledged ones are there: all
//! lists equal those of a model that got the same writes.
//!
//! The process that is killed is this test program, started again with the one test that writes.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use common::people::*;
use common::*;
use engine::id::Timestamp;
use engine::persist::StoreWrite;
use engine::social::friend::FriendAct;
use engine::social::group::{GroupAct, GroupChange};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use storage::embedded::Embedded;
use storage::group::Group;
use storage::memory::Memory;
use storage::repeats::REPEAT_INTERVAL_NS;
use storage::{Store, Write};

const DIRECTORY: &str = "STORAGE_TEST_DIRECTORY";
const USERS: u32 = 12;
/// Groups that exist at a time, and the number of steps after which others replace them.
const GROUPS_AT_ONCE: u32 = 3;
const GENERATION: u32 = 150;
/// The most writes of one step, and the most event messages of one change.
const WRITES_MAX: u32 = 8;
const NAMED_MAX: u32 = 4;

struct Random(ChaCha8Rng);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0.next_u32() % end
    }

    fn user(&mut self) -> u32 {
        1 + self.below(USERS)
    }

    fn named(&mut self) -> Vec<engine::id::UserId> {
        (0..self.below(NAMED_MAX + 1)).map(|_| user(self.user())).collect()
    }
}

/// The writes of a step; only its number determines them. The last write is a message with the step's number.
fn writes_of(step: u32) -> Vec<Write> {
    let mut random = Random(ChaCha8Rng::seed_from_u64(step.into()));
    let mut writes = Vec::new();
    if step == 1 {
        writes.extend((1..=USERS).map(|n| register(n, &format!("name-{n}"), device(&format!("device-{n}")))));
    }
    let first = 1 + (step - 1) / GENERATION * GROUPS_AT_ONCE;
    if step % GENERATION == 1 {
        for number in first..first + GROUPS_AT_ONCE {
            let made = group(number, random.user());
            writes.push(Write::CreateGroup(Group { open: number % 2 == 0, max_count: 6, ..made }));
        }
    }
    for index in 0..=random.below(WRITES_MAX) {
        let mut place_number = (step * (WRITES_MAX + 1) + index) * NAMED_MAX;
        // No request counts as a repetition: a restart, which the model does not know of, would forget it.
        let time = Timestamp(i64::from(place_number) * REPEAT_INTERVAL_NS);
        let (one, group) = (random.user(), group_id(first + random.below(GROUPS_AT_ONCE)));
        let act = match random.below(40) {
            0 if step % GENERATION > GENERATION / 2 => GroupAct::Delete,
            1..=9 => GroupAct::Join,
            10 => GroupAct::Leave,
            11 => GroupAct::Depart,
            12..=18 => GroupAct::Add(random.named()),
            19 | 20 => GroupAct::Kick(random.named()),
            21 => GroupAct::Ban(random.named()),
            22..=26 => GroupAct::Promote(random.named()),
            27 | 28 => GroupAct::Demote(random.named()),
            other => {
                writes.push(other_write(other, one, &mut random, time));
                continue;
            }
        };
        let places = (0..act.messages_max()).map(|_| {
            place_number += 1;
            place(place_number)
        });
        let places = places.collect();
        let change = GroupChange { group, actor: user(one), act };
        writes.push(Write::Request(StoreWrite::ChangeGroup { change, time, places }));
    }
    writes.push(insert(&room("lobby"), step, random.user()));
    writes
}

fn other_write(kind: u32, one: u32, random: &mut Random, time: Timestamp) -> Write {
    let other = user(random.user());
    match kind {
        29..=32 => {
            let metadata = NOTES[random.below(NOTES.len() as u32) as usize].into();
            Write::Relate { act: FriendAct::Add, user: user(one), others: random.named(), metadata, time }
        }
        33 => {
            Write::Relate { act: FriendAct::Delete, user: user(one), others: random.named(), metadata: "".into(), time }
        }
        34 => Write::Request(StoreWrite::Block { user: user(one), other, time }),
        35 => Write::Link { user: user(one), credential: credential(1, random.below(4)), secret: String::new(), time },
        // Accounts of the lower half are never deleted, so that activity continues.
        36 if one > USERS / 2 && random.below(8) == 0 => Write::DeleteAccount { user: user(one), time },
        37 if one > USERS / 2 => Write::FinishAccountDeletion { user: user(one) },
        _ => {
            let username = format!("name-{one}").into();
            Write::Request(StoreWrite::RequestChat { user: user(one), username, other, time })
        }
    }
}

fn steps_done(store: &dyn Store) -> u32 {
    store.head(&room("lobby")).unwrap().map_or(0, |head| head.sequence.0 as u32)
}

#[test]
#[ignore = "a child of the test below, which kills it"]
fn child_changes_until_it_dies() {
    let directory = std::env::var_os(DIRECTORY).expect("started by another test");
    let store = Embedded::open(Path::new(&directory), &options()).unwrap();
    let mut out = std::io::stdout().lock();
    for step in steps_done(&store) + 1.. {
        let written = store.commit(&writes_of(step)).unwrap();
        assert!(written.iter().all(Result::is_ok), "{written:?}");
        writeln!(out, "ack {step}").unwrap();
    }
}

/// Lets a child write until it has acknowledged this many steps, and kills it. Returns the last step that it
/// acknowledged.
fn run_and_kill(directory: &Path, steps: usize) -> u32 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_changes_until_it_dies", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(DIRECTORY, directory).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (mut line, mut acknowledged, mut last) = (String::new(), 0, 0);
    // A line that was cut short by the kill does not count as acknowledged.
    while output.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
        if let Some((_, step)) = line.trim().split_once("ack ") {
            (acknowledged, last) = (acknowledged + 1, step.parse().unwrap());
            if acknowledged == steps {
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    assert!(!child.wait().unwrap().success() && acknowledged >= steps, "{acknowledged} steps of {steps}");
    last
}

#[test]
fn killed_at_random_moments_all_lists_agree_with_what_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (model, mut done) = (Memory::new(), 0);
    for round in 0..16 {
        let acknowledged = run_and_kill(directory.path(), 1 + (round * round * 11) % 240);
        let store = open(&directory);
        let steps = steps_done(&store);
        assert!(steps >= acknowledged, "round {round}: {acknowledged} acknowledged, {steps} found");
        while done < steps {
            done += 1;
            commit(&model, &writes_of(done));
        }
        let groups = (1 + steps / GENERATION) * GROUPS_AT_ONCE;
        compare(&model, &store, groups, USERS);
        check_sound(&store, groups, USERS);
        store.close().unwrap();
    }
    let present = all_groups(&model, 100).len();
    println!("{done} steps, {present} groups, departed: {:?}", model.account_deletions(99).unwrap());
    assert!(done > 3 * GENERATION && present > 3, "enough has happened");
}
