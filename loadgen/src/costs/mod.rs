//! The costs of a run, second by second: of the server, the kernel, the network and the generator.

pub mod closes;
pub mod gauges;
pub mod kernel;
pub mod lag;
pub mod listening;
pub mod meter;
pub mod metrics;
pub mod progress;
pub mod recorder;
pub mod series;
pub mod server;
