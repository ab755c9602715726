//! A block ends the following of the user who blocks, over real sockets. This holds on every session of the blocked
//! user, on any shard, without an event, for later sessions and after a restart. When the block is lifted, the
//! following does not come back.

use serde_json::{Value, json};
use tests::harness::person::Person;
use tests::harness::{Format, Launch, Socket, data_dir};

const SHARD_COUNTS: [u16; 2] = [1, 4];
/// Sessions of the blocked user. With four shards, each shard almost certainly has some of them.
const SESSIONS: usize = 12;

fn online(person: &Person) -> Socket {
    Socket::connect_online(Format::Json, person.address(), &person.account().token)
}

fn show(socket: &mut Socket, status: &str) {
    let answer = socket.request(json!({"status_update": {"status": status}}));
    assert!(answer.get("error").is_none(), "{answer}");
}

/// The statuses in the answer to a follow request.
fn follow(socket: &mut Socket, by: Value) -> Vec<Value> {
    let answer = socket.request(json!({ "status_follow": by }));
    let found = answer["status"].as_object().unwrap_or_else(|| panic!("{answer}"));
    let presences = found.get("presences").and_then(Value::as_array).cloned().unwrap_or_default();
    presences.iter().map(|presence| presence["status"].clone()).collect()
}

/// The statuses of this user that a session received in events. Other users' statuses are left out.
fn heard(socket: &mut Socket, of: &Person) -> Vec<Value> {
    socket.catch_up();
    let pushes = std::mem::take(&mut socket.pushes);
    let joins = pushes.iter().flat_map(|push| push["status_presence_event"]["joins"].as_array().cloned());
    let joins = joins.flatten().filter(|joined| joined["user_id"] == of.id());
    joins.map(|joined| joined["status"].clone()).collect()
}

fn assert_nothing_heard(sockets: &mut [Socket]) {
    for socket in sockets {
        socket.catch_up();
        let pushes = std::mem::take(&mut socket.pushes);
        let events: Vec<&Value> = pushes.iter().filter(|push| push.get("status_presence_event").is_some()).collect();
        assert!(events.is_empty(), "{events:?}");
    }
}

#[test]
fn a_block_ends_the_following_in_silence() {
    for shards in SHARD_COUNTS {
        println!("{shards} shards");
        let data = data_dir();
        let launch = || Launch::on(data.path()).shards(shards).flag("--session-ttl", "1h");
        let server = launch().start();
        let [ada, bob, cleo] = server.people(["ada", "bob", "cleo"]);
        let by_id = json!({"user_ids": [ada.id()]});
        let by_name = json!({"usernames": ["ada"]});
        let mut hers = online(&ada);
        show(&mut hers, "before");
        let mut his: Vec<Socket> = (0..SESSIONS)
            .map(|number| bob.connect_in(if number % 2 == 0 { Format::Json } else { Format::Protobuf }))
            .collect();
        let mut watcher = cleo.connect();
        for (number, socket) in his.iter_mut().chain([&mut watcher]).enumerate() {
            let by = if number % 3 == 0 { &by_name } else { &by_id };
            assert_eq!(follow(socket, by.clone()), [json!("before")]);
        }
        // She follows him too, and this following stays.
        follow(&mut hers, json!({"user_ids": [bob.id()]}));

        ada.relates("block", &bob);
        show(&mut hers, "behind the block");
        let mut another = online(&ada);
        show(&mut another, "from a later session");
        assert_nothing_heard(&mut his);
        for socket in &mut his {
            for by in [&by_id, &by_name] {
                assert!(follow(socket, by.clone()).is_empty());
            }
        }
        his.push(bob.connect());
        assert!(follow(&mut his[SESSIONS], by_id.clone()).is_empty());
        show(&mut hers, "to those who tried to follow");
        drop(another);
        assert_nothing_heard(&mut his);
        let told = heard(&mut watcher, &ada);
        assert!(told.contains(&json!("behind the block")) && told.contains(&json!("to those who tried to follow")));
        let mut own = online(&bob);
        show(&mut own, "for those who follow him");
        assert!(
            heard(&mut hers, &bob).contains(&json!("for those who follow him")),
            "the one who blocks still follows"
        );
        his.iter_mut().for_each(|socket| drop(heard(socket, &bob)));

        // After the block is lifted, nothing of it is left, and the following does not come back by itself.
        ada.relates("delete", &bob);
        show(&mut hers, "to nobody of his");
        assert_nothing_heard(&mut his);
        assert_eq!(follow(&mut his[0], by_id.clone()), [json!("to nobody of his")]);
        show(&mut hers, "to one of his");
        assert_eq!(heard(&mut his[0], &ada), [json!("to one of his")]);
        assert_nothing_heard(&mut his);

        ada.relates("block", &bob);
        server.kill();
        let server = launch().start();
        let (ada, bob) = (ada.at(&server), bob.at(&server));
        let mut hers = online(&ada);
        let mut his = [bob.connect()];
        for by in [&by_id, &by_name] {
            assert!(follow(&mut his[0], by.clone()).is_empty(), "also after a restart");
        }
        show(&mut hers, "after a restart");
        assert_nothing_heard(&mut his);
    }
}
