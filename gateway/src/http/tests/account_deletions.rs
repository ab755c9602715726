//! Deletes accounts, with everything that the server keeps of their users.

use engine::id::{MessageId, Sequence};
use engine::message::{Message, MessageCode};
use engine::persist::StoreWrite;
use engine::query::Undone;
use engine::social::group::GroupRefusal;
use glommio::LocalExecutor;
use storage::PageStart;
use uuid::Uuid;

use super::groups::group;
use super::*;
use crate::http::account_deletions::queue::UNDER_WAY_MAX;

fn lobby() -> ChannelId {
    ChannelId::room("lobby").unwrap()
}

/// Writes `count` messages, by each of these users in turn.
fn fill(world: &World, channel: &ChannelId, users: &[&Session], count: u64) {
    let message = |number: u64| Message {
        channel: channel.clone(),
        id: MessageId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(number))),
        sequence: Sequence(number),
        code: MessageCode::Chat,
        sender: users[number as usize % users.len()].user,
        username: "somebody".into(),
        content: "{}".into(),
        create_time: Timestamp(0),
        update_time: Timestamp(0),
        persistent: true,
    };
    world.keep(&(1..=count).map(|number| Write::Request(StoreWrite::Insert(message(number)))).collect::<Vec<_>>());
}

/// How many messages a user has in a channel, and how many the other users have.
fn written(world: &World, channel: &ChannelId, user: UserId) -> (usize, usize) {
    let messages = world.store.messages(channel, PageStart::Oldest, usize::MAX).unwrap();
    let own = messages.iter().filter(|message| message.sender == user).count();
    (own, messages.len() - own)
}

fn delete(world: &World, who: &Session) -> Heard {
    world.ask("DELETE /v2/account", As::User(&who.token), "")
}

/// Runs account deletions until `so` is true.
fn until(world: &World, so: impl Fn() -> bool) {
    block_on(poll_fn(|context| {
        world.go_on(context);
        if so() { Poll::Ready(()) } else { Poll::Pending }
    }));
}

fn under_way(world: &World) -> Vec<UserId> {
    world.store.account_deletions(100).unwrap()
}

#[test]
fn everything_goes() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let custom = json!({ "id": "custom-of-alice" }).to_string();
    assert_eq!(world.ask("POST /v2/account/link/custom", As::User(&alice.token), custom.clone()).status, 200);
    let shared = group(&world, &alice, json!({ "name": "shared", "open": true }));
    for number in 0..40 {
        group(&world, &alice, json!({ "name": format!("alone {number}") }));
    }
    world.ask(&format!("POST /v2/group/{shared}/join"), As::User(&bob.token), "");
    world.ask(&format!("POST /v2/friend?ids={}", bob.user), As::User(&alice.token), "");
    world.ask(&format!("POST /v2/friend?ids={}", alice.user), As::User(&bob.token), "");
    let direct = ChannelId::direct(alice.user, bob.user);
    fill(&world, &lobby(), &[&alice, &bob, &bob], 1500);
    fill(&world, &direct, &[&alice, &bob], 3);
    world.told();

    let heard = delete(&world, &alice);
    assert_eq!((heard.status, heard.text.as_str()), (200, "{}"));
    assert_eq!(world.told(), [Broadcast::Expelled(alice.user)]);
    assert_eq!(written(&world, &lobby(), alice.user), (0, 1000));
    assert_eq!(written(&world, &direct, alice.user), (0, 2));
    assert_eq!(under_way(&world), []);
    let bobs = |target: &str| world.ask(&format!("GET /v2/{target}"), As::User(&bob.token), "");
    assert_eq!(bobs("friend").text, "{}");
    assert_eq!(bobs(&format!("user?ids={}&usernames=alice", alice.user)).text, "{}");
    let groups = bobs("group?limit=100").json();
    assert_eq!(groups["groups"].as_array().unwrap().len(), 1, "the others have gone with their only member: {groups}");
    let members = bobs(&format!("group/{shared}/user")).json();
    let members = members["group_users"].as_array().unwrap();
    assert_eq!((members.len(), &members[0]["user"]["username"], &members[0]["state"]), (1, &json!("bob"), &json!(0)));
    let page = bobs(&format!("channel/3.{shared}..?limit=100")).json();
    let codes: Vec<_> = page["messages"].as_array().unwrap().iter().map(|message| message["code"].clone()).collect();
    assert_eq!(codes, [json!(3), json!(7)], "bob's own join and promotion, and nothing of alice");

    for target in ["GET /v2/account", "DELETE /v2/account", "GET /v2/friend"] {
        world.ask(target, As::User(&alice.token), "").expect_refusal(401, 16, target);
    }
    let refresh = json!({ "token": alice.refresh_token }).to_string();
    world.ask("POST /v2/account/session/refresh", As::Client, refresh).expect_refusal(401, 16, "refresh");
    let restarted = World::on(world.store.clone());
    restarted.ask("GET /v2/account", As::User(&alice.token), "").expect_refusal(401, 16, "after a restart");

    let authenticate = "POST /v2/account/authenticate/custom?username=alice";
    world.ask(&format!("{authenticate}&create=false"), As::Client, custom.clone()).expect_refusal(404, 5, "gone");
    let heard = world.ask(authenticate, As::Client, custom);
    assert_eq!(heard.json()["created"], true);
    let again = Session::of(&heard);
    assert_ne!(again.user, alice.user);
    assert_eq!(world.ask("GET /v2/account", As::User(&again.token), "").json()["user"]["username"], "alice");
    assert_ne!(world.sign_in("alice-the-second").user, alice.user);
}

