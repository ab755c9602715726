//! A member that comes and goes, against a server that does what a test tells it to.

use std::cell::RefCell;

use futures_util::StreamExt;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::*;
use crate::base::content::{self, Content, ScheduleSlot};
use crate::checks::figures::LifeFigures;
use crate::clients::stages::tests::conduct;
use crate::clients::tests::{Visitor, plan, run, say, serve, share, until, welcome};
use crate::clients::thread_users::ThreadUsers;
use crate::orders::Order;
use crate::plan::lives::Conduct;
use crate::plan::schedule::Schedule;
use crate::wire::{Dialect, Plain};

/// No test takes as long as the run that it plays.
const LONG: Duration = Duration::from_secs(3_600);

/// What a server saw, in order: what was asked on which connection, and which connection ended.
type Seen = Rc<RefCell<Vec<String>>>;

/// What a server does when a member has asked for this.
type Reaction = fn(asked: &str, connection: usize) -> Answer;

enum Answer {
    Grant,
    Refuse,
    /// Close the connection with this code.
    Close(u16),
    /// Say this first, and grant it then.
    SayFirst(fn() -> String),
}

async fn talk(seen: Seen, react: Reaction, number: usize, mut visitor: Visitor) {
    while let Some(Ok(message)) = visitor.next().await {
        let text = match message {
            Message::Text(text) => text,
            Message::Pong(_) => "pong".into(),
            _ => continue,
        };
        let asked = ["channel_join", "channel_leave", "pong"].into_iter().find(|name| text.contains(name));
        let Some(asked) = asked else { continue };
        seen.borrow_mut().push(format!("{asked} {number}"));
        let cid = if asked == "channel_join" { "join" } else { "leave" };
        let granted = match asked {
            "channel_join" => Dialect::Json.joined(cid, "2...r").expect("an answer"),
            _ => format!(r#"{{"cid":"{cid}"}}"#).into_bytes(),
        };
        match react(asked, number) {
            Answer::Grant => say(&mut visitor, granted).await,
            Answer::Refuse => {
                say(&mut visitor, format!(r#"{{"cid":"{cid}","error":{{"code":3,"message":"no"}}}}"#)).await
            }
            Answer::Close(code) => {
                say(&mut visitor, granted).await;
                let _ = visitor.close(Some(CloseFrame { code: code.into(), reason: "so".into() })).await;
            }
            Answer::SayFirst(first) => {
                say(&mut visitor, first()).await;
                say(&mut visitor, granted).await;
            }
        }
    }
    seen.borrow_mut().push(format!("end {number}"));
}

/// A life, lived until the server has seen this on each connection, and the figures in the end.
fn live(acts: &[Step], react: Reaction, expected: &[&str]) -> (LifeFigures, u64) {
    live_in(None, acts, react, expected)
}

/// The same in a run that expects a drain.
fn live_in_a_drain(acts: &[Step], react: Reaction, expected: &[&str]) -> (LifeFigures, u64) {
    live_in(Some(5.0), acts, react, expected)
}

fn live_in(drain_secs: Option<f64>, acts: &[Step], react: Reaction, expected: &[&str]) -> (LifeFigures, u64) {
    let mut counted = None;
    run(async {
        let seen = Seen::default();
        let noted = seen.clone();
        let server = serve(welcome, move |number, visitor| talk(noted.clone(), react, number, visitor)).await;
        let mut plan = plan(server, 3);
        plan.rooms[0].schedule = Schedule::steady(1.0, 2, Duration::ZERO, LONG).expect("valid");
        plan.conduct = Some(Conduct { drain_secs, ..conduct(0.0) });
        let stages = Stages::new(plan.into(), 1, None, share(0..3));
        // The last of three users: the first two publish.
        let start_ns = clock::now_ns();
        let member = Member::new(stages.clone(), 2, start_ns);
        let acts = acts.iter().map(|step| Act { at_ns: 0, step: *step }).collect();
        tokio::select! {
            () = member.live(acts) => panic!("a life goes on until it is stopped"),
            () = until(|| seen.borrow().len() >= expected.len()) => {}
            // Some life is missing if this comes first.
            () = tokio::time::sleep(Duration::from_secs(20)) => {}
        }
        // A new connection may open before the server has heard the end of the one before.
        seen.borrow_mut().sort_by_key(|what| what.chars().next_back());
        assert_eq!(*seen.borrow(), expected);
        let figures = stages.ledger.figures();
        counted = Some((figures.lives, figures.disconnected));
    });
    counted.expect("the test has run")
}

#[test]
fn a_member_leaves_on_its_connection_and_comes_back_on_a_new_one_when_it_dropped_the_old_one() {
    let acts = [Step::Join, Step::Leave, Step::Join, Step::Drop, Step::Join];
    let seen = ["channel_join 0", "channel_leave 0", "channel_join 0", "end 0", "channel_join 1"];
    let (lives, disconnected) = live(&acts, |_, _| Answer::Grant, &seen);
    assert_eq!((lives.left, lives.dropped, lives.closed, lives.failed, disconnected), (1, 1, 0, 0, 0));
    assert!((2..=3).contains(&lives.stays), "the answer to the last join may not be read yet");
}

#[test]
fn what_cannot_be_done_is_not_done() {
    // Nobody leaves a room or a connection without being there.
    let acts = [Step::Leave, Step::Drop, Step::Join, Step::Join, Step::Drop, Step::Drop, Step::Leave];
    let (lives, disconnected) = live(&acts, |_, _| Answer::Grant, &["channel_join 0", "end 0"]);
    assert_eq!((lives.stays, lives.dropped, lives.left, lives.failed, disconnected), (1, 1, 0, 0, 0));
}

#[test]
fn a_refusal_is_a_failure_and_the_next_act_begins_anew() {
    let at_first: Reaction = |_, connection| if connection == 0 { Answer::Refuse } else { Answer::Grant };
    let seen = ["channel_join 0", "end 0", "channel_join 1", "end 1"];
    let (lives, _) = live(&[Step::Join, Step::Join, Step::Drop], at_first, &seen);
    assert_eq!((lives.failed, lives.stays, lives.dropped), (1, 1, 1));
    let no_leave: Reaction = |asked, _| if asked == "channel_leave" { Answer::Refuse } else { Answer::Grant };
    let seen = ["channel_join 0", "channel_leave 0", "end 0", "channel_join 1", "end 1"];
    let (lives, _) = live(&[Step::Join, Step::Leave, Step::Join, Step::Drop], no_leave, &seen);
    assert_eq!((lives.failed, lives.stays, lives.left, lives.dropped), (1, 2, 0, 1));
}

#[test]
fn a_member_that_is_closed_as_too_slow_comes_back_and_any_other_does_not() {
    let too_slow: Reaction = |_, connection| if connection == 0 { Answer::Close(1013) } else { Answer::Grant };
    let seen = ["channel_join 0", "end 0", "channel_join 1"];
    let (lives, disconnected) = live(&[Step::Join], too_slow, &seen);
    assert_eq!((lives.closed, lives.cut_off, disconnected), (1, 0, 0));
    let (lives, disconnected) = live(&[Step::Join], |_, _| Answer::Close(1001), &["channel_join 0", "end 0"]);
    assert_eq!((lives.stays, lives.closed, disconnected), (1, 0, 1), "the server had no reason to close it");
}

#[test]
fn where_a_drain_is_expected_a_member_comes_back_to_the_room_that_it_was_in() {
    let drain: Reaction = |_, connection| if connection == 0 { Answer::Close(1012) } else { Answer::Grant };
    let seen = ["channel_join 0", "end 0", "channel_join 1"];
    let (lives, disconnected) = live_in_a_drain(&[Step::Join], drain, &seen);
    assert_eq!((lives.drained, lives.sought, lives.failed, disconnected), (1, 1, 0, 0));
    // A member that is refused while a server drains tries again, too.
    let refuse: Reaction = |_, connection| if connection == 0 { Answer::Refuse } else { Answer::Grant };
    let (lives, _) = live_in_a_drain(&[Step::Join], refuse, &seen);
    assert_eq!((lives.drained, lives.sought, lives.failed), (0, 1, 0));
    // A member that has left the room only loses its connection.
    let after_leave: Reaction = |asked, _| if asked == "channel_leave" { Answer::Close(1012) } else { Answer::Grant };
    let seen = ["channel_join 0", "channel_leave 0", "end 0"];
    let (lives, disconnected) = live_in_a_drain(&[Step::Join, Step::Leave], after_leave, &seen);
    assert_eq!((lives.sought, lives.stays, lives.left, disconnected), (0, 1, 1, 0));
}

#[test]
fn a_publisher_comes_back_after_a_drain_and_sends_what_is_due_then() {
    run(async {
        let drain: Reaction = |_, connection| if connection == 0 { Answer::Close(1012) } else { Answer::Grant };
        let server = serve(welcome, move |number, visitor| talk(Seen::default(), drain, number, visitor)).await;
        let mut plan = plan(server, 1);
        plan.rooms[0].schedule = Schedule::steady(10.0, 1, Duration::ZERO, LONG).expect("valid");
        plan.conduct = Some(Conduct { drain_secs: Some(5.0), ..conduct(0.0) });
        let mut stages = Stages::new(plan.into(), 1, None, share(0..1));
        let joined = ThreadUsers::obey(&mut stages, &Order::Join).await;
        assert!(joined.is_ok());
        let begin = Order::Begin { start_ns: clock::now_ns() };
        assert!(ThreadUsers::obey(&mut stages, &begin).await.is_ok());
        let counted = stages.clone();
        until(move || counted.ledger.figures().lives.returned == 1).await;
        let sent = stages.gauges().progress().sent;
        let counted = stages.clone();
        until(move || counted.gauges().progress().sent > sent).await;
        let figures = stages.ledger.figures();
        assert_eq!((figures.lives.drained, figures.lives.sought, figures.disconnected), (1, 1, 0));
    });
}

#[test]
fn a_member_attends_until_its_time_or_the_end_of_its_connection() {
    run(async {
        let too_slow: Reaction = |_, connection| if connection == 0 { Answer::Close(1013) } else { Answer::Grant };
        let server = serve(welcome, move |number, visitor| talk(Seen::default(), too_slow, number, visitor)).await;
        let mut plan = plan(server, 3);
        plan.conduct = Some(conduct(0.0));
        let stages = Stages::new(plan.into(), 1, None, share(0..3));
        let mut member = Member::new(stages.clone(), 2, 0);
        assert!(member.attend(u64::MAX).await == Attended::Lost, "it is not connected, and waits for nothing");
        assert!(member.attend(0).await == Attended::ToTheEnd);
        member.join().await.expect("the first connection");
        let later_ns = clock::now_ns() + LONG.as_nanos() as u64;
        assert!(member.attend(later_ns).await == Attended::ClosedWithNotice);
        assert!(member.connection.is_none());
        member.join().await.expect("the second connection");
        let soon_ns = clock::now_ns() + 1_000_000;
        assert!(member.attend(soon_ns).await == Attended::ToTheEnd);
        assert!(clock::now_ns() >= soon_ns && member.connection.is_some());
        let lives = stages.ledger.figures().lives;
        assert_eq!((lives.stays, lives.closed, stages.gauges().progress().joined), (2, 1, 2));
    });
}

#[test]
fn what_comes_before_the_answer_is_heard_outside_of_the_room() {
    fn message() -> String {
        let mut text = String::new();
        let slot = ScheduleSlot { publisher: 0, number: 0 };
        content::write(&mut text, 1, Content { slot, intended_ns: 0 }, 100);
        String::from_utf8(Dialect::Json.pushed("m", &text, 0)).expect("JSON")
    }
    let react: Reaction = |_, _| Answer::SayFirst(message);
    let (lives, _) = live(&[Step::Join, Step::Drop], react, &["channel_join 0", "end 0"]);
    assert_eq!((lives.stays, lives.outside, lives.dropped), (1, 1, 1));
}

#[test]
fn a_member_disconnects_where_the_dialect_has_no_leave() {
    run(async {
        let ended = Rc::new(RefCell::new(0));
        let count = ended.clone();
        let listen = move |_, mut visitor: Visitor| {
            let count = count.clone();
            async move {
                while let Some(Ok(_)) = visitor.next().await {}
                *count.borrow_mut() += 1;
            }
        };
        let server = serve(|_| None, listen).await;
        let mut plan = plan(server, 3);
        let url = format!("ws://{server}/ws");
        let plain = Plain { url, greeting: None, welcome: None, send: "{content}".to_owned() };
        (plan.target.dialect, plan.conduct) = (Dialect::Plain(plain), Some(conduct(0.0)));
        let stages = Stages::new(plan.into(), 1, None, share(0..3));
        let mut member = Member::new(stages.clone(), 2, 0);
        member.join().await.expect("a connection is enough");
        member.leave().await.expect("nothing is asked");
        assert!(member.connection.is_none());
        until(|| *ended.borrow() == 1).await;
        let lives = stages.ledger.figures().lives;
        assert_eq!((lives.stays, lives.dropped, lives.left), (1, 1, 0));
    });
}

#[test]
fn a_slow_reader_reads_everything_once_the_run_is_over() {
    run(async {
        let server = serve(welcome, |_, mut visitor: Visitor| async move {
            for number in 0..50 {
                say(&mut visitor, format!("frame {number}")).await;
            }
            let _ = visitor.close(None).await;
        });
        let mut plan = plan(server.await, 3);
        plan.conduct = Some(conduct(0.001));
        let stages = Stages::new(plan.into(), 1, None, share(0..3));
        let (_, crowd, member_slot) = stages.member(2);
        let mut socket = stages.connect_persistently(2).await.expect("a connection");
        // Frames that it waited for would come one in five seconds.
        let end_ns = clock::now_ns();
        let lost = listen_slowly(&mut socket, &crowd, member_slot, stages.slow_pace(), end_ns).await;
        assert!(matches!(lost, Lost::Ended), "{lost}");
        assert_eq!(stages.ledger.figures().corrupt, 50, "it has heard every frame");
    });
}
