//! Whole-server tests: the real `stentor` process on a free port, used over real sockets.
//!
//! `harness/` starts and stops the server, and talks to it through third-party libraries, so that independent code
//! checks our framing. `tests/` has the promises, one file for each. `clients/` has the official JavaScript client and
//! the browser, `transcripts/` has the recorded conversations.

pub mod harness;
