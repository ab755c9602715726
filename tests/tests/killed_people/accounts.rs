//! If a kill interrupts the deletion of an account, the account is complete, or it is gone and everything of it is
//! removed after the restart.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::person::{Person, direct_channel, group_channel, number};
use tests::harness::{DEADLINE, Launch, SERVER_KEY, Server, data_dir};

use crate::Random;

const ROUNDS: usize = 10;
/// Enough messages that their deletion takes many pages.
const MESSAGES: usize = 1000;
const ROOMS: usize = 3;

/// What the user has in the server, and the friend who checks it.
struct Estate {
    friend: Person,
    groups: Vec<String>,
    channels: Vec<String>,
}

impl Estate {
    /// Creates messages in rooms, a group and a direct chat, among messages of a friend. Also creates friends, and
    /// groups that the user leads or has joined.
    fn leave(user: &Person, friend: Person, round: usize) -> Self {
        let led = user.create_group(json!({"name": format!("led {round}"), "open": true}));
        let joined = friend.create_group(json!({"name": format!("joined {round}"), "open": true}));
        friend.acts("join", &led, &[]);
        user.acts("join", &joined, &[]);
        user.relates("add", &friend);
        friend.relates("add", user);
        let (mut own, mut others) = (user.connect(), friend.connect());
        let mut channels: Vec<String> = (0..ROOMS).map(|n| own.join(&format!("room-{n}-of-{round}"))).collect();
        (0..ROOMS).for_each(|n| drop(others.join(&format!("room-{n}-of-{round}"))));
        for group in [&led, &joined] {
            channels.push(own.join_group(group));
            others.join_group(group);
        }
        channels.push(own.join_direct(&friend));
        others.join_direct(user);
        for (place, channel) in channels.iter().enumerate() {
            let count = if place == 0 { MESSAGES } else { 20 };
            for socket in [&mut own, &mut others] {
                for n in 0..count {
                    let content = json!({ "n": n }).to_string();
                    socket.send(&json!({"channel_message_send": {"channel_id": channel, "content": content}}));
                }
            }
        }
        // Answers come in the order of the requests.
        own.assert_open();
        others.assert_open();
        Self { friend, groups: vec![led, joined], channels }
    }

    fn messages_of(&self, user: &Person) -> usize {
        let of = |channel: &String| {
            self.friend.history(channel).iter().filter(|message| message["sender_id"] == user.id()).count()
        };
        self.channels.iter().map(of).sum()
    }

    /// Asserts that nothing of the user is left but messages. Messages may take a little longer.
    fn assert_gone(&self, user: &Person) {
        assert_eq!(user.ask("GET", "/v2/account", &Value::Null).status, 401, "its tokens open nothing");
        let users = self.friend.done("GET", &format!("/v2/user?ids={}", user.id()), Value::Null);
        assert_eq!(users, json!({}));
        assert!(self.friend.friends().is_empty());
        for group in &self.groups {
            assert_eq!(self.friend.roster(group), [(self.friend.id().to_string(), 0)], "{group}");
        }
        for item in self.friend.memberships() {
            assert_eq!(number(&item["group"]["edge_count"]), 1, "{item}");
        }
        let start = Instant::now();
        while self.messages_of(user) > 0 {
            assert!(start.elapsed() < DEADLINE, "{} messages stay", self.messages_of(user));
        }
        for (place, channel) in self.channels.iter().enumerate() {
            let chat = self.friend.history(channel).into_iter().filter(|message| message["code"] == 0).count();
            assert_eq!(chat, if place == 0 { MESSAGES } else { 20 }, "what others have said stays");
        }
        let newest =
            self.friend.done("GET", &format!("/v2/channel/{}?limit=100&forward=false", self.channels[0]), Value::Null);
        let newest = newest["messages"].as_array().expect("messages");
        assert!(newest.iter().all(|message| message["sender_id"] == self.friend.id()), "nor are they in memory");
    }

    /// Asserts that the account is as it was, except for groups that it may already have left.
    fn assert_whole(&self, user: &Person) {
        let account = user.done("GET", "/v2/account", Value::Null);
        assert_eq!(
            (account["user"]["username"].as_str(), number(&account["user"]["edge_count"])),
            (Some(user.name()), 1)
        );
        assert_eq!(self.friend.friends().get(user.id()), Some(&0));
        // The history of a group that the user left shows it, and the group still has a leader.
        let left: Vec<&String> = self.groups.iter().filter(|group| !user.groups().contains_key(*group)).collect();
        let channels: Vec<String> = left.iter().map(|group| group_channel(group)).collect();
        for (group, channel) in left.iter().zip(&channels) {
            let told = self.friend.history(channel);
            assert!(told.iter().any(|message| message["code"] == 5 && message["sender_id"] == user.id()));
            assert_eq!(self.friend.roster(group), [(self.friend.id().to_string(), 0)]);
        }
        assert_eq!(user.history(&direct_channel(user, &self.friend)).len(), 40, "all that was said is there");
    }
}

fn is_there(server: &Server, name: &str) -> bool {
    let body = json!({"id": format!("custom-id-of-{name}")});
    match server.http().post("/v2/account/authenticate/custom?create=false", SERVER_KEY, &body).status {
        200 => true,
        404 => false,
        other => panic!("{other}"),
    }
}

#[test]
fn a_deletion_that_was_cut_off_is_finished() {
    let data = data_dir();
    let launch = || Launch::on(data.path()).shards(2).flag("--session-ttl", 3600);
    let mut server = launch().start();
    let address = server.address();
    let mut moments = Random::from_seed(4711);
    let (mut whole, mut gone_unheard, mut heard) = (0, 0, 0);
    for round in 0..ROUNDS {
        let name = format!("going-{round}");
        let user = server.person(&name);
        let estate = Estate::leave(&user, server.person(&format!("friend-{round}")), round);
        // Some time between the request and the deletion of the last message.
        let moment = Duration::from_micros((moments.below(160) * moments.below(160)) as u64);
        let answered = thread::scope(|scope| {
            let asking = scope.spawn(|| user.try_ask("DELETE", "/v2/account", &Value::Null));
            thread::sleep(moment);
            server.kill();
            asking.join().expect("asking does not panic")
        });
        server = launch().listen(address).start();
        let answered = answered.is_ok_and(|answer| answer.status == 200);
        // In every second round the server is killed again, while it continues the deletion.
        if round % 2 == 1 {
            thread::sleep(Duration::from_micros(moments.below(20_000) as u64));
            server.kill();
            server = launch().listen(address).start();
        }
        let (user, estate) = (user.at(&server), Estate { friend: estate.friend.at(&server), ..estate });
        if is_there(&server, &name) {
            assert!(!answered, "round {round}: it was said to be gone");
            estate.assert_whole(&user);
            whole += 1;
            user.done("DELETE", "/v2/account", Value::Null);
        } else if answered {
            heard += 1;
        } else {
            gone_unheard += 1;
        }
        estate.assert_gone(&user);
    }
    println!("{ROUNDS} deletions: {whole} not begun, {gone_unheard} gone without an answer, {heard} answered");
}
