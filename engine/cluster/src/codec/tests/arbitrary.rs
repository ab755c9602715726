//! Any parcel there can be.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use engine::command::{Event, RateLimit, Rejection, RejectionCode, RejectionContext, Reply};
use engine::fanout::frames::{Format, Frames};
use engine::id::*;
use engine::message::{Message, MessageCode, Presence, StatusPresence};
use engine::parcel::*;
use engine::persist::Lasting;
use engine::process_rates::PROCESS_RATES;
use engine::query::*;
use engine::social::group::{GroupAct, GroupChange, GroupRefusal};
use engine::social::notification::{Notice, Notification, NotificationCode};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

fn uuids() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid::from_bytes)
}

fn users() -> impl Strategy<Value = UserId> {
    uuids().prop_map(UserId)
}

fn sessions() -> impl Strategy<Value = SessionId> {
    uuids().prop_map(SessionId)
}

fn texts() -> impl Strategy<Value = Arc<str>> {
    ".{0,40}".prop_map(Arc::from)
}

fn shards() -> impl Strategy<Value = ShardId> {
    any::<u32>().prop_map(ShardId::from_bits)
}

fn channels() -> impl Strategy<Value = ChannelId> {
    prop_oneof![
        "[a-z.]{1,64}".prop_map(|room| ChannelId::room(&room).unwrap()),
        uuids().prop_map(|group| ChannelId::group(GroupId(group))),
        (users(), users()).prop_map(|(one, other)| ChannelId::direct(one, other)),
    ]
}

fn connections() -> impl Strategy<Value = ConnectionId> {
    (any::<u32>(), any::<u32>()).prop_map(|(slot, generation)| ConnectionId { slot, generation })
}

fn codes() -> impl Strategy<Value = MessageCode> {
    (0..=9).prop_filter_map("a code", MessageCode::from_number)
}

fn lasting() -> impl Strategy<Value = Lasting> {
    select(vec![Lasting::ReadOnly, Lasting::Damaged])
}

prop_compose! {
    fn messages()(
        (channel, id, sequence, code, sender) in (channels(), uuids(), any::<u64>(), codes(), users()),
        (username, content, create, update) in (texts(), texts(), any::<i64>(), any::<i64>()),
        persistent: bool,
    ) -> Message {
        let (create_time, update_time) = (Timestamp(create), Timestamp(update));
        let (id, sequence) = (MessageId(id), Sequence(sequence));
        Message { channel, id, sequence, code, sender, username, content, create_time, update_time, persistent }
    }
}

prop_compose! {
    pub fn presences()(user in users(), session in sessions(), username in texts(), persistence: bool) -> Presence {
        Presence { user, session, username, persistence }
    }
}

prop_compose! {
    fn statuses()(user in users(), session in sessions(), username in texts(), status in texts()) -> StatusPresence {
        StatusPresence { user, session, username, status }
    }
}

/// Any event.
pub fn events() -> impl Strategy<Value = Event> {
    let presence = (channels(), vec(presences(), 0..3), vec(presences(), 0..3), of(any::<u32>()));
    prop_oneof![
        messages().prop_map(Event::Message),
        presence.prop_map(|(channel, joins, leaves, count)| Event::Presence { channel, joins, leaves, count }),
    ]
}

fn rate_limits() -> impl Strategy<Value = RateLimit> {
    let mut limits: Vec<_> = PROCESS_RATES.into_iter().map(RateLimit::Process).collect();
    limits.extend([RateLimit::SendsPerSecond, RateLimit::WorkPerSession]);
    limits.extend([RateLimit::WorkPerUser, RateLimit::WorkPerAddress]);
    select(limits)
}

