//! The stages of a thread's users, against a server that does what a test tells it to.

use std::io;
use std::net::SocketAddr;

use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::clients::tests::{Chat, Visitor, answer, next_frame, plan, run, say, serve, share, until, welcome};
use crate::orders::Assignment;
use crate::orders::idle_users::Holding;
use crate::plan::lives::Conduct;
use crate::plan::schedule::Schedule;
use crate::wire::Dialect;

const MEMBERS: u32 = 5;
const MESSAGES: u64 = 12;
const NO_MESSAGE: &str = "this is no message of the run";

fn stages(plan: &Plan) -> Rc<Stages> {
    let users = 0..plan.users();
    Stages::new(plan.clone().into(), plan.in_flight, None, share(users))
}

async fn order(stages: &mut Rc<Stages>, order: Order) -> Result<Option<Word>, String> {
    stages.obey(&order).await
}

fn sign_in(plan: &Plan) -> Order {
    Order::SignIn(Assignment { plan: plan.clone(), users: 0..plan.users(), in_flight: plan.in_flight, sources: None })
}

/// Lets everybody in, publishes, waits for so many deliveries, accepted messages and faults, and counts.
async fn whole_run(server: SocketAddr, expected: [u64; 3]) -> Figures {
    let mut plan = plan(server, MEMBERS);
    plan.rooms[0].schedule = Schedule::steady(120.0, 2, Duration::ZERO, Duration::from_millis(100)).expect("valid");
    let mut stages = stages(&plan);
    assert!(matches!(order(&mut stages, sign_in(&plan)).await, Ok(Some(Word::SignedIn))));
    assert!(matches!(order(&mut stages, Order::Join).await, Ok(Some(Word::Joined))));
    let begin = Order::Begin { start_ns: clock::now_ns() };
    assert!(matches!(order(&mut stages, begin).await, Ok(None)));
    until(|| {
        let progress = stages.gauges().progress();
        [progress.delivered, progress.accepted, progress.faults] == expected
    })
    .await;
    let Ok(Some(Word::Answers(publishes))) = order(&mut stages, Order::Stop).await else { panic!("answers") };
    let tally = Order::Tally { answers: publishes.answers(), clock_margin_ns: 0 };
    let Ok(Some(Word::Figures(figures))) = order(&mut stages, tally).await else { panic!("figures") };
    stages.leave().await;
    *figures
}

#[test]
fn what_a_server_does_with_messages_is_counted_by_its_name() {
    type Copies = fn(usize, usize) -> usize;
    let one: Copies = |_, _| 1;
    let lose: Copies = |message, member| usize::from((message, member) != (3, 4));
    let double: Copies = |message, member| 1 + usize::from((message, member) == (3, 4));
    let all = MESSAGES * u64::from(MEMBERS);
    for (what, copies, answers, [delivered, missing, duplicates, unanswered]) in [
        ("everything", one, (|_| true) as fn(usize) -> bool, [all, 0, 0, 0]),
        ("one message is lost for one member", lose, |_| true, [all - 1, 1, 0, 0]),
        ("one message comes twice to one member", double, |_| true, [all, 0, 1, 0]),
        ("one message is not answered", one, |message| message != 5, [all, 0, 0, 1]),
    ] {
        run(async move {
            let server = Chat::serve(copies, answers).await;
            let figures = whole_run(server, [delivered, MESSAGES - unanswered, duplicates]).await;
            let (tally, of_unanswered) = (figures.tally, unanswered * u64::from(MEMBERS));
            assert_eq!((figures.members, figures.corrupt, figures.disconnected), (5, 0, 0), "{what}");
            assert_eq!((tally.missing, figures.duplicates, tally.out_of_order), (missing, duplicates, 0), "{what}");
            assert_eq!(tally.expected, all - of_unanswered, "{what}: a message that was not accepted is not due");
            assert_eq!(tally.delivered, delivered - of_unanswered, "{what}");
            assert_eq!(tally.unanswered_but_delivered, of_unanswered, "{what}");
            assert_eq!(figures.delivery.percentiles().count, delivered, "{what}");
            assert_eq!(figures.lateness.percentiles().count, MESSAGES, "{what}");
        });
    }
}

