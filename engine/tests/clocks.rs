//! Tests of a channel whose history was written by a server with a clock that was ahead. No message is refused, the
//! channel's times stand still until the clock has caught up, and other channels are not affected.

mod world;

use engine::command::{Command, Join};
use engine::id::{ChannelId, MessageId, Sequence, Timestamp};
use engine::limits::Rules;
use engine::message::Message;
use engine::message_id::MessageIds;
use engine::persist::{ChannelHead, StoreQuestion, StoreReceipt, StoreRequest, StoreWrite};
use world::{NOW, World, only};

const HOUR: i64 = 3600 * 1_000_000_000;

/// Joins a room whose newest message has this id.
fn join(world: &mut World, room: &str, newest: Option<MessageId>) -> ChannelId {
    let join = Join { target: room.into(), kind: 1, persistence: true, hidden: false };
    let (head, request) = only(world.ask("join", Command::Join(join)));
    assert!(matches!(request, StoreRequest::Question(StoreQuestion::Head { .. })));
    let head_receipt = newest.map(|id| ChannelHead { id, sequence: Sequence(7) });
    assert!(world.answer(head, StoreReceipt::Head(head_receipt)).is_empty());
    ChannelId::room(room).expect("a good name")
}

/// Sends a message now. Returns the message that the shard gives to the store.
fn say(world: &mut World, room: &ChannelId) -> Message {
    let (ticket, request) =
        only(world.ask("say", Command::Send { channel_id: room.to_string(), content: "{}".into() }));
    let StoreRequest::Write(StoreWrite::Insert(message)) = request else { panic!("{request:?}") };
    world.heard.0.clear();
    world.answer(ticket, StoreReceipt::Inserted);
    assert!(world.heard.text().contains("channel_message_ack"), "{}", world.heard.text());
    message
}

#[test]
fn a_history_that_lies_ahead_of_the_clock_goes_on() {
    // So many messages at once are beyond a session's budget.
    let mut world = World::under(Rules { work_per_session: None, work_per_user: None, ..Rules::default() });
    let ahead = Timestamp(NOW.0 + 2 * HOUR);
    let newest = MessageIds::after(None).next(ahead, 1).unwrap();
    let ahead_room = join(&mut world, "ahead", Some(newest));
    let other_room = join(&mut world, "other", None);
    let mut last = newest;
    // More messages than one millisecond has ids.
    for number in 0..10_000 {
        let message = say(&mut world, &ahead_room);
        assert!(message.id > last, "ids count on");
        assert_eq!(message.create_time, Timestamp(ahead.0 + 999_999), "its time stands still");
        assert_eq!(message.sequence, Sequence(8 + number));
        last = message.id;
    }
    let other = say(&mut world, &other_room);
    assert_eq!(other.create_time, NOW, "no other channel notices");
    assert!(other.id < newest);

    world.now = Timestamp(NOW.0 + 3 * HOUR);
    for room in [&ahead_room, &other_room] {
        let message = say(&mut world, room);
        assert_eq!(message.create_time, world.now, "the clock is there");
        assert!(message.id > last || *room == other_room);
    }
}