fn rejections() -> impl Strategy<Value = Rejection> {
    use RejectionCode::*;
    let codes = select(vec![RuntimeException, UnrecognizedPayload, MissingPayload, BadInput, RuntimeFunctionNotFound]);
    let too_fast = (rate_limits(), any::<u64>()).prop_map(|(limit, nanoseconds)| RejectionContext::TooFast {
        limit,
        retry_after: Duration::from_nanos(nanoseconds),
    });
    let contexts = of(prop_oneof![Just(RejectionContext::OutcomeUnknown), too_fast]);
    (codes, contexts, ".{0,40}").prop_map(|(code, context, message)| Rejection {
        code,
        context,
        message: message.into(),
    })
}

fn replies() -> impl Strategy<Value = Reply> {
    prop_oneof![
        Just(Reply::Done),
        Just(Reply::Pong),
        (channels(), vec(presences(), 0..4), of(any::<u32>()), presences()).prop_map(
            |(channel, presences, count, me)| Reply::Joined { channel, presences: presences.into(), count, me }
        ),
        (messages(), codes()).prop_map(|(message, code)| Reply::Acknowledged { message, code }),
        vec(statuses(), 0..3).prop_map(Reply::Statuses),
        rejections().prop_map(Reply::Refused),
    ]
}

fn requests() -> impl Strategy<Value = ChannelRequest> {
    let message = prop_oneof![
        texts().prop_map(|content| MessageAction::Send { content }),
        (uuids(), texts()).prop_map(|(id, content)| MessageAction::Update { id: MessageId(id), content }),
        uuids().prop_map(|id| MessageAction::Remove { id: MessageId(id) }),
    ];
    let actions = prop_oneof![
        (presences(), any::<bool>(), select(Format::ALL.to_vec()))
            .prop_map(|(presence, hidden, format)| ChannelAction::Join { presence, hidden, format }),
        Just(ChannelAction::Leave),
        Just(ChannelAction::Depart),
        message.prop_map(ChannelAction::Message),
    ];
    (connections(), any::<u32>(), actions).prop_map(|(connection, number, action)| ChannelRequest {
        connection,
        number,
        action,
    })
}

fn reached() -> impl Strategy<Value = Reached> {
    (any::<[u64; 4]>(), of(uuids())).prop_map(|([epoch, batch, last, told], stored)| Reached {
        epoch: Epoch(epoch),
        batch: BatchNumber(batch),
        last: Sequence(last),
        told,
        stored: stored.map(MessageId),
    })
}

fn frames() -> impl Strategy<Value = Arc<Frames>> {
    vec(events(), 0..4).prop_map(|events| Arc::new(Frames::of_events(&events)))
}

fn items() -> impl Strategy<Value = Item> {
    let answers = (connections(), any::<u32>(), replies());
    prop_oneof![
        frames().prop_map(Item::Frames),
        answers.prop_map(|(connection, number, reply)| Item::Answer { connection, number, reply }),
        (connections(), any::<u32>(), replies()).prop_map(|(connection, number, reply)| Item::Joined {
            connection,
            number,
            reply
        }),
        (connections(), events()).prop_map(|(connection, event)| Item::Event { connection, event }),
        (connections(), any::<u32>()).prop_map(|(connection, number)| Item::Left { connection, number }),
        connections().prop_map(|connection| Item::Evicted { connection }),
        (vec(presences(), 0..4), of(any::<u32>()))
            .prop_map(|(presences, count)| Item::Presences { presences: presences.into(), count }),
    ]
}

fn blocks() -> impl Strategy<Value = Block> {
    (users(), users()).prop_map(|(user, other)| Block { user, other })
}

fn acts() -> impl Strategy<Value = GroupAct> {
    let named = |act: fn(Vec<UserId>) -> GroupAct| vec(users(), 0..3).prop_map(act);
    prop_oneof![
        select(vec![GroupAct::Delete, GroupAct::Join, GroupAct::Leave, GroupAct::Depart]),
        named(GroupAct::Add),
        named(GroupAct::Kick),
        named(GroupAct::Ban),
        named(GroupAct::Promote),
        named(GroupAct::Demote),
    ]
}

