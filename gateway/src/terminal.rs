//! Lines for the operator on standard error, beside the log.

use std::io::Write;

/// Writes a line to standard error. If nothing can be written there, the line is lost, and the process goes on.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