#[test]
fn a_group_that_cannot_be_left_keeps_the_account() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let id = group(&world, &alice, json!({ "name": "one", "open": true }));
    let answers = Rc::new(RefCell::new(vec![
        QueryAnswer::GroupChanged(Ok(Err(GroupRefusal::NotFound))),
        QueryAnswer::GroupChanged(Ok(Err(GroupRefusal::Full))),
        QueryAnswer::GroupChanged(Err(Undone::NothingDone)),
    ]));
    let left = answers.clone();
    let channel = ChannelId::group(engine::id::GroupId(parse_uuid(&id).unwrap()));
    world.own(move |asked, channel_query| {
        assert_eq!(*asked, channel);
        assert!(matches!(channel_query, ChannelQuery::Change(ChannelChange::Group(_))), "{channel_query:?}");
        left.borrow_mut().pop().unwrap()
    });
    delete(&world, &alice).expect_refusal(503, 14, "the owner has too much to do");
    delete(&world, &alice).expect_refusal(400, 3, "the owner refuses");
    assert_eq!(world.ask("GET /v2/account", As::User(&alice.token), "").status, 200);
    assert_eq!(world.told(), []);
    assert_eq!(delete(&world, &alice).status, 200, "a group that is gone is left");
    assert!(answers.borrow().is_empty());
    world.ask("DELETE /v2/account", As::Nobody, "").expect_refusal(401, 16, "nobody");
    assert_eq!(world.ask("GET /v2/account", As::User(&bob.token), "").status, 200);
}

#[test]
fn owners_delete_a_page_at_a_time() {
    let world = World::new();
    let alice = world.sign_in("alice");
    fill(&world, &lobby(), &[&alice], 600);
    let asked = Rc::new(RefCell::new(Vec::new()));
    let (log, mut owner) = (asked.clone(), owner::of_empty_channels(world.store.clone(), world.now.clone()));
    world.own(move |channel, channel_query| {
        let ChannelQuery::Change(ChannelChange::Purge(purge)) = &channel_query else { panic!("{channel_query:?}") };
        log.borrow_mut().push(purge.ids.len());
        owner(channel, channel_query)
    });
    assert_eq!(delete(&world, &alice).status, 200);
    assert_eq!(asked.take(), [256, 256, 88]);
}

#[test]
fn what_is_said_to_the_last_goes_as_well() {
    let world = World::new();
    let alice = world.sign_in("alice");
    fill(&world, &lobby(), &[&alice], 5);
    // While the first messages are deleted, another message arrives in a channel that is finished, and one in a new
    // channel.
    let (store, user) = (world.store.clone(), alice.user);
    let mut owner = owner::of_empty_channels(world.store.clone(), world.now.clone());
    let late = ChannelId::room("late").unwrap();
    let mut later = Some(late.clone());
    world.own(move |channel, channel_query| {
        let channel_answer = owner(channel, channel_query);
        if let Some(late) = later.take() {
            for (channel, number) in [(channel.clone(), 6), (late, 1)] {
                let id = MessageId(Uuid::from_u128((0x0190_0000_0000_7000 << 64) + number));
                let message = Message {
                    channel,
                    id,
                    sequence: Sequence(number as u64),
                    code: MessageCode::Chat,
                    sender: user,
                    username: "alice".into(),
                    content: "{}".into(),
                    create_time: Timestamp(0),
                    update_time: Timestamp(0),
                    persistent: true,
                };
                store.commit(&[Write::Request(StoreWrite::Insert(message))]).unwrap();
            }
        }
        channel_answer
    });
    assert_eq!(delete(&world, &alice).status, 200);
    assert_eq!(written(&world, &lobby(), alice.user), (0, 0));
    assert_eq!(written(&world, &late, alice.user), (0, 0));
}

#[test]
fn the_answer_to_a_deletion_does_not_wait_for_the_last_message() {
    let world = World::new();
    let alice = world.sign_in("alice");
    fill(&world, &lobby(), &[&alice], 1000);
    let now = world.now.clone();
    let mut owner = owner::of_empty_channels(world.store.clone(), world.now.clone());
    world.own(move |channel, channel_query| {
        now.set(Timestamp(now.get().0 + 2_000_000_000));
        owner(channel, channel_query)
    });
    assert_eq!(delete(&world, &alice).status, 200);
    assert_eq!(under_way(&world), [alice.user], "it is not done yet");
    until(&world, || under_way(&world).is_empty());
    assert_eq!(written(&world, &lobby(), alice.user), (0, 0));
}

