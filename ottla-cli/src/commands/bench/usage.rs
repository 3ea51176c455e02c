//! What this process has used.

use std::time::Duration;

/// CPU time so far, and the most memory it ever had. Nothing where the operating system does not tell.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) user: Duration,
    pub(super) system: Duration,
    pub(super) peak_rss_bytes: u64,
    /// How often a thread slept: it was woken as often.
    pub(super) sleeps: u64,
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
        sleeps: u64::try_from(usage.voluntary_context_switches()).unwrap_or(0),
    })
}

/// Sockets that are open, memory in use in bytes, and writes so far, each of which is a request when nothing else happens.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Now {
    pub(super) sockets: u64,
    pub(super) rss_bytes: u64,
    pub(super) writes: u64,
}

/// Nothing where there is no `/proc`.
pub(super) fn now() -> Option<Now> {
    let field = |file: &str, name: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/self/{file}")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let open = std::fs::read_dir("/proc/self/fd").ok()?.flatten();
    let is_socket = |path: std::path::PathBuf| path.to_string_lossy().starts_with("socket:");
    Some(Now {
        sockets: open.filter(|file| std::fs::read_link(file.path()).is_ok_and(is_socket)).count() as u64,
        rss_bytes: field("status", "VmRSS:")? * 1_024,
        writes: field("io", "syscw:")?,
    })
}

#[cfg(not(unix))]
pub(super) fn usage() -> Option<Usage> {
    None
}
