//! What one peer asks may cost all clients only so much: each entry is a bounded attack beside a bystander in the same
//! run. The server lives, it holds no more memory than its bounds say, no turn of the shard writes or works more than a turn
//! may, and the bystander is served: its requests are answered, or every message of its room comes.
//!
//! All budgets are on, those of addresses too, unless a test says why it needs one off. Nothing here is judged by the time
//! that it takes.

mod answers;
mod bodies;
mod budgets;
mod groups;
mod lists;
mod outside;
mod placement;
mod rooms;
mod sessions;
mod sign_ins;
mod stage;
mod statuses;
