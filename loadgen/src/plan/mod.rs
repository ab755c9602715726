//! What a run is, in full and beforehand: its rooms, who publishes what when, who comes and goes. Pure.

pub mod content;
pub mod deeds;
pub mod draws;
pub mod lives;
pub mod run_plan;
pub mod schedule;
