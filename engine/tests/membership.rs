//! Tests of what a group's channel asks of the store: once, whether a user may join; each message, to be stored; and
//! nothing about a message's author. Also tests that requests wait behind a change of the members.

mod world;

use engine::command::{Command, Join};
use engine::id::{ChannelId, GroupId, UserId};
use engine::message::{Message, MessageCode};
use engine::persist::{StoreQuestion, StoreReceipt, StoreRequest, StoreWrite, Ticket};
use engine::query::QueryAnswer;
use engine::shard::Input;
use engine::social::group::{GroupAct, GroupChange, GroupOutcome};
use uuid::Uuid;
use world::{NOW, World, only};

const GROUP: GroupId = GroupId(Uuid::from_u128(7));

fn send(world: &mut World, cid: &str) -> Vec<(Ticket, StoreRequest)> {
    let channel_id = ChannelId::group(GROUP).to_string();
    world.ask(cid, Command::Send { channel_id, content: "{}".into() })
}

/// Joins the group's channel as its member.
fn join(world: &mut World) {
    let join = Join { target: GROUP.to_string(), kind: 3, persistence: true, hidden: false };
    let (head, request) = only(world.ask("join", Command::Join(join)));
    assert!(matches!(request, StoreRequest::Question(StoreQuestion::Head { .. })));
    let (admission, request) = only(world.answer(head, StoreReceipt::Head(None)));
    assert!(matches!(request, StoreRequest::Question(StoreQuestion::MayJoinGroup { .. })));
    assert!(!world.heard.text().contains("\"channel\""), "nobody is in before the store has said so");
    assert!(world.answer(admission, StoreReceipt::Admitted(None)).is_empty());
    assert!(world.heard.text().contains("\"cid\":\"join\",\"channel\""));
}

#[test]
fn sending_looks_up_no_member() {
    let mut world = World::new();
    join(&mut world);
    for number in 0..100 {
        let (ticket, request) = only(send(&mut world, &number.to_string()));
        assert!(matches!(request, StoreRequest::Write(StoreWrite::Insert(_))), "{request:?}");
        assert!(world.answer(ticket, StoreReceipt::Inserted).is_empty());
    }
    assert_eq!(world.heard.text().matches("channel_message_ack").count(), 100);
}

#[test]
fn what_is_asked_behind_a_kick_is_looked_at_when_it_is_decided() {
    let mut world = World::new();
    join(&mut world);
    let (before, _) = only(send(&mut world, "before"));
    let kicked = UserId(Uuid::from_u128(1));
    let change = GroupChange { group: GROUP, actor: UserId(Uuid::from_u128(9)), act: GroupAct::Kick(vec![kicked]) };
    let query = change.into();
    world.shard.step(Input::ChannelQuery { number: 5, channel: ChannelId::group(GROUP), query }, NOW);
    let (kick, request) = only(world.turn());
    let StoreRequest::Write(StoreWrite::ChangeGroup { places, time, .. }) = request else { panic!("{request:?}") };
    assert!(send(&mut world, "behind").is_empty(), "it waits, and the store does not hear of it");

    // The store decides the kick first, but the message stands before it in the queue.
    let message = Message {
        channel: ChannelId::group(GROUP),
        id: places[0].id,
        sequence: places[0].sequence,
        code: MessageCode::GroupKick,
        sender: kicked,
        username: "ada".into(),
        content: "{}".into(),
        create_time: time,
        update_time: time,
        persistent: true,
    };
    let outcome = GroupOutcome { messages: vec![message], removed: vec![kicked], ..GroupOutcome::default() };
    assert!(world.answer(kick, StoreReceipt::GroupChanged(Ok(outcome))).is_empty());
    assert!(world.answers.is_empty() && !world.heard.text().contains("\"code\":6"));
    assert!(world.answer(before, StoreReceipt::Inserted).is_empty());

    assert_eq!(world.answers, [(5, QueryAnswer::GroupChanged(Ok(Ok(()))))]);
    let heard = world.heard.text();
    let place = |what: &str| heard.find(what).unwrap_or_else(|| panic!("{what} is not in {heard}"));
    assert!(place("\"cid\":\"before\",\"channel_message_ack\"") > place("\"code\":0"));
    assert!(place("\"code\":6") > place("\"code\":0"));
    assert!(
        place("\"cid\":\"behind\",\"error\"") > place("\"code\":6"),
        "who was kicked is told so, and sends no more"
    );
    assert!(send(&mut world, "after").is_empty());
}
