//! A crowd whose members come and go: what belongs to a stay, what is announced, and how connections end.

use super::*;
use crate::checks::stays::GAPS_MAX;
use crate::plan::lives::Conduct;
use crate::wire::Plain;

const JOINED: &str = r#"{"cid":"join","channel":{"id":"2...r"}}"#;
const LEFT: &str = r#"{"cid":"leave"}"#;
const GAP: &str = r#"{"channel_gap":{"channel_id":"2...r","after_message_id":"id-0","before_message_id":"id-2"}}"#;
/// A member that does not publish.
const MEMBER: usize = 4;

/// A crowd in which so large a part of the members that listen is slow, and so large a part of these skips messages.
fn crowd(dialect: Dialect, slow_share: f64, skip_share: f64) -> Listeners {
    crowd_in_a_drain(dialect, slow_share, skip_share, None)
}

/// The same in a run that expects a drain over this time, or none.
fn crowd_in_a_drain(dialect: Dialect, slow_share: f64, skip_share: f64, drain_secs: Option<f64>) -> Listeners {
    let mut plan = plan(dialect, OrderDemand::Room, ActionShares::default());
    plan.conduct = Some(Conduct {
        ramp_ns: 0,
        end_ns: u64::MAX / 4,
        churn_a_second: 0.0,
        away_max_ns: 0,
        reconnect_ns: 0,
        reconnect_share: 0.0,
        slow_share,
        slow_frames_a_second: 1.0,
        skip_share,
        history_reads_a_second: 0.0,
        drain_secs,
    });
    Listeners::new(&plan, false)
}

impl Listeners {
    fn hear(&self, text: &str) -> Option<RoomAnswer> {
        self.crowd.hear(MEMBER, &Frame::Text(text.to_owned().into()))
    }

    /// The member hears the message with this index.
    fn hear_message(&self, index: u32) {
        let actions = Actions::new(ActionShares::default());
        let payload = message(&self.ledger.plan, &actions, index, "");
        assert!(self.hear(&String::from_utf8(payload).expect("JSON")).is_none());
    }
}

#[test]
fn a_message_counts_only_during_a_stay() {
    let listeners = crowd(Dialect::Json, 0.0, 0.0);
    let counted = || {
        let lives = listeners.ledger.figures().lives;
        let progress = listeners.ledger.gauges().progress();
        [lives.stays, lives.left, lives.outside, progress.delivered, progress.faults]
    };
    listeners.hear_message(0);
    assert_eq!(counted(), [0, 0, 1, 0, 1], "before the member came");
    assert!(matches!(listeners.hear(JOINED), Some(RoomAnswer::Joined { channel_id: Some(id) }) if id == "2...r"));
    listeners.hear_message(1);
    assert_eq!(counted(), [1, 0, 1, 1, 1]);
    listeners.crowd.leaving(MEMBER);
    listeners.hear_message(2);
    assert_eq!(counted(), [1, 0, 1, 2, 1], "until the server has answered, the member is in the room");
    assert!(matches!(listeners.hear(LEFT), Some(RoomAnswer::Left)));
    listeners.hear_message(3);
    assert_eq!(counted(), [1, 1, 2, 2, 2]);
    assert!(matches!(listeners.hear(JOINED), Some(RoomAnswer::Joined { .. })));
    listeners.hear_message(3);
    assert_eq!(counted(), [2, 1, 2, 3, 2], "the member has not received this message in this stay");
    listeners.crowd.dropped(MEMBER);
    listeners.crowd.dropped(MEMBER);
    let lives = listeners.ledger.figures().lives;
    assert_eq!((lives.dropped, listeners.ledger.gauges().progress().left), (1, 2), "a stay ends once");
}

#[test]
fn a_gap_is_right_only_for_members_that_asked_for_gaps() {
    for (what, slow_share, skip_share, joins, gaps, corrupt) in [
        ("a slow member that skips", 1.0, 1.0, true, 1, 0),
        ("a slow member that does not", 1.0, 0.0, true, 0, 1),
        ("a prompt member", 0.0, 1.0, true, 0, 1),
        ("a member that is not there", 1.0, 1.0, false, 0, 1),
    ] {
        let listeners = crowd(Dialect::Json, slow_share, skip_share);
        if joins {
            listeners.hear(JOINED);
        }
        assert!(listeners.hear(GAP).is_none());
        let figures = listeners.ledger.figures();
        assert_eq!((figures.lives.gaps, figures.corrupt), (gaps, corrupt), "{what}");
    }
    let listeners = crowd(Dialect::Json, 1.0, 1.0);
    listeners.hear(JOINED);
    (0..GAPS_MAX + 2).for_each(|_| drop(listeners.hear(GAP)));
    let figures = listeners.ledger.figures();
    assert_eq!((figures.lives.gaps, figures.corrupt), (GAPS_MAX as u64 + 2, 2), "more than are kept");
}

