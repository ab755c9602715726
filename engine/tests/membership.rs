//! Tests of what a group's channel asks of the store: once, whether a user may join; each message, to be stored; and
//! nothing about a message's author. Also tests that requests wait behind a change of the members, and that a change ends
//! presences in slices.

mod world;

use std::time::Duration;

use engine::command::{Command, Join};
use engine::id::{ChannelId, ConnectionId, GroupId, UserId};
use engine::limits::{ENDINGS_STEP_MAX, ENDINGS_TURN_MAX, GROUP_CHANGES_OF_USER_MAX, Rules};
use engine::message::{Message, MessageCode};
use engine::persist::{StoreQuestion, StoreReceipt, StoreRequest, StoreWrite, Ticket};
use engine::query::{QueryAnswer, Undone};
use engine::session::home::Visibility;
use engine::shard::Input;
use engine::social::group::{GroupAct, GroupChange, GroupOutcome, GroupRefusal};
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

/// Asks for a leave, which may remove members. Returns what the store is asked.
fn leave(world: &mut World, number: u64) -> Vec<(Ticket, StoreRequest)> {
    leave_of(world, UserId(Uuid::from_u128(1000 + u128::from(number))), number)
}

fn leave_of(world: &mut World, actor: UserId, number: u64) -> Vec<(Ticket, StoreRequest)> {
    let query = GroupChange { group: GROUP, actor, act: GroupAct::Leave }.into();
    world.shard.step(Input::ChannelQuery { number, channel: ChannelId::group(GROUP), query }, NOW);
    world.turn()
}

#[test]
fn so_many_changes_of_one_user_wait_and_others_have_places() {
    const REFUSED: QueryAnswer = QueryAnswer::GroupChanged(Err(Undone::NothingDone));
    let [flooder, other] = [9, 10].map(|number| UserId(Uuid::from_u128(number)));
    let mut world = World::new();
    join(&mut world);
    let (change, _) = only(leave_of(&mut world, flooder, 0));
    for number in 1..GROUP_CHANGES_OF_USER_MAX as u64 {
        assert!(leave_of(&mut world, flooder, number).is_empty(), "it waits for the first");
    }
    assert!(world.answers.is_empty());
    for number in [100, 101] {
        assert!(leave_of(&mut world, flooder, number).is_empty());
        assert_eq!(std::mem::take(&mut world.answers), [(number, REFUSED)]);
    }
    assert!(leave_of(&mut world, other, 200).is_empty());
    assert!(world.answers.is_empty(), "another user's change waits");

    let found_nothing = || StoreReceipt::GroupChanged(Err(GroupRefusal::NotFound));
    let (mut change, _) = only(world.answer(change, found_nothing()));
    assert!(leave_of(&mut world, flooder, 102).is_empty());
    assert!(!world.answers.iter().any(|(number, _)| *number == 102), "a place was free again");
    for _ in 0..GROUP_CHANGES_OF_USER_MAX {
        (change, _) = only(world.answer(change, found_nothing()));
    }
    assert!(world.answer(change, found_nothing()).is_empty());
    let decided = |number| world.answers.iter().any(|(of, answer)| *of == number && *answer != REFUSED);
    assert!(decided(200) && decided(102), "each that waited is decided: {:?}", world.answers);
}

#[test]
fn a_message_waits_for_one_change_however_many_wait() {
    let mut world = World::new();
    join(&mut world);
    let (mut change, _) = only(leave(&mut world, 0));
    for number in 1..=9 {
        assert!(leave(&mut world, number).is_empty(), "it waits for the first");
    }
    for number in 0..9 {
        assert!(send(&mut world, &number.to_string()).is_empty(), "it waits for the change under way");
        let asked = world.answer(change, StoreReceipt::GroupChanged(Err(GroupRefusal::NotFound)));
        let [
            (insert, StoreRequest::Write(StoreWrite::Insert(_))),
            (next, StoreRequest::Write(StoreWrite::ChangeGroup { .. })),
        ] = <[_; 2]>::try_from(asked).expect("the message, and then the next change")
        else {
            panic!("the message goes first");
        };
        assert!(world.answer(insert, StoreReceipt::Inserted).is_empty());
        change = next;
    }
    assert_eq!(world.heard.text().matches("channel_message_ack").count(), 9);
}

