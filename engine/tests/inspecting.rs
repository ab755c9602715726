//! What operators ask a shard: a user's sessions, the channels, and to close sessions; each answer costs a bounded turn.

mod world;

use std::num::NonZeroU64;
use std::time::Duration;

use engine::command::{Command, Join};
use engine::counters::SessionEnd;
use engine::fanout::frames::Format;
use engine::id::{ConnectionId, NetworkKey, SessionId, UserId};
use engine::limits::{CHANNELS_LISTED_MAX, CHANNELS_PAGE_MAX, DISCONNECT_LOOKS_MAX, RATE_WINDOW, SESSIONS_LISTED_MAX};
use engine::persist::StoreReceipt;
use engine::query::{
    ChannelOrder, ChannelSeen, ChannelsQuery, Disconnect, Disconnected, Inspection, QueryAnswer, SessionsQuery,
    SessionsSeen, Whom,
};
use engine::session::admission::{OnLag, Session};
use engine::session::home::Visibility;
use engine::shard::{Input, SocketEffect};
use uuid::Uuid;
use world::{NOW, World, only};

const USER: UserId = UserId(Uuid::from_u128(7));
const NETWORK: NetworkKey = NetworkKey(NonZeroU64::MIN);

fn ask(world: &mut World, query: impl Into<Inspection>) -> QueryAnswer {
    world.shard.step(Input::Inspect { number: 5, query: query.into() }, world.now);
    world.turn();
    let (number, answer) = only(std::mem::take(&mut world.answers));
    assert_eq!(number, 5);
    answer
}

fn session_of(slot: u32) -> SessionId {
    SessionId(Uuid::from_u128(1_000_000 + u128::from(slot)))
}

fn open(world: &mut World, slot: u32, user: UserId) {
    let connection = ConnectionId { slot, generation: 1 };
    let session = Session {
        user,
        session: session_of(slot),
        username: "ada".into(),
        format: Format::Json,
        on_lag: OnLag::Close,
        network: Some(NETWORK),
    };
    world.shard.step(Input::Opened { connection, session, visibility: Visibility::Unseen }, NOW);
}

fn request(world: &mut World, slot: u32, command: Command) {
    let connection = ConnectionId { slot, generation: 1 };
    world.shard.step(Input::Request { connection, cid: String::new(), command }, world.now);
    for (head, _) in world.turn() {
        world.answer(head, StoreReceipt::Head(None));
    }
}

fn join(world: &mut World, slot: u32, room: &str) {
    request(world, slot, Command::Join(Join { target: room.to_owned(), kind: 1, persistence: true, hidden: false }));
}

fn sessions(world: &mut World, user: UserId) -> SessionsSeen {
    match ask(world, SessionsQuery { user }) {
        QueryAnswer::Sessions(seen) => seen,
        other => panic!("{other:?}"),
    }
}

fn channels(world: &mut World, by: ChannelOrder, limit: usize) -> Vec<ChannelSeen> {
    match ask(world, ChannelsQuery { by, below: None, limit }) {
        QueryAnswer::Channels(seen) => seen,
        other => panic!("{other:?}"),
    }
}

fn disconnect(world: &mut World, whom: Whom, from_slot: u32) -> Disconnected {
    match ask(world, Disconnect { whom, from_slot, frame: b"farewell".to_vec() }) {
        QueryAnswer::Disconnected(done) => done,
        other => panic!("{other:?}"),
    }
}

/// The connections that were closed since the last look.
fn closed(world: &mut World) -> usize {
    std::mem::take(&mut world.sockets).iter().filter(|effect| matches!(effect, SocketEffect::Closing(_))).count()
}

