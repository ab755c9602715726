//! The fault that the proxy commits: at one message in many, and it counts them. Pure; the caller does the waiting.

use crate::base::content::Content;
use crate::wire::frames::Whole;

/// A fault that a server might have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// No fault: this shows that the proxy itself does no harm.
    None,
    Drop,
    Duplicate,
    /// A message comes after a later message of its publisher.
    Reorder,
    /// One byte of a content is changed.
    Corrupt,
    /// A message comes late, and so do all messages after it.
    Delay,
}

impl Fault {
    pub const ALL: [Self; 6] = [Self::None, Self::Drop, Self::Duplicate, Self::Reorder, Self::Corrupt, Self::Delay];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Drop => "drop",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Corrupt => "corrupt",
            Self::Delay => "delay",
        }
    }
}

/// The connections on which the fault is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Victims {
    All,
    /// One connection only; all others receive everything right.
    One,
}

impl Victims {
    /// The words that follow the description of the fault.
    pub fn described(self) -> &'static str {
        match self {
            Self::All => "",
            Self::One => ", always to the same member, and the others get it right",
        }
    }

    /// The words that follow the name of the fault.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "",
            Self::One => ", one member",
        }
    }
}

impl Fault {
    /// What the proxy does, in words.
    pub fn described(self) -> &'static str {
        match self {
            Self::None => "the proxy passes everything on",
            Self::Drop => "the proxy keeps one message in many to itself",
            Self::Duplicate => "the proxy passes one message in many on twice",
            Self::Reorder => "the proxy lets a later message of its publisher overtake one in many",
            Self::Corrupt => "the proxy changes a byte of one message in many",
            Self::Delay => "the proxy passes one message in many on late",
        }
    }

    /// The ending of the room's name, so that each trial has its own room.
    pub fn ending(self) -> &'static str {
        match self {
            Self::None => "-0",
            Self::Drop => "-1",
            Self::Duplicate => "-2",
            Self::Reorder => "-3",
            Self::Corrupt => "-4",
            Self::Delay => "-5",
        }
    }
}

/// As much of a content's padding as is needed to recognise it.
const PADDING: &[u8] = b"........";

/// Decides at which messages the fault is committed, over all connections.
pub struct FaultInjector {
    fault: Fault,
    one_in: u64,
    seen: u64,
    /// Whether the next fault is due; it is committed at the next message where that is possible.
    due: bool,
    committed: u64,
}

/// A message that waits until a later message of its publisher has passed.
pub struct Held {
    publisher: u32,
    message: Whole,
}

/// What is sent on to the client, and whether it is sent late.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Passed {
    pub messages: Vec<Whole>,
    pub late: bool,
}

impl FaultInjector {
    pub fn new(fault: Fault, one_in: u64) -> Self {
        Self { fault, one_in, seen: 0, due: false, committed: 0 }
    }

    /// How many faults were committed.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Passes on a message of a connection on which no fault is committed.
    pub fn spare(message: Whole) -> Passed {
        Passed::of(message)
    }

    /// Passes on a message, perhaps with a fault. `content` is the message's content, and whether its publisher sends
    /// another message after it. `held` belongs to the connection.
    pub fn pass(&mut self, message: Whole, content: Option<(Content, bool)>, held: &mut Option<Held>) -> Passed {
        let Some((content, more_to_come)) = content else {
            return Passed { messages: vec![message], late: false };
        };
        let released = held.take_if(|held| held.publisher == content.slot.publisher);
        self.seen += 1;
        self.due |= self.fault != Fault::None && self.seen.is_multiple_of(self.one_in);
        let can_be_held = more_to_come && held.is_none() && released.is_none();
        let mut passed = if self.due { self.commit(message, content, can_be_held, held) } else { Passed::of(message) };
        passed.messages.extend(released.map(|held| held.message));
        passed
    }

