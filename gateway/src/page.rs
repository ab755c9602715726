//! The chat page, which the binary itself serves to browsers, and what a browser may do for it.
//!
//! The page is one text with its style and its script inside. The policy names both by their hashes, so a browser runs
//! no other script: text of a user that got into the page as HTML would still not run.

use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::HeaderValue;
use sha2::{Digest, Sha256};

/// The page's HTML.
pub const HTML: &str = include_str!("page/index.html");

const STYLE: [&str; 2] = ["<style>", "</style>"];
const SCRIPT: [&str; 2] = ["<script type=\"module\">", "</script>"];

/// The value of `Content-Security-Policy` for the page.
///
/// For `connect-src`, `'self'` covers WebSockets to the page's own origin too (Content Security Policy Level 3).
pub fn policy() -> HeaderValue {
    static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
        let [style, script] = [STYLE, SCRIPT].map(hash);
        let policy = format!(
            "default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; img-src data:; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        );
        HeaderValue::from_str(&policy).expect("a policy is visible ASCII")
    });
    POLICY.clone()
}

/// The hash, as a policy names it, of the text between the page's two tags.
fn hash([opening, closing]: [&str; 2]) -> String {
    let (_, rest) = HTML.split_once(opening).expect("the page has one");
    let (text, _) = rest.split_once(closing).expect("it ends");
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy forbids everything else, so the page would lose it without a word.
    #[test]
    fn style_and_script_stand_in_one_place_each() {
        for tags in [STYLE, SCRIPT] {
            let name = tags[1].trim_matches(['<', '/', '>']);
            assert_eq!(HTML.matches(&format!("<{name}")).count(), 1, "{name}");
            assert_eq!(HTML.matches(&format!("</{name}")).count(), 1, "{name}");
        }
        let (markup, script) = HTML.split_once(SCRIPT[0]).unwrap();
        let after = script.split_once(SCRIPT[1]).unwrap().1;
        for text in [markup, after] {
            let tags = text.split('<').skip(1).filter_map(|tag| tag.split('>').next());
            for attribute in tags.flat_map(|tag| tag.split_ascii_whitespace().skip(1)) {
                assert!(!attribute.starts_with("style=") && !attribute.starts_with("on"), "{attribute}");
            }
        }
    }
}
