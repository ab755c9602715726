//! The page that a load test leaves can be read in a real browser.

use tests::harness::run_node;

#[test]
fn a_report_can_be_read() {
    run_node("report.mjs", &[]);
}
