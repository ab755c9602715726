//! Who does the work: processes of this machine and of others, their orders and words, and what their clocks are worth.

pub mod clock;
pub mod comparison;
pub mod crew;
pub mod host;
pub mod introduction;
pub mod lines;
pub mod machine;
pub mod orders;
pub mod process;
pub mod reach;
pub mod sources;
pub mod worker;
pub mod workforce;
