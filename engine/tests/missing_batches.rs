//! Two shards, a channel that one of them owns, a member on each, and a carriage that loses what the test says.

use engine::chart::Chart;
use engine::command::{Command, Join};
use engine::fanout::frames::Format;
use engine::fanout::subscribers::{Gone, Outlet};
use engine::id::{ChannelId, ConnectionId, Epoch, Monotonic, SessionId, ShardId, Timestamp, UserId};
use engine::limits::Rules;
use engine::message::Message;
use engine::parcel::Parcel;
use engine::persist::{StoreQuestion, StoreReceipt, StoreRequest, StoreWrite};
use engine::session::admission::{OnLag, Session};
use engine::session::home::Visibility;
use engine::shard::{Effects, Input, Shard};
use uuid::Uuid;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);
const HOME: usize = 0;
const OWNER: usize = 1;
const CONNECTION: ConnectionId = ConnectionId { slot: 0, generation: 1 };

/// What the one connection of a shard has received.
#[derive(Default)]
struct Heard(Vec<u8>);

impl Outlet for Heard {
    fn write(&mut self, _: u32, pieces: &[&[u8]]) -> Result<usize, Gone> {
        self.0.extend(pieces.concat());
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn wait(&mut self, _: u32) {}
}

/// What becomes of batches to the home.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Batches {
    Arrive,
    ArriveTwice,
    AreLost,
}

struct World {
    shards: Vec<Shard>,
    heard: [Heard; 2],
    channel: ChannelId,
    stored: Vec<Message>,
}

impl World {
    /// Both members have joined.
    fn new() -> Self {
        let rooms = (0..).map(|number| ChannelId::room(&format!("room-{number}")).expect("a name"));
        let key = Rules::default().placement_key;
        let channel =
            rooms.into_iter().find(|room| key.owner(room, 2) == ShardId::alone(OWNER as u16)).expect("one of two");
        let shards =
            (0..2).map(|id| Shard::new(ShardId::alone(id), Chart::alone(2, Epoch(1)), Rules::default(), 7)).collect();
        let mut world = Self { shards, heard: Default::default(), channel, stored: Vec::new() };
        for shard in [HOME, OWNER] {
            let id = Uuid::from_u128(shard as u128 + 1);
            let (user, session) = (UserId(id), SessionId(id));
            let username = format!("user-{shard}").into();
            let session =
                Session { user, session, username, format: Format::Json, on_lag: OnLag::Close, network: None };
            let opened = Input::Opened { connection: CONNECTION, session, visibility: Visibility::Unseen };
            world.shards[shard].step(opened, NOW);
            world.join(shard, Batches::Arrive);
        }
        world
    }

    fn join(&mut self, shard: usize, batches: Batches) {
        let target = self.channel.as_str().trim_start_matches("2...").to_owned();
        let join = Join { target, kind: 1, persistence: true, hidden: false };
        self.ask(shard, "join", Command::Join(join), batches);
    }

    fn send(&mut self, shard: usize, cid: &str, batches: Batches) {
        let (channel_id, content) = (self.channel.to_string(), format!("{{\"of\":\"{cid}\"}}"));
        self.ask(shard, cid, Command::Send { channel_id, content }, batches);
    }

    fn ask(&mut self, shard: usize, cid: &str, command: Command, batches: Batches) {
        self.give(shard, Input::Request { connection: CONNECTION, cid: cid.into(), command }, batches);
    }

    /// Gives an input to a shard, and runs both until nothing is under way.
    fn give(&mut self, shard: usize, input: Input, batches: Batches) {
        self.shards[shard].step(input, NOW);
        for _ in 0..20 {
            self.turn(HOME, batches);
            self.turn(OWNER, batches);
        }
    }

    fn turn(&mut self, shard: usize, batches: Batches) {
        let mut effects = Effects::default();
        self.shards[shard].finish_turn(NOW, &mut effects);
        self.shards[shard].flush(&mut self.heard[shard]);
        self.shards[shard].pass(Monotonic(0), &mut self.heard[shard]);
        self.shards[shard].invariants();
        for (to, parcel) in effects.parcels {
            let copies = match (&parcel, batches) {
                (Parcel::Batch(_), Batches::AreLost) => 0,
                (Parcel::Batch(_), Batches::ArriveTwice) => 2,
                _ => 1,
            };
            for _ in 0..copies {
                self.shards[usize::from(to.core)].step(Input::Parcel(parcel.clone()), NOW);
            }
        }
        for (ticket, request) in effects.store {
            let outcome = Ok(self.store(request));
            self.shards[shard].step(Input::Receipt { ticket, outcome }, NOW);
        }
    }

