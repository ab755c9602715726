//! Temporary.
use crate::id::{MessageId, Timestamp};
use uuid::Uuid;
pub struct MessageIds {
    last: u64,
    counter: u16,
}
#[derive(Debug)]
pub struct TooFarAhead;
impl MessageIds {
    pub fn after(last: Option<MessageId>) -> Self {
        let last = last.map(|id| (id.0.as_u128() >> 80) as u64).unwrap_or(0);
        Self { last, counter: 4095 }
    }
    pub fn next(&mut self, now: Timestamp, random: u32) -> Result<MessageId, TooFarAhead> {
        let ms = now.milliseconds() as u64;
        if ms > self.last {
            self.last = ms;
            self.counter = 0;
        } else if self.counter == 4095 {
            self.last += 1;
            self.counter = 0
        } else {
            self.counter += 1
        }
        let v = (u128::from(self.last) << 80)
            | (7u128 << 76)
            | (u128::from(self.counter) << 64)
            | (2u128 << 62)
            | u128::from(random);
        Ok(MessageId(Uuid::from_u128(v)))
    }
}
