//! Fan-out, which is what Stentor is for: frames are encoded once per format and appended to a log, and each subscriber
//! is a cursor into it.

pub mod frames;
pub mod log;
pub mod subscribers;
pub mod tail;
mod tally;
