//! What the report says of connections that the server closed, and of a drain that was expected.

use crate::report::{Course, Section, Spread, Value};

/// The connections that ended although their clients had not ended them; `None` if there were none and no drain was
/// expected.
pub fn section(course: &Course) -> Option<Section> {
    let closes = course.closes();
    if closes.all() == 0 && course.drain_secs.is_none() {
        return None;
    }
    let section = Section::new("closes")
        .count("restart, 1012", closes.restart)
        .count("try again later, 1013", closes.try_later)
        .count("going away, 1001", closes.going_away)
        .count("no close frame, 1006", closes.no_frame)
        .count("other codes", closes.other);
    Some(match course.spread() {
        None => section,
        Some(Spread { asked_secs, took_secs, by_tenth, .. }) => section
            .row("spread asked for", Value::Seconds(asked_secs))
            .row("spread seen", Value::Seconds(took_secs))
            .row("in each tenth of the time", Value::Text(by_tenth.map(|closes| closes.to_string()).join(" "))),
    })
}

/// What is wrong with the closes themselves: an expected drain did not come, or an unexpected drain came. The users that it disconnected are faults of their own.
pub fn faults(course: &Course) -> Option<String> {
    match (course.drain_secs, course.closes().restart) {
        (Some(_), 0) => Some("no connection was closed with 1012, although a drain was expected".to_owned()),
        (None, 1..) => Some(
            "the server drained, as its close code 1012 says: --expect-drain SECS is for runs in which it should"
                .to_owned(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SECOND_NS;
    use crate::costs::series::Second;

    fn course(drain_secs: Option<f64>, closes: &[(u64, u16)]) -> Course {
        let mut course = Course { window: 0..10 * SECOND_NS, drain_secs, ..Course::default() };
        for (at, code) in closes {
            let mut second = Second::new(*at);
            second.closes.count(*code, 0);
            course.series.add(second);
        }
        course
    }

    #[test]
    fn a_drain_is_no_fault_only_where_it_was_expected() {
        let check = |drain_secs, closes: &[(u64, u16)], fault: Option<&str>| {
            let found = faults(&course(drain_secs, closes));
            assert_eq!(found.is_some(), fault.is_some(), "{found:?}");
            assert!(found.unwrap_or_default().contains(fault.unwrap_or_default()), "{fault:?}");
        };
        check(None, &[], None);
        check(None, &[(1, 1013)], None);
        check(Some(5.0), &[(1, 1012)], None);
        check(Some(5.0), &[(1, 1013)], Some("although a drain was expected"));
        check(None, &[(1, 1012)], Some("--expect-drain"));
    }

    #[test]
    fn the_text_has_the_closes_by_code_and_by_tenth() {
        assert!(section(&course(None, &[])).is_none());
        let section = section(&course(Some(10.0), &[(1, 1012), (1, 1012), (2, 1012), (5, 1006)])).expect("closes");
        let json = serde_json::to_value(&section).expect("JSON");
        assert_eq!((&json["restart_1012"], &json["no_close_frame_1006"]), (&3.into(), &1.into()), "{json}");
        assert_eq!(json["in_each_tenth_of_the_time"], "2 1 0 0 0 0 0 0 0 0", "{json}");
    }
}
