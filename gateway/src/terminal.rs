//! Lines for the operator on standard error, beside the log.

use std::io::Write;

/// Writes a line to standard error. If nothing can be written there, nobody can be told, and that ends no process.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
