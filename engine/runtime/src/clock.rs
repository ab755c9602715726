//! The server's two clocks: the wall clock, and the monotonic clock that the engine is given. Deadlines of single calls
//! use `Instant` where they are.
//!
//! One run of the server has one wall clock, the same for all threads. It begins at the system's time and then advances
//! with the monotonic clock. So it never stops, jumps or goes back, even if the system's clock is set. Where the two
//! differ, it is drawn slowly towards the system's time. Limits, pacing and deadlines use the monotonic clock itself.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustix::time::{ClockId, clock_gettime};

use engine::id::{Monotonic, Now, Timestamp};

/// While the wall clock is drawn towards the system's, it gains or loses at most one nanosecond in this many: 36
/// seconds an hour. A difference of one second, which is usual for a correction, is gone after 100 seconds.
const SLEW: i64 = 100;

/// If the difference changes by more than this between two looks, operators should be told. In nanoseconds: a minute.
const JUMP_MIN: i64 = 60_000_000_000;

/// A look at the system's clock that takes longer than this is discarded: the thread was interrupted between its
/// readings.
const LOOK_DURATION_MAX: Duration = Duration::from_millis(1);

/// How often `look` should be called.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

static COURSE: LazyLock<ArcSwap<Course>> = LazyLock::new(|| {
    let at = monotonic();
    ArcSwap::from_pointee(Course::begin(at, system()))
});

/// Reads both clocks at once.
pub fn now() -> Now {
    // Load the course first: if this call initializes it, it must begin before the reading of the monotonic clock.
    let course = COURSE.load();
    let monotonic = monotonic();
    Now { wall: course.wall(monotonic), monotonic }
}

/// The time of this run's wall clock.
pub fn wall() -> Timestamp {
    now().wall
}

/// The time of the monotonic clock (`CLOCK_BOOTTIME`). It advances while the machine is suspended, so the wall clock
/// that follows it is right afterwards.
pub fn monotonic() -> Monotonic {
    let read = clock_gettime(ClockId::Boottime);
    Monotonic(read.tv_sec * 1_000_000_000 + read.tv_nsec)
}

/// Compares the wall clock with the system's, and from then on draws the wall clock towards it. One thread must call
/// this once every `LOOK_INTERVAL`.
pub fn look() -> Look {
    let course = COURSE.load();
    let (at, system) = (monotonic(), system());
    if monotonic().since(at) > LOOK_DURATION_MAX {
        return Look { behind: course.behind(at), jump: None };
    }
    let (next, look) = course.look(at, system);
    COURSE.store(next.into());
    look
}

fn system() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
}

/// The result of a look, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// How far the wall clock is behind the system's; negative, if it is ahead.
    pub behind: i64,
    /// By how much the system's clock was set since the last look, if that is more than a minute; negative, if it was
    /// set back.
    pub jump: Option<i64>,
}

/// How to compute the wall clock from the monotonic clock, from the time `since` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Course {
    since: Monotonic,
    wall: Timestamp,
    /// How far the wall clock was behind the system's at `since`.
    behind: i64,
}

impl Course {
    fn begin(at: Monotonic, system: Timestamp) -> Self {
        Self { since: at, wall: system, behind: 0 }
    }

    /// The wall clock at this reading of the monotonic clock. A thread may have read it just before the course began:
    /// the elapsed time is then zero.
    fn wall(&self, at: Monotonic) -> Timestamp {
        Timestamp(self.wall.0.saturating_add(self.elapsed(at)).saturating_add(self.drawn(at)))
    }

    fn elapsed(&self, at: Monotonic) -> i64 {
        at.0.saturating_sub(self.since.0).max(0)
    }

    /// How much of the difference is made up by this time.
    fn drawn(&self, at: Monotonic) -> i64 {
        let most = self.elapsed(at) / SLEW;
        self.behind.clamp(-most, most)
    }

    fn behind(&self, at: Monotonic) -> i64 {
        self.behind - self.drawn(at)
    }

    fn look(&self, at: Monotonic, system: Timestamp) -> (Self, Look) {
        assert!(at >= self.since, "one thread looks, so its readings rise");
        let wall = self.wall(at);
        let behind = system.0.saturating_sub(wall.0);
        let set = behind.saturating_sub(self.behind(at));
        let jump = (set.unsigned_abs() > JUMP_MIN.unsigned_abs()).then_some(set);
        (Self { since: at, wall, behind }, Look { behind, jump })
    }
}

/// Measures how long each part of a loop takes. Has no relation to the wall clock.
pub struct Laps {
    newest: Instant,
}

impl Laps {
    /// Begins at the present reading of the system's monotonic clock.
    pub fn begin() -> Self {
        Self { newest: Instant::now() }
    }

