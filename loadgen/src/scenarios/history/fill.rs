//! Fills a room with messages from one publisher, as fast as the server accepts them. With one publisher, their order
//! is known.
//!
//! A server bounds what one user may ask of it. A message that it refuses because it came too fast is sent again after
//! the time that the server names, so the room is filled at the server's pace. `Queue` decides and is pure.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::SinkExt;
use thiserror::Error;
use tokio::task::JoinHandle;

use crate::base::content::{self, Content, ScheduleSlot};
use crate::base::{clock, interrupt};
use crate::clients::client::{self, Way};
use crate::clients::client_error::ClientError;
use crate::clients::socket::{self, Socket};
use crate::plan::lives::ReadingMode;
use crate::plan::target::Target;
use crate::wire::{Entrance, Heard, Request, Scratch, Speaker};

/// How many messages may be sent but not answered yet: a server accepts that many from one session without a pause.
const UNANSWERED_MAX: usize = 64;
/// The shortest wait after a refusal. A refusal costs the publisher's budget too. After a shorter wait few messages would
/// be accepted, and the rest refused again.
const WAIT_MIN: Duration = Duration::from_millis(200);
/// How often in a row the server may refuse everything. Then it is taken to refuse for good.
const WAITS_MAX: u32 = 10;
/// A server that answers nothing for this long is taken not to answer at all.
const PATIENCE: Duration = Duration::from_secs(30);
/// The publisher's user number; the readers' numbers follow it.
pub const PUBLISHER: u32 = 0;

#[derive(Debug, Error)]
pub enum FillError {
    #[error("the room cannot be filled: {0}")]
    Client(#[from] ClientError),
    #[error("the room cannot be filled: message {number} was refused with code {code}: {reason}")]
    Refused { number: u32, code: i32, reason: String },
    #[error(
        "the room cannot be filled: message {number} was refused {WAITS_MAX} times, each time after the wait that the \
         server had named: {reason}"
    )]
    AlwaysTooFast { number: u32, reason: String },
    #[error("stopped by Ctrl-C after {answered} messages were accepted")]
    Stopped { answered: u32 },
    #[error("the room cannot be filled: the server answered message {number}, whose answer was not the next one")]
    OtherAnswer { number: u32 },
    #[error("the room cannot be filled: the server sends what cannot be read")]
    Unreadable,
    #[error("the room cannot be filled: no answer for {} s, after {answered} messages", PATIENCE.as_secs())]
    Silent { answered: u32 },
}

/// A member that stays in the room and reads what comes, until it is dropped.
pub struct Member(JoinHandle<()>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A publisher in the room.
pub struct Filler {
    socket: Socket,
    scratch: Scratch,
    channel_id: String,
}

/// What is to be sent.
pub struct Filling {
    pub run: u32,
    pub messages: u32,
    pub payload_bytes: usize,
}

impl Filler {
    pub async fn enter(target: &Target, token: &str, entrance: &Entrance) -> Result<Self, FillError> {
        let speaker = Speaker { user: PUBLISHER, room: &entrance.room };
        let mut socket =
            client::connect(target, token, speaker, Way { source: None, reading_mode: ReadingMode::Prompt }).await?;
        let channel_id = client::enter(&mut socket, &target.dialect, entrance, PUBLISHER).await?;
        let channel_id = channel_id.unwrap_or_else(|| entrance.room.clone());
        Ok(Self { socket, scratch: Scratch::default(), channel_id })
    }

    pub fn channel_id(&self) -> &str {
        &self.channel_id
    }

    /// Sends all messages and reports the progress. Returns the messages in the order in which they were accepted.
    pub async fn fill(
        &mut self,
        target: &Target,
        filling: &Filling,
        mut tell: impl FnMut(u32),
    ) -> Result<Vec<Said>, FillError> {
        let mut queue = Queue::new(filling.messages);
        while !queue.is_done() {
            while let Some(number) = queue.next() {
                let content =
                    Content { slot: ScheduleSlot { publisher: PUBLISHER, number }, intended_ns: clock::now_ns() };
                let mut text = String::new();
                content::write(&mut text, filling.run, content, filling.payload_bytes);
                let message = target.dialect.send(PUBLISHER, number, &self.channel_id, &text);
                self.socket.send(message).await.map_err(|error| ClientError::from(socket::broken(error)))?;
            }
            let answered = queue.said.len() as u32;
            let hearing = tokio::time::timeout(PATIENCE, self.hear(target, &mut queue)).await;
            hearing.unwrap_or(Err(FillError::Silent { answered }))?;
            tell(queue.said.len() as u32);
            if interrupt::is_asked() {
                return Err(FillError::Stopped { answered: queue.said.len() as u32 });
            }
            if let Some(wait) = queue.take_wait() {
                tokio::time::sleep(wait).await;
            }
        }
        Ok(queue.said)
    }

    /// Receives one frame.
    async fn hear(&mut self, target: &Target, queue: &mut Queue) -> Result<(), FillError> {
        let Some(frame) = client::next_frame(&mut self.socket).await.map_err(ClientError::from)? else { return Ok(()) };
        let mut judged = Ok(());
        let read = target.dialect.read(&frame, &mut self.scratch, |heard| match heard {
            Heard::Accepted { request: Some(Request::Publish(number)), id } => judged = queue.accepted(number, id),
            Heard::Refused { request: Some(Request::Publish(number)), code, reason, retry_after } => {
                judged = match retry_after {
                    Some(wait) => queue.too_fast(number, wait, reason),
                    None => Err(FillError::Refused { number, code, reason: reason.to_owned() }),
                };
            }
            // The publisher receives its own messages, as every member does.
            _ => {}
        });
        read.map_err(|_| FillError::Unreadable)?;
        judged
    }

    /// Stays in the room, so that the room is not empty.
    pub fn stay(mut self) -> Member {
        Member(tokio::spawn(async move { while client::next_frame(&mut self.socket).await.is_ok() {} }))
    }
}

/// A message that the server accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    pub id: String,
    /// The number in the message's content.
    pub number: u32,
}

