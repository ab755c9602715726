//! Idle users, against a server that does what a test tells it to: which users are held or shut out, and what is counted.

use futures_util::SinkExt;
use hyper::StatusCode;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::*;
use crate::clients::sign_in::SignInError;
use crate::clients::tests::{Visitor, answer, next_frame, plan, run, say, serve, share, until, welcome};
use crate::wire::{Dialect, Entrance};

const USERS: u32 = 4;

fn idlers(server: std::net::SocketAddr, entrance: Option<Entrance>) -> Idlers {
    let target = plan(server, USERS).target;
    let (users, sources, expects_drain) = (0..USERS, None, false);
    let holding = Holding { target, entrance, users, threads: None, in_flight: 2, sources, expects_drain };
    Idlers::new(holding, share(0..USERS))
}

async fn order(idlers: &mut Idlers, order: Order) -> Result<Option<Word>, String> {
    idlers.obey(&order).await
}

/// Lets everybody in, waits until `done` holds, and counts.
async fn hold(idlers: &mut Idlers, done: impl Fn(&Hall) -> bool) -> Held {
    let begin = Order::Hold(idlers.holding.clone());
    assert!(matches!(order(idlers, begin).await, Ok(Some(Word::SignedIn))));
    assert!(matches!(order(idlers, Order::Join).await, Ok(Some(Word::Joined))));
    let hall = idlers.hall.clone();
    until(move || done(&hall)).await;
    let Ok(Some(Word::Held(held))) = order(idlers, Order::Stop).await else { panic!("figures") };
    *held
}

#[test]
fn what_comes_to_idle_users_is_counted_and_so_is_the_end() {
    run(async {
        let talk = |number: usize, mut visitor: Visitor| async move {
            let frames =
                [Message::Ping("p".into()), Message::text("a"), Message::binary("b"), Message::Ping("q".into())];
            for frame in frames.into_iter().take(number + 1) {
                let _ = visitor.send(frame).await;
            }
            match number {
                0 => drop(visitor),
                1 => drop(visitor.close(Some(CloseFrame { code: 1012.into(), reason: "restart".into() })).await),
                _ => while next_frame(&mut visitor).await.is_some() {},
            }
        };
        let mut idlers = idlers(serve(welcome, talk).await, None);
        let held = hold(&mut idlers, |hall| {
            let counted = (hall.pings.get(), hall.frames.get(), hall.held.borrow().disconnected);
            counted == (5, 5, 2)
        });
        let held = held.await;
        assert_eq!((held.connected, held.shut_out, held.not_tried, held.retries), (4, 0, 0, 0));
        assert_eq!((held.connect.percentiles().count, held.join.percentiles().count), (4, 0), "no room was joined");
        let progress = idlers.recorder.gauges().progress();
        assert_eq!((progress.signed_in, progress.joined, progress.disconnected), (4, 4, 2));
        let texts = held.samples.into_texts();
        assert!(texts.iter().any(|text| text.contains("code 1012: \"restart\"")), "{texts:?}");
        let [memory] = held.resident[..] else { panic!("one process: {:?}", held.resident) };
        assert!(memory.before_bytes > 0 && memory.held_bytes > 0);
    });
}

#[test]
fn a_drain_that_was_expected_disconnects_no_user() {
    run(async {
        let close = |number: usize, mut visitor: Visitor| async move {
            let code = if number == 0 { 1001 } else { 1012 };
            let _ = visitor.close(Some(CloseFrame { code: code.into(), reason: "so".into() })).await;
        };
        let mut idlers = idlers(serve(welcome, close).await, None);
        idlers.holding.expects_drain = true;
        let mut idlers = Idlers::new(idlers.holding, share(0..USERS));
        let held = hold(&mut idlers, |hall| {
            let held = hall.held.borrow();
            held.drained + held.disconnected == u64::from(USERS)
        });
        let held = held.await;
        assert_eq!((held.connected, held.drained, held.disconnected), (4, 3, 1));
        let progress = idlers.recorder.gauges().progress();
        assert_eq!((progress.joined, progress.left, progress.disconnected), (4, 3, 1));
        assert_eq!(held.samples.into_texts().len(), 1, "only the other code is a fault");
    });
}

