//! Processes by their id, since a broker outlives the command that started it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;

/// How often to look whether something has come true.
pub(super) const POLL: Duration = Duration::from_millis(50);

/// How long a broker may take to end. One that hands over what it leads takes a second or two.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Runs a program to its end and gives what it printed.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8_lossy(&output.stdout);
        return Err(format!("{name}: {}\n{stdout}{stderr}", output.status).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Sends a signal by its name.
pub(super) fn signal(pid: u32, name: &str) -> Result<()> {
    output(Command::new("kill").args([&format!("-{name}"), &pid.to_string()])).map(drop)
}

/// Whether `pid` runs and is a process with `marker` on its command line, and so not another one that was given the
/// number later.
pub(super) fn is_alive(pid: u32, marker: &str) -> bool {
    let columns = ["-o", "stat=,args=", "-ww", "-p", &pid.to_string()];
    let Ok(line) = output(Command::new("ps").args(columns)) else { return false };
    // What has ended and waits for its parent to notice holds no port any more.
    !line.trim_start().starts_with('Z') && line.contains(marker)
}

/// Ends `pid` with this signal, if it is the process with `marker` on its command line, and returns when it is gone.
pub(super) fn end(pid: u32, marker: &str, name: &str) -> Result<()> {
    if !is_alive(pid, marker) {
        return Ok(());
    }
    signal(pid, name)?;
    let limit = Instant::now() + END_LIMIT;
    while is_alive(pid, marker) {
        if Instant::now() > limit {
            return Err(format!("process {pid} survives SIG{name}").into());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
