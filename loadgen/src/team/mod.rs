//! The processes that do the work, on this machine and on others: their orders and words, and how exact their clocks
//! are.

pub mod clock;
pub mod comparison;
pub mod host;
pub mod introduction;
pub mod lines;
pub mod machine;
pub mod orders;
pub mod process;
pub mod reach;
pub mod sources;
pub mod threads;
pub mod worker;
pub mod workforce;