    fn commit(&mut self, mut message: Whole, content: Content, can_be_held: bool, held: &mut Option<Held>) -> Passed {
        let mut passed = Passed::default();
        match self.fault {
            Fault::Drop => {}
            Fault::Duplicate => passed.messages = vec![message.clone(), message],
            Fault::Reorder if can_be_held => *held = Some(Held { publisher: content.slot.publisher, message }),
            Fault::Corrupt if change_a_byte(&mut message.payload) => passed.messages.push(message),
            Fault::Delay => passed = Passed { messages: vec![message], late: true },
            // The fault is not possible at this message; it stays due for the next one.
            Fault::None | Fault::Reorder | Fault::Corrupt => return Passed::of(message),
        }
        self.due = false;
        self.committed += 1;
        passed
    }
}

impl Passed {
    fn of(message: Whole) -> Self {
        Self { messages: vec![message], late: false }
    }
}

/// Changes a byte of the content's padding. The envelope stays as it is, because it is not under test.
fn change_a_byte(payload: &mut [u8]) -> bool {
    let at = payload.windows(PADDING.len()).position(|window| window == PADDING);
    at.is_some_and(|at| {
        payload[at + PADDING.len() / 2] = b',';
        true
    })
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

    use super::*;
    use crate::base::content::ScheduleSlot;

    /// Passes eight messages of two publishers in turn, with another frame before each. In the result, a message is
    /// written as a letter for its publisher and its number, with `'` after a changed one and `~` after a late one.
    fn passed(fault: Fault, one_in: u64) -> (String, u64) {
        let mut injector = FaultInjector::new(fault, one_in);
        let mut held = None;
        let mut out = Vec::new();
        for index in 0..8 {
            let slot = ScheduleSlot { publisher: index % 2, number: index / 2 };
            let name = format!("{}{}", ["a", "b"][slot.publisher as usize], slot.number);
            let whole = |text: String| Whole { opcode: OpCode::Data(Data::Text), payload: text.into_bytes() };
            let other = injector.pass(whole("-".to_owned()), None, &mut held);
            assert_eq!(other, Passed::of(whole("-".to_owned())));
            let content = Content { slot, intended_ns: 0 };
            let Passed { messages, late } =
                injector.pass(whole(format!("{name}........")), Some((content, slot.number < 3)), &mut held);
            for message in messages {
                let text = String::from_utf8(message.payload).expect("still text");
                let changed = if text.ends_with("....,...") { "'" } else { "" };
                out.push(format!("{}{changed}{}", &text[..2], if late { "~" } else { "" }));
            }
        }
        assert!(held.is_none(), "nothing is held for good");
        (out.join(" "), injector.committed())
    }

    #[test]
    fn each_fault_is_done_to_one_in_many_and_counted() {
        for (fault, one_in, expected, committed) in [
            (Fault::None, 1, "a0 b0 a1 b1 a2 b2 a3 b3", 0),
            (Fault::Drop, 3, "a0 b0 b1 a2 a3 b3", 2),
            (Fault::Duplicate, 4, "a0 b0 a1 b1 b1 a2 b2 a3 b3 b3", 2),
            (Fault::Reorder, 2, "a0 a1 b1 b0 b2 a3 a2 b3", 2),
            (Fault::Corrupt, 5, "a0 b0 a1 b1 a2' b2 a3 b3", 1),
            (Fault::Delay, 8, "a0 b0 a1 b1 a2 b2 a3 b3~", 1),
        ] {
            let (out, count) = passed(fault, one_in);
            assert_eq!((out.as_str(), count), (expected, committed), "{fault:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_to_a_message_waits_for_the_next() {
        let mut injector = FaultInjector::new(Fault::Corrupt, 1);
        let content = Content { slot: ScheduleSlot { publisher: 0, number: 0 }, intended_ns: 0 };
        let whole = |text: &str| Whole { opcode: OpCode::Data(Data::Text), payload: text.as_bytes().to_vec() };
        let passed = injector.pass(whole("short ..."), Some((content, true)), &mut None);
        assert_eq!((passed, injector.committed()), (Passed::of(whole("short ...")), 0));
        let passed = injector.pass(whole("x.........."), Some((content, true)), &mut None);
        assert_eq!((passed, injector.committed()), (Passed::of(whole("x....,.....")), 1));
    }
}
