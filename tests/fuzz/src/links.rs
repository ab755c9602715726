//! What nodes of a cluster send each other: packets, and the parcels in them.

use std::sync::Arc;

use cluster::codec;
use cluster::limits::FRAME_BYTES_MAX;
use cluster::packet::{Content, FrameNumber, LinkNumber, Packet};
use cluster::pieces::Filling;
use engine::command::{Event, Rejection, Reply};
use engine::fanout::frames::{Format, Frames};
use engine::id::{ChannelId, ConnectionId, Life, SessionId, ShardId, UserId};
use engine::message::Presence;
use engine::parcel::{Batch, ChannelAction, ChannelRequest, Item, Parcel, Reached};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// The bytes with the checksum that fits them: 8 bytes at this place, over all others.
fn vouched_for(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut vouched = bytes.to_vec();
    if bytes.len() >= at + 8 {
        let sum = xxh3_64(&[&bytes[..at], &bytes[at + 8..]].concat());
        vouched[at..at + 8].copy_from_slice(&sum.to_le_bytes());
    }
    vouched
}

/// A packet that is read is written as the same bytes.
pub fn packet(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), vouched_for(bytes, 40)] {
        match Packet::decode(bytes.clone().into()) {
            Ok(packet) => assert_eq!(packet.encode(), bytes),
            Err(damage) => assert!(!damage.to_string().is_empty()),
        }
    }
}

pub fn packet_seeds() -> Vec<Vec<u8>> {
    let mut filling = Filling::default();
    for parcel in [&b"one"[..], b"", b"three"] {
        filling.add(parcel, FRAME_BYTES_MAX);
    }
    let contents = [
        Content::Frame { number: FrameNumber(7), payload: filling.finish() },
        Content::Acknowledgement,
        Content::Probe { number: 3 },
        Content::Answer { probe: 3 },
        Content::Missing,
    ];
    let packet = |content| {
        let (acknowledged, received) = (FrameNumber(1), FrameNumber(2));
        Packet { from: Life(1), to: Life(2), link: LinkNumber(5), acknowledged, received, content }
    };
    contents.map(|content| packet(content).encode().to_vec()).to_vec()
}

/// A parcel that is read says the same when it is written and read again.
pub fn parcel(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), vouched_for(bytes, 12)] {
        match codec::decode(&bytes) {
            Ok(sent) => {
                let again = codec::encode(sent.from, sent.to, &sent.parcel).expect("its events are kept");
                let again = codec::decode(&again).expect("what is written can be read");
                assert_eq!(format!("{again:?}"), format!("{sent:?}"));
            }
            Err(damage) => assert!(!damage.to_string().is_empty()),
        }
    }
}

pub fn parcel_seeds() -> Vec<Vec<u8>> {
    let channel = ChannelId::room("lobby").expect("a name");
    let connection = ConnectionId { slot: 1, generation: 2 };
    let (user, session) = (UserId(Uuid::from_u128(7)), SessionId(Uuid::from_u128(8)));
    let presence = Presence { user, session, username: "ann".into(), persistence: true };
    let (joins, leaves) = (vec![presence.clone()], Vec::new());
    let event = Event::Presence { channel: channel.clone(), joins: joins.clone(), leaves, count: Some(3) };
    let joined = Reply::Joined { channel: channel.clone(), presences: joins.into(), count: None, me: presence.clone() };
    let refused = Reply::Refused(Rejection::outcome_unknown("unknown"));
    let items = vec![
        Item::Frames(Arc::new(Frames::of_events(&[event]))),
        Item::Joined { connection, number: 1, reply: joined },
        Item::Answer { connection, number: 2, reply: refused },
    ];
    let action = ChannelAction::Join { presence, hidden: false, format: Format::Json };
    let parcels = [
        Parcel::Batch(Batch { channel: channel.clone(), previous: None, reached: Reached::default(), items }),
        Parcel::Requests {
            from: ShardId { life: Life(1), core: 1 },
            channel,
            requests: vec![ChannelRequest { connection, number: 3, action }],
        },
        Parcel::BlockHeard { number: 4 },
    ];
    let bytes = |parcel: &Parcel| codec::encode(1, 2, parcel).expect("its events are kept");
    parcels.iter().map(bytes).collect()
}
