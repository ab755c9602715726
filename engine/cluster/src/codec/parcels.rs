//! Parcels as records: each variant with its layout.

use std::sync::Arc;

use engine::command::Event;
use engine::fanout::frames::Frames;
use engine::id::{ConnectionId, Sequence};
use engine::parcel::{
    Backlog, Batch, BatchNumber, Broadcast, CaughtUp, ChannelRequest, Enter, EnterPart, Entrant, Item, Parcel, Reached,
    Recovered,
};
use engine::presence_list::SharedPresences;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

use super::basics::{
    ArchivedConnectionV1, ConnectionV1, NoticeV1, Numbered, PresenceV1, StatusPresenceV1, channel, epoch, message_id,
    shard, user,
};
use super::exchange::{ArchivedEventV1, EventV1, Lists, ReplyV1, RequestV1, presence_list};
use super::queries::{AnswerV1, BlockV1, QueryV1};
use super::{Damage, NotKept};

/// A parcel, with the lists that its replies share.
#[derive(Archive, Serialize)]
pub(super) struct RecordV1<'a> {
    lists: Vec<Vec<PresenceV1<'a>>>,
    parcel: ParcelV1<'a>,
}

#[derive(Archive, Serialize)]
enum ParcelV1<'a> {
    Requests {
        from: u32,
        #[rkyv(with = InlineAsBox)]
        channel: &'a str,
        requests: Vec<RequestV1<'a>>,
    },
    Batch {
        #[rkyv(with = InlineAsBox)]
        channel: &'a str,
        previous: Option<u64>,
        reached: ReachedV1,
        items: Vec<ItemV1<'a>>,
    },
    CatchUp {
        from: u32,
        #[rkyv(with = InlineAsBox)]
        channel: &'a str,
        reached: Option<ReachedV1>,
    },
    CaughtUp {
        #[rkyv(with = InlineAsBox)]
        channel: &'a str,
        from: Option<ReachedV1>,
        reached: ReachedV1,
        /// `None`: too much is missing.
        recovered: Option<Vec<EventV1<'a>>>,
        members: Vec<ConnectionV1>,
        unanswered: Vec<UnansweredV1>,
        entered: bool,
    },
    Enter {
        from: u32,
        #[rkyv(with = InlineAsBox)]
        channel: &'a str,
        reached: Option<ReachedV1>,
        members: Vec<EntrantV1<'a>>,
        is_first: bool,
        is_last: bool,
    },
    NotOrdered {
        from: u32,
        #[rkyv(with = InlineAsBox)]
        channel: &'a str,
        requests: Vec<RequestV1<'a>>,
    },
    Flush {
        from: u32,
        number: u64,
    },
    Flushed {
        number: u64,
    },
    ChannelQuery {
        from: u32,
        number: u64,
        #[rkyv(with = InlineAsBox)]
        channel: &'a str,
        query: QueryV1,
    },
    QueryAnswer {
        number: u64,
        answer: AnswerV1<'a>,
    },
    Notices(Vec<NoticeV1<'a>>),
    Status {
        before: Option<StatusPresenceV1<'a>>,
        after: Option<StatusPresenceV1<'a>>,
    },
    Expelled([u8; 16]),
    Blocked {
        from: u32,
        number: u64,
        block: BlockV1,
    },
    BlockHeard {
        number: u64,
    },
    Backlog {
        from: u32,
        #[rkyv(with = InlineAsBox)]
        channel: &'a str,
        state: i32,
    },
}

#[derive(Archive, Serialize)]
struct ReachedV1 {
    epoch: u64,
    batch: u64,
    last: u64,
    told: u64,
    stored: Option<[u8; 16]>,
}

#[derive(Archive, Serialize)]
struct EntrantV1<'a> {
    connection: ConnectionV1,
    presence: PresenceV1<'a>,
    hidden: bool,
    known: bool,
    format: i32,
}

#[derive(Archive, Serialize)]
struct UnansweredV1 {
    connection: ConnectionV1,
    number: u32,
}

