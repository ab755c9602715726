//! What channels tell: events, replies to requests, and requests.

use std::time::Duration;

use engine::command::{Event, Rejection, RejectionContext, Reply};
use engine::id::MessageId;
use engine::message::Presence;
use engine::parcel::{ChannelAction, ChannelRequest, MessageAction};
use engine::presence_list::SharedPresences;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

use super::Damage;
use super::basics::{
    ArchivedMessageV1, ArchivedPresenceV1, ConnectionV1, MessageV1, Numbered, PresenceV1, StatusPresenceV1, channel,
    message_id,
};

#[derive(Archive, Serialize)]
pub(super) enum EventV1<'a> {
    Message(MessageV1<'a>),
    Presence {
        #[rkyv(with = InlineAsBox)]
        channel: &'a str,
        joins: Vec<PresenceV1<'a>>,
        leaves: Vec<PresenceV1<'a>>,
        count: Option<u32>,
    },
}

#[derive(Archive, Serialize)]
pub(super) enum ReplyV1<'a> {
    Done,
    Pong,
    Joined {
        #[rkyv(with = InlineAsBox)]
        channel: &'a str,
        /// The place among the parcel's lists.
        list: u32,
        count: Option<u32>,
        me: PresenceV1<'a>,
    },
    Acknowledged {
        message: MessageV1<'a>,
        code: i32,
    },
    Statuses(Vec<StatusPresenceV1<'a>>),
    Refused {
        code: i32,
        context: Option<ContextV1>,
        #[rkyv(with = InlineAsBox)]
        message: &'a str,
    },
}

#[derive(Archive, Serialize)]
pub(super) enum ContextV1 {
    OutcomeUnknown,
    TooFast { limit: i32, retry_after_ns: u64 },
}

#[derive(Archive, Serialize)]
pub(super) struct RequestV1<'a> {
    connection: ConnectionV1,
    number: u32,
    action: ActionV1<'a>,
}

#[derive(Archive, Serialize)]
enum ActionV1<'a> {
    Join {
        presence: PresenceV1<'a>,
        hidden: bool,
        format: i32,
    },
    Leave,
    Depart,
    Send {
        #[rkyv(with = InlineAsBox)]
        content: &'a str,
    },
    Update {
        id: [u8; 16],
        #[rkyv(with = InlineAsBox)]
        content: &'a str,
    },
    Remove {
        id: [u8; 16],
    },
}

/// Lists of presences that a parcel's replies share: each crosses once.
#[derive(Default)]
pub(super) struct Lists<'a> {
    known: Vec<&'a SharedPresences>,
}

impl<'a> Lists<'a> {
    /// The place of a list. Copies of one list have the same place.
    pub fn place(&mut self, list: &'a SharedPresences) -> u32 {
        let same = |known: &&SharedPresences| std::ptr::eq(&known[..], &list[..]);
        let place = self.known.iter().rposition(same).unwrap_or_else(|| {
            self.known.push(list);
            self.known.len() - 1
        });
        place as u32
    }

    /// The lists, in the order of their places.
    pub fn encode(self) -> Vec<Vec<PresenceV1<'a>>> {
        self.known.into_iter().map(|list| presences(list)).collect()
    }
}

fn presences(presences: &[Presence]) -> Vec<PresenceV1<'_>> {
    presences.iter().map(PresenceV1::from).collect()
}

/// The presences in a list.
pub(super) fn presence_list(list: &[ArchivedPresenceV1]) -> Vec<Presence> {
    list.iter().map(Presence::from).collect()
}

/// The messages in a list.
pub(super) fn message_list(list: &[ArchivedMessageV1]) -> Result<Vec<engine::message::Message>, Damage> {
    list.iter().map(TryInto::try_into).collect()
}

impl<'a> From<&'a Event> for EventV1<'a> {
    fn from(event: &'a Event) -> Self {
        match event {
            Event::Message(message) => Self::Message(message.into()),
            Event::Presence { channel, joins, leaves, count } => Self::Presence {
                channel: channel.as_str(),
                joins: presences(joins),
                leaves: presences(leaves),
                count: *count,
            },
        }
    }
}

impl TryFrom<&ArchivedEventV1<'_>> for Event {
    type Error = Damage;

    fn try_from(event: &ArchivedEventV1) -> Result<Self, Damage> {
        Ok(match event {
            ArchivedEventV1::Message(message) => Self::Message(message.try_into()?),
            ArchivedEventV1::Presence { channel: id, joins, leaves, count } => Self::Presence {
                channel: channel(id)?,
                joins: presence_list(joins),
                leaves: presence_list(leaves),
                count: count.as_ref().map(|count| count.to_native()),
            },
        })
    }
}

