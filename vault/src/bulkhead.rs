//! How hard one issuer is pressed: no more requests than its bucket has, none while it is broken.
//!
//! The time is a parameter, so that hours pass in a test.

use std::time::Duration;

use crate::progress::Moment;

/// How much an issuer is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Requests per second, over time.
    pub per_second: u32,
    /// Requests at once after a rest.
    pub burst: u32,
}

/// Whether a request may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Permit {
    /// It may.
    Granted,
    /// Not before this moment.
    NotBefore(Moment),
}

/// The bucket and the breaker of one issuer.
#[derive(Clone, Copy, Debug)]
pub struct Bulkhead {
    limits: Limits,
    /// When the bucket was, or will be, full: the theoretical arrival time of GCRA, less the burst.
    full_at: Moment,
    breaker: Breaker,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Breaker {
    /// So many failures in a row.
    Closed(u32),
    /// Nothing goes until then; then one request tries.
    Open { until: Moment, times: u32 },
    /// One request is trying; if nothing is heard of it, another may from then on.
    Trying { until: Moment, times: u32 },
}

impl Bulkhead {
    /// A full bucket, and an issuer that is believed to work.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            full_at: Moment::ZERO,
            breaker: Breaker::Closed(0),
        }
    }

    /// Takes one request out of the bucket, if there is one.
    pub fn take(&mut self, now: Moment) -> Permit {
        match self.breaker {
            Breaker::Open { until, .. } | Breaker::Trying { until, .. } if now < until => {
                return Permit::NotBefore(until);
            }
            Breaker::Open { times, .. } | Breaker::Trying { times, .. } => {
                self.breaker = Breaker::Trying {
                    until: now.saturating_add(TRIAL),
                    times,
                };
            }
            Breaker::Closed(_) => {}
        }
        let interval = self.interval();
        let burst = interval.saturating_mul(self.limits.burst.max(1));
        let full_at = self.full_at.max(now).saturating_add(interval);
        let allowed_at = full_at.saturating_sub(burst);
        if allowed_at > now {
            return Permit::NotBefore(allowed_at);
        }
        self.full_at = full_at;
        Permit::Granted
    }

    /// How many requests may go that nobody waits for. They leave half of the bucket to those for whom a user
    /// waits; while the issuer is broken, one in a while tries it.
    pub fn spare(&self, now: Moment) -> u32 {
        match self.breaker {
            Breaker::Open { until, .. } | Breaker::Trying { until, .. } => u32::from(now >= until),
            Breaker::Closed(_) => {
                let interval = self.interval();
                let burst = self.limits.burst.max(1);
                let taken = self.full_at.saturating_sub(now).div_duration_f64(interval);
                let free = f64::from(burst) - taken - f64::from(burst / 2);
                // Negative becomes 0, and there is no more than the burst.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "saturates"
                )]
                let free = free as u32;
                free
            }
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.limits.per_second.max(1)
    }

    /// The issuer answered: whatever it said, it works.
    pub const fn answered(&mut self) {
        self.breaker = Breaker::Closed(0);
    }

    /// The issuer did not answer, or said that it does not work.
    pub fn failed(&mut self, now: Moment) {
        let open = |times: u32| Breaker::Open {
            until: now.saturating_add(
                FIRST_PAUSE
                    .saturating_mul(1 << times.min(8))
                    .min(LONGEST_PAUSE),
            ),
            times: times.saturating_add(1),
        };
        self.breaker = match self.breaker {
            Breaker::Closed(failures) if failures + 1 < FAILURES => Breaker::Closed(failures + 1),
            Breaker::Closed(_) => open(0),
            Breaker::Trying { times, .. } => open(times),
            // A straggler of before.
            Breaker::Open { until, times } => Breaker::Open { until, times },
        };
    }

    /// The issuer asked for a rest.
    pub fn throttled(&mut self, now: Moment, retry_after: Option<Duration>) {
        let until = now.saturating_add(retry_after.unwrap_or(FIRST_PAUSE));
        self.breaker = Breaker::Open { until, times: 0 };
    }

    /// Whether the issuer is believed to work.
    pub const fn is_closed(&self) -> bool {
        matches!(self.breaker, Breaker::Closed(_))
    }
}

