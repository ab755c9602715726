//! What a run costs, second by second: of the server, the kernel, the network and ourselves.

pub mod kernel;
pub mod lag;
pub mod listening;
pub mod meter;
pub mod metrics;
pub mod recorder;
pub mod series;
pub mod server;
