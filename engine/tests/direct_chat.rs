//! When a join of a direct channel asks the store to send the other user a request to chat.

mod world;

use std::time::Duration;

use engine::command::{Command, Join};
use engine::id::{ChannelId, Monotonic, NotificationId, UserId};
use engine::limits::REQUEST_TO_CHAT_INTERVAL;
use engine::persist::{StoreFailure, StoreQuestion, StoreReceipt, StoreRequest, StoreWrite, Ticket};
use engine::query::{Block, ChannelChange, ChannelQuery};
use engine::shard::Input;
use engine::social::notification::{Notice, Notification, NotificationCode};
use uuid::Uuid;
use world::{NOW, World, only};

const ADA: UserId = UserId(Uuid::from_u128(1));
const BOB: UserId = UserId(Uuid::from_u128(9));

/// What the store does with a join.
#[derive(Clone, Copy)]
enum Answer {
    Sent,
    NotSent,
    Refused,
    Failed,
}

/// Whether a join asks the store to send a request to chat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum DirectRequest {
    Send,
    NotNeeded,
}

fn is_head(request: &StoreRequest) -> bool {
    matches!(request, StoreRequest::Question(StoreQuestion::Head { .. }))
}

struct Chat {
    world: World,
    now: Monotonic,
}

impl Chat {
    fn new() -> Self {
        Self { world: World::new(), now: Monotonic(3_600_000_000_000) }
    }

    fn after(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.world.shard.begin_turn(self.now);
    }

    /// Ada joins, and leaves if she is let in. Returns whether the join was to send a request.
    fn visit(&mut self, answer: Answer) -> DirectRequest {
        self.after(Duration::from_millis(1));
        let (ticket, request) = self.join();
        self.answer(ticket, answer);
        let channel_id = ChannelId::direct(ADA, BOB).to_string();
        assert!(self.world.ask("leave", Command::Leave { channel_id }).is_empty());
        request
    }

    fn join(&mut self) -> (Ticket, DirectRequest) {
        let join = Join { target: BOB.to_string(), kind: 2, persistence: true, hidden: false };
        let (mut ticket, mut request) = only(self.world.ask("join", Command::Join(join)));
        if is_head(&request) {
            (ticket, request) = only(self.world.answer(ticket, StoreReceipt::Head(None)));
        }
        match request {
            StoreRequest::Write(StoreWrite::RequestChat { .. }) => (ticket, DirectRequest::Send),
            StoreRequest::Question(StoreQuestion::MayJoinDirect { .. }) => (ticket, DirectRequest::NotNeeded),
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let outcome = match answer {
            Answer::Sent => Ok(StoreReceipt::Admitted(Some(notice()))),
            Answer::NotSent => Ok(StoreReceipt::Admitted(None)),
            Answer::Refused => Ok(StoreReceipt::NotFound),
            Answer::Failed => Err(StoreFailure::nothing_done("the disk is full")),
        };
        self.world.shard.step(Input::Receipt { ticket, outcome }, NOW);
        assert!(self.world.turn().is_empty());
    }

    fn block(&mut self, user: UserId, other: UserId) {
        let (channel, query) =
            (ChannelId::direct(user, other), ChannelQuery::Change(ChannelChange::Block(Block { user, other })));
        self.world.shard.step(Input::ChannelQuery { number: 1, channel, query }, NOW);
        let mut asked = self.world.turn();
        if is_head(&asked[0].1) {
            asked = self.world.answer(asked.remove(0).0, StoreReceipt::Head(None));
        }
        assert!(self.world.answer(only(asked).0, StoreReceipt::Blocked).is_empty());
    }
}

fn notice() -> Notice {
    let notification = Notification {
        id: NotificationId(Uuid::from_u128(5)),
        subject: "ada wants to chat".into(),
        content: "{}".into(),
        code: NotificationCode::DirectRequest,
        sender: ADA,
        create_time: NOW,
    };
    Notice { user: BOB, notification }
}

#[test]
fn a_user_who_comes_and_goes_asks_to_chat_once_in_ten_seconds() {
    let mut chat = Chat::new();
    for _ in 0..3 {
        assert_eq!(chat.visit(Answer::Sent), DirectRequest::Send);
        for _ in 0..20 {
            assert_eq!(chat.visit(Answer::NotSent), DirectRequest::NotNeeded);
        }
        chat.after(REQUEST_TO_CHAT_INTERVAL);
    }
}

#[test]
fn a_request_that_was_not_sent_is_sent_at_the_next_join() {
    let mut chat = Chat::new();
    for answer in [Answer::NotSent, Answer::Refused, Answer::Failed, Answer::Sent] {
        assert_eq!(chat.visit(answer), DirectRequest::Send);
    }
    assert_eq!(chat.visit(Answer::NotSent), DirectRequest::NotNeeded);
}

#[test]
fn a_block_between_the_two_ends_what_was_asked_before() {
    for (user, other) in [(ADA, BOB), (BOB, ADA)] {
        let mut chat = Chat::new();
        assert_eq!(chat.visit(Answer::Sent), DirectRequest::Send);
        chat.block(user, other);
        assert_eq!(chat.visit(Answer::Refused), DirectRequest::Send);
        // The block is lifted without a word to the channel.
        assert_eq!(chat.visit(Answer::Sent), DirectRequest::Send);
        assert_eq!(chat.visit(Answer::NotSent), DirectRequest::NotNeeded);
    }
}

#[test]
fn a_session_that_hangs_up_while_the_store_decides_has_asked() {
    let mut chat = Chat::new();
    chat.after(Duration::ZERO);
    let (ticket, request) = chat.join();
    assert_eq!(request, DirectRequest::Send);
    chat.world.shard.step(Input::Closed { connection: world::MEMBER }, NOW);
    chat.world.turn();
    chat.answer(ticket, Answer::Sent);
    chat.world.open();
    assert_eq!(chat.visit(Answer::NotSent), DirectRequest::NotNeeded);
}
