//! Fan-out, which Stentor exists for: frames are encoded once a format and laid into a log, and each subscriber is a cursor into it.

pub mod frames;
pub mod log;
pub mod subscribers;
mod tally;
