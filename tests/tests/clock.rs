//! The system's clock is set while the server runs, and between two runs of it. The whole server reads the time of day
//! from a file, by means of Debian's libfaketime. The monotonic clock is the machine's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::harness::person::text;
use tests::harness::{DEADLINE, Launch, Server, Socket, data_dir};

const SHARD_COUNTS: [u16; 2] = [1, 4];
const SECOND: i64 = 1_000_000_000;
const TWO_HOURS: i64 = 2 * 3600 * SECOND;

/// The sends that one session may make in a second.
const RATE: u64 = 5;

/// The path of Debian's library, on any architecture.
fn library() -> PathBuf {
    let places = fs::read_dir("/usr/lib").expect("a system").flatten();
    let found = places.map(|place| place.path().join("faketime/libfaketime.so.1")).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("libfaketime is missing: run ./check, or install Debian's package faketime"))
}

/// The time of day that a server reads, which the test sets.
struct SystemClock {
    directory: TempDir,
}

impl SystemClock {
    fn new() -> Self {
        let clock = Self { directory: tempfile::tempdir().expect("a directory") };
        clock.set("+0");
        clock
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("clock")
    }

    /// Sets the clock to this offset from the real time.
    fn set(&self, offset: &str) {
        let fresh = self.directory.path().join("fresh");
        fs::write(&fresh, offset).and_then(|()| fs::rename(&fresh, self.file())).expect("a file");
    }

    fn launch(&self, data: &Path) -> Launch {
        Launch::on(data)
            .environment("LD_PRELOAD", library().to_str().expect("a plain path"))
            .environment("FAKETIME_TIMESTAMP_FILE", self.file().to_str().expect("a plain path"))
            .environment("FAKETIME_NO_CACHE", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .environment("DONT_FAKE_MONOTONIC", "1")
            .flag("--session-ttl", "1h")
    }
}

fn await_said(server: &Server, words: &str) {
    let begun = Instant::now();
    while !server.output().contains(words) {
        assert!(begun.elapsed() < DEADLINE, "waited in vain for {words:?} in:\n{}", server.output());
        std::thread::yield_now();
    }
}

/// Nanoseconds since the Unix epoch of a time as the protocol writes it.
fn nanoseconds(time: &Value) -> i64 {
    let time = text(time);
    let number = |from: usize, to: usize| time[from..to].parse::<i64>().unwrap_or_else(|_| panic!("{time} is no time"));
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    // With years that begin in March, the leap day is the last day of a year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + number(11, 13) * 3600 + number(14, 16) * 60 + number(17, 19);
    let fraction = time[19..].trim_end_matches('Z').trim_start_matches('.');
    seconds * SECOND + format!("{fraction:0<9}").parse::<i64>().unwrap_or_else(|_| panic!("{time} is no time"))
}

fn system_time() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock that is set");
    i64::try_from(since.as_nanos()).expect("this age")
}

/// Sends a message. Returns its acknowledgement and its time.
fn say(socket: &mut Socket, channel: &str) -> (Value, i64) {
    let answer = socket.say(channel, "{}");
    let ack = answer["channel_message_ack"].clone();
    assert!(ack.is_object(), "{answer}");
    let time = nanoseconds(&ack["create_time"]);
    (ack, time)
}

/// Sends as fast as possible for some seconds. A send may only be refused because of the rate. Returns the times of the
/// accepted messages.
fn send_at_the_limit(socket: &mut Socket, channel: &str, seconds: u64) -> Vec<i64> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while begun.elapsed() < Duration::from_secs(seconds) {
        let answer = socket.say(channel, "{}");
        match answer.get("channel_message_ack") {
            Some(ack) => times.push(nanoseconds(&ack["create_time"])),
            None => assert!(text(&answer["error"]["message"]).contains("too fast"), "{answer}"),
        }
        socket.pushes.clear();
    }
    times
}

/// Waits until a crowd is told this member count.
fn await_count(socket: &mut Socket, count: u64) {
    socket.push_where("a count", |push| push["channel_presence_event"]["presence_count"] == count);
}

