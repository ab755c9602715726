//! What the coordinator does, scenario by scenario.

pub mod bare;
pub mod baseline;
pub mod baseline_results;
pub mod closes;
pub mod connect;
pub mod curve;
pub mod find_listener;
pub mod history;
pub mod proxy;
pub mod room_costs;
pub mod room_results;
pub mod scenario;
pub mod selftest;
