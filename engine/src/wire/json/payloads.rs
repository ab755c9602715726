//! Every payload that an envelope can carry, with its two names.

/// What the server does with a payload that a client sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Payload {
    Join,
    Leave,
    Send,
    Update,
    Remove,
    StatusFollow,
    StatusUnfollow,
    StatusUpdate,
    Ping,
    Pong,
    Rpc,
    /// A payload of a feature that this server does not have.
    Unsupported,
    /// A payload that only servers send.
    Server,
}

/// A row of the table.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Name {
    pub snake: &'static str,
    pub camel: &'static str,
    pub payload: Payload,
}

/// The row with this name in either spelling, and its index in the table.
pub(super) fn find(name: &str) -> Option<(usize, &'static Name)> {
    NAMES.iter().enumerate().find(|(_, row)| row.snake == name || row.camel == name)
}

const fn row(snake: &'static str, camel: &'static str, payload: Payload) -> Name {
    Name { snake, camel, payload }
}

/// Chat comes first, because the table is searched from the front.
pub(super) static NAMES: [Name; 51] = {
    use Payload::*;
    [
        row("channel_message_send", "channelMessageSend", Send),
        row("ping", "ping", Ping),
        row("channel_join", "channelJoin", Join),
        row("channel_leave", "channelLeave", Leave),
        row("channel_message_update", "channelMessageUpdate", Update),
        row("channel_message_remove", "channelMessageRemove", Remove),
        row("pong", "pong", Pong),
        row("rpc", "rpc", Rpc),
        row("match_create", "matchCreate", Unsupported),
        row("match_data_send", "matchDataSend", Unsupported),
        row("match_join", "matchJoin", Unsupported),
        row("match_leave", "matchLeave", Unsupported),
        row("matchmaker_add", "matchmakerAdd", Unsupported),
        row("matchmaker_remove", "matchmakerRemove", Unsupported),
        row("party_accept", "partyAccept", Unsupported),
        row("party_close", "partyClose", Unsupported),
        row("party_create", "partyCreate", Unsupported),
        row("party_data_send", "partyDataSend", Unsupported),
        row("party_join", "partyJoin", Unsupported),
        row("party_join_request_list", "partyJoinRequestList", Unsupported),
        row("party_leave", "partyLeave", Unsupported),
        row("party_matchmaker_add", "partyMatchmakerAdd", Unsupported),
        row("party_matchmaker_remove", "partyMatchmakerRemove", Unsupported),
        row("party_promote", "partyPromote", Unsupported),
        row("party_remove", "partyRemove", Unsupported),
        row("party_update", "partyUpdate", Unsupported),
        row("status_follow", "statusFollow", StatusFollow),
        row("status_unfollow", "statusUnfollow", StatusUnfollow),
        row("status_update", "statusUpdate", StatusUpdate),
        row("channel", "channel", Server),
        row("channel_gap", "channelGap", Server),
        row("channel_message", "channelMessage", Server),
        row("channel_message_ack", "channelMessageAck", Server),
        row("channel_presence_event", "channelPresenceEvent", Server),
        row("error", "error", Server),
        row("match", "match", Server),
        row("match_data", "matchData", Server),
        row("match_presence_event", "matchPresenceEvent", Server),
        row("matchmaker_matched", "matchmakerMatched", Server),
        row("matchmaker_ticket", "matchmakerTicket", Server),
        row("notifications", "notifications", Server),
        row("party", "party", Server),
        row("party_data", "partyData", Server),
        row("party_join_request", "partyJoinRequest", Server),
        row("party_leader", "partyLeader", Server),
        row("party_matchmaker_ticket", "partyMatchmakerTicket", Server),
        row("party_presence_event", "partyPresenceEvent", Server),
        row("status", "status", Server),
        row("status_presence_event", "statusPresenceEvent", Server),
        row("stream_data", "streamData", Server),
        row("stream_presence_event", "streamPresenceEvent", Server),
    ]
};