    fn store(&mut self, request: StoreRequest) -> StoreReceipt {
        match request {
            StoreRequest::Question(StoreQuestion::Head { .. }) => StoreReceipt::Head(None),
            StoreRequest::Write(StoreWrite::Insert(message)) => {
                self.stored.push(message);
                StoreReceipt::Inserted
            }
            StoreRequest::Question(StoreQuestion::Newest { limit, .. }) => {
                StoreReceipt::Newest(self.stored.iter().rev().take(limit).cloned().collect())
            }
            other => panic!("{other:?} is not asked here"),
        }
    }

    /// What the home's connection has received since the last call.
    fn heard(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.heard[HOME].0)).into_owned()
    }
}

/// Asserts that these occur in this order, each once.
fn in_order(heard: &str, expected: &[&str]) {
    let places: Vec<usize> =
        expected.iter().map(|what| heard.find(what).unwrap_or_else(|| panic!("no {what} in {heard}"))).collect();
    assert!(places.is_sorted(), "another order: {heard}");
    assert!(expected.iter().all(|what| heard.matches(what).count() == 1), "twice: {heard}");
}

#[test]
fn a_batch_that_comes_twice_is_taken_in_once() {
    let mut world = World::new();
    world.heard();
    world.send(OWNER, "a", Batches::ArriveTwice);
    world.send(HOME, "b", Batches::ArriveTwice);
    in_order(&world.heard(), &[r#"of\":\"a"#, r#"of\":\"b"#, r#""cid":"b","channel_message_ack""#]);
    assert_eq!(world.shards[HOME].report().home.batch_gaps, 0);
}

#[test]
fn stored_messages_of_a_lost_batch_come_in_order_with_all_presences() {
    let mut world = World::new();
    world.send(OWNER, "a", Batches::Arrive);
    world.heard();
    world.send(OWNER, "b", Batches::AreLost);
    let leave = Command::Leave { channel_id: world.channel.to_string() };
    world.ask(OWNER, "leave", leave, Batches::AreLost);
    assert_eq!(world.heard(), "");
    world.join(OWNER, Batches::Arrive);
    let heard = world.heard();
    in_order(&heard, &[r#"of\":\"b"#, "channel_presence_event"]);
    assert!(!heard.contains(r#"of\":\"a"#) && !heard.contains("leaves"), "it is back: {heard}");
    world.send(OWNER, "c", Batches::Arrive);
    in_order(&world.heard(), &[r#"of\":\"c"#]);
    let report = world.shards[HOME].report().home;
    assert_eq!((report.batch_gaps, report.lost), (1, 0));
}

#[test]
fn a_lost_answer_is_an_unknown_outcome_and_a_lost_leave_of_another_is_told() {
    let mut world = World::new();
    world.heard();
    world.send(HOME, "a", Batches::AreLost);
    let leave = Command::Leave { channel_id: world.channel.to_string() };
    world.ask(OWNER, "leave", leave, Batches::AreLost);
    assert_eq!(world.heard(), "");
    world.give(HOME, Input::CompareWithOwners, Batches::Arrive);
    let heard = world.heard();
    in_order(&heard, &[r#"of\":\"a"#, r#""leaves":"#, r#""cid":"a","error""#, r#""outcome":"unknown""#]);
    world.send(HOME, "b", Batches::Arrive);
    in_order(&world.heard(), &[r#"of\":\"b"#, r#""cid":"b","channel_message_ack""#]);
}

#[test]
fn a_member_whose_join_was_not_answered_is_out_on_both_sides() {
    let mut world = World::new();
    let leave = Command::Leave { channel_id: world.channel.to_string() };
    world.ask(HOME, "leave", leave, Batches::Arrive);
    world.heard();
    world.join(HOME, Batches::AreLost);
    assert_eq!(world.shards[OWNER].report().levels.members, 2);
    world.give(HOME, Input::CompareWithOwners, Batches::Arrive);
    in_order(&world.heard(), &[r#""cid":"join","error""#, r#""outcome":"unknown""#]);
    assert_eq!(world.shards[OWNER].report().levels.members, 1);
    world.send(OWNER, "a", Batches::Arrive);
    assert_eq!(world.heard(), "");
    world.join(HOME, Batches::Arrive);
    in_order(&world.heard(), &[r#""cid":"join","channel""#]);
}
