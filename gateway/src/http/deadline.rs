//! Times within which something has to happen.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use glommio::timer::Timer;

/// What the future comes to, or `None` if this time is over before.
pub async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut timer = Timer::new(time);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Pin::new(&mut timer).poll(context).map(|_| None),
    })
    .await
}

/// Wakes a task at the nearest of its deadlines. Most deadlines move before they pass, so the timer is reset only when it would
/// fire too late; when it fires too early, it is started again.
#[derive(Default)]
pub struct Alarm {
    timer: Option<(Instant, Timer)>,
}

impl Alarm {
    /// Ready when the deadline has passed.
    pub fn poll(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Poll::Ready(());
            }
            match &mut self.timer {
                Some((fires, timer)) if *fires <= deadline => {
                    if Pin::new(timer).poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.timer = None;
                }
                timer => *timer = Some((deadline, Timer::new(deadline - now))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use glommio::LocalExecutor;

    use super::*;

    #[test]
    fn what_takes_too_long_comes_to_nothing() {
        LocalExecutor::default().run(async {
            assert_eq!(within(Duration::from_secs(60), ready(1)).await, Some(1));
            assert_eq!(within(Duration::from_millis(1), pending::<()>()).await, None);
            let (mut alarm, deadline) = (Alarm::default(), Instant::now() + Duration::from_millis(5));
            poll_fn(|context| {
                // A later deadline has started a timer that would fire too late.
                let later = alarm.poll(deadline + Duration::from_secs(60), context);
                assert!(later.is_pending());
                alarm.poll(deadline, context)
            })
            .await;
            assert!(Instant::now() >= deadline);
        });
    }
}
