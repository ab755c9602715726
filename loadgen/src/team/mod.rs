//! The coordinator's side of the processes that do the work, on this machine and on others, and how exact their clocks
//! are.

pub mod comparison;
pub mod host;
pub mod introduction;
pub mod lines;
pub mod machine;
pub mod process;
pub mod workforce;
