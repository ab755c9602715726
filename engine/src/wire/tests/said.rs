//! Generates everything that a server may send.

use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use crate::command::{Event, News, RateLimit, Rejection, RejectionCode, RejectionContext, Reply};
use crate::id::{ChannelId, GroupId, MessageId, NotificationId, Sequence, SessionId, Timestamp, UserId};
use crate::message::{Message, MessageCode, Missed, Presence, StatusPresence};
use crate::process_rates::ProcessRate;
use crate::social::notification::{Notification, NotificationCode};

fn text() -> impl Strategy<Value = Arc<str>> {
    any::<String>().prop_map(Arc::from)
}

/// Contents and subjects are never empty.
fn some_text() -> impl Strategy<Value = Arc<str>> {
    any::<String>().prop_map(|text| format!("{{{text}}}").into())
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn time() -> impl Strategy<Value = Timestamp> {
    // Times from almost the whole range; and times that are exact with fewer fraction digits.
    let near = (i64::MIN / 2..i64::MAX / 2).prop_map(|nanoseconds| nanoseconds * 2);
    prop_oneof![near, (-10_000..10_000_i64).prop_map(|n| n * 1_000_000), (-10_000..10_000_i64).prop_map(|n| n * 1_000)]
        .prop_map(Timestamp)
}

pub fn channel() -> impl Strategy<Value = ChannelId> {
    prop_oneof![
        "[a-z. /\"é😀]{1,16}".prop_map(|name| ChannelId::room(&name).unwrap()),
        uuid().prop_map(|group| ChannelId::group(GroupId(group))),
        (uuid(), uuid()).prop_map(|(one, two)| ChannelId::direct(UserId(one), UserId(two))),
    ]
}

fn presence() -> impl Strategy<Value = Presence> {
    (uuid(), uuid(), text(), any::<bool>()).prop_map(|(user, session, username, persistence)| Presence {
        user: UserId(user),
        session: SessionId(session),
        username,
        persistence,
    })
}

fn status() -> impl Strategy<Value = StatusPresence> {
    (uuid(), uuid(), text(), text()).prop_map(|(user, session, username, status)| StatusPresence {
        user: UserId(user),
        session: SessionId(session),
        username,
        status,
    })
}

fn code() -> impl Strategy<Value = MessageCode> {
    (0..=9).prop_map(|number| MessageCode::from_number(number).expect("all of these are codes"))
}

fn message() -> impl Strategy<Value = Message> {
    let who = (channel(), uuid(), uuid(), text());
    (who, code(), some_text(), time(), time(), any::<bool>()).prop_map(
        |((channel, id, sender, username), code, content, create_time, update_time, persistent)| Message {
            channel,
            id: MessageId(id),
            sequence: Sequence(1),
            code,
            sender: UserId(sender),
            username,
            content,
            create_time,
            update_time,
            persistent,
        },
    )
}

fn notification() -> impl Strategy<Value = Notification> {
    use NotificationCode::*;
    let codes = [DirectRequest, FriendRequest, FriendAccepted, GroupAdded, GroupJoinRequest, FriendRemoved];
    (uuid(), some_text(), some_text(), prop::sample::select(codes.to_vec()), uuid(), time()).prop_map(
        |(id, subject, content, code, sender, create_time)| Notification {
            id: NotificationId(id),
            subject,
            content,
            code,
            sender: UserId(sender),
            create_time,
        },
    )
}

fn rejection() -> impl Strategy<Value = Rejection> {
    use RejectionCode::*;
    let codes = [RuntimeException, UnrecognizedPayload, MissingPayload, BadInput, RuntimeFunctionNotFound];
    (prop::sample::select(codes.to_vec()), option::of(rejection_context()), any::<String>())
        .prop_map(|(code, context, message)| Rejection { code, context, message: message.into() })
}

fn rejection_context() -> impl Strategy<Value = RejectionContext> {
    use RateLimit::*;
    let limits = [SendsPerSecond, WorkPerSession, WorkPerUser, WorkPerAddress, Process(ProcessRate::Joins)];
    prop_oneof![
        Just(RejectionContext::OutcomeUnknown),
        (prop::sample::select(limits.to_vec()), any::<Duration>())
            .prop_map(|(limit, retry_after)| RejectionContext::TooFast { limit, retry_after }),
    ]
}

pub fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        Just(Reply::Done),
        Just(Reply::Pong),
        (channel(), vec(presence(), 0..4), option::of(any::<u32>()), presence()).prop_map(
            |(channel, presences, count, me)| Reply::Joined { channel, presences: presences.into(), count, me }
        ),
        (message(), code()).prop_map(|(message, code)| Reply::Acknowledged { message, code }),
        vec(status(), 0..4).prop_map(Reply::Statuses),
        rejection().prop_map(Reply::Refused),
    ]
}

pub fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        message().prop_map(Event::Message),
        (channel(), vec(presence(), 0..4), vec(presence(), 0..4), option::of(any::<u32>()))
            .prop_map(|(channel, joins, leaves, count)| Event::Presence { channel, joins, leaves, count }),
    ]
}

pub fn missed() -> impl Strategy<Value = Missed> {
    let id = || option::of(uuid().prop_map(MessageId));
    (id(), id()).prop_map(|(after, before)| Missed { after, before })
}

pub fn news() -> impl Strategy<Value = News> {
    prop_oneof![
        vec(notification(), 0..4).prop_map(News::Notifications),
        (vec(status(), 0..4), vec(status(), 0..4)).prop_map(|(joins, leaves)| News::Status { joins, leaves }),
    ]
}