    /// Ends a lap. Returns its duration.
    pub fn end(&mut self) -> Duration {
        let now = Instant::now();
        now.saturating_duration_since(std::mem::replace(&mut self.newest, now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const HOUR: i64 = 3600 * SECOND;
    const START: i64 = 1_795_000_000 * SECOND;
    /// The monotonic clock's reading at the start.
    const BOOTED: i64 = 77 * SECOND;

    /// A run of the server with clocks that the test drives.
    struct Life {
        course: Course,
        at: i64,
        system: i64,
    }

    impl Life {
        fn begin() -> Self {
            let course = Course::begin(Monotonic(BOOTED), Timestamp(START));
            Self { course, at: 0, system: START }
        }

        /// Lets this many seconds pass; the server looks at the system's clock once a second. Returns the jumps that it
        /// found.
        fn run(&mut self, seconds: i64) -> Vec<i64> {
            let mut jumps = Vec::new();
            for _ in 0..seconds {
                self.at += SECOND;
                self.system += SECOND;
                jumps.extend(self.look().jump);
            }
            jumps
        }

        fn look(&mut self) -> Look {
            let (course, look) = self.course.look(Monotonic(BOOTED + self.at), Timestamp(self.system));
            self.course = course;
            look
        }

        /// How much more the wall clock has advanced since the start than the monotonic clock.
        fn drift(&self) -> i64 {
            self.course.wall(Monotonic(BOOTED + self.at)).0 - START - self.at
        }
    }

    #[test]
    fn is_the_system_s_clock_while_nobody_sets_that() {
        let mut life = Life::begin();
        assert_eq!(life.run(100_000), [0; 0]);
        assert_eq!(life.drift(), 0);
    }

    #[test]
    fn a_jump_of_two_hours_that_comes_back_is_told_and_hardly_followed() {
        let mut life = Life::begin();
        life.run(10);
        life.system += 2 * HOUR;
        assert_eq!(life.run(600), [2 * HOUR], "told once");
        // Looks are a second apart, so in the first second the wall clock is not drawn yet.
        assert_eq!(life.drift(), 599 * SECOND / SLEW);
        life.system -= 2 * HOUR;
        assert_eq!(life.run(2), [-2 * HOUR]);
        assert_eq!(life.drift(), 599 * SECOND / SLEW, "one second forth, one back");
        assert_eq!(life.run(3600), [0; 0]);
        assert_eq!(life.drift(), 0, "and never beyond");
    }

    #[test]
    fn a_small_correction_is_made_up_without_a_word() {
        for correction in [SECOND, -SECOND, 59 * SECOND, -59 * SECOND] {
            let mut life = Life::begin();
            life.system += correction;
            let needed = correction.abs() / SECOND * SLEW;
            assert_eq!(life.run(needed + 1), [0; 0]);
            assert_eq!(life.drift(), correction);
            assert_eq!(life.run(100), [0; 0]);
            assert_eq!(life.drift(), correction);
        }
    }

    #[test]
    fn any_jump_is_borne() {
        for to in [i64::MIN, 0, i64::MAX] {
            let mut life = Life::begin();
            life.run(1);
            let (course, look) = life.course.look(Monotonic(BOOTED + life.at), Timestamp(to));
            assert!(look.jump.is_some());
            let later = course.wall(Monotonic(BOOTED + life.at + 100 * SECOND)).0 - course.wall.0;
            assert!((99 * SECOND..=101 * SECOND).contains(&later), "{later}");
        }
    }

    #[test]
    fn the_wall_clock_of_this_process_is_the_system_s() {
        let first = now();
        let second = now();
        assert!(second.wall >= first.wall && second.monotonic >= first.monotonic);
        let difference = (system().0 - wall().0).abs();
        assert!(difference < 60 * SECOND, "{difference}");
        assert_eq!(look().jump, None);
    }

    proptest! {
        #[test]
        fn rises_at_its_measure_under_any_system_clock(
            steps in prop::collection::vec((0..5 * SECOND, prop_oneof![Just(0), -3 * HOUR..3 * HOUR, -SECOND..SECOND]), 1..100),
        ) {
            let mut life = Life::begin();
            for (step, set) in steps {
                let before = life.course.wall(Monotonic(BOOTED + life.at));
                life.at += step;
                life.system += step + set;
                let gained = life.course.wall(Monotonic(BOOTED + life.at)).0 - before.0;
                prop_assert!((step - step / SLEW..=step + step / SLEW).contains(&gained), "{gained} in {step}");
                let on_the_old_course = life.course.wall(Monotonic(BOOTED + life.at));
                life.look();
                prop_assert_eq!(life.course.wall(Monotonic(BOOTED + life.at)), on_the_old_course, "a look moves nothing");
                // For a thread that read the monotonic clock just before the look, the time does not go back either.
                prop_assert!(life.course.wall(Monotonic(BOOTED + life.at - 1_000)) >= before);
            }
        }
    }
}
