//! How long the supervisor waits for a stop before it kills the server, as systemd says it of a unit. Others cannot be asked.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether it has.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How long systemd waits for a stop of this unit. `None`: it does not say.
pub fn of_unit(unit: &str) -> Option<Duration> {
    said_by("systemctl", &["show", "--property=TimeoutStopUSec", "--value", unit]).as_deref().and_then(parsed)
}

/// What the program prints, if it ends well in time. Its output must be short.
fn said_by(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut asked = command.spawn().ok()?;
    let begun = Instant::now();
    let ended = loop {
        match asked.try_wait() {
            Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(LOOK_INTERVAL),
            Ok(ended) => break ended,
            Err(_) => break None,
        }
    };
    let Some(ended) = ended else {
        let _ = asked.kill();
        let _ = asked.wait();
        return None;
    };
    let output = asked.wait_with_output().ok()?;
    if ended.success() { String::from_utf8(output.stdout).ok() } else { None }
}

/// The time that systemd writes as in `2min 30s`, or as `infinity`.
fn parsed(said: &str) -> Option<Duration> {
    match said.trim() {
        "infinity" => Some(Duration::MAX),
        time => humantime::parse_duration(time).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_systemd_writes_them() {
        for (said, expected) in [
            ("2min\n", Some(120)),
            ("1min 30s\n", Some(90)),
            ("1h 2min 3s", Some(3723)),
            ("1d", Some(86_400)),
            ("1month", Some(2_630_016)),
            ("infinity\n", Some(u64::MAX)),
            ("", None),
            ("n/a", None),
        ] {
            assert_eq!(parsed(said).map(|time| time.as_secs()), expected, "{said:?}");
        }
        assert_eq!(parsed("1min 500ms"), Some(Duration::from_millis(60_500)));
    }

    #[test]
    fn a_program_that_does_not_answer_is_not_waited_for() {
        assert_eq!(said_by("echo", &["2min"]).as_deref(), Some("2min\n"));
        assert_eq!(said_by("false", &[]), None);
        assert_eq!(said_by("/no/such/program", &[]), None);
        assert_eq!(said_by("sleep", &["3600"]), None);
    }
}