#[test]
fn the_first_user_that_fails_ends_the_stage() {
    run(async {
        let asked = Rc::new(Cell::new(0));
        let count = asked.clone();
        let refuse = move |_: &str| {
            count.set(count.get() + 1);
            answer("403 Forbidden", "go away")
        };
        let plan = plan(serve(refuse, |_, _| async {}).await, MEMBERS);
        let mut stages = stages(&plan);
        let failed = order(&mut stages, sign_in(&plan)).await.expect_err("everybody is refused");
        assert!(failed.starts_with("user 0: ") && failed.contains("403") && failed.contains("go away"), "{failed}");
        assert_eq!(asked.get(), 1, "one at a time, and the others are not tried");
    });
}

#[test]
fn a_token_that_has_expired_is_replaced_once() {
    for (accepted, expected) in [("second", Ok(())), ("third", Err("user 0: the token was refused"))] {
        run(async move {
            let tokens = Cell::new(["third", "second", "first"].to_vec());
            let door = move |head: &str| {
                let mut left = tokens.take();
                let token = if head.starts_with("POST") { left.pop() } else { None };
                tokens.set(left);
                match token {
                    Some(token) => answer("200 OK", &format!(r#"{{"token":"{token}"}}"#)),
                    None if head.contains(&format!("token={accepted}&")) => None,
                    None => answer("401 Unauthorized", ""),
                }
            };
            let talk = |_, mut visitor: Visitor| async move {
                while next_frame(&mut visitor).await.is_some() {
                    say(&mut visitor, Dialect::Json.joined("join", "2...r").expect("an answer")).await;
                }
            };
            let plan = plan(serve(door, talk).await, 2);
            let mut stages = Stages::new(plan.clone().into(), 1, None, share(0..1));
            assert!(matches!(order(&mut stages, sign_in(&plan)).await, Ok(Some(Word::SignedIn))));
            let joined = order(&mut stages, Order::Join).await.map(|word| assert!(matches!(word, Some(Word::Joined))));
            assert_eq!(joined, expected.map_err(str::to_owned), "only {accepted} is accepted");
            stages.leave().await;
        });
    }
}

#[test]
fn a_join_that_is_refused_or_never_answered_fails_by_its_reason() {
    let refusal = r#"{"cid":"join","error":{"code":4,"message":"no such room"}}"#;
    for (said, expected) in [
        (Some(refusal), "user 0: the join was refused with code 4: no such room"),
        (None, "user 0: the server closed the connection with code 1013"),
    ] {
        run(async move {
            let talk = move |_, mut visitor: Visitor| async move {
                next_frame(&mut visitor).await.expect("a join");
                match said {
                    Some(said) => say(&mut visitor, said).await,
                    None => close(&mut visitor, 1013).await,
                }
                while next_frame(&mut visitor).await.is_some() {}
            };
            let plan = plan(serve(welcome, talk).await, MEMBERS);
            let mut stages = stages(&plan);
            order(&mut stages, sign_in(&plan)).await.expect("signed in");
            let failed = order(&mut stages, Order::Join).await.expect_err("the join fails");
            assert!(failed.starts_with(expected), "{failed}");
        });
    }
}

async fn close(visitor: &mut Visitor, code: u16) {
    use tokio_tungstenite::tungstenite::protocol::CloseFrame;
    let _ = visitor.close(Some(CloseFrame { code: code.into(), reason: "so".into() })).await;
}

#[test]
fn users_that_leave_send_a_close_frame() {
    run(async {
        let closed = Rc::new(Cell::new(0));
        let count = closed.clone();
        let talk = move |_, mut visitor: Visitor| {
            let count = count.clone();
            async move {
                while let Some(Ok(message)) = visitor.next().await {
                    match message {
                        Message::Close(_) => count.set(count.get() + 1),
                        _ => say(&mut visitor, Dialect::Json.joined("join", "2...r").expect("an answer")).await,
                    }
                }
            }
        };
        let plan = plan(serve(welcome, talk).await, MEMBERS);
        let mut stages = stages(&plan);
        order(&mut stages, sign_in(&plan)).await.expect("signed in");
        order(&mut stages, Order::Join).await.expect("joined");
        stages.leave().await;
        until(|| closed.get() == MEMBERS).await;
        assert_eq!(stages.gauges().progress().disconnected, 0, "they went by themselves");
    });
}

#[test]
fn members_that_only_read_weigh_bytes_and_judge_nothing() {
    run(async {
        let begun = Rc::new(Cell::new(false));
        let measured = begun.clone();
        let talk = move |number, mut visitor: Visitor| {
            let measured = measured.clone();
            async move {
                next_frame(&mut visitor).await.expect("a join");
                say(&mut visitor, Dialect::Json.joined("join", "2...r").expect("an answer")).await;
                until(|| measured.get()).await;
                // The first two members publish, and judge what they read.
                if number >= 2 {
                    say(&mut visitor, NO_MESSAGE).await;
                }
                while next_frame(&mut visitor).await.is_some() {}
            }
        };
        let mut plan = plan(serve(welcome, talk).await, MEMBERS);
        plan.reads_only = true;
        let mut stages = stages(&plan);
        order(&mut stages, sign_in(&plan)).await.expect("signed in");
        order(&mut stages, Order::Join).await.expect("joined");
        stages.ledger.book().window = 0..u64::MAX;
        begun.set(true);
        let weight = 3 * (2 + NO_MESSAGE.len() as u64);
        let counted = stages.ledger.clone();
        until(move || counted.book().figures.heard.bytes == weight).await;
        let figures = stages.ledger.figures();
        assert_eq!((figures.heard.frames, figures.corrupt, figures.foreign), (0, 0, 0));
        stages.leave().await;
    });
}

#[test]
fn an_order_for_other_users_is_refused() {
    run(async {
        let plan = plan(([127, 0, 0, 1], 1).into(), MEMBERS);
        let target = plan.target.clone();
        let hold = Order::Hold(Holding {
            target,
            entrance: None,
            users: 0..1,
            threads: None,
            in_flight: 1,
            sources: None,
            expects_drain: false,
        });
        assert_eq!(order(&mut stages(&plan), hold).await.err().as_deref(), Some(OTHER_USERS));
    });
}

#[test]
fn only_a_server_that_cannot_be_reached_is_tried_again() {
    let unreachable = || ClientError::Connect(io::Error::from(io::ErrorKind::ConnectionRefused));
    let attempts = |failures: u32, error: fn() -> ClientError| {
        let made = Cell::new(0);
        run(async {
            let attempt = || async {
                made.set(made.get() + 1);
                if made.get() <= failures { Err(error()) } else { Ok(made.get()) }
            };
            let outcome = persistently(attempt).await;
            assert_eq!(outcome.is_ok(), made.get() > failures, "{outcome:?}");
        });
        made.get()
    };
    assert_eq!(attempts(0, unreachable), 1);
    assert_eq!(attempts(1, unreachable), 2);
    assert_eq!(attempts(1, || ClientError::Unauthorised), 1);
    assert_eq!(attempts(1, || ClientError::TimedOut { doing: "nothing" }), 1);
    assert_eq!(attempts(1, || ClientError::JoinRefused { code: 1, reason: String::new() }), 1);
    assert_eq!(attempts(9, unreachable), RETRY_PAUSES.len() as u32 + 1, "and not for ever");
}

#[test]
fn a_slow_reader_has_a_pace_within_bounds() {
    let mut plan = plan(([127, 0, 0, 1], 1).into(), MEMBERS);
    run(async move {
        assert_eq!(stages(&plan).slow_pace(), SLOWEST_PACE, "no member reads slowly");
        for (frames_a_second, expected) in [
            (0.0, SLOWEST_PACE),
            (1e-300, SLOWEST_PACE),
            (0.1, SLOWEST_PACE),
            (0.5, Duration::from_secs(2)),
            (10.0, Duration::from_millis(100)),
            (f64::INFINITY, Duration::ZERO),
            (-1.0, SLOWEST_PACE),
            (f64::NAN, SLOWEST_PACE),
        ] {
            plan.conduct = Some(conduct(frames_a_second));
            assert_eq!(stages(&plan).slow_pace(), expected, "{frames_a_second} frames a second");
        }
    });
}

/// Everybody comes and goes; all that listen read slowly if they read any frames a second.
pub fn conduct(slow_frames_a_second: f64) -> Conduct {
    Conduct {
        ramp_ns: 0,
        end_ns: u64::MAX / 4,
        churn_a_second: 0.0,
        away_max_ns: 0,
        reconnect_ns: 0,
        reconnect_share: 0.0,
        slow_share: if slow_frames_a_second > 0.0 { 1.0 } else { 0.0 },
        slow_frames_a_second,
        skip_share: 0.0,
        history_reads_a_second: 0.0,
        drain_secs: None,
    }
}
