//! `docs/first-hour.md`, walked as it is written. Only the port differs, since others may be at work here.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are drivers")]

mod common;

use std::{
    collections::BTreeMap,
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use common::{OTTLA, Scratch, eventually};

const PAGE: &str = include_str!("../../docs/first-hour.md");
const ADDRESS: &str = "127.0.0.1:9092";

/// What is to be done, in the order of the page.
#[derive(Debug)]
enum Step {
    /// A block of that info string, with what it shows.
    Shell {
        info: String,
        script: String,
        shows: Option<String>,
    },
    Rust(String),
    Interrupt(Vec<String>),
}

fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        if let Some(names) = line.strip_prefix("<!-- walk: interrupt ") {
            let names = names.trim_end_matches(" -->").split(' ').map(str::to_owned).collect();
            steps.push(Step::Interrupt(names));
        }
        let Some(info) = line.strip_prefix("```") else { continue };
        let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let block = block.join("\n");
        match (info, steps.last_mut()) {
            ("text", Some(Step::Shell { shows, .. })) if shows.is_none() => *shows = Some(block),
            ("rust,no_run", _) => steps.push(Step::Rust(block)),
            (info, _) if info.starts_with("sh") => {
                steps.push(Step::Shell { info: info.to_owned(), script: block, shows: None });
            }
            other => panic!("what is to be done with {other:?}?"),
        }
    }
    steps
}

/// Whether the output is what the page shows, where `…` is anything within a line.
fn is_shown(shown: &str, output: &str) -> bool {
    let line = |(shown, output): (&str, &str)| {
        let mut rest = Some(output);
        for (at, part) in shown.split('…').enumerate() {
            let found = rest.and_then(|rest| rest.find(part).filter(|found| at > 0 || *found == 0));
            rest = found.and_then(|found| rest?.get(found + part.len()..));
        }
        rest.is_some_and(|rest| rest.is_empty() || shown.ends_with('…'))
    };
    shown.lines().count() == output.lines().count() && shown.lines().zip(output.lines()).all(line)
}

/// A terminal in which something runs.
struct Terminal {
    process: Child,
    output: Arc<Mutex<String>>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

struct Walk {
    place: Scratch,
    terminals: BTreeMap<String, Terminal>,
    servers: String,
}

impl Walk {
    fn shell(&self, script: &str) -> Command {
        // In a terminal of its own a command is not a child of a shell that waits for it.
        let script = script
            .replace("ottla dev", "exec ottla dev --port 0")
            .replace("ottla consume orders --group", "exec ottla consume orders --group");
        let mut command = Command::new("bash");
        let path = format!("{}:{}", Path::new(OTTLA).parent().unwrap().display(), env::var("PATH").unwrap());
        command
            .args(["-e", "-o", "pipefail", "-c", &script])
            .current_dir(self.place.path())
            .env("PATH", path);
        command.env("OTTLA_BOOTSTRAP_SERVERS", &self.servers).env("OTTLA_CONFIG_DIR", self.place.path());
        command.env("CARGO_TARGET_DIR", target().join("first-hour"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&mut self, name: &str, script: &str, shows: Option<&str>) {
        let mut process = self.shell(script).spawn().unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        let pipes: [Box<dyn Read + Send>; 2] =
            [Box::new(process.stdout.take().unwrap()), Box::new(process.stderr.take().unwrap())];
        for mut pipe in pipes {
            let output = Arc::clone(&output);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                    output.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
                }
            });
        }
        if name == "cluster" {
            let shows = shows.expect("the page shows where it is");
            self.servers = eventually("the cluster is there", || {
                let said = output.lock().unwrap().clone();
                let servers = said.lines().find(|line| line.starts_with("127.0.0.1:"))?.to_owned();
                let (mut said, mut shows): (Vec<_>, Vec<_>) =
                    (said.lines().collect(), shows.lines().collect());
                // Two streams have no order between them.
                said.sort_unstable();
                shows.sort_unstable();
                is_shown(&shows.join("\n").replace(ADDRESS, &servers), &said.join("\n")).then_some(servers)
            });
        }
        self.terminals.insert(name.to_owned(), Terminal { process, output });
    }

    fn run(&self, script: &str, shows: Option<&str>, again: bool) {
        let once = || {
            let output = self.shell(script).output().unwrap();
            let (seen, said) = (
                String::from_utf8(output.stdout).unwrap(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            );
            let is_right = output.status.success() && shows.is_none_or(|shows| is_shown(shows, &seen));
            if is_right {
                Ok(())
            } else {
                Err(format!("{script}\n{}\n{seen}\n{said}\nin place of\n{shows:?}", output.status))
            }
        };
        match again {
            true => eventually(script, || once().ok()),
            false => once().unwrap(),
        }
    }

    fn interrupt(&mut self, name: &str) {
        let mut terminal = self.terminals.remove(name).unwrap();
        let id = terminal.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let status = eventually("it ends", || terminal.process.try_wait().unwrap());
        let output = terminal.output.lock().unwrap();
        assert!(status.success() && output.starts_with(&format!("{name} ")), "{name}: {status}: {output}");
    }
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").canonicalize().unwrap()
}

#[test]
fn the_first_hour_goes_as_it_is_written() {
    let mut walk = Walk { place: Scratch::new(), terminals: BTreeMap::new(), servers: String::new() };
    fs::create_dir_all(walk.place.path()).unwrap();
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::os::unix::fs::symlink(checkout, walk.place.path().join("ottla")).unwrap();
    // A program of its own compiles all that it depends on.
    let compiles = env::var_os("CI").is_some();
    if !compiles {
        eprintln!("without CI=true the Rust program is only compiled, by the documentation's tests");
    }
    for step in steps() {
        match step {
            Step::Interrupt(names) => names.iter().for_each(|name| walk.interrupt(name)),
            Step::Rust(program) if compiles => {
                let program = program.replace("localhost:9092", &walk.servers);
                fs::write(walk.place.path().join("receipts/src/main.rs"), program).unwrap();
            }
            Step::Rust(_) => {}
            Step::Shell { info, script, shows } => match info.as_str() {
                "sh" => walk.run(&script, shows.as_deref(), false),
                "sh again" => walk.run(&script, shows.as_deref(), true),
                // What it installs is what runs here.
                "sh install" => {}
                "sh cargo" if compiles => walk.run(&script, shows.as_deref(), false),
                "sh cargo" => {}
                info => match info.strip_prefix("sh terminal=") {
                    Some(name) => walk.start(name, &script, shows.as_deref()),
                    None => panic!("what is {info}?"),
                },
            },
        }
    }
}

#[test]
fn what_a_page_shows_is_compared_line_by_line() {
    assert!(is_shown("a…c\nx", "abc\nx\n") && is_shown("…", "anything") && is_shown("a…", "ab"));
    assert!(
        !is_shown("a…c", "abd") && !is_shown("a", "ab") && !is_shown("b", "ab") && !is_shown("a", "a\nb")
    );
}