/// Which messages are to be sent, which await their answers, and which were accepted.
struct Queue {
    messages: u32,
    /// The first number that was never sent.
    fresh: u32,
    /// Numbers that were refused because they came too fast, in their order.
    again: VecDeque<u32>,
    /// The numbers without an answer, in the order in which they were sent. A session's answers come in that order.
    awaited: VecDeque<u32>,
    said: Vec<Said>,
    /// How long to wait once all answers have come; `None` if nothing was refused.
    wait: Option<Duration>,
    /// How many waits in a row were followed by refusals only.
    waits: u32,
}

impl Queue {
    fn new(messages: u32) -> Self {
        let said = Vec::with_capacity(messages as usize);
        Self { messages, fresh: 0, again: VecDeque::new(), awaited: VecDeque::new(), said, wait: None, waits: 0 }
    }

    fn is_done(&self) -> bool {
        self.said.len() as u32 == self.messages
    }

    /// The number to send now; `None` if answers must be awaited first. After a refusal nothing is sent until the wait.
    fn next(&mut self) -> Option<u32> {
        if self.wait.is_some() || self.awaited.len() == UNANSWERED_MAX {
            return None;
        }
        let number = match self.again.pop_front() {
            Some(number) => number,
            None if self.fresh < self.messages => {
                self.fresh += 1;
                self.fresh - 1
            }
            None => return None,
        };
        self.awaited.push_back(number);
        Some(number)
    }

    fn accepted(&mut self, number: u32, id: &str) -> Result<(), FillError> {
        self.answered(number)?;
        self.waits = 0;
        self.said.push(Said { id: id.to_owned(), number });
        Ok(())
    }

    fn too_fast(&mut self, number: u32, wait: Duration, reason: &str) -> Result<(), FillError> {
        self.answered(number)?;
        if self.waits == WAITS_MAX {
            return Err(FillError::AlwaysTooFast { number, reason: reason.to_owned() });
        }
        self.again.push_back(number);
        self.wait = self.wait.max(Some(wait.clamp(WAIT_MIN, PATIENCE)));
        Ok(())
    }

    fn answered(&mut self, number: u32) -> Result<(), FillError> {
        if self.awaited.pop_front() != Some(number) {
            return Err(FillError::OtherAnswer { number });
        }
        let unsent = (self.messages - self.fresh) as usize + self.again.len();
        debug_assert_eq!(
            unsent + self.awaited.len() + 1 + self.said.len(),
            self.messages as usize,
            "each message is unsent, awaited or accepted, or just answered"
        );
        Ok(())
    }

