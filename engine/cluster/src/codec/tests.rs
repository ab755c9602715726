//! Any parcel comes out as it went in, and damaged or foreign bytes are refused.

mod arbitrary;

use std::sync::Arc;

use engine::command::{Event, Reply};
use engine::fanout::frames::{Format, Frames};
use engine::id::{ChannelId, ConnectionId};
use engine::parcel::{Batch, CaughtUp, Item, Reached, Recovered};
use engine::presence_list::SharedPresences;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use arbitrary::{events, parcels, presences};

const FROM: u16 = 3;
const TO: u16 = 0xfffe;

fn bytes(parcel: &Parcel) -> Vec<u8> {
    encode(FROM, TO, parcel).unwrap()
}

proptest! {
    #[test]
    fn parcels_come_out_as_they_went_in(parcel in parcels()) {
        let sent = decode(&bytes(&parcel)).unwrap();
        prop_assert_eq!((sent.from, sent.to), (FROM, TO));
        // Parcels are compared by what they say: they have no equality of their own.
        prop_assert_eq!(format!("{:?}", sent.parcel), format!("{parcel:?}"));
    }

    #[test]
    fn a_changed_bit_is_noticed(parcel in parcels(), at: prop::sample::Index, bit in 0..8) {
        let mut bytes = bytes(&parcel);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn a_parcel_that_was_cut_is_noticed(parcel in parcels(), at: prop::sample::Index) {
        let bytes = bytes(&parcel);
        prop_assert!(decode(&bytes[..at.index(bytes.len())]).is_err());
    }

    /// The checksum is right and the body is not: what a program with another layout would send.
    #[test]
    fn any_body_may_arrive(parcel in parcels(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = bytes(&parcel);
        for (at, byte) in changes {
            let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
            bytes[at] = byte;
        }
        sign(&mut bytes);
        let _ = decode(&bytes);
    }

    #[test]
    fn any_bytes_may_arrive(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn frames_are_encoded_where_they_are_read(events in prop::collection::vec(events(), 1..5)) {
        let (mut here, mut there) = (Frames::keeping(true), Frames::default());
        for event in &events {
            here.push(event, [Format::Json].into_iter());
            there.push(event, [Format::Protobuf].into_iter());
        }
        let Parcel::Batch(batch) = decode(&bytes(&batch(vec![Item::Frames(Arc::new(here))]))).unwrap().parcel else {
            panic!("another parcel")
        };
        let [Item::Frames(arrived)] = &batch.items[..] else { panic!("other items") };
        prop_assert!(arrived.awaits_encoding());
        prop_assert_eq!(&arrived.encoded([Format::Protobuf].into_iter()), &there);
        prop_assert_eq!((arrived.messages(), arrived.accepted()), (there.messages(), there.accepted()));
    }
}

/// Makes the checksum right again.
fn sign(bytes: &mut [u8]) {
    let sum = checksum(&bytes[..CHECKSUM_AT], &bytes[HEADER_BYTES..]);
    bytes[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
}

fn batch(items: Vec<Item>) -> Parcel {
    let channel = ChannelId::room("lobby").unwrap();
    Parcel::Batch(Batch { channel, previous: None, reached: Reached::default(), items })
}

#[test]
fn each_field_of_the_header_is_judged() {
    let check = |change: fn(&mut Vec<u8>), expected: Damage| {
        let mut bytes = bytes(&Parcel::BlockHeard { number: 7 });
        change(&mut bytes);
        assert_eq!(decode(&bytes).unwrap_err(), expected);
    };
    check(|bytes| bytes.truncate(19), Damage::TooShort(19));
    check(|bytes| bytes[0] = b'x', Damage::Foreign);
    check(|bytes| bytes[2] = 2, Damage::Version(2));
    check(|bytes| bytes[3] = 1, Damage::Version(1));
    check(|bytes| bytes[4] ^= 1, Damage::Checksum);
    let mut empty = bytes(&Parcel::BlockHeard { number: 7 });
    empty.truncate(HEADER_BYTES);
    empty[8..CHECKSUM_AT].fill(0);
    sign(&mut empty);
    assert!(matches!(decode(&empty), Err(Damage::Body(_))));
}

#[test]
fn frames_without_their_events_do_not_cross() {
    let channel = ChannelId::room("lobby").unwrap();
    let event = Event::Presence { channel: channel.clone(), joins: Vec::new(), leaves: Vec::new(), count: None };
    let mut frames = Frames::default();
    frames.push(&event, [Format::Json].into_iter());
    let frames = Arc::new(frames);
    assert_eq!(encode(FROM, TO, &batch(vec![Item::Frames(frames.clone())])).unwrap_err(), NotKept);
    let caught_up = |recovered| {
        let (channel, reached) = (channel.clone(), Reached::default());
        let (members, unanswered) = (Vec::new(), Vec::new());
        Parcel::CaughtUp(Box::new(CaughtUp {
            channel,
            from: None,
            reached,
            recovered,
            members,
            unanswered,
            entered: false,
        }))
    };
    assert_eq!(encode(FROM, TO, &caught_up(Recovered::Frames(frames))).unwrap_err(), NotKept);
    bytes(&caught_up(Recovered::Frames(Arc::default())));
}

#[test]
fn a_list_that_replies_share_crosses_once() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let presence = presences().new_tree(&mut runner).unwrap().current();
    let list: SharedPresences = (0..1_000).map(|_| presence.clone()).collect();
    let joined = |slot| {
        let (channel, count) = (ChannelId::room("lobby").unwrap(), None);
        let reply = Reply::Joined { channel, presences: list.clone(), count, me: presence.clone() };
        Item::Joined { connection: ConnectionId { slot, generation: 0 }, number: 0, reply }
    };
    let [one, hundred] = [1, 100].map(|members| bytes(&batch((0..members).map(joined).collect())));
    assert!(hundred.len() < 2 * one.len(), "{} and {} bytes", one.len(), hundred.len());
    let Parcel::Batch(batch) = decode(&hundred).unwrap().parcel else { panic!("another parcel") };
    let lists = batch.items.iter().map(|item| match item {
        Item::Joined { reply: Reply::Joined { presences, .. }, .. } => presences.as_ptr(),
        other => panic!("{other:?}"),
    });
    let lists: std::collections::BTreeSet<_> = lists.collect();
    assert_eq!(lists.len(), 1, "and is one list again");
}
