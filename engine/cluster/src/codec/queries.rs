//! What visitors ask of channels and shards of other nodes, and what they are answered.

use std::num::NonZeroU64;
use std::sync::Arc;

use engine::id::{GroupId, NetworkKey, UserId};
use engine::query::{
    Block, Changed, ChannelChange, ChannelQuery, ChannelSeen, Disconnected, NewestMessages, NewestQuery, PresencePage,
    PresenceQuery, Purge, QueryAnswer, SessionSeen, SessionsSeen, Undone, Version,
};
use engine::social::group::{GroupAct, GroupChange, GroupRefusal};
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};
use uuid::Uuid;

use super::Damage;
use super::basics::{MessageV1, Numbered, PresenceV1, channel, count, epoch, message_id, session, user};
use super::exchange::{message_list, presence_list};

#[derive(Archive, Serialize)]
pub(super) enum QueryV1 {
    Presence { after: Option<[u8; 16]>, limit: u64 },
    Newest { limit: u64 },
    Group { group: [u8; 16], actor: [u8; 16], act: GroupActV1 },
    Block(BlockV1),
    Purge { sender: [u8; 16], ids: Vec<[u8; 16]> },
}

#[derive(Archive, Serialize)]
pub(super) enum GroupActV1 {
    Delete,
    Join,
    Leave,
    Add(Vec<[u8; 16]>),
    Kick(Vec<[u8; 16]>),
    Ban(Vec<[u8; 16]>),
    Promote(Vec<[u8; 16]>),
    Demote(Vec<[u8; 16]>),
    Depart,
}

#[derive(Archive, Serialize)]
pub(super) struct BlockV1 {
    user: [u8; 16],
    other: [u8; 16],
}

#[derive(Archive, Serialize)]
pub(super) enum AnswerV1<'a> {
    Presence { presences: Vec<PresenceV1<'a>>, count: u64 },
    NewestUnknown,
    Newest { messages: Vec<MessageV1<'a>>, epoch: u64, reading: u64, changes: u64 },
    GroupChanged(ChangedV1),
    Blocked(ChangedV1),
    Purged(ChangedV1),
    Online(Vec<bool>),
    Channels(Vec<ChannelSeenV1<'a>>),
    Sessions { listed: Vec<SessionSeenV1<'a>>, sessions: u64, memberships: u64 },
    Disconnected { closed: u64, next_slot: Option<u32> },
}

#[derive(Archive, Serialize)]
pub(super) enum ChangedV1 {
    Done,
    Refused(i32),
    NothingDone,
    Never(i32),
    OutcomeUnknown,
}

#[derive(Archive, Serialize)]
pub(super) struct ChannelSeenV1<'a> {
    #[rkyv(with = InlineAsBox)]
    channel: &'a str,
    rank: u32,
    members: u64,
    messages: u32,
}

#[derive(Archive, Serialize)]
pub(super) struct SessionSeenV1<'a> {
    session: [u8; 16],
    /// 0: unknown.
    network: u64,
    channels: Vec<NameV1<'a>>,
    memberships: u64,
}

#[derive(Archive, Serialize)]
pub(super) struct NameV1<'a> {
    #[rkyv(with = InlineAsBox)]
    channel: &'a str,
}

fn user_bytes(users: &[UserId]) -> Vec<[u8; 16]> {
    users.iter().map(|user| user.0.into_bytes()).collect()
}

impl From<&Block> for BlockV1 {
    fn from(block: &Block) -> Self {
        Self { user: block.user.0.into_bytes(), other: block.other.0.into_bytes() }
    }
}

impl From<&ArchivedBlockV1> for Block {
    fn from(block: &ArchivedBlockV1) -> Self {
        Self { user: user(block.user), other: user(block.other) }
    }
}

impl From<&GroupAct> for GroupActV1 {
    fn from(act: &GroupAct) -> Self {
        match act {
            GroupAct::Delete => Self::Delete,
            GroupAct::Join => Self::Join,
            GroupAct::Leave => Self::Leave,
            GroupAct::Add(users) => Self::Add(user_bytes(users)),
            GroupAct::Kick(users) => Self::Kick(user_bytes(users)),
            GroupAct::Ban(users) => Self::Ban(user_bytes(users)),
            GroupAct::Promote(users) => Self::Promote(user_bytes(users)),
            GroupAct::Demote(users) => Self::Demote(user_bytes(users)),
            GroupAct::Depart => Self::Depart,
        }
    }
}

