//! A member that comes and goes, against a server that does what a test tells it to.

use std::cell::RefCell;

use futures_util::StreamExt;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::*;
use crate::checks::figures::LifeFigures;
use crate::clients::stages::tests::conduct;
use crate::clients::tests::{Visitor, plan, run, say, serve, share, until, welcome};
use crate::plan::schedule::Schedule;
use crate::wire::Dialect;

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
        }
    }
    seen.borrow_mut().push(format!("end {number}"));
}

/// A life, lived until the server has seen this on each connection, and the figures in the end.
fn live(acts: &[Step], react: Reaction, expected: &[&str]) -> (LifeFigures, u64) {
    let mut counted = None;
    run(async {
        let seen = Seen::default();
        let noted = seen.clone();
        let server = serve(welcome, move |number, visitor| talk(noted.clone(), react, number, visitor)).await;
        let mut plan = plan(server, 3);
        plan.rooms[0].schedule = Schedule::steady(1.0, 2, Duration::ZERO, LONG).expect("valid");
        plan.conduct = Some(conduct(0.0));
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