    /// How long to wait before anything is sent again, once all answers have come.
    fn take_wait(&mut self) -> Option<Duration> {
        let wait = self.wait.take_if(|_| self.awaited.is_empty())?;
        self.waits += 1;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    /// Fills a room whose server accepts this many messages after each wait, and none of what comes behind them.
    fn fill(messages: u32, burst: usize) -> (Result<Vec<u32>, FillError>, u32) {
        let (mut queue, mut left, mut waits) = (Queue::new(messages), burst, 0);
        while !queue.is_done() {
            let sent: Vec<u32> = std::iter::from_fn(|| queue.next()).collect();
            assert!(sent.len() <= UNANSWERED_MAX && !sent.is_empty());
            for number in sent {
                let answered = match left {
                    0 => queue.too_fast(number, SOON, "too fast"),
                    _ => queue.accepted(number, &format!("id-{number}")),
                };
                left = left.saturating_sub(1);
                if let Err(error) = answered {
                    return (Err(error), waits);
                }
            }
            if queue.take_wait().is_some() {
                (left, waits) = (burst, waits + 1);
            }
        }
        (Ok(queue.said.iter().map(|said| said.number).collect()), waits)
    }

    #[test]
    fn every_message_is_accepted_once_however_few_the_server_takes_at_once() {
        for (messages, burst, expected_waits) in
            [(0, 1, 0), (1, 1, 0), (63, 64, 0), (64, 7, 9), (65, 64, 0), (500, 1, 499)]
        {
            let (said, waits) = fill(messages, burst);
            let mut said = said.expect("the server takes some each time");
            // What was refused is sent first after the wait, so the numbers keep their order.
            assert!(said.is_sorted(), "{messages} messages, {burst} at once: {said:?}");
            said.dedup();
            assert_eq!(said, (0..messages).collect::<Vec<_>>(), "{burst} at once");
            assert!(waits >= expected_waits, "{messages} messages, {burst} at once: {waits} waits");
        }
    }

    #[test]
    fn a_server_that_takes_nothing_after_many_waits_is_given_up() {
        let (said, waits) = fill(100, 0);
        assert!(matches!(said, Err(FillError::AlwaysTooFast { number: 0, .. })), "{said:?}");
        assert_eq!(waits, WAITS_MAX);
    }

    #[test]
    fn a_wait_is_the_longest_one_named_within_bounds_and_begins_when_all_answers_have_come() {
        for (named_ms, expected) in
            [([0, 1], WAIT_MIN), ([900, 300], Duration::from_millis(900)), ([1, 90_000], PATIENCE)]
        {
            let mut queue = Queue::new(3);
            assert_eq!([queue.next(), queue.next()], [Some(0), Some(1)]);
            queue.too_fast(0, Duration::from_millis(named_ms[0]), "").expect("awaited");
            assert_eq!((queue.next(), queue.take_wait()), (None, None), "an answer is missing");
            queue.too_fast(1, Duration::from_millis(named_ms[1]), "").expect("awaited");
            assert_eq!((queue.next(), queue.take_wait()), (None, Some(expected)));
            assert_eq!([queue.next(), queue.next(), queue.next(), queue.next()], [Some(0), Some(1), Some(2), None]);
        }
    }

    #[test]
    fn the_order_is_that_of_the_acceptances() {
        let mut queue = Queue::new(3);
        assert_eq!([queue.next(), queue.next(), queue.next()], [Some(0), Some(1), Some(2)]);
        queue.accepted(0, "a").expect("awaited");
        queue.too_fast(1, SOON, "").expect("awaited");
        // The budget had grown enough for one message more.
        queue.accepted(2, "b").expect("awaited");
        assert!(queue.take_wait().is_some());
        assert_eq!(queue.next(), Some(1));
        queue.accepted(1, "c").expect("awaited");
        assert!(queue.is_done());
        let said = [("a", 0), ("b", 2), ("c", 1)].map(|(id, number)| Said { id: id.to_owned(), number });
        assert_eq!(queue.said, said);
    }

    #[test]
    fn an_answer_to_another_message_is_no_answer() {
        let mut queue = Queue::new(2);
        assert_eq!([queue.next(), queue.next()], [Some(0), Some(1)]);
        assert!(matches!(queue.accepted(1, "b"), Err(FillError::OtherAnswer { number: 1 })));
        let mut queue = Queue::new(1);
        assert!(matches!(queue.too_fast(0, SOON, ""), Err(FillError::OtherAnswer { number: 0 })), "nothing was sent");
    }
}