#[derive(Archive, Serialize)]
enum ItemV1<'a> {
    Events(Vec<EventV1<'a>>),
    Answer { connection: ConnectionV1, number: u32, reply: ReplyV1<'a> },
    Joined { connection: ConnectionV1, number: u32, reply: ReplyV1<'a> },
    Event { connection: ConnectionV1, event: EventV1<'a> },
    Left { connection: ConnectionV1, number: u32 },
    Evicted { connection: ConnectionV1 },
    Presences { list: u32, count: Option<u32> },
}

impl<'a> TryFrom<&'a Parcel> for RecordV1<'a> {
    type Error = NotKept;

    fn try_from(parcel: &'a Parcel) -> Result<Self, NotKept> {
        let mut lists = Lists::default();
        let parcel = ParcelV1::encode(parcel, &mut lists)?;
        Ok(Self { lists: lists.encode(), parcel })
    }
}

impl<'a> ParcelV1<'a> {
    fn encode(parcel: &'a Parcel, lists: &mut Lists<'a>) -> Result<Self, NotKept> {
        Ok(match parcel {
            Parcel::Requests { from, channel, requests } => {
                let requests = requests.iter().map(Into::into).collect();
                Self::Requests { from: from.to_bits(), channel: channel.as_str(), requests }
            }
            Parcel::Batch(Batch { channel, previous, reached, items }) => Self::Batch {
                channel: channel.as_str(),
                previous: previous.map(|number| number.0),
                reached: (*reached).into(),
                items: items.iter().map(|item| ItemV1::encode(item, lists)).collect::<Result<_, _>>()?,
            },
            Parcel::CatchUp { from, channel, reached } => {
                Self::CatchUp { from: from.to_bits(), channel: channel.as_str(), reached: reached.map(Into::into) }
            }
            Parcel::CaughtUp(answer) => Self::caught_up(answer)?,
            Parcel::Enter(enter) => Self::Enter {
                from: enter.from.to_bits(),
                channel: enter.channel.as_str(),
                reached: enter.reached.map(Into::into),
                members: enter.members.iter().map(Into::into).collect(),
                is_first: enter.part.is_first,
                is_last: enter.part.is_last,
            },
            Parcel::NotOrdered { from, channel, requests } => {
                let requests = requests.iter().map(Into::into).collect();
                Self::NotOrdered { from: from.to_bits(), channel: channel.as_str(), requests }
            }
            Parcel::Flush { from, number } => Self::Flush { from: from.to_bits(), number: *number },
            Parcel::Flushed { number } => Self::Flushed { number: *number },
            Parcel::ChannelQuery { from, number, channel, query } => Self::ChannelQuery {
                from: from.to_bits(),
                number: *number,
                channel: channel.as_str(),
                query: query.into(),
            },
            Parcel::QueryAnswer { number, answer } => Self::QueryAnswer { number: *number, answer: answer.into() },
            Parcel::Broadcast(broadcast) => Self::broadcast(broadcast),
            Parcel::Blocked { from, number, block } => {
                Self::Blocked { from: from.to_bits(), number: *number, block: block.into() }
            }
            Parcel::BlockHeard { number } => Self::BlockHeard { number: *number },
            Parcel::Backlog { from, channel, state } => {
                Self::Backlog { from: from.to_bits(), channel: channel.as_str(), state: state.number() }
            }
        })
    }

    fn caught_up(answer: &'a CaughtUp) -> Result<Self, NotKept> {
        let unanswered = |(connection, number): &(ConnectionId, u32)| {
            let (connection, number) = ((*connection).into(), *number);
            UnansweredV1 { connection, number }
        };
        Ok(Self::CaughtUp {
            channel: answer.channel.as_str(),
            from: answer.from.map(Into::into),
            reached: answer.reached.into(),
            recovered: match &answer.recovered {
                Recovered::Frames(frames) => Some(events(frames)?),
                Recovered::TooMuch => None,
            },
            members: answer.members.iter().map(|member| (*member).into()).collect(),
            unanswered: answer.unanswered.iter().map(unanswered).collect(),
            entered: answer.entered,
        })
    }

    fn broadcast(broadcast: &'a Broadcast) -> Self {
        match broadcast {
            Broadcast::Notices(notices) => Self::Notices(notices.iter().map(Into::into).collect()),
            Broadcast::Status { before, after } => {
                Self::Status { before: before.as_ref().map(Into::into), after: after.as_ref().map(Into::into) }
            }
            Broadcast::Expelled(user) => Self::Expelled(user.0.into_bytes()),
        }
    }
}

impl TryFrom<&ArchivedRecordV1<'_>> for Parcel {
    type Error = Damage;

    fn try_from(record: &ArchivedRecordV1) -> Result<Self, Damage> {
        let lists: Vec<SharedPresences> = record.lists.iter().map(|list| presence_list(list).into()).collect();
        Ok(match &record.parcel {
            ArchivedParcelV1::Requests { from, channel: id, requests } => Self::Requests {
                from: shard(from.to_native()),
                channel: channel(id)?,
                requests: requests.iter().map(ChannelRequest::try_from).collect::<Result<_, _>>()?,
            },
            ArchivedParcelV1::Batch { channel: id, previous, reached, items } => Self::Batch(Batch {
                channel: channel(id)?,
                previous: previous.as_ref().map(|number| BatchNumber(number.to_native())),
                reached: reached.into(),
                items: items.iter().map(|item| item.decode(&lists)).collect::<Result<_, _>>()?,
            }),
            ArchivedParcelV1::CatchUp { from, channel: id, reached } => Self::CatchUp {
                from: shard(from.to_native()),
                channel: channel(id)?,
                reached: reached.as_ref().map(Into::into),
            },
            ArchivedParcelV1::CaughtUp { channel: id, from, reached, recovered, members, unanswered, entered } => {
                let of_request =
                    |request: &ArchivedUnansweredV1| ((&request.connection).into(), request.number.to_native());
                let recovered = recovered.as_ref().map(|events| frames(events)).transpose()?;
                Self::CaughtUp(Box::new(CaughtUp {
                    channel: channel(id)?,
                    from: from.as_ref().map(Into::into),
                    reached: reached.into(),
                    recovered: recovered.map_or(Recovered::TooMuch, Recovered::Frames),
                    members: members.iter().map(ConnectionId::from).collect(),
                    unanswered: unanswered.iter().map(of_request).collect(),
                    entered: *entered,
                }))
            }
            ArchivedParcelV1::Enter { from, channel: id, reached, members, is_first, is_last } => Self::Enter(Enter {
                from: shard(from.to_native()),
                channel: channel(id)?,
                reached: reached.as_ref().map(Into::into),
                members: members.iter().map(Entrant::try_from).collect::<Result<_, _>>()?,
                part: EnterPart { is_first: *is_first, is_last: *is_last },
            }),
            ArchivedParcelV1::NotOrdered { from, channel: id, requests } => Self::NotOrdered {
                from: shard(from.to_native()),
                channel: channel(id)?,
                requests: requests.iter().map(ChannelRequest::try_from).collect::<Result<_, _>>()?,
            },
            ArchivedParcelV1::Flush { from, number } => {
                Self::Flush { from: shard(from.to_native()), number: number.to_native() }
            }
            ArchivedParcelV1::Flushed { number } => Self::Flushed { number: number.to_native() },
            ArchivedParcelV1::ChannelQuery { from, number, channel: id, query } => Self::ChannelQuery {
                from: shard(from.to_native()),
                number: number.to_native(),
                channel: channel(id)?,
                query: query.try_into()?,
            },
            ArchivedParcelV1::QueryAnswer { number, answer } => {
                Self::QueryAnswer { number: number.to_native(), answer: answer.try_into()? }
            }
            ArchivedParcelV1::Notices(notices) => {
                let notices = notices.iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
                Self::Broadcast(Arc::new(Broadcast::Notices(notices)))
            }
            ArchivedParcelV1::Status { before, after } => {
                let (before, after) = (before.as_ref().map(Into::into), after.as_ref().map(Into::into));
                Self::Broadcast(Arc::new(Broadcast::Status { before, after }))
            }
            ArchivedParcelV1::Expelled(of) => Self::Broadcast(Arc::new(Broadcast::Expelled(user(*of)))),
            ArchivedParcelV1::Blocked { from, number, block } => {
                Self::Blocked { from: shard(from.to_native()), number: number.to_native(), block: block.into() }
            }
            ArchivedParcelV1::BlockHeard { number } => Self::BlockHeard { number: number.to_native() },
            ArchivedParcelV1::Backlog { from, channel: id, state } => Self::Backlog {
                from: shard(from.to_native()),
                channel: channel(id)?,
                state: Backlog::from_number(state.to_native())?,
            },
        })
    }
}

impl<'a> ItemV1<'a> {
    fn encode(item: &'a Item, lists: &mut Lists<'a>) -> Result<Self, NotKept> {
        Ok(match item {
            Item::Frames(frames) => Self::Events(events(frames)?),
            Item::Answer { connection, number, reply } => {
                let reply = ReplyV1::encode(reply, lists);
                Self::Answer { connection: (*connection).into(), number: *number, reply }
            }
            Item::Joined { connection, number, reply } => {
                let reply = ReplyV1::encode(reply, lists);
                Self::Joined { connection: (*connection).into(), number: *number, reply }
            }
            Item::Event { connection, event } => Self::Event { connection: (*connection).into(), event: event.into() },
            Item::Left { connection, number } => Self::Left { connection: (*connection).into(), number: *number },
            Item::Evicted { connection } => Self::Evicted { connection: (*connection).into() },
            Item::Presences { presences, count } => Self::Presences { list: lists.place(presences), count: *count },
        })
    }
}

impl ArchivedItemV1<'_> {
    fn decode(&self, lists: &[SharedPresences]) -> Result<Item, Damage> {
        let of = |connection: &ArchivedConnectionV1| connection.into();
        Ok(match self {
            Self::Events(events) => Item::Frames(frames(events)?),
            Self::Answer { connection, number, reply } => {
                let reply = reply.decode(lists)?;
                Item::Answer { connection: of(connection), number: number.to_native(), reply }
            }
            Self::Joined { connection, number, reply } => {
                let reply = reply.decode(lists)?;
                Item::Joined { connection: of(connection), number: number.to_native(), reply }
            }
            Self::Event { connection, event } => Item::Event { connection: of(connection), event: event.try_into()? },
            Self::Left { connection, number } => Item::Left { connection: of(connection), number: number.to_native() },
            Self::Evicted { connection } => Item::Evicted { connection: of(connection) },
            Self::Presences { list, count } => {
                let presences = lists.get(list.to_native() as usize).ok_or(Damage::List)?.clone();
                Item::Presences { presences, count: count.as_ref().map(|count| count.to_native()) }
            }
        })
    }
}