#[test]
fn users_whose_tokens_are_refused_twice_are_shut_out() {
    run(async {
        let door = |head: &str| {
            let signs_in = head.starts_with("POST");
            if signs_in { welcome(head) } else { answer("401 Unauthorized", "") }
        };
        let mut idlers = idlers(serve(door, |_, _| async {}).await, None);
        let held = hold(&mut idlers, |_| true).await;
        assert_eq!((held.connected, held.shut_out, held.not_tried), (0, 4, 0));
        assert_eq!(held.retries, 0, "a token that is refused twice is refused for good");
        assert_eq!(held.samples.into_texts().len(), 4);
    });
}

#[test]
fn users_of_a_room_join_it_or_are_shut_out() {
    run(async {
        let talk = |number: usize, mut visitor: Visitor| async move {
            next_frame(&mut visitor).await.expect("a join");
            // Nothing that comes before the answer is taken for it.
            say(&mut visitor, "no JSON").await;
            say(&mut visitor, r#"{"cid":"9","error":{"code":1,"message":"another request"}}"#).await;
            match number {
                1 => say(&mut visitor, r#"{"cid":"join","error":{"code":4,"message":"full"}}"#).await,
                _ => say(&mut visitor, Dialect::Json.joined("join", "2...r").expect("an answer")).await,
            }
            while next_frame(&mut visitor).await.is_some() {}
        };
        let entrance = Entrance { room: "r".to_owned(), hidden: true, persistence: false };
        let mut idlers = idlers(serve(welcome, talk).await, Some(entrance));
        let held = hold(&mut idlers, |_| true).await;
        assert_eq!((held.connected, held.shut_out, held.retries, held.disconnected), (3, 1, 0, 0));
        assert_eq!((held.connect.percentiles().count, held.join.percentiles().count), (4, 3));
        let texts = held.samples.into_texts();
        assert!(texts.len() == 1 && texts[0].ends_with("the join was refused with code 4: full"), "{texts:?}");
    });
}

#[test]
fn a_user_that_cannot_sign_in_is_not_connected() {
    run(async {
        let signed_in = Cell::new(0);
        let door = move |head: &str| {
            if !head.starts_with("POST") {
                return None;
            }
            signed_in.set(signed_in.get() + 1);
            if signed_in.get() == 2 { answer("403 Forbidden", "banned") } else { welcome(head) }
        };
        let talk = |_, mut visitor: Visitor| async move { while next_frame(&mut visitor).await.is_some() {} };
        let mut idlers = idlers(serve(door, talk).await, None);
        let held = hold(&mut idlers, |_| true).await;
        assert_eq!((held.connected, held.shut_out), (3, 1));
        assert_eq!(held.window_most, 2, "no more than were allowed at once");
        let texts = held.samples.into_texts();
        assert!(texts.len() == 1 && texts[0].contains("banned"), "{texts:?}");
        for other in [Order::Begin { start_ns: 0 }, Order::Tally { answers: Default::default(), clock_margin_ns: 0 }] {
            assert_eq!(order(&mut idlers, other).await.err().as_deref(), Some(OTHER_USERS));
        }
    });
}

#[test]
fn only_what_may_pass_is_tried_again() {
    let refused = |status| SignInError::Refused { status, body: String::new(), retry_after: None };
    for (error, expected) in [
        (ClientError::Unauthorised, false),
        (ClientError::JoinRefused { code: 1, reason: String::new() }, false),
        (refused(StatusCode::FORBIDDEN).into(), false),
        (refused(StatusCode::SERVICE_UNAVAILABLE).into(), true),
        (ClientError::TimedOut { doing: "nothing" }, true),
        (Lost::Ended.into(), true),
    ] {
        assert_eq!(may_pass(&error), expected, "{error}");
    }
}
