//! The built command, as somebody at a terminal uses it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "each test uses a part; tests are drivers"
)]

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{self, Child, Command, Output, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

pub const OTTLA: &str = env!("CARGO_BIN_EXE_ottla");

/// An embedded cluster in a process of its own, killed at the end.
pub struct Dev {
    process: Child,
    pub servers: String,
}

impl Dev {
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(OTTLA);
        command.args(["dev", "--port", "0"]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut servers = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut servers).unwrap();
        assert!(!servers.is_empty(), "ottla dev did not start");
        Self { process, servers: servers.trim().to_owned() }
    }

    /// Of a program that runs it with these arguments, and gives it its own process id and stdout. What it says is read too.
    pub fn start_by(command: &mut Command, arguments: &[&str]) -> (Self, BufReader<process::ChildStderr>) {
        command.args(["dev", "--port", "0"]).args(arguments);
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut servers = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut servers).unwrap();
        let said = BufReader::new(process.stderr.take().unwrap());
        assert!(!servers.is_empty(), "ottla dev did not start");
        (Self { process, servers: servers.trim().to_owned() }, said)
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn ottla(&self, arguments: &[&str], input: &str) -> Output {
        run(&[arguments, &["--bootstrap-server", &self.servers]].concat(), input)
    }

    pub fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.ottla(arguments, input);
        assert!(output.status.success(), "ottla {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[cfg(unix)]
    pub fn terminate(&mut self) -> process::ExitStatus {
        terminate(&self.process);
        self.process.wait().unwrap()
    }
}

/// Nothing here takes long, but a machine may be busy.
const LIMIT: Duration = Duration::from_secs(60);

/// A command that runs by itself, whose lines are read as they come; killed at the end.
pub struct Running {
    pub process: Child,
    lines: Option<Receiver<String>>,
}

impl Running {
    /// Reads what it prints.
    pub fn start(arguments: &[&str]) -> Self {
        let mut running = Self::start_unread(arguments);
        let stdout = BufReader::new(running.process.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        running.lines = Some(lines);
        running
    }

    /// Nobody reads what it prints, until somebody takes the pipe or closes it.
    pub fn start_unread(arguments: &[&str]) -> Self {
        let mut command = Command::new(OTTLA);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        Self { process: command.spawn().unwrap(), lines: None }
    }

    /// The next lines, as many as that.
    pub fn lines(&self, count: usize) -> Vec<String> {
        let lines = self.lines.as_ref().unwrap();
        let line = |at: usize| {
            lines.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("{at} lines in place of {count}"))
        };
        (0..count).map(line).collect()
    }

    /// The lines that are there now.
    pub fn lines_so_far(&self) -> Vec<String> {
        self.lines.as_ref().unwrap().try_iter().collect()
    }

    /// Waits for its end; gives the exit code and the lines that were left.
    pub fn end(mut self) -> (Option<i32>, Vec<String>) {
        let status = eventually("it ends", || self.process.try_wait().unwrap());
        (status.code(), self.lines.take().map(|lines| lines.iter().collect()).unwrap_or_default())
    }
}

impl Drop for Running {
    /// SIGKILL.
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Looks again and again.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    let (started, mut look) = (Instant::now(), look);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// SIGTERM.
#[cfg(unix)]
pub fn terminate(process: &Child) {
    let sent = Command::new("kill").arg(process.id().to_string()).status().unwrap();
    assert!(sent.success());
}

impl Drop for Dev {
    /// SIGKILL.
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

pub fn run(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(OTTLA);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read its input has closed it.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

/// A path below the temporary directory where nothing is, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("ottla-cli-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(unique);
        drop(fs::remove_dir_all(&path));
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
