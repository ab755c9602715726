//! Reads a client's envelope from protobuf bytes.
//!
//! A client's messages are small (`websocket::MESSAGE_BYTES_MAX`), and a decoded message takes at most some tens of
//! times as much memory. The decoder bounds nesting: a message that is nested deeper than 100 levels is malformed.

use prost::Message;

use super::schema::{Envelope, Payload};
use crate::command::{Command, Join};
use crate::wire::request::{Malformed, Request};

/// Reads one envelope, which must be the whole of `bytes`. Fails if they do not fit the schema, if there is no
/// payload, or if only servers send it.
pub fn decode(bytes: &[u8]) -> Result<Request, Malformed> {
    let Envelope { cid, message } = Envelope::decode(bytes).map_err(|error| Malformed::Syntax(error.to_string()))?;
    let Some(payload) = message else {
        return Err(Malformed::MissingPayload { cid });
    };
    match meaning(payload) {
        Meaning::Command(command) => Ok(Request { cid, command }),
        Meaning::Server(name) => Err(Malformed::ServerPayload { cid, name }),
    }
}

enum Meaning {
    Command(Command),
    /// A payload that only servers send.
    Server(&'static str),
}

fn meaning(payload: Payload) -> Meaning {
    use Meaning::Server;
    Meaning::Command(match payload {
        Payload::ChannelJoin(join) => Command::Join(Join {
            target: join.target,
            kind: join.r#type,
            persistence: join.persistence.unwrap_or(true),
            hidden: join.hidden.unwrap_or(false),
        }),
        Payload::ChannelLeave(leave) => Command::Leave { channel_id: leave.channel_id },
        Payload::ChannelMessageSend(send) => Command::Send { channel_id: send.channel_id, content: send.content },
        Payload::ChannelMessageUpdate(update) => {
            Command::Update { channel_id: update.channel_id, message_id: update.message_id, content: update.content }
        }
        Payload::ChannelMessageRemove(remove) => {
            Command::Remove { channel_id: remove.channel_id, message_id: remove.message_id }
        }
        Payload::StatusFollow(follow) => {
            Command::StatusFollow { user_ids: follow.user_ids, usernames: follow.usernames }
        }
        Payload::StatusUnfollow(unfollow) => Command::StatusUnfollow { user_ids: unfollow.user_ids },
        Payload::StatusUpdate(update) => Command::StatusUpdate { status: update.status },
        Payload::Ping(_) => Command::Ping,
        Payload::Pong(_) => Command::Pong,
        Payload::Rpc(_) => Command::Rpc,
        Payload::MatchCreate(_) => Command::Unsupported("match_create"),
        Payload::MatchDataSend(_) => Command::Unsupported("match_data_send"),
        Payload::MatchJoin(_) => Command::Unsupported("match_join"),
        Payload::MatchLeave(_) => Command::Unsupported("match_leave"),
        Payload::MatchmakerAdd(_) => Command::Unsupported("matchmaker_add"),
        Payload::MatchmakerRemove(_) => Command::Unsupported("matchmaker_remove"),
        Payload::PartyAccept(_) => Command::Unsupported("party_accept"),
        Payload::PartyClose(_) => Command::Unsupported("party_close"),
        Payload::PartyCreate(_) => Command::Unsupported("party_create"),
        Payload::PartyDataSend(_) => Command::Unsupported("party_data_send"),
        Payload::PartyJoin(_) => Command::Unsupported("party_join"),
        Payload::PartyJoinRequestList(_) => Command::Unsupported("party_join_request_list"),
        Payload::PartyLeave(_) => Command::Unsupported("party_leave"),
        Payload::PartyMatchmakerAdd(_) => Command::Unsupported("party_matchmaker_add"),
        Payload::PartyMatchmakerRemove(_) => Command::Unsupported("party_matchmaker_remove"),
        Payload::PartyPromote(_) => Command::Unsupported("party_promote"),
        Payload::PartyRemove(_) => Command::Unsupported("party_remove"),
        Payload::PartyUpdate(_) => Command::Unsupported("party_update"),
        Payload::Channel(_) => return Server("channel"),
        Payload::ChannelGap(_) => return Server("channel_gap"),
        Payload::ChannelMessage(_) => return Server("channel_message"),
        Payload::ChannelMessageAck(_) => return Server("channel_message_ack"),
        Payload::ChannelPresenceEvent(_) => return Server("channel_presence_event"),
        Payload::Error(_) => return Server("error"),
        Payload::Match(_) => return Server("match"),
        Payload::MatchData(_) => return Server("match_data"),
        Payload::MatchPresenceEvent(_) => return Server("match_presence_event"),
        Payload::MatchmakerMatched(_) => return Server("matchmaker_matched"),
        Payload::MatchmakerTicket(_) => return Server("matchmaker_ticket"),
        Payload::Notifications(_) => return Server("notifications"),
        Payload::Party(_) => return Server("party"),
        Payload::PartyData(_) => return Server("party_data"),
        Payload::PartyJoinRequest(_) => return Server("party_join_request"),
        Payload::PartyLeader(_) => return Server("party_leader"),
        Payload::PartyMatchmakerTicket(_) => return Server("party_matchmaker_ticket"),
        Payload::PartyPresenceEvent(_) => return Server("party_presence_event"),
        Payload::Status(_) => return Server("status"),
        Payload::StatusPresenceEvent(_) => return Server("status_presence_event"),
        Payload::StreamData(_) => return Server("stream_data"),
        Payload::StreamPresenceEvent(_) => return Server("stream_presence_event"),
    })
}