#[test]
fn a_connection_that_ends_is_a_fault_unless_the_server_gave_notice() {
    let closed = |code| Lost::Closed { code, reason: String::new() };
    for (what, slow_share, skip_share, lost, [closed, cut_off, disconnected]) in [
        ("with notice", 0.0, 0.0, closed(TRY_LATER), [1, 0, 0]),
        ("with another code", 0.0, 0.0, closed(1000), [0, 0, 1]),
        ("without a close frame", 0.0, 0.0, Lost::Ended, [0, 0, 1]),
        ("slow, with notice", 1.0, 0.0, closed(TRY_LATER), [1, 0, 0]),
        ("slow, with another code", 1.0, 0.0, closed(1000), [0, 0, 1]),
        ("slow, without a close frame", 1.0, 0.0, Lost::Ended, [1, 1, 0]),
        ("slow and skipping, without a close frame", 1.0, 1.0, Lost::Ended, [0, 0, 1]),
    ] {
        let listeners = crowd(Dialect::Json, slow_share, skip_share);
        listeners.hear(JOINED);
        let parting = if closed == 1 { Parting::TooSlow } else { Parting::Lost };
        assert_eq!(listeners.crowd.lost(MEMBER, &lost), parting, "{what}");
        let figures = listeners.ledger.figures();
        let lives = figures.lives;
        assert_eq!([lives.closed, lives.cut_off, figures.disconnected], [closed, cut_off, disconnected], "{what}");
        assert_eq!(figures.samples.into_texts().len() as u64, disconnected, "{what}");
        listeners.hear_message(0);
        assert_eq!(listeners.ledger.figures().lives.outside, 1, "{what}: the stay is over");
    }
}

#[test]
fn a_drain_that_was_expected_ends_a_stay_and_is_no_fault() {
    let restart = || Lost::Closed { code: 1012, reason: "so".to_owned() };
    for (what, drain_secs, slow_share, lost, parting, [drained, cut_off, disconnected]) in [
        ("expected", Some(5.0), 0.0, restart(), Parting::Drained, [1, 0, 0]),
        ("not expected", None, 0.0, restart(), Parting::Lost, [0, 0, 1]),
        ("without a close frame", Some(5.0), 0.0, Lost::Ended, Parting::Lost, [0, 0, 1]),
        ("a slow reader that skips", Some(5.0), 1.0, Lost::Ended, Parting::TooSlow, [0, 1, 0]),
    ] {
        let listeners = crowd_in_a_drain(Dialect::Json, slow_share, 1.0, drain_secs);
        listeners.hear(JOINED);
        assert_eq!(listeners.crowd.lost(MEMBER, &lost), parting, "{what}");
        let figures = listeners.ledger.figures();
        let lives = figures.lives;
        assert_eq!([lives.drained, lives.cut_off, figures.disconnected], [drained, cut_off, disconnected], "{what}");
        assert_eq!(listeners.ledger.gauges().progress().left, 1, "{what}: the stay is over");
    }
}

#[test]
fn a_member_that_cannot_come_back_is_named() {
    let listeners = crowd(Dialect::Json, 0.0, 0.0);
    listeners.hear(JOINED);
    listeners.crowd.failed(MEMBER, &ClientError::JoinRefused { code: 7, reason: "full".to_owned() });
    let figures = listeners.ledger.figures();
    assert_eq!((figures.lives.failed, figures.disconnected, figures.lives.left), (1, 0, 0));
    assert_eq!(figures.samples.into_texts(), ["user 4: the join was refused with code 7: full"]);
    let progress = listeners.ledger.gauges().progress();
    assert_eq!((progress.faults, progress.left), (1, 1), "the member is not there any more");
}

#[test]
fn a_server_that_confirms_no_joins_has_members_from_their_connection_on() {
    let plain = Plain { url: String::new(), greeting: None, welcome: None, send: "{content}".to_owned() };
    let listeners = crowd(Dialect::Plain(plain), 0.0, 0.0);
    listeners.crowd.joined(MEMBER);
    listeners.hear_message(0);
    listeners.crowd.dropped(MEMBER);
    listeners.hear_message(1);
    let lives = listeners.ledger.figures().lives;
    assert_eq!((lives.stays, lives.dropped, lives.outside), (1, 1, 1));
}

#[test]
fn a_welcome_that_is_said_again_begins_no_second_stay() {
    let welcome = Some("welcome".to_owned());
    let plain = Plain { url: String::new(), greeting: None, welcome, send: "{content}".to_owned() };
    let listeners = crowd(Dialect::Plain(plain), 0.0, 0.0);
    let welcomed = || matches!(listeners.hear("welcome"), Some(RoomAnswer::Joined { channel_id: None }));
    assert!(welcomed());
    listeners.hear_message(0);
    assert!(welcomed());
    listeners.hear_message(0);
    let figures = listeners.ledger.figures();
    assert_eq!((figures.lives.stays, figures.duplicates), (1, 1), "the second message is one too many in this stay");
    listeners.crowd.dropped(MEMBER);
    assert!(welcomed());
    assert_eq!(listeners.ledger.figures().lives.stays, 2);
}
