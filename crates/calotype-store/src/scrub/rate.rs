//! A bound on bytes per second, kept over any stretch of time that is longer than a moment.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait before it is looked whether to go on.
const NAP_MAX: Duration = Duration::from_millis(100);

/// What was not used while nothing was to be done is kept for so long.
const BURST: Duration = Duration::from_millis(100);

/// Time, as a bound on a rate needs it.
pub(super) trait Clock: Sync {
    /// Since some moment.
    fn now(&self) -> Duration;

    fn sleep(&self, time: Duration);
}

/// The machine's.
pub(super) struct MachineClock(Instant);

impl MachineClock {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }
}

/// Shared by all threads that read.
pub(super) struct Rate<'a> {
    clock: &'a dyn Clock,
    bytes_per_second: Option<u64>,
    /// When everything that was taken so far is paid for.
    paid_at: Mutex<Duration>,
}

impl<'a> Rate<'a> {
    /// Without a rate there is no bound.
    pub(super) fn new(clock: &'a dyn Clock, bytes_per_second: Option<u64>) -> Self {
        Self { clock, bytes_per_second, paid_at: Mutex::new(clock.now()) }
    }

    /// Takes so many bytes, and waits until they are paid for; `false` if `cancelled` meanwhile.
    pub(super) fn take(&self, bytes: u64, cancelled: &dyn Fn() -> bool) -> bool {
        let Some(bytes_per_second) = self.bytes_per_second else { return !cancelled() };
        let price = Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64);
        let paid_at = {
            let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
            *paid_at = (*paid_at).max(self.clock.now().saturating_sub(BURST)) + price;
            *paid_at
        };
        loop {
            if cancelled() {
                return false;
            }
            let rest = paid_at.saturating_sub(self.clock.now());
            if rest.is_zero() {
                return true;
            }
            self.clock.sleep(rest.min(NAP_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moves only while somebody sleeps.
    #[derive(Default)]
    struct Stopped(Mutex<Duration>);

    impl Clock for Stopped {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    #[test]
    fn so_many_bytes_take_so_long() {
        let clock = Stopped::default();
        let rate = Rate::new(&clock, Some(1 << 20));
        for _ in 0..64 {
            assert!(rate.take(256 << 10, &|| false));
        }
        assert_eq!(clock.now().as_secs(), 16);
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let clock = Stopped::default();
        let rate = Rate::new(&clock, Some(1 << 20));
        clock.sleep(Duration::from_secs(100));
        assert!(rate.take(2 << 20, &|| false));
        assert_eq!(clock.now() + BURST, Duration::from_secs(102));
    }

    #[test]
    fn without_a_bound_nobody_waits() {
        let clock = Stopped::default();
        let rate = Rate::new(&clock, None);
        assert!(rate.take(u64::MAX, &|| false));
        assert_eq!(clock.now(), Duration::ZERO);
        assert!(!rate.take(1, &|| true));
    }

    #[test]
    fn a_wait_ends_when_it_is_cancelled() {
        let clock = Stopped::default();
        let rate = Rate::new(&clock, Some(1));
        let cancelled = || clock.now() > Duration::from_secs(1);
        assert!(!rate.take(1 << 20, &cancelled));
        assert!(clock.now() < Duration::from_secs(2));
    }
}