impl From<Reached> for ReachedV1 {
    fn from(reached: Reached) -> Self {
        Self {
            epoch: reached.epoch.0,
            batch: reached.batch.0,
            last: reached.last.0,
            told: reached.told,
            stored: reached.stored.map(|id| id.0.into_bytes()),
        }
    }
}

impl From<&ArchivedReachedV1> for Reached {
    fn from(reached: &ArchivedReachedV1) -> Self {
        Self {
            epoch: epoch(reached.epoch.to_native()),
            batch: BatchNumber(reached.batch.to_native()),
            last: Sequence(reached.last.to_native()),
            told: reached.told.to_native(),
            stored: reached.stored.as_ref().map(|id| message_id(*id)),
        }
    }
}

impl<'a> From<&'a Entrant> for EntrantV1<'a> {
    fn from(entrant: &'a Entrant) -> Self {
        let Entrant { connection, presence, hidden, known, format } = entrant;
        let (connection, presence) = ((*connection).into(), presence.into());
        Self { connection, presence, hidden: *hidden, known: *known, format: format.number() }
    }
}

impl TryFrom<&ArchivedEntrantV1<'_>> for Entrant {
    type Error = Damage;

    fn try_from(entrant: &ArchivedEntrantV1) -> Result<Self, Damage> {
        Ok(Self {
            connection: (&entrant.connection).into(),
            presence: (&entrant.presence).into(),
            hidden: entrant.hidden,
            known: entrant.known,
            format: Numbered::from_number(entrant.format.to_native())?,
        })
    }
}

/// What frames are made of. Fails if they are not empty and their events were not kept.
fn events(frames: &Frames) -> Result<Vec<EventV1<'_>>, NotKept> {
    if frames.events().is_empty() && !frames.is_empty() {
        return Err(NotKept);
    }
    Ok(frames.events().iter().map(Into::into).collect())
}

/// Frames that the home of their readers encodes.
fn frames(events: &[ArchivedEventV1]) -> Result<Arc<Frames>, Damage> {
    let events = events.iter().map(Event::try_from).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Frames::of_events(&events)))
}