fn queries() -> impl Strategy<Value = ChannelQuery> {
    let change = (uuids(), users(), acts()).prop_map(|(group, actor, act)| {
        let group = GroupId(group);
        ChannelChange::Group(GroupChange { group, actor, act })
    });
    let purge = (users(), vec(uuids(), 0..3))
        .prop_map(|(sender, ids)| Purge { sender, ids: ids.into_iter().map(MessageId).collect() });
    prop_oneof![
        (of(sessions()), any::<usize>())
            .prop_map(|(after, limit)| ChannelQuery::Presence(PresenceQuery { after, limit })),
        any::<usize>().prop_map(|limit| ChannelQuery::Newest(NewestQuery { limit })),
        change.prop_map(ChannelQuery::Change),
        blocks().prop_map(|block| ChannelQuery::Change(ChannelChange::Block(block))),
        purge.prop_map(|purge| ChannelQuery::Change(ChannelChange::Purge(purge))),
    ]
}

fn undone() -> impl Strategy<Value = Undone> {
    prop_oneof![select(vec![Undone::NothingDone, Undone::OutcomeUnknown]), lasting().prop_map(Undone::Never)]
}

fn changed() -> impl Strategy<Value = Changed<()>> {
    prop_oneof![Just(Ok(())), undone().prop_map(Err)]
}

fn refusals() -> impl Strategy<Value = GroupRefusal> {
    use GroupRefusal::*;
    select(vec![NotFound, Full, LastSuperadmin, NotSuperadmin, UnknownUser, TooManyGroups])
}

fn seen() -> impl Strategy<Value = QueryAnswer> {
    let channel_seen = (channels(), any::<u32>(), any::<usize>(), any::<u32>())
        .prop_map(|(channel, rank, members, messages)| ChannelSeen { channel, rank, members, messages });
    let session_seen = (sessions(), any::<u64>(), vec(channels(), 0..3), any::<usize>()).prop_map(
        |(session, network, channels, memberships)| {
            let network = NonZeroU64::new(network).map(NetworkKey);
            SessionSeen { session, network, channels, memberships }
        },
    );
    prop_oneof![
        vec(channel_seen, 0..3).prop_map(QueryAnswer::Channels),
        (vec(session_seen, 0..3), any::<usize>(), any::<usize>()).prop_map(|(listed, sessions, memberships)| {
            QueryAnswer::Sessions(SessionsSeen { listed, sessions, memberships })
        }),
        (any::<usize>(), of(any::<u32>()))
            .prop_map(|(closed, next_slot)| QueryAnswer::Disconnected(Disconnected { closed, next_slot })),
    ]
}

fn answers() -> impl Strategy<Value = QueryAnswer> {
    let newest = (vec(messages(), 0..3), any::<[u64; 3]>()).prop_map(|(messages, [epoch, reading, changes])| {
        let version = Version { epoch: Epoch(epoch), reading, changes };
        NewestMessages { messages: messages.into(), version }
    });
    let group_changed =
        prop_oneof![Just(Ok(Ok(()))), refusals().prop_map(|refusal| Ok(Err(refusal))), undone().prop_map(Err)];
    prop_oneof![
        (vec(presences(), 0..3), any::<usize>())
            .prop_map(|(presences, count)| QueryAnswer::Presence(PresencePage { presences, count })),
        of(newest).prop_map(QueryAnswer::Newest),
        group_changed.prop_map(QueryAnswer::GroupChanged),
        changed().prop_map(QueryAnswer::Blocked),
        changed().prop_map(QueryAnswer::Purged),
        vec(any::<bool>(), 0..20).prop_map(QueryAnswer::Online),
        seen(),
    ]
}

