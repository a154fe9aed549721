//! The store is scrubbed from time to time, at a rate that guests do not notice.

use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, interval_at};

use crate::db::{Batch, Error};
use crate::jobs::Seeded as _;
use crate::jobs::scrub_store::ScrubStore;
use crate::jobs::scrub_store::report::ScrubRecord;
use crate::region::Region;

/// How often it is looked whether it is time; so long after the start for the first time.
const INTERVAL: Duration = Duration::from_mins(10);
const SECONDS_PER_HOUR: i64 = 3600;

/// Scrubs from time to time, as long as the region is there.
pub(crate) async fn run(region: Weak<Region>) {
    let mut interval = interval_at(Instant::now() + INTERVAL, INTERVAL);
    loop {
        interval.tick().await;
        let Some(region) = region.upgrade() else { return };
        if let Err(error) = if_due(&region, Timestamp::now()).await {
            tracing::error!(%error, "cannot scrub the store");
        }
    }
}

async fn if_due(region: &Arc<Region>, now: Timestamp) -> Result<(), Error> {
    let settings = &region.config.store;
    let last = region.db.get::<ScrubRecord>(ScrubRecord::ID).await?;
    let last = last.map(|last| last.value.report.time_finished);
    if !is_due(settings.scrub_interval_hours, last, now) || ScrubStore::is_running(region).await? {
        return Ok(());
    }
    let mib_per_second = settings.scrub_rate_mib_per_second;
    let rate = (mib_per_second > 0).then(|| mib_per_second.saturating_mul(1 << 20));
    let job = ScrubStore::new(rate, None);
    let seed = job.seed(region);
    region.jobs.submit(job, seed, Batch::new()).await.map(drop)
}

/// 0 hours = never.
fn is_due(interval_hours: u64, last: Option<Timestamp>, now: Timestamp) -> bool {
    let Ok(hours) = i64::try_from(interval_hours) else { return false };
    let interval = SignedDuration::from_secs(hours.saturating_mul(SECONDS_PER_HOUR));
    hours > 0 && last.is_none_or(|last| now.duration_since(last) >= interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrub_is_due_when_the_last_one_is_long_ago() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1000);
        let hours_ago = |hours| Some(now - SignedDuration::from_hours(hours));
        assert!(is_due(168, None, now));
        assert!(is_due(168, hours_ago(168), now));
        assert!(!is_due(168, hours_ago(167), now));
        assert!(!is_due(0, None, now));
        assert!(!is_due(u64::MAX, hours_ago(999), now));
        // A clock that was set back.
        assert!(!is_due(1, hours_ago(-5), now));
    }
}
