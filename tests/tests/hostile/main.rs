//! What one peer asks may cost all clients only so much: each entry is a bounded attack beside a bystander in the same
//! run. The server lives, it holds no more memory than its bounds say, and every request of the bystander is answered.
//!
//! Nothing here is judged by the time that it takes.

mod answers;
mod bodies;
mod budgets;
mod sessions;
mod sign_ins;
mod stage;
