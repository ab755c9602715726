//! What the coordinator does, scenario by scenario.

pub mod bare;
pub mod baseline;
pub mod connect;
pub mod curve;
pub mod history;
pub mod proxy;
pub mod scenario;
pub mod selftest;
