//! Events as the bytes that subscribers are sent: WebSocket frames, encoded once a format.

use crate::command::Event;
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
pub struct Frames([Vec<u8>; Format::COUNT]);

impl Frames {
    pub fn push(&mut self, event: &Event) {
        for format in Format::ALL {
            let out = &mut self.0[format as usize];
            match format {
                Format::Json => websocket::text_frame(out, |out| json::encode_event(event, out)),
            }
        }
    }

    pub fn of(&self, format: Format) -> &[u8] {
        &self.0[format as usize]
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }
}
