//! Numbers in the form in which people read them.

/// The digits in groups of three: 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits, and no decimals from a hundred on.
pub fn number(number: f64) -> String {
    if !number.is_finite() {
        return "none".to_owned();
    }
    let sign = if number < 0.0 { "-" } else { "" };
    let size = number.abs();
    if size >= 99.95 {
        return format!("{sign}{}", grouped(size.round() as u64));
    }
    let decimals = match size {
        _ if size == 0.0 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        // Three significant digits, with three to six decimals. A number that is too small for that is practically
        // zero.
        _ => (2 - size.log10().floor() as i32).clamp(3, 6) as usize,
    };
    format!("{number:.decimals$}")
}

pub fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes;
    let mut unit = 0;
    while size.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{} {}", number(size), UNITS[unit])
}

/// A duration in microseconds, shown in milliseconds to the microsecond: 1,234.567.
pub fn milliseconds(us: u64) -> String {
    format!("{}.{:03}", grouped(us / 1000), us % 1000)
}

/// A duration with a suitable unit.
pub fn duration(us: f64) -> String {
    match us {
        _ if us < 1_000.0 => format!("{} µs", number(us)),
        _ if us < 1_000_000.0 => format!("{} ms", number(us / 1e3)),
        _ => format!("{} s", number(us / 1e6)),
    }
}

/// Zero, not infinity, when the divisor is zero.
pub fn ratio(of: f64, by: f64) -> f64 {
    if by > 0.0 { of / by } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_threes() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), expected);
        }
        assert_eq!(milliseconds(1_234_567), "1,234.567");
        assert_eq!(milliseconds(7), "0.007");
    }

    /// The number that a text shows, without its unit.
    fn shown(text: &str) -> f64 {
        text.split(' ')
            .next()
            .expect("a word")
            .replace(',', "")
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    proptest::proptest! {
        #[test]
        fn a_reader_gets_the_number_to_three_digits(number in 0.001_f64..1e15, negative: bool) {
            let value = if negative { -number } else { number };
            let text = super::number(value);
            let found = shown(&text);
            assert!((found - value).abs() <= number * 0.005, "{value} is shown as {text}");
        }

        #[test]
        fn a_unit_changes_the_number_by_no_more_than_rounding(number in 0.01_f64..1e14) {
            let text = bytes(number);
            let scale = ["B", "KiB", "MiB", "GiB", "TiB"].iter().position(|unit| text.ends_with(&format!(" {unit}")));
            let found = shown(&text) * 1024_f64.powi(scale.expect("a unit") as i32);
            assert!((found - number).abs() <= number * 0.005, "{number} bytes are shown as {text}");
            let text = duration(number);
            let us = [("µs", 1.0), ("ms", 1e3), ("s", 1e6)].iter().find(|(unit, _)| text.ends_with(&format!(" {unit}")));
            let found = shown(&text) * us.expect("a unit").1;
            assert!((found - number).abs() <= number * 0.005, "{number} µs are shown as {text}");
        }

        #[test]
        fn groups_lose_no_digit(number: u64) {
            let text = grouped(number);
            assert_eq!(text.replace(',', ""), number.to_string());
            assert!(text.split(',').skip(1).all(|group| group.len() == 3) && !text.starts_with(','), "{text}");
            let us = number % 1_000_000_000;
            assert_eq!(milliseconds(us).replace([',', '.'], "").parse(), Ok(us));
        }
    }

    #[test]
    fn a_ratio_of_nothing_is_zero() {
        for (of, by, expected) in [
            (0.0, 0.0, 0.0),
            (5.0, 0.0, 0.0),
            (5.0, -1.0, 0.0),
            (5.0, f64::NAN, 0.0),
            (1.0, 4.0, 0.25),
            (-1.0, 4.0, -0.25),
        ] {
            assert_eq!(ratio(of, by), expected, "{of} by {by}");
        }
    }

    #[test]
    fn numbers_keep_what_matters() {
        for (value, expected) in [
            (0.0, "0"),
            (0.000_001_2, "0.000001"),
            (0.012_34, "0.0123"),
            (0.999_6, "1.00"),
            (1.234, "1.23"),
            (9.996, "10.0"),
            (99.94, "99.9"),
            (99.96, "100"),
            (1234.5, "1,235"),
            (-12.34, "-12.3"),
            (-1234.0, "-1,234"),
            (f64::NAN, "none"),
        ] {
            assert_eq!(number(value), expected, "{value}");
        }
    }

    #[test]
    fn sizes_and_durations_have_the_unit_that_suits_them() {
        for (value, expected) in
            [(0.0, "0 B"), (830.0, "830 B"), (2048.0, "2.00 KiB"), (1536.0 * 1024.0 * 1024.0, "1.50 GiB")]
        {
            assert_eq!(bytes(value), expected);
        }
        for (us, expected) in [(12.0, "12.0 µs"), (1500.0, "1.50 ms"), (2_500_000.0, "2.50 s")] {
            assert_eq!(duration(us), expected);
        }
    }
}