impl<'a> ReplyV1<'a> {
    /// The reply. Its list of presences goes into `lists`.
    pub fn encode(reply: &'a Reply, lists: &mut Lists<'a>) -> Self {
        match reply {
            Reply::Done => Self::Done,
            Reply::Pong => Self::Pong,
            Reply::Joined { channel, presences, count, me } => {
                Self::Joined { channel: channel.as_str(), list: lists.place(presences), count: *count, me: me.into() }
            }
            Reply::Acknowledged { message, code } => {
                Self::Acknowledged { message: message.into(), code: code.number() }
            }
            Reply::Statuses(statuses) => Self::Statuses(statuses.iter().map(Into::into).collect()),
            Reply::Refused(Rejection { code, context, message }) => {
                Self::Refused { code: code.number(), context: context.map(Into::into), message }
            }
        }
    }
}

impl ArchivedReplyV1<'_> {
    /// The reply, with one of the parcel's lists.
    pub fn decode(&self, lists: &[SharedPresences]) -> Result<Reply, Damage> {
        Ok(match self {
            Self::Done => Reply::Done,
            Self::Pong => Reply::Pong,
            Self::Joined { channel: id, list, count, me } => Reply::Joined {
                channel: channel(id)?,
                presences: lists.get(list.to_native() as usize).ok_or(Damage::List)?.clone(),
                count: count.as_ref().map(|count| count.to_native()),
                me: me.into(),
            },
            Self::Acknowledged { message, code } => {
                Reply::Acknowledged { message: message.try_into()?, code: Numbered::from_number(code.to_native())? }
            }
            Self::Statuses(statuses) => Reply::Statuses(statuses.iter().map(Into::into).collect()),
            Self::Refused { code, context, message } => Reply::Refused(Rejection {
                code: Numbered::from_number(code.to_native())?,
                context: context.as_ref().map(TryInto::try_into).transpose()?,
                message: (**message).to_owned().into(),
            }),
        })
    }
}

impl From<RejectionContext> for ContextV1 {
    fn from(context: RejectionContext) -> Self {
        match context {
            RejectionContext::OutcomeUnknown => Self::OutcomeUnknown,
            RejectionContext::TooFast { limit, retry_after } => Self::TooFast {
                limit: limit.number(),
                // 584 years are as good as any longer time.
                retry_after_ns: u64::try_from(retry_after.as_nanos()).unwrap_or(u64::MAX),
            },
        }
    }
}

impl TryFrom<&ArchivedContextV1> for RejectionContext {
    type Error = Damage;

    fn try_from(context: &ArchivedContextV1) -> Result<Self, Damage> {
        Ok(match context {
            ArchivedContextV1::OutcomeUnknown => Self::OutcomeUnknown,
            ArchivedContextV1::TooFast { limit, retry_after_ns } => Self::TooFast {
                limit: Numbered::from_number(limit.to_native())?,
                retry_after: Duration::from_nanos(retry_after_ns.to_native()),
            },
        })
    }
}

impl<'a> From<&'a ChannelRequest> for RequestV1<'a> {
    fn from(request: &'a ChannelRequest) -> Self {
        let id = |id: &MessageId| id.0.into_bytes();
        let action = match &request.action {
            ChannelAction::Join { presence, hidden, format } => {
                ActionV1::Join { presence: presence.into(), hidden: *hidden, format: format.number() }
            }
            ChannelAction::Leave => ActionV1::Leave,
            ChannelAction::Depart => ActionV1::Depart,
            ChannelAction::Message(MessageAction::Send { content }) => ActionV1::Send { content },
            ChannelAction::Message(MessageAction::Update { id: of, content }) => {
                ActionV1::Update { id: id(of), content }
            }
            ChannelAction::Message(MessageAction::Remove { id: of }) => ActionV1::Remove { id: id(of) },
        };
        Self { connection: request.connection.into(), number: request.number, action }
    }
}

impl TryFrom<&ArchivedRequestV1<'_>> for ChannelRequest {
    type Error = Damage;

    fn try_from(request: &ArchivedRequestV1) -> Result<Self, Damage> {
        let action = match &request.action {
            ArchivedActionV1::Join { presence, hidden, format } => ChannelAction::Join {
                presence: presence.into(),
                hidden: *hidden,
                format: Numbered::from_number(format.to_native())?,
            },
            ArchivedActionV1::Leave => ChannelAction::Leave,
            ArchivedActionV1::Depart => ChannelAction::Depart,
            ArchivedActionV1::Send { content } => {
                ChannelAction::Message(MessageAction::Send { content: (**content).into() })
            }
            ArchivedActionV1::Update { id, content } => {
                ChannelAction::Message(MessageAction::Update { id: message_id(*id), content: (**content).into() })
            }
            ArchivedActionV1::Remove { id } => ChannelAction::Message(MessageAction::Remove { id: message_id(*id) }),
        };
        Ok(Self { connection: (&request.connection).into(), number: request.number.to_native(), action })
    }
}