impl From<&ArchivedGroupActV1> for GroupAct {
    fn from(act: &ArchivedGroupActV1) -> Self {
        let users = |users: &[[u8; 16]]| users.iter().map(|bytes| user(*bytes)).collect();
        match act {
            ArchivedGroupActV1::Delete => Self::Delete,
            ArchivedGroupActV1::Join => Self::Join,
            ArchivedGroupActV1::Leave => Self::Leave,
            ArchivedGroupActV1::Add(named) => Self::Add(users(named)),
            ArchivedGroupActV1::Kick(named) => Self::Kick(users(named)),
            ArchivedGroupActV1::Ban(named) => Self::Ban(users(named)),
            ArchivedGroupActV1::Promote(named) => Self::Promote(users(named)),
            ArchivedGroupActV1::Demote(named) => Self::Demote(users(named)),
            ArchivedGroupActV1::Depart => Self::Depart,
        }
    }
}

impl From<&ChannelQuery> for QueryV1 {
    fn from(query: &ChannelQuery) -> Self {
        match query {
            ChannelQuery::Presence(PresenceQuery { after, limit }) => {
                Self::Presence { after: after.map(|session| session.0.into_bytes()), limit: *limit as u64 }
            }
            ChannelQuery::Newest(NewestQuery { limit }) => Self::Newest { limit: *limit as u64 },
            ChannelQuery::Change(ChannelChange::Group(GroupChange { group, actor, act })) => {
                Self::Group { group: group.0.into_bytes(), actor: actor.0.into_bytes(), act: act.into() }
            }
            ChannelQuery::Change(ChannelChange::Block(block)) => Self::Block(block.into()),
            ChannelQuery::Change(ChannelChange::Purge(Purge { sender, ids })) => {
                let ids = ids.iter().map(|id| id.0.into_bytes()).collect();
                Self::Purge { sender: sender.0.into_bytes(), ids }
            }
        }
    }
}

impl TryFrom<&ArchivedQueryV1> for ChannelQuery {
    type Error = Damage;

    fn try_from(query: &ArchivedQueryV1) -> Result<Self, Damage> {
        Ok(match query {
            ArchivedQueryV1::Presence { after, limit } => {
                let after = after.as_ref().map(|bytes| session(*bytes));
                Self::Presence(PresenceQuery { after, limit: count(limit.to_native())? })
            }
            ArchivedQueryV1::Newest { limit } => Self::Newest(NewestQuery { limit: count(limit.to_native())? }),
            ArchivedQueryV1::Group { group, actor, act } => Self::Change(ChannelChange::Group(GroupChange {
                group: GroupId(Uuid::from_bytes(*group)),
                actor: user(*actor),
                act: act.into(),
            })),
            ArchivedQueryV1::Block(block) => Self::Change(ChannelChange::Block(block.into())),
            ArchivedQueryV1::Purge { sender, ids } => {
                let ids = ids.iter().map(|bytes| message_id(*bytes)).collect();
                Self::Change(ChannelChange::Purge(Purge { sender: user(*sender), ids }))
            }
        })
    }
}

impl From<&Changed<()>> for ChangedV1 {
    fn from(changed: &Changed<()>) -> Self {
        match changed {
            Ok(()) => Self::Done,
            Err(Undone::NothingDone) => Self::NothingDone,
            Err(Undone::Never(lasting)) => Self::Never(lasting.number()),
            Err(Undone::OutcomeUnknown) => Self::OutcomeUnknown,
        }
    }
}

fn group_changed(changed: &Changed<Result<(), GroupRefusal>>) -> ChangedV1 {
    match changed {
        Ok(Ok(())) => ChangedV1::Done,
        Ok(Err(refusal)) => ChangedV1::Refused(refusal.number()),
        Err(undone) => (&Err(*undone)).into(),
    }
}

impl ArchivedChangedV1 {
    fn decode(&self) -> Result<Changed<Result<(), GroupRefusal>>, Damage> {
        Ok(match self {
            Self::Done => Ok(Ok(())),
            Self::Refused(refusal) => Ok(Err(Numbered::from_number(refusal.to_native())?)),
            Self::NothingDone => Err(Undone::NothingDone),
            Self::Never(lasting) => Err(Undone::Never(Numbered::from_number(lasting.to_native())?)),
            Self::OutcomeUnknown => Err(Undone::OutcomeUnknown),
        })
    }

    /// The same, of a change that no rule refuses.
    fn decode_plain(&self) -> Result<Changed<()>, Damage> {
        match self.decode()? {
            Ok(Ok(())) => Ok(Ok(())),
            Ok(Err(refusal)) => Err(Damage::Number { what: "outcome", number: refusal.number() }),
            Err(undone) => Ok(Err(undone)),
        }
    }
}

