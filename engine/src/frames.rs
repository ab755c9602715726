//! Events as the bytes that subscribers are sent: WebSocket frames, encoded once a format.

use crate::command::Event;
use crate::id::Timestamp;
use crate::message::MessageCode;
use crate::wire::{json, websocket};

/// How a connection wants its envelopes. A further format is a further variant, and its arm in `Frames::push`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Format {
    Json = 0,
}

impl Format {
    pub const COUNT: usize = 1;
    pub const ALL: [Self; Self::COUNT] = [Self::Json];
}

/// Whole frames end to end, the same events in every format.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frames {
    encoded: [Vec<u8>; Format::COUNT],
    /// How many of the events are messages.
    messages: u64,
    accepted: Option<Timestamp>,
}

impl Frames {
    pub fn push(&mut self, event: &Event) {
        if let Event::Message(message) = event {
            self.messages += 1;
            // A removed message comes with the times it had before.
            if message.code != MessageCode::Remove {
                self.accepted.get_or_insert(message.update_time);
            }
        }
        for format in Format::ALL {
            let out = &mut self.encoded[format as usize];
            match format {
                Format::Json => websocket::text_frame(out, |out| json::encode_event(event, out)),
            }
        }
    }

    pub fn of(&self, format: Format) -> &[u8] {
        &self.encoded[format as usize]
    }

    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// When the oldest of the messages was accepted by the channel's owner.
    pub fn accepted(&self) -> Option<Timestamp> {
        self.accepted
    }

    pub fn is_empty(&self) -> bool {
        self.encoded.iter().all(Vec::is_empty)
    }
}
