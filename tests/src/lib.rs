//! Whole-server tests: the real `stentor` process on a free port, driven over real sockets.
//!
//! `harness/` starts and stops the server and speaks to it through libraries that others wrote, so that strangers check
//! our framing. What is promised stands in `tests/`, one file a promise; `clients/` holds the official JavaScript client
//! and the browser, `transcripts/` the recorded conversations.

pub mod harness;
