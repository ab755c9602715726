//! Log lines that requests cause, so many in a time and no more (`storage/src/log_limit.rs`).
//!
//! `info!`, `warn!` and `error!` here stand for tracing's. Each call site has a limit of its own.

pub(crate) use storage::log_limit::{CallSite, Line, count_left_out, left_out};

#[cfg(test)]
pub(crate) use storage::log_limit::LINES_MAX;

/// A line of this call site that is no warning, unless it has told enough for now.
macro_rules! limited_info {
    ($($line:tt)+) => { storage::limited!(info, $($line)+) };
}

/// A warning of this call site, unless it has warned often enough for now.
macro_rules! limited_warn {
    ($($line:tt)+) => { storage::limited!(warn, $($line)+) };
}

/// An error of this call site, unless it has told enough for now.
macro_rules! limited_error {
    ($($line:tt)+) => { storage::limited!(error, $($line)+) };
}

// A macro of the name `warn` cannot be imported, because the compiler has an attribute of that name.
pub(crate) use {limited_error as error, limited_info as info, limited_warn as warn};