#[test]
fn a_user_s_sessions_are_listed_up_to_a_bound_and_all_are_counted() {
    let mut world = World::new();
    let many = SESSIONS_LISTED_MAX as u32 + 5;
    for slot in 1..=many {
        open(&mut world, slot, USER);
    }
    join(&mut world, many, "hall");
    join(&mut world, many, "lobby");
    join(&mut world, 1, "hall");
    let seen = sessions(&mut world, USER);
    assert_eq!((seen.sessions, seen.memberships, seen.listed.len()), (many as usize, 3, SESSIONS_LISTED_MAX));
    let newest = &seen.listed[0];
    assert_eq!((newest.session, newest.network, newest.memberships), (session_of(many), Some(NETWORK), 2));
    let names: Vec<String> = newest.channels.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["2...hall", "2...lobby"]);
    assert_eq!(sessions(&mut world, UserId(Uuid::nil())), SessionsSeen::default());
    for number in 0..=CHANNELS_LISTED_MAX {
        join(&mut world, 1, &format!("room-{number}"));
    }
    open(&mut world, 900, UserId(Uuid::from_u128(9)));
    let seen = sessions(&mut world, USER);
    assert_eq!(seen.memberships, 3 + CHANNELS_LISTED_MAX + 1);
    assert!(seen.listed.iter().all(|session| session.channels.len() <= CHANNELS_LISTED_MAX));
}

#[test]
fn channels_are_listed_by_members_and_by_messages() {
    let mut world = World::new();
    for slot in 1..=6 {
        open(&mut world, slot, USER);
        join(&mut world, slot, "large");
        if slot <= 2 {
            join(&mut world, slot, "small");
        }
    }
    let names = |seen: &[ChannelSeen]| -> Vec<(String, usize, u32)> {
        seen.iter().map(|seen| (seen.channel.to_string(), seen.members, seen.messages)).collect()
    };
    let by_members = channels(&mut world, ChannelOrder::Members, 9);
    assert_eq!(names(&by_members), [("2...large".to_owned(), 6, 0), ("2...small".to_owned(), 2, 0)]);
    assert_eq!(channels(&mut world, ChannelOrder::Members, 1).len(), 1);
    assert!(channels(&mut world, ChannelOrder::Rate, 9).is_empty(), "no window is over");
    for command in
        [Command::Leave { channel_id: "2...large".into() }, Command::Leave { channel_id: "2...small".into() }]
    {
        request(&mut world, 1, command);
    }
    let by_members = channels(&mut world, ChannelOrder::Members, CHANNELS_PAGE_MAX);
    assert_eq!(names(&by_members), [("2...large".to_owned(), 5, 0), ("2...small".to_owned(), 1, 0)]);
    world.begin_turn(RATE_WINDOW);
    world.turn();
    assert!(channels(&mut world, ChannelOrder::Rate, 9).is_empty(), "nothing was said");
}

#[test]
fn a_user_is_disconnected_after_the_answers_and_once() {
    let mut world = World::new();
    for slot in 1..=3 {
        open(&mut world, slot, USER);
    }
    open(&mut world, 4, UserId(Uuid::from_u128(9)));
    assert_eq!(disconnect(&mut world, Whom::User(USER), 0), Disconnected { closed: 3, next_slot: None });
    assert_eq!(closed(&mut world), 3);
    assert_eq!(disconnect(&mut world, Whom::User(USER), 0).closed, 0, "they are closed already");
    for slot in 1..=3 {
        world.shard.step(Input::Closed { connection: ConnectionId { slot, generation: 1 } }, NOW);
    }
    assert_eq!(world.shard.report().home.ended[SessionEnd::Operator as usize], 3);
    assert_eq!(sessions(&mut world, UserId(Uuid::from_u128(9))).sessions, 1, "other users stay");
}

#[test]
fn one_session_is_looked_for_in_bounded_turns() {
    let mut world = World::new();
    let last = 2 * DISCONNECT_LOOKS_MAX as u32 + 10;
    for slot in 1..=last {
        open(&mut world, slot, UserId(Uuid::from_u128(100 + u128::from(slot))));
    }
    let (mut from, mut asked) = (0, 0);
    let found = loop {
        asked += 1;
        let done = disconnect(&mut world, Whom::Session(session_of(last)), from);
        match done.next_slot {
            Some(next) => {
                assert_eq!((done.closed, next), (0, from + DISCONNECT_LOOKS_MAX as u32), "so many slots a turn");
                from = next;
            }
            None => break done.closed,
        }
    };
    assert_eq!((found, asked), (1, 3));
    assert_eq!(closed(&mut world), 1);
    let nobody = Whom::Session(SessionId(Uuid::nil()));
    assert_eq!(disconnect(&mut world, nobody, from), Disconnected { closed: 0, next_slot: None });
    world.begin_turn(Duration::from_secs(1));
}
