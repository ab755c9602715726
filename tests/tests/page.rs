//! The chat page works in a real browser: two pages exchange messages.

use tests::harness::run_node;

#[test]
fn two_pages_chat() {
    run_node("page.mjs", &[]);
}
