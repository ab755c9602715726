//! Lines for the person who watches a run, beside its report.

/// Prints a remark between the stages.
pub fn note(text: &str) {
    eprintln!("{text}");
}
