//! Single rules of the links, at their real bounds.

use std::collections::BTreeSet;
use std::time::Duration;

use engine::id::{Life, Monotonic};

use super::super::{Links, NotOpen};
use crate::limits::{
    ACKNOWLEDGE_AFTER, FRAME_BYTES_MAX, HOLD_PATIENCE, Limits, PARCEL_BYTES_MAX, PATIENCE, REOPEN_INTERVAL,
    STORE_BYTES_MAX, WAITING_BYTES_HIGH, WINDOW_BYTES,
};
use crate::link::{Event, Reason};
use crate::packet::{Content, FrameNumber, LinkNumber, Packet};

const HERE: Life = Life(1);
const THERE: Life = Life(2);
const THIRD: Life = Life(3);
const MS: Duration = Duration::from_millis(1);

struct Pair {
    here: Links,
    there: Links,
    now: Monotonic,
}

/// Two lives whose link is open.
fn pair() -> Pair {
    let links = |own| {
        let mut links = Links::new(own, Limits::default());
        links.set_peers(&BTreeSet::from([HERE, THERE, THIRD]), Monotonic(0)).unwrap();
        links.connected(Monotonic(0));
        links
    };
    let mut pair = Pair { here: links(HERE), there: links(THERE), now: Monotonic(0) };
    pair.exchange();
    assert_eq!(pair.events(), ["Opened", "Opened"]);
    pair
}

fn taken(links: &mut Links, from: Life, now: Monotonic) -> Vec<String> {
    let events = std::iter::from_fn(|| links.take(from, now));
    let name = |event| match event {
        Event::Opened(_) => "Opened".to_owned(),
        Event::Reset(_, reason) => format!("{reason:?}"),
        Event::Parcel(parcel) if parcel.len() > 20 => format!("{} bytes", parcel.len()),
        Event::Parcel(parcel) => String::from_utf8_lossy(&parcel).into_owned(),
    };
    events.map(name).collect()
}

impl Pair {
    fn number(&self) -> LinkNumber {
        self.here.open(THERE).unwrap()
    }

    fn send(&mut self, parcel: &[u8]) {
        let number = self.number();
        self.here.send(THERE, number, parcel, self.now).unwrap();
    }

    /// What is sent from here to there now, and not received.
    fn leaving(&mut self) -> Vec<Packet> {
        let now = self.now;
        std::iter::from_fn(|| self.here.transmit(now)).filter(|packet| packet.to == THERE).collect()
    }