impl<'a> From<&'a QueryAnswer> for AnswerV1<'a> {
    fn from(answer: &'a QueryAnswer) -> Self {
        match answer {
            QueryAnswer::Presence(PresencePage { presences, count }) => {
                Self::Presence { presences: presences.iter().map(Into::into).collect(), count: *count as u64 }
            }
            QueryAnswer::Newest(None) => Self::NewestUnknown,
            QueryAnswer::Newest(Some(NewestMessages { messages, version })) => Self::Newest {
                messages: messages.iter().map(Into::into).collect(),
                epoch: version.epoch.0,
                reading: version.reading,
                changes: version.changes,
            },
            QueryAnswer::GroupChanged(changed) => Self::GroupChanged(group_changed(changed)),
            QueryAnswer::Blocked(changed) => Self::Blocked(changed.into()),
            QueryAnswer::Purged(changed) => Self::Purged(changed.into()),
            QueryAnswer::Online(online) => Self::Online(online.clone()),
            QueryAnswer::Channels(channels) => Self::Channels(channels.iter().map(Into::into).collect()),
            QueryAnswer::Sessions(SessionsSeen { listed, sessions, memberships }) => Self::Sessions {
                listed: listed.iter().map(Into::into).collect(),
                sessions: *sessions as u64,
                memberships: *memberships as u64,
            },
            QueryAnswer::Disconnected(Disconnected { closed, next_slot }) => {
                Self::Disconnected { closed: *closed as u64, next_slot: *next_slot }
            }
        }
    }
}

impl TryFrom<&ArchivedAnswerV1<'_>> for QueryAnswer {
    type Error = Damage;

    fn try_from(answer: &ArchivedAnswerV1) -> Result<Self, Damage> {
        Ok(match answer {
            ArchivedAnswerV1::Presence { presences, count: all } => {
                Self::Presence(PresencePage { presences: presence_list(presences), count: count(all.to_native())? })
            }
            ArchivedAnswerV1::NewestUnknown => Self::Newest(None),
            ArchivedAnswerV1::Newest { messages, epoch: of, reading, changes } => {
                let (reading, changes) = (reading.to_native(), changes.to_native());
                let version = Version { epoch: epoch(of.to_native()), reading, changes };
                Self::Newest(Some(NewestMessages { messages: Arc::from(message_list(messages)?), version }))
            }
            ArchivedAnswerV1::GroupChanged(changed) => Self::GroupChanged(changed.decode()?),
            ArchivedAnswerV1::Blocked(changed) => Self::Blocked(changed.decode_plain()?),
            ArchivedAnswerV1::Purged(changed) => Self::Purged(changed.decode_plain()?),
            ArchivedAnswerV1::Online(online) => Self::Online(online.to_vec()),
            ArchivedAnswerV1::Channels(channels) => {
                Self::Channels(channels.iter().map(TryInto::try_into).collect::<Result<_, _>>()?)
            }
            ArchivedAnswerV1::Sessions { listed, sessions, memberships } => Self::Sessions(SessionsSeen {
                listed: listed.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
                sessions: count(sessions.to_native())?,
                memberships: count(memberships.to_native())?,
            }),
            ArchivedAnswerV1::Disconnected { closed, next_slot } => Self::Disconnected(Disconnected {
                closed: count(closed.to_native())?,
                next_slot: next_slot.as_ref().map(|slot| slot.to_native()),
            }),
        })
    }
}

impl<'a> From<&'a ChannelSeen> for ChannelSeenV1<'a> {
    fn from(seen: &'a ChannelSeen) -> Self {
        let (rank, messages) = (seen.rank, seen.messages);
        Self { channel: seen.channel.as_str(), rank, members: seen.members as u64, messages }
    }
}

impl TryFrom<&ArchivedChannelSeenV1<'_>> for ChannelSeen {
    type Error = Damage;

    fn try_from(seen: &ArchivedChannelSeenV1) -> Result<Self, Damage> {
        Ok(Self {
            channel: channel(&seen.channel)?,
            rank: seen.rank.to_native(),
            members: count(seen.members.to_native())?,
            messages: seen.messages.to_native(),
        })
    }
}

impl<'a> From<&'a SessionSeen> for SessionSeenV1<'a> {
    fn from(seen: &'a SessionSeen) -> Self {
        Self {
            session: seen.session.0.into_bytes(),
            network: seen.network.map_or(0, |network| network.0.get()),
            channels: seen.channels.iter().map(|channel| NameV1 { channel: channel.as_str() }).collect(),
            memberships: seen.memberships as u64,
        }
    }
}

impl TryFrom<&ArchivedSessionSeenV1<'_>> for SessionSeen {
    type Error = Damage;

    fn try_from(seen: &ArchivedSessionSeenV1) -> Result<Self, Damage> {
        Ok(Self {
            session: session(seen.session),
            network: NonZeroU64::new(seen.network.to_native()).map(NetworkKey),
            channels: seen.channels.iter().map(|name| channel(&name.channel)).collect::<Result<_, _>>()?,
            memberships: count(seen.memberships.to_native())?,
        })
    }
}
