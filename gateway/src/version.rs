//! Which program this is.

/// The commit that it was built from.
pub const COMMIT: &str = env!("SOURCE_COMMIT");

/// The version and the commit that it was built from, as `stentor --version` has them.
pub const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("SOURCE_COMMIT"), ")");
