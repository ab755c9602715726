//! Bad input, over real sockets: each refusal has its stated answer or close code, and nothing else changes.
//!
//! Every case is a row in a table. After each row the session is open, or closed with exactly the stated code, and the
//! server still does its work for others.

mod chats;
mod envelopes;
mod frames;
mod friends;
mod groups;
mod links;
mod notifications;
mod protobuf;
mod refusals;
mod requests;
mod slow;
mod upgrades;
