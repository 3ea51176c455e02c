//! What this process has used.

use std::time::Duration;

/// CPU time so far, and the most memory it ever had. Nothing where the operating system does not tell.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) user: Duration,
    pub(super) system: Duration,
    pub(super) peak_rss_bytes: u64,
}

#[cfg(unix)]
pub(super) fn usage() -> Option<Usage> {
    use nix::sys::{
        resource::{UsageWho, getrusage},
        time::TimeVal,
    };

    let time = |time: TimeVal| {
        Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0))
            + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
    };
    // Kilobytes, except where it is bytes.
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1_024 };
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    Some(Usage {
        user: time(usage.user_time()),
        system: time(usage.system_time()),
        peak_rss_bytes: u64::try_from(usage.max_rss()).unwrap_or(0) * unit,
    })
}

#[cfg(not(unix))]
pub(super) fn usage() -> Option<Usage> {
    None
}
