//! The right name nearest to a misspelt one.

/// Characters of a name that are compared. No right name is longer, and the work grows with the square.
const COMPARED_MAX: usize = 64;

/// The right name that is the fewest slips away: letters that are wrong, missing, too many or swapped. `None` if all are
/// too far away to be meant.
pub(super) fn nearest<'a>(wrong: &str, right: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong: String = wrong.chars().take(COMPARED_MAX).collect();
    let slips_max = (wrong.chars().count() / 3).max(2);
    let slips = |right: &&str| strsim::damerau_levenshtein(&wrong.to_lowercase(), &right.to_lowercase());
    right
        .into_iter()
        .map(|right| (slips(&right), right))
        .min()
        .filter(|(slips, _)| *slips <= slips_max)
        .map(|(_, right)| right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_another_word_is_not() {
        let names = ["listen", "admin", "admin_host", "session_ttl", "session_key"];
        let check = |wrong: &str, expected: Option<&str>| assert_eq!(nearest(wrong, names), expected, "{wrong}");
        check("listne", Some("listen"));
        check("lisen", Some("listen"));
        check("Listen", Some("listen"));
        check("admin-host", Some("admin_host"));
        check("sesion_ttl", Some("session_ttl"));
        check("colour", None);
        check("", None);
        check(&"x".repeat(100_000), None);
    }
}
