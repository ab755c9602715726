//! Users who want the same thing at the same time, on the real server with one shard and with four. Whichever
//! user wins, all that is visible afterwards agrees: the members of a group, its taken seats, its history, and the
//! answers that each user got.

mod accounts;
mod blocks;
mod deletions;
mod kicks;
mod names;
mod ranks;
mod seats;

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

use tests::harness::person::{MEMBER, Person, events, group_channel, number, roles_after};
use tests::harness::{Launch, Server, data_dir};

const SHARD_COUNTS: [u16; 2] = [1, 4];

/// Runs a test on a fresh server for each number of shards.
fn on_every_size(test: impl Fn(&Server)) {
    for shards in SHARD_COUNTS {
        println!("{shards} shards");
        let data = data_dir();
        test(&Launch::on(data.path()).shards(shards).flag("--session-ttl", 3600).start());
    }
}

/// Signs in `count` users whose names begin with `name`.
fn crowd(server: &Server, name: &str, count: usize) -> Vec<Person> {
    (0..count).map(|number| server.person(&format!("{name}-{number}"))).collect()
}

/// Lets all actors act at the same moment. Returns the results in the order of the actors.
fn at_once<T: Send>(acts: Vec<Box<dyn FnOnce() -> T + Send + '_>>) -> Vec<T> {
    let start = Barrier::new(acts.len());
    thread::scope(|scope| {
        let threads: Vec<_> = acts
            .into_iter()
            .map(|act| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    act()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("nobody fails")).collect()
    })
}

/// Asserts that everything shown of a group agrees, and returns each user's role. `founder` must be able to read it.
fn consistent(founder: &Person, reader: &Person, group: &str, people: &[&Person]) -> BTreeMap<String, u64> {
    let listed = reader.roster(group);
    let roles: BTreeMap<String, u64> = listed.iter().cloned().collect();
    assert_eq!(roles.len(), listed.len(), "nobody is listed twice");
    let members: BTreeMap<_, _> = roles.iter().filter(|(_, role)| **role <= MEMBER).collect();
    for person in people {
        let own = person.groups().get(group).copied();
        assert_eq!(own, roles.get(person.id()).copied(), "{}: both listings agree", person.name());
    }
    let own = reader.memberships().into_iter().find(|item| item["group"]["id"] == group);
    let own = own.expect("the reader is in the group")["group"].clone();
    assert_eq!(number(&own["edge_count"]) as usize, members.len(), "as many seats are taken as there are members");
    assert!(members.len() as u64 <= number(&own["max_count"]), "no more than there are");
    let told = roles_after(founder.id(), &events(&reader.history(&group_channel(group))));
    // No message tells that a requester was banned, or that a ban was lifted.
    let told: BTreeMap<_, _> = told.iter().filter(|(_, role)| **role <= MEMBER).collect();
    assert_eq!(told, members, "history tells how it came to this");
    roles
}