fn notices() -> impl Strategy<Value = Notice> {
    let codes = (-10..1).prop_filter_map("a code", NotificationCode::from_number);
    let parts = (users(), uuids(), texts(), texts(), codes, users(), any::<i64>());
    parts.prop_map(|(user, id, subject, content, code, sender, time)| {
        let (id, create_time) = (NotificationId(id), Timestamp(time));
        Notice { user, notification: Notification { id, subject, content, code, sender, create_time } }
    })
}

fn broadcasts() -> impl Strategy<Value = Broadcast> {
    prop_oneof![
        vec(notices(), 0..3).prop_map(Broadcast::Notices),
        (of(statuses()), of(statuses())).prop_map(|(before, after)| Broadcast::Status { before, after }),
        users().prop_map(Broadcast::Expelled),
    ]
}

fn caught_up() -> impl Strategy<Value = CaughtUp> {
    let recovered = prop_oneof![frames().prop_map(Recovered::Frames), Just(Recovered::TooMuch)];
    let unanswered = vec((connections(), any::<u32>()), 0..3);
    (channels(), of(reached()), reached(), recovered, vec(connections(), 0..3), unanswered, any::<bool>()).prop_map(
        |(channel, from, reached, recovered, members, unanswered, entered)| CaughtUp {
            channel,
            from,
            reached,
            recovered,
            members,
            unanswered,
            entered,
        },
    )
}

fn entering() -> impl Strategy<Value = Enter> {
    let terms = (any::<bool>(), any::<bool>(), select(Format::ALL.to_vec()));
    let entrants = (connections(), presences(), terms).prop_map(|(connection, presence, (hidden, known, format))| {
        Entrant { connection, presence, hidden, known, format }
    });
    let parts = (any::<bool>(), any::<bool>()).prop_map(|(is_first, is_last)| EnterPart { is_first, is_last });
    (shards(), channels(), of(reached()), vec(entrants, 0..4), parts)
        .prop_map(|(from, channel, reached, members, part)| Enter { from, channel, reached, members, part })
}

/// Any parcel, with frames that keep their events.
pub fn parcels() -> impl Strategy<Value = Parcel> {
    let batches = (channels(), of(any::<u64>().prop_map(BatchNumber)), reached(), vec(items(), 0..4));
    prop_oneof![
        (shards(), channels(), vec(requests(), 0..4)).prop_map(|(from, channel, requests)| Parcel::Requests {
            from,
            channel,
            requests
        }),
        batches.prop_map(|(channel, previous, reached, items)| {
            Parcel::Batch(Batch { channel, previous, reached, items })
        }),
        (shards(), channels(), of(reached())).prop_map(|(from, channel, reached)| Parcel::CatchUp {
            from,
            channel,
            reached
        }),
        caught_up().prop_map(|answer| Parcel::CaughtUp(Box::new(answer))),
        entering().prop_map(Parcel::Enter),
        (shards(), channels(), vec(requests(), 0..4)).prop_map(|(from, channel, requests)| Parcel::NotOrdered {
            from,
            channel,
            requests
        }),
        (shards(), any::<u64>()).prop_map(|(from, number)| Parcel::Flush { from, number }),
        any::<u64>().prop_map(|number| Parcel::Flushed { number }),
        (shards(), any::<u64>(), channels(), queries())
            .prop_map(|(from, number, channel, query)| Parcel::ChannelQuery { from, number, channel, query }),
        (any::<u64>(), answers()).prop_map(|(number, answer)| Parcel::QueryAnswer { number, answer }),
        broadcasts().prop_map(|broadcast| Parcel::Broadcast(Arc::new(broadcast))),
        (shards(), any::<u64>(), blocks()).prop_map(|(from, number, block)| Parcel::Blocked { from, number, block }),
        any::<u64>().prop_map(|number| Parcel::BlockHeard { number }),
        (shards(), channels(), select(vec![Backlog::High, Backlog::Low]))
            .prop_map(|(from, channel, state)| Parcel::Backlog { from, channel, state }),
    ]
}