/// Has so many other sessions join the group's channel, of two users in turn.
fn fill(world: &mut World, sessions: u32) {
    for slot in 1..=sessions {
        world.begin_turn(Duration::from_millis(20));
        let connection = ConnectionId { slot, generation: 1 };
        let user = 100 + u128::from(slot % 2);
        world.open_session(connection, user, "other", Visibility::Unseen);
        let join = Join { target: GROUP.to_string(), kind: 3, persistence: true, hidden: false };
        world.shard.step(Input::Request { connection, cid: String::new(), command: Command::Join(join) }, NOW);
        for (ticket, _) in world.turn() {
            world.answer(ticket, StoreReceipt::Admitted(None));
        }
    }
}

fn members(world: &World) -> usize {
    world.shard.report().levels.members as usize
}

/// Has the store decide a change of the group, and returns after the turn in which it is shown.
fn change(world: &mut World, act: GroupAct, outcome: GroupOutcome) {
    let change = GroupChange { group: GROUP, actor: UserId(Uuid::from_u128(9)), act };
    world.shard.step(Input::ChannelQuery { number: 5, channel: ChannelId::group(GROUP), query: change.into() }, NOW);
    let (ticket, _) = only(world.turn());
    world.begin_turn(Duration::ZERO);
    assert!(world.answer(ticket, StoreReceipt::GroupChanged(Ok(outcome))).is_empty());
    assert_eq!(world.answers, [(5, QueryAnswer::GroupChanged(Ok(Ok(()))))]);
}

#[test]
fn a_deleted_group_ends_its_presences_in_slices() {
    let mut world = World::under(Rules { sessions_per_user_max: None, ..Rules::default() });
    join(&mut world);
    let others = ENDINGS_STEP_MAX + ENDINGS_TURN_MAX + 10;
    fill(&mut world, others as u32);
    assert_eq!(members(&world), others + 1);

    change(&mut world, GroupAct::Delete, GroupOutcome { deleted: true, ..GroupOutcome::default() });
    assert_eq!(members(&world), others + 1 - ENDINGS_STEP_MAX);
    assert!(world.shard.is_busy(), "the rest is work for the next turns");
    // Another session is first in the table of members, so this one's presence has not ended.
    let connection = ConnectionId { slot: others as u32, generation: 1 };
    let send = Command::Send { channel_id: ChannelId::group(GROUP).to_string(), content: "{}".into() };
    world.shard.step(Input::Request { connection, cid: "late".into(), command: send }, NOW);
    assert!(world.turn().is_empty(), "nothing is stored in a group that is deleted");

    world.begin_turn(Duration::ZERO);
    assert!(world.turn().is_empty());
    assert_eq!(members(&world), 11);
    world.begin_turn(Duration::ZERO);
    assert!(world.turn().is_empty());
    assert_eq!(members(&world), 0);
}

#[test]
fn the_presences_of_a_kicked_user_end_in_slices_before_anything_else_is_shown() {
    let mut world = World::under(Rules { sessions_per_user_max: None, ..Rules::default() });
    join(&mut world);
    let others = 2 * (ENDINGS_STEP_MAX + 10);
    fill(&mut world, others as u32);
    let (sent, _) = only(send(&mut world, "behind"));

    let kicked = UserId(Uuid::from_u128(100));
    let outcome = GroupOutcome { removed: vec![kicked], ..GroupOutcome::default() };
    // The message stands before the kick and is decided after it.
    let act = GroupAct::Kick(vec![kicked]);
    let change = GroupChange { group: GROUP, actor: UserId(Uuid::from_u128(9)), act };
    world.shard.step(Input::ChannelQuery { number: 5, channel: ChannelId::group(GROUP), query: change.into() }, NOW);
    let (kick, _) = only(world.turn());
    assert!(world.answer(sent, StoreReceipt::Inserted).is_empty());
    assert!(send(&mut world, "after").is_empty(), "it waits for the kick");
    assert!(
        world.answer(kick, StoreReceipt::GroupChanged(Ok(outcome))).is_empty(),
        "and until the presences have ended"
    );
    assert_eq!(members(&world), others + 1 - ENDINGS_STEP_MAX);

    world.begin_turn(Duration::ZERO);
    let (after, request) = only(world.turn());
    assert!(matches!(request, StoreRequest::Write(StoreWrite::Insert(_))), "{request:?}");
    assert_eq!(members(&world), others / 2 + 1);
    world.answer(after, StoreReceipt::Inserted);
    assert!(world.heard.text().contains("\"cid\":\"after\",\"channel_message_ack\""));
}