    /// Carries packets to and fro until there are none.
    fn exchange(&mut self) {
        loop {
            let now = self.now;
            let mut packets: Vec<Packet> = std::iter::from_fn(|| self.here.transmit(now)).collect();
            packets.extend(std::iter::from_fn(|| self.there.transmit(now)));
            if packets.is_empty() {
                return;
            }
            for packet in packets.into_iter().filter(|packet| packet.to != THIRD) {
                if packet.to == HERE { &mut self.here } else { &mut self.there }.receive(packet, now);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.here.tick(self.now);
        self.there.tick(self.now);
    }

    /// What happens here, and then there.
    fn events(&mut self) -> Vec<String> {
        let mut events = taken(&mut self.here, THERE, self.now);
        events.extend(taken(&mut self.there, HERE, self.now));
        events
    }
}

fn kinds(packets: &[Packet]) -> Vec<&'static str> {
    let kind = |packet: &Packet| match packet.content {
        Content::Frame { .. } => "frame",
        Content::Acknowledgement => "acknowledgement",
        Content::Probe { .. } => "probe",
        Content::Answer { .. } => "answer",
        Content::Missing => "missing",
    };
    packets.iter().map(kind).collect()
}

#[test]
fn parcels_of_one_turn_leave_as_one_frame() {
    let mut pair = pair();
    pair.send(b"one");
    pair.send(b"");
    pair.send(b"three");
    let packets = pair.leaving();
    assert_eq!(kinds(&packets), ["frame"]);
    packets.into_iter().for_each(|packet| pair.there.receive(packet, pair.now));
    assert_eq!(pair.events(), ["one", "", "three"]);
}

#[test]
fn an_acknowledgement_waits_a_little_for_a_frame() {
    let mut pair = pair();
    pair.send(b"one");
    pair.exchange();
    pair.events();
    assert!(pair.here.held() > 0);
    pair.pass(ACKNOWLEDGE_AFTER - MS);
    assert_eq!(pair.there.transmit(pair.now), None);
    pair.there.send(HERE, pair.number(), b"answer", pair.now).unwrap();
    pair.exchange();
    assert_eq!((pair.here.held(), pair.events()), (0, vec!["answer".to_owned()]), "it rides on the answer");
    assert_eq!(pair.here.timeout(), Some(pair.now.plus(ACKNOWLEDGE_AFTER)));
    pair.pass(ACKNOWLEDGE_AFTER);
    assert_eq!(kinds(&pair.leaving()), ["acknowledgement"], "or goes alone");
}

#[test]
fn a_link_at_rest_sends_nothing() {
    let mut pair = pair();
    pair.here.set_peers(&BTreeSet::from([THERE]), pair.now).unwrap();
    pair.send(b"one");
    pair.exchange();
    pair.events();
    pair.pass(ACKNOWLEDGE_AFTER);
    pair.exchange();
    assert_eq!(pair.here.timeout(), None);
    pair.pass(Duration::from_secs(3_600));
    assert_eq!(pair.here.transmit(pair.now), None);
}

#[test]
fn a_missing_frame_is_sent_again_at_once() {
    let mut pair = pair();
    for parcel in [b"one", b"two", b"six"] {
        pair.send(parcel);
        let packets = pair.leaving();
        // The first is lost.
        packets.into_iter().filter(|_| parcel != b"one").for_each(|packet| pair.there.receive(packet, pair.now));
    }
    pair.exchange();
    assert_eq!(pair.events(), ["one", "two", "six"]);
    let counters = pair.here.counters();
    assert_eq!((counters.frames_resent, pair.there.counters().gaps), (3, 2));
}

#[test]
fn a_lost_last_frame_is_sent_again_after_a_second() {
    let mut pair = pair();
    pair.send(b"one");
    assert_eq!(kinds(&pair.leaving()), ["frame"]);
    pair.pass(PATIENCE - MS);
    assert!(pair.leaving().is_empty());
    assert_eq!(pair.here.timeout(), Some(pair.now.plus(MS)));
    pair.pass(MS);
    pair.exchange();
    assert_eq!(pair.events(), ["one"]);
}

#[test]
fn what_was_under_way_when_the_bus_went_is_sent_again() {
    let mut pair = pair();
    pair.send(b"one");
    pair.leaving();
    pair.here.disconnected();
    pair.send(b"two");
    assert!(pair.leaving().is_empty() && pair.here.timeout().is_none());
    pair.here.connected(pair.now);
    let packets = pair.leaving();
    assert_eq!(kinds(&packets), ["probe"], "the peer is asked first");
    packets.into_iter().for_each(|packet| pair.there.receive(packet, pair.now));
    pair.exchange();
    assert_eq!(pair.events(), ["one", "two"]);
}

#[test]
fn a_peer_that_has_stopped_is_sent_a_window_and_then_probes() {
    let mut pair = pair();
    let parcel = vec![7; FRAME_BYTES_MAX / 2];
    for _ in 0..3 * WINDOW_BYTES / parcel.len() {
        pair.send(&parcel);
    }
    let bytes = |packets: &[Packet]| packets.iter().map(|packet| packet.encode().len()).sum::<usize>();
    let packets = pair.leaving();
    assert!(bytes(&packets) <= WINDOW_BYTES + FRAME_BYTES_MAX, "{}", bytes(&packets));
    assert!(pair.here.is_full(pair.now), "a peer may be slow for a moment");
    pair.pass(HOLD_PATIENCE);
    assert!(!pair.here.is_full(pair.now), "but one that has stopped holds nobody back");
    pair.pass(PATIENCE - HOLD_PATIENCE);
    for _ in 0..5 {
        assert_eq!(kinds(&pair.leaving()), ["probe"]);
        pair.pass(PATIENCE);
    }
    // It goes on: the first window was lost, and what comes then is acknowledged as it is taken.
    for _ in 0..10 {
        pair.exchange();
        pair.events();
        pair.pass(ACKNOWLEDGE_AFTER);
    }
    assert_eq!((pair.here.held(), pair.here.counters().resets), (0, 0));
}

#[test]
fn a_late_answer_does_not_end_a_later_doubt() {
    let mut pair = pair();
    let doubt = |pair: &mut Pair| {
        pair.send(b"one");
        pair.leaving();
        pair.pass(PATIENCE);
        pair.leaving().into_iter().for_each(|probe| pair.there.receive(probe, pair.now));
        let answers: Vec<_> = std::iter::from_fn(|| pair.there.transmit(pair.now)).collect();
        answers.into_iter().find(|packet| matches!(packet.content, Content::Answer { .. })).unwrap()
    };
    let answer = doubt(&mut pair);
    pair.here.receive(answer.clone(), pair.now);
    assert_eq!(kinds(&pair.leaving()), ["frame"]);
    doubt(&mut pair);
    pair.here.receive(answer, pair.now);
    assert!(pair.leaving().is_empty());
}

#[test]
fn a_full_store_resets_the_link_that_holds_most() {
    let mut pair = pair();
    let third = Packet { from: THIRD, to: HERE, link: LinkNumber(90), ..acknowledging(0, 0) };
    pair.here.receive(third, pair.now);
    pair.send(b"small");
    let parcel = vec![7; 64 * 1024];
    let mut sends =
        (0..STORE_BYTES_MAX / parcel.len()).map(|_| pair.here.send(THIRD, LinkNumber(90), &parcel, pair.now));
    assert!(sends.any(|sent| sent == Err(NotOpen)));
    assert_eq!(taken(&mut pair.here, THIRD, pair.now), [] as [&str; 0], "it was open for less than a turn");
    assert!((pair.here.open(THIRD), pair.here.open(THERE).is_some()) == (None, true));
    pair.exchange();
    assert_eq!(pair.events(), ["small"]);
}

#[test]
fn both_sides_hear_of_a_reset_once() {
    let mut pair = pair();
    pair.send(b"one");
    let late = pair.leaving();
    let before = pair.number();
    pair.pass(REOPEN_INTERVAL);
    pair.here.reset(THERE, Reason::Unreadable, pair.now);
    assert_eq!(pair.here.send(THERE, before, b"two", pair.now), Err(NotOpen));
    pair.exchange();
    late.into_iter().for_each(|packet| pair.there.receive(packet, pair.now));
    assert_eq!(pair.events(), ["Unreadable", "Opened", "Peer", "Opened"]);
    assert_eq!(pair.here.send(THERE, before, b"two", pair.now), Err(NotOpen), "it was meant for the time before");
    pair.send(b"three");
    pair.exchange();
    assert_eq!(pair.events(), ["three"]);
    assert_eq!((pair.there.counters().stale, pair.here.counters().parcels_refused), (1, 2));
}

#[test]
fn a_link_is_not_opened_again_and_again() {
    let mut pair = pair();
    pair.pass(REOPEN_INTERVAL);
    for _ in 0..3 {
        pair.here.reset(THERE, Reason::Unreadable, pair.now);
        pair.exchange();
        assert_eq!(pair.events(), ["Unreadable", "Opened", "Peer", "Opened"]);
        pair.here.reset(THERE, Reason::Unreadable, pair.now);
        pair.pass(REOPEN_INTERVAL - MS);
        pair.exchange();
        assert_eq!(pair.events(), ["Unreadable"]);
        pair.pass(MS);
        pair.exchange();
        assert_eq!(pair.events(), ["Opened", "Peer", "Opened"]);
        pair.pass(REOPEN_INTERVAL);
    }
}

#[test]
fn both_may_reset_at_once() {
    let mut pair = pair();
    pair.pass(REOPEN_INTERVAL);
    pair.here.reset(THERE, Reason::Unreadable, pair.now);
    pair.there.reset(HERE, Reason::Unreadable, pair.now);
    pair.exchange();
    assert_eq!(pair.events(), ["Unreadable", "Opened", "Unreadable", "Opened"]);
    assert_eq!(pair.here.open(THERE), pair.there.open(HERE));
}

#[test]
fn a_parcel_may_be_longer_than_a_frame_but_not_than_any_parcel() {
    let mut pair = pair();
    pair.send(&vec![7; PARCEL_BYTES_MAX]);
    let mut events = Vec::new();
    for _ in 0..20 {
        pair.exchange();
        events.extend(pair.events());
        pair.pass(ACKNOWLEDGE_AFTER);
    }
    assert_eq!(events, [format!("{PARCEL_BYTES_MAX} bytes")]);
    let number = pair.number();
    assert_eq!(pair.here.send(THERE, number, &vec![7; PARCEL_BYTES_MAX + 1], pair.now), Err(NotOpen));
    assert_eq!(pair.events(), ["ParcelTooLong"]);
}

#[test]
fn a_life_that_is_over_is_told_once_and_may_come_back_under_another_number() {
    let mut pair = pair();
    let before = pair.number();
    pair.here.set_peers(&BTreeSet::from([HERE]), pair.now).unwrap();
    pair.send_to_nobody();
    pair.exchange();
    assert_eq!(taken(&mut pair.here, THERE, pair.now), ["Gone"]);
    pair.here.set_peers(&BTreeSet::from([THERE]), pair.now).unwrap();
    pair.exchange();
    assert_eq!(pair.events(), ["Opened", "Peer", "Opened"]);
    assert!(pair.number() > before);
}

impl Pair {
    fn send_to_nobody(&mut self) {
        assert_eq!(self.here.send(THERE, LinkNumber(1), b"one", self.now), Err(NotOpen));
    }
}

#[test]
fn senders_wait_for_a_peer_that_is_slow_to_take() {
    let mut pair = pair();
    let parcel = vec![7; 64 * 1024];
    // There, no shard takes anything.
    for _ in 0..(WINDOW_BYTES + FRAME_BYTES_MAX + WAITING_BYTES_HIGH) / parcel.len() {
        pair.send(&parcel);
        pair.exchange();
    }
    pair.pass(ACKNOWLEDGE_AFTER);
    pair.exchange();
    assert!(pair.here.is_full(pair.now) && pair.here.counters().frames_resent == 0);
    pair.events();
    pair.exchange();
    assert!(!pair.here.is_full(pair.now));
}

/// A packet that says so.
fn acknowledging(acknowledged: u64, received: u64) -> Packet {
    let (acknowledged, received) = (FrameNumber(acknowledged), FrameNumber(received));
    let content = Content::Acknowledgement;
    Packet { from: THERE, to: HERE, link: LinkNumber(0), acknowledged, received, content }
}

#[test]
fn packets_that_cannot_be_are_refused() {
    let mut pair = pair();
    pair.send(b"one");
    pair.leaving();
    let link = pair.number();
    let held = pair.here.held();
    let refused = [
        Packet { link, ..acknowledging(2, 2) },
        Packet { link, ..acknowledging(1, 2) },
        Packet { link, from: Life(9), ..acknowledging(1, 1) },
        Packet { link, to: Life(9), ..acknowledging(1, 1) },
        Packet { link, from: HERE, ..acknowledging(1, 1) },
    ];
    let count = refused.len() as u64;
    refused.into_iter().for_each(|packet| pair.here.receive(packet, pair.now));
    assert_eq!((pair.here.held(), pair.here.counters().refused), (held, count));
    pair.here.receive(Packet { link, ..acknowledging(1, 1) }, pair.now);
    assert_eq!(pair.here.held(), 0);
}