/// So many failures in a row open the breaker.
const FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Longer than any request takes.
const TRIAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        per_second: 10,
        burst: 5,
    };

    fn at(milliseconds: u64) -> Moment {
        Moment::from_secs(1_000_000) + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_bucket_gives_a_burst_and_then_its_rate() {
        let mut bulkhead = Bulkhead::new(LIMITS);
        let granted = (0..20).filter(|_| bulkhead.take(at(0)) == Permit::Granted);
        assert_eq!(granted.count(), 5);
        assert_eq!(bulkhead.take(at(0)), Permit::NotBefore(at(100)));
        assert_eq!(bulkhead.take(at(100)), Permit::Granted);
        let in_a_minute = (101..=60_100).filter(|ms| bulkhead.take(at(*ms)) == Permit::Granted);
        assert_eq!(in_a_minute.count(), 600);
    }

    #[test]
    fn what_nobody_waits_for_leaves_half_of_the_bucket() {
        let mut bulkhead = Bulkhead::new(Limits {
            per_second: 10,
            burst: 20,
        });
        for expected in (0..10).rev() {
            assert_eq!(bulkhead.spare(at(0)), expected + 1);
            assert_eq!(bulkhead.take(at(0)), Permit::Granted);
        }
        assert_eq!(bulkhead.spare(at(0)), 0);
        assert_eq!(bulkhead.take(at(0)), Permit::Granted);
        assert_eq!(bulkhead.spare(at(150)), 0);
        assert_eq!(bulkhead.spare(at(200)), 1);
        (0..FAILURES).for_each(|_| bulkhead.failed(at(200)));
        assert_eq!(bulkhead.spare(at(5_199)), 0);
        assert_eq!(bulkhead.spare(at(5_200)), 1);
    }

    #[test]
    fn a_broken_issuer_is_tried_by_one_request_at_a_time() {
        let mut bulkhead = Bulkhead::new(LIMITS);
        for _ in 0..FAILURES {
            assert!(bulkhead.is_closed());
            bulkhead.failed(at(0));
        }
        assert_eq!(bulkhead.take(at(4_999)), Permit::NotBefore(at(5_000)));
        assert_eq!(bulkhead.take(at(5_000)), Permit::Granted);
        assert_eq!(bulkhead.take(at(5_001)), Permit::NotBefore(at(35_000)));
        bulkhead.failed(at(6_000));
        assert_eq!(bulkhead.take(at(6_001)), Permit::NotBefore(at(16_000)));
        assert_eq!(bulkhead.take(at(16_000)), Permit::Granted);
        bulkhead.answered();
        assert_eq!(bulkhead.take(at(16_001)), Permit::Granted);
    }

    #[test]
    fn a_trial_of_which_nothing_is_heard_is_not_the_last() {
        let mut bulkhead = Bulkhead::new(LIMITS);
        (0..FAILURES).for_each(|_| bulkhead.failed(at(0)));
        assert_eq!(bulkhead.take(at(5_000)), Permit::Granted);
        assert_eq!(bulkhead.take(at(35_000)), Permit::Granted);
    }

    #[test]
    fn an_issuer_that_asks_for_a_rest_gets_it() {
        let mut bulkhead = Bulkhead::new(LIMITS);
        bulkhead.throttled(at(0), Some(Duration::from_secs(7)));
        assert_eq!(bulkhead.take(at(6_999)), Permit::NotBefore(at(7_000)));
        assert_eq!(bulkhead.take(at(7_000)), Permit::Granted);
    }

    #[test]
    fn an_outage_of_an_hour_costs_few_requests_and_is_recovered_from() {
        let mut bulkhead = Bulkhead::new(LIMITS);
        let mut tried = 0;
        for second in 0..3600_u64 {
            if bulkhead.take(at(second * 1000)) == Permit::Granted {
                tried += 1;
                bulkhead.failed(at(second * 1000));
            }
        }
        assert!((60..80).contains(&tried), "{tried}");
        let recovered = (3600..3700_u64).find(|second| {
            let granted = bulkhead.take(at(second * 1000)) == Permit::Granted;
            if granted {
                bulkhead.answered();
            }
            granted
        });
        assert!(recovered.is_some() && bulkhead.is_closed());
    }
}
