//! Checks whether the clients received what was due to them: pure checks of deliveries, stays, pages and whole
//! histories.

pub mod acceptances;
pub mod check;
pub mod figures;
pub mod known_pages;
pub mod latency;
pub mod latency_name;
pub mod page_check;
pub mod reach;
pub mod record;
pub mod samples;
pub mod stays;
pub mod whole_history;

#[cfg(test)]
pub mod tests;
