//! Bad input, over real sockets: each refusal has its documented answer or close code, and nothing else changes.
//!
//! Every case is a row in a table. After each row the session is open, or closed with exactly the documented code, and
//! the server still works for other clients.

mod chats;
mod envelopes;
mod frames;
mod friends;
mod groups;
mod introductions;
mod limits;
mod links;
mod notifications;
mod objects;
mod protobuf;
mod refusals;
mod requests;
mod slow;
mod upgrades;
