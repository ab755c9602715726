//! The stages of a thread's users, against a server that does what a test tells it to.

use std::io;
use std::net::SocketAddr;


use super::*;
use crate::clients::tests::{Chat, answer, plan, run, serve, share, until};
use crate::orders::Assignment;
use crate::orders::idle_users::Holding;
use crate::plan::lives::Conduct;
use crate::plan::schedule::Schedule;

const MEMBERS: u32 = 5;
const MESSAGES: u64 = 12;

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
fn an_order_for_other_users_is_refused() {
    run(async {
        let plan = plan(([127, 0, 0, 1], 1).into(), MEMBERS);
        let target = plan.target.clone();
        let hold =
            Order::Hold(Holding { target, entrance: None, users: 0..1, threads: None, in_flight: 1, sources: None });
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
    }
}