#[test]
fn a_clock_that_jumps_by_two_hours_and_comes_back_is_not_followed() {
    for shards in SHARD_COUNTS {
        println!("{shards} shards");
        let (data, clock) = (data_dir(), SystemClock::new());
        let launch = clock.launch(data.path()).shards(shards).flag("--room-members-max", 2);
        let server = launch.flag("--sends-per-second", RATE).without_budgets().start();
        let mut writer = server.connect("ada");
        let room = writer.join("lobby");
        let mut crowd: Vec<Socket> = (0..4).map(|number| server.connect(&format!("member-{number}"))).collect();
        crowd.iter_mut().for_each(|member| drop(member.join("crowd")));
        await_count(&mut crowd[0], 4);
        let mut times = Vec::new();
        for (offset, words) in [("+0", None), ("+2h", Some("set forward by")), ("+0", Some("set back by"))] {
            clock.set(offset);
            if let Some(words) = words {
                await_said(&server, words);
            }
            let taken = send_at_the_limit(&mut writer, &room, 3);
            // One second's allowance at once, and then the rate.
            assert!((2 * RATE..=4 * RATE + 1).contains(&(taken.len() as u64)), "{offset}: {} in 3 s", taken.len());
            times.extend(taken);
            let joined = crowd.len() + 1;
            let mut member = server.connect(&format!("member-{joined}"));
            member.join("crowd");
            crowd.push(member);
            await_count(&mut crowd[0], joined as u64);
            let account = server.sign_in("ada");
            Socket::connect(server.address(), &account.token).assert_open();
        }
        assert!(times.is_sorted_by(|one, next| one < next), "times rise: {times:?}");
        let last = times.last().expect("some");
        assert!((system_time() - last).abs() < 60 * SECOND, "the server's time is right");
        assert_eq!(server.output().matches("the system's clock was set").count(), 2, "{}", server.output());
        server.kill();
    }
}

#[test]
fn a_history_of_a_server_whose_clock_was_ahead_goes_on() {
    for shards in SHARD_COUNTS {
        println!("{shards} shards");
        let (data, clock) = (data_dir(), SystemClock::new());
        clock.set("+2h");
        let server = clock.launch(data.path()).shards(shards).start();
        let mut writer = server.connect("ada");
        let ahead = writer.join("ahead");
        (1..10).for_each(|_| drop(say(&mut writer, &ahead)));
        let (newest, ahead_time) = say(&mut writer, &ahead);
        assert!(ahead_time - system_time() > TWO_HOURS - 60 * SECOND, "it was ahead");
        server.kill();

        clock.set("+0");
        let server = clock.launch(data.path()).shards(shards).start();
        let mut writer = server.connect("ada");
        assert_eq!(writer.join("ahead"), ahead);
        let mut ids = vec![text(&newest["message_id"])];
        for _ in 0..100 {
            let (ack, time) = say(&mut writer, &ahead);
            assert!((0..SECOND).contains(&(time - ahead_time)), "its time stands still: {ack}");
            ids.push(text(&ack["message_id"]));
        }
        assert!(ids.is_sorted_by(|one, next| one < next), "ids count on");
        let changed = json!({"channel_id": ahead, "message_id": ids[0], "content": r#"{"new":1}"#});
        let ack = writer.request(json!({ "channel_message_update": changed }))["channel_message_ack"].clone();
        assert!(nanoseconds(&ack["update_time"]) >= nanoseconds(&ack["create_time"]), "{ack}");
        let other = writer.join("another room");
        let (_, time) = say(&mut writer, &other);
        assert!((system_time() - time).abs() < 60 * SECOND, "no other channel notices");

        let reader = server.person("reader");
        let history = reader.history(&ahead);
        let found: Vec<String> = history.iter().map(|message| text(&message["message_id"])).collect();
        assert_eq!(found[9..], ids);
        assert!(history.iter().map(|message| nanoseconds(&message["create_time"])).is_sorted());
        server.kill();
    }
}