#[test]
fn a_departure_outlives_its_request() {
    let world = World::new();
    let alice = world.sign_in("alice");
    fill(&world, &lobby(), &[&alice], 300);
    {
        let request = request("DELETE /v2/account", As::User(&alice.token)).body(Bytes::new()).unwrap();
        let mut answer = pin!(answer(&world.services, request));
        assert!(answer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    until(&world, || under_way(&world).is_empty() && world.store.account(alice.user).unwrap().is_none());
    assert_eq!(world.told(), [Broadcast::Expelled(alice.user)]);
    until(&world, || written(&world, &lobby(), alice.user) == (0, 0));
}

#[test]
fn an_account_is_deleted_once_at_a_time() {
    let world = World::new();
    let alice = world.sign_in("alice");
    fill(&world, &lobby(), &[&alice], 300);
    let first = request("DELETE /v2/account", As::User(&alice.token)).body(Bytes::new()).unwrap();
    let mut first = pin!(answer(&world.services, first));
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let second = request("DELETE /v2/account", As::User(&alice.token)).body(Bytes::new()).unwrap();
    let second = block_on(answer(&world.services, second));
    assert_eq!(second.status(), 503, "the first is under way");
    until(&world, || under_way(&world).is_empty() && world.store.account(alice.user).unwrap().is_none());
}

#[test]
fn a_stop_leaves_the_rest_to_the_next_start() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    fill(&world, &lobby(), &[&alice], 600);
    let services = world.services.clone();
    let mut owner = owner::of_empty_channels(world.store.clone(), world.now.clone());
    world.own(move |channel, channel_query| {
        services.close_connections();
        owner(channel, channel_query)
    });
    let heard = delete(&world, &alice);
    assert_eq!((heard.status, heard.text.as_str()), (200, "{}"), "the account is gone");
    assert_eq!(written(&world, &lobby(), alice.user), (600 - 256, 0));
    assert!(world.departing.borrow().is_none(), "nothing is worked on any more");
    delete(&world, &bob).expect_refusal(503, 14, "while it stops");

    fill(&world, &ChannelId::room("other").unwrap(), &[&bob], 300);
    world.keep(&[Write::DeleteAccount { user: bob.user, time: world.now.get() }]);
    let restarted = World::on(world.store.clone());
    restarted.services.take_up_departures();
    until(&restarted, || under_way(&restarted).is_empty());
    assert_eq!(written(&restarted, &lobby(), alice.user), (0, 0));
    assert_eq!(written(&restarted, &ChannelId::room("other").unwrap(), bob.user), (0, 0));
    assert_eq!(restarted.told(), [], "there is nobody to be expelled");
}

#[test]
fn what_an_owner_could_not_delete_is_tried_again() {
    let world = World::new();
    let alice = world.sign_in("alice");
    fill(&world, &lobby(), &[&alice], 3);
    let mut failures = 2;
    let mut owner = owner::of_empty_channels(world.store.clone(), world.now.clone());
    world.own(move |channel, channel_query| {
        failures -= 1;
        match channel_query {
            ChannelQuery::Change(change) if failures >= 0 => change.undone(Undone::NothingDone),
            channel_query => owner(channel, channel_query),
        }
    });
    // The pause uses a timer of the executor.
    LocalExecutor::default().run(async move {
        let request = request("DELETE /v2/account", As::User(&alice.token)).body(Bytes::new()).unwrap();
        let mut answer = pin!(answer(&world.services, request));
        let answer = poll_fn(|context| {
            let polled = answer.as_mut().poll(context);
            world.go_on(context);
            polled
        });
        assert_eq!(answer.await.status(), 200, "the account is gone whatever becomes of its messages");
        assert_eq!(written(&world, &lobby(), alice.user), (3, 0));
        poll_fn(|context| {
            world.go_on(context);
            if under_way(&world).is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert_eq!(written(&world, &lobby(), alice.user), (0, 0));
    });
}

#[test]
fn many_deletions_from_one_network_keep_no_other_user_out() {
    const FLOOD: usize = 3000;
    let world = World::new();
    let alice = world.sign_in("alice");
    let strangers = ClientNetwork::of("192.0.2.1".parse().unwrap());
    let deletions = world.services.account_deletions();
    let mut flood: Vec<_> =
        (1..=FLOOD as u128).map(|user| Box::pin(deletions.depart(UserId(Uuid::from_u128(user)), strangers))).collect();
    let mut refused = || {
        let mut context = Context::from_waker(Waker::noop());
        flood.retain_mut(|asked| asked.as_mut().poll(&mut context).is_pending());
        FLOOD - flood.len()
    };
    assert_eq!(refused(), FLOOD - UNDER_WAY_MAX);
    let delete = request("DELETE /v2/account", As::User(&alice.token)).body(Bytes::new()).unwrap();
    let heard = world.send_from(ClientNetwork::of("192.0.2.2".parse().unwrap()), delete);
    assert_eq!((heard.status, heard.text.as_str()), (200, "{}"));
    assert!(refused() < FLOOD, "the strangers' accounts still wait");
}
