//! Where commands get their settings from, and what shells complete.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are drivers")]

mod common;

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use common::{Dev, Scratch};

/// Runs with a directory of profiles, and with no server that would be meant otherwise.
fn ottla(profiles: &Scratch, arguments: &[&str]) -> Output {
    let mut command = Command::new(common::OTTLA);
    command.args(arguments).env("OTTLA_CONFIG_DIR", profiles.path()).stdin(Stdio::null());
    command.env_remove("OTTLA_BOOTSTRAP_SERVERS").env_remove("OTTLA_PROFILE").output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn write(profiles: &Scratch, name: &str, text: &str) -> String {
    fs::create_dir_all(profiles.path()).unwrap();
    let file = profiles.path().join(name);
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_file_of_java_and_librdkafka_is_taken_as_it_is() {
    let (dev, profiles) = (Dev::start(&["--topic", "t:1"]), Scratch::new());
    let file = write(
        &profiles,
        "client.cfg",
        &format!(
            "# shared with other programs\n\
             metadata.broker.list={}\n\
             linger.mss=20\n\
             queued.min.messages=1000\n\
             key.serializer=org.apache.kafka.common.serialization.StringSerializer\n\
             schema.registry.url=http://localhost:8081\n",
            dev.servers
        ),
    );
    let listed = ottla(&profiles, &["topics", "list", "--command-config", &file]);
    assert_eq!(stdout(&listed), "t\n");
    let said = stderr(&listed);
    assert!(said.contains("client.cfg:3: unknown key linger.mss; did you mean linger.ms?"), "{said}");
    assert!(said.contains("key.serializer has no effect"), "{said}");
    assert!(!said.contains("schema.registry") && !said.contains("unknown key queued"), "{said}");
}

#[test]
fn a_file_may_leave_what_is_secret_to_the_environment() {
    let profiles = Scratch::new();
    let file = write(
        &profiles,
        "client.properties",
        "config.providers=env\nconfig.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider\n\
         client.id=${env:OTTLA_TEST_ID}-1\n",
    );
    let show = |id: Option<&str>| {
        let mut command = Command::new(common::OTTLA);
        command.args(["profiles", "show", "--command-config", &file]).env_remove("OTTLA_PROFILE");
        command.env("OTTLA_CONFIG_DIR", profiles.path());
        match id {
            Some(id) => command.env("OTTLA_TEST_ID", id),
            None => command.env_remove("OTTLA_TEST_ID"),
        };
        command.output().unwrap()
    };
    let known = show(Some("me"));
    assert!(stdout(&known).contains("client.id = me-1 ("), "{}", stdout(&known));
    assert_eq!(stderr(&known), "", "Java's own lines about it are no news");
    let unknown = show(None);
    assert_eq!(unknown.status.code(), Some(2));
    let said = stderr(&unknown);
    assert!(
        said.contains("client.properties:3: the environment variable OTTLA_TEST_ID is not set"),
        "{said}"
    );
}

#[test]
fn a_profile_has_a_name_and_the_default_needs_none() {
    let (dev, profiles) = (Dev::start(&["--topic", "t:1"]), Scratch::new());
    assert_eq!(stdout(&ottla(&profiles, &["profiles", "list"])), "", "no directory yet");
    write(&profiles, "default.properties", &format!("bootstrap.servers={}\n", dev.servers));
    write(&profiles, "dead.properties", "bootstrap.servers=127.0.0.1:1\n");
    assert_eq!(stdout(&ottla(&profiles, &["profiles", "list"])), "dead\ndefault\n");
    assert_eq!(stdout(&ottla(&profiles, &["topics", "list"])), "t\n");
    assert_eq!(
        stdout(&ottla(&profiles, &["topics", "list", "--profile", "dead", "-b", &dev.servers])),
        "t\n"
    );

    let unknown = ottla(&profiles, &["topics", "list", "--profile", "prod"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("there are dead, default"), "{}", stderr(&unknown));
    let elsewhere = ottla(&profiles, &["topics", "list", "--profile", "../prod"]);
    assert_eq!(elsewhere.status.code(), Some(2));
}

#[test]
fn the_more_specific_setting_wins_and_is_shown_with_its_origin() {
    let profiles = Scratch::new();
    write(&profiles, "default.properties", "bootstrap.servers=profile:1\nclient.id=mine\nclient.rack=a\n");
    let file = write(&profiles, "file.cfg", "bootstrap.servers=file:1\nclient.rack=b\n");
    let show = |arguments: &[&str]| stdout(&ottla(&profiles, &[&["profiles", "show"], arguments].concat()));
    assert!(show(&[]).contains("bootstrap.servers = profile:1 ("));
    let with_file = show(&["--command-config", &file]);
    assert!(with_file.contains("bootstrap.servers = file:1 (") && with_file.contains("client.id = mine ("));
    let single = show(&["--command-config", &file, "-X", "client.rack=c", "-b", "flag:1"]);
    assert!(single.contains("client.rack = c (-X)"), "{single}");
    assert!(single.contains("bootstrap.servers = flag:1 (--bootstrap-server)"), "{single}");
}

#[test]
fn all_settings_are_shown_those_of_producers_and_consumers_too() {
    let profiles = Scratch::new();
    write(
        &profiles,
        "default.properties",
        "linger.ms=7\ngroup.id=billing\ncompression.type=lz4\nsession.timeout.ms=9000\n",
    );
    let shown = stdout(&ottla(&profiles, &["profiles", "show"]));
    let origin = |line: usize| format!("{}:{line}", profiles.path().join("default.properties").display());
    for line in [
        format!("linger.ms = 7 ({})", origin(1)),
        format!("group.id = billing ({})", origin(2)),
        format!("compression.type = lz4 ({})", origin(3)),
        format!("session.timeout.ms = 9000 ({})", origin(4)),
        "bootstrap.servers = localhost:9092 (ottla's default)".to_owned(),
        "max.block.ms = 20000 (ottla's default)".to_owned(),
        "fetch.max.wait.ms = 500 (default)".to_owned(),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
    }
    let mut lines: Vec<_> = shown.lines().collect();
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), all, "nothing twice");
    assert!(stdout(&ottla(&Scratch::new(), &["profiles", "show"])).contains("session.timeout.ms = 45000"));
}

#[test]
fn a_setting_that_is_wrong_is_wrong_usage_and_says_who_said_it() {
    let profiles = Scratch::new();
    for (arguments, said) in [
        (&["profiles", "show", "-X", "request.timeout.ms=soon"][..], "request.timeout.ms = \"soon\" (-X)"),
        (&["profiles", "show", "-X", "linger.ms=abc"], "linger.ms = \"abc\" (-X)"),
        (&["profiles", "show", "-X", "session.timeout.ms=1"], "session.timeout.ms = \"1\" (-X)"),
        (&["topics", "list", "-b", "here"], "bootstrap.servers = \"here\" (--bootstrap-server)"),
        (&["topics", "list", "-X", "security.protocol=SSL"], "TLS and SASL are not built yet"),
        (&["demo", "--session", "1s"], "--session"),
    ] {
        let wrong = ottla(&profiles, arguments);
        assert_eq!(wrong.status.code(), Some(2), "{arguments:?}: {}", stderr(&wrong));
        assert!(stderr(&wrong).contains(said), "{arguments:?}: {}", stderr(&wrong));
    }
}

#[test]
fn the_environment_has_a_say_unless_it_is_empty() {
    let profiles = Scratch::new();
    let run = |arguments: &[&str], servers: &str, profile: &str| {
        let mut command = Command::new(common::OTTLA);
        command.args(arguments).env("OTTLA_CONFIG_DIR", profiles.path()).stdin(Stdio::null());
        command.env("OTTLA_BOOTSTRAP_SERVERS", servers).env("OTTLA_PROFILE", profile).output().unwrap()
    };
    let shown = stdout(&run(&["profiles", "show"], "", ""));
    assert!(shown.contains("bootstrap.servers = localhost:9092 (ottla's default)"), "{shown}");
    let shown = stdout(&run(&["profiles", "show"], "there:1", ""));
    assert!(shown.contains("bootstrap.servers = there:1 (OTTLA_BOOTSTRAP_SERVERS)"), "{shown}");
    let shown = stdout(&run(&["profiles", "show", "-b", "here:1"], "there:1", ""));
    assert!(shown.contains("bootstrap.servers = here:1 (--bootstrap-server)"), "{shown}");
    assert!(stderr(&run(&["profiles", "show"], "", "prod")).contains("no prod.properties"));
    let usage = stderr(&run(&["topics", "describe", "--nonsense"], "there:1", ""));
    assert!(!usage.contains("--bootstrap-server"), "{usage}");
}

#[test]
fn settings_that_decide_what_is_read_count_without_their_options() {
    let (dev, profiles) = (Dev::start(&["--topic", "t:1"]), Scratch::new());
    dev.ok(&["produce", "t"], "a\nb\n");
    let to = ["-b", &dev.servers];
    let reset = [&["consume", "t", "-n", "1", "-X", "auto.offset.reset=earliest"][..], &to].concat();
    assert_eq!(stdout(&ottla(&profiles, &reset)), "a\n");
    let file = write(&profiles, "app.cfg", "auto.offset.reset=smallest\ngroup.id=app\n");
    let from_file = ottla(&profiles, &[&["consume", "t", "-e", "--command-config", &file][..], &to].concat());
    assert_eq!(stdout(&from_file), "a\nb\n");
    assert!(stderr(&from_file).contains("--group app joins it"), "{}", stderr(&from_file));
    assert_eq!(dev.ottla(&["groups", "describe", "app"], "").status.code(), Some(1));

    let member = [&["consume", "t", "-n", "1", "-X", "group.id=g", "-o", "earliest"][..], &to].concat();
    assert_eq!(stdout(&ottla(&profiles, &member)), "a\n");
    let described = dev.ok(&["groups", "describe", "g", "--json"], "");
    assert!(described.contains("\"committed\":1"), "{described}");
    let both = ottla(&profiles, &[&["consume", "t", "-e", "-X", "group.id=g"][..], &to].concat());
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn settings_reach_the_producer_and_the_consumer() {
    let (dev, profiles) = (Dev::start(&["--topic", "t:1"]), Scratch::new());
    let too_large = dev.ottla(&["produce", "t", "-X", "max.request.size=2000"], &"x".repeat(5_000));
    assert_eq!(too_large.status.code(), Some(1));
    assert!(stderr(&too_large).contains("max.request.size"), "{}", stderr(&too_large));
    let wrong = ottla(&profiles, &["consume", "t", "-b", &dev.servers, "-X", "fetch.max.bytes=many"]);
    assert!(stderr(&wrong).contains("fetch.max.bytes"), "{}", stderr(&wrong));
}

#[test]
fn shells_are_told_whom_to_ask() {
    let profiles = Scratch::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&ottla(&profiles, &["completion", shell]));
        assert!(script.contains("OTTLA_COMPLETE") && script.contains("ottla"), "{shell}: {script}");
    }
    assert_eq!(ottla(&profiles, &["completion", "tcsh"]).status.code(), Some(2));
}

/// What somebody gets who types these words and presses tab at the end of the last one; nothing if there is no bash.
#[cfg(unix)]
fn completed(words: &[&str]) -> Option<Vec<String>> {
    let ask = "source <(\"$0\" completion bash); COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9; \
               _clap_complete_ottla \"$1\" \"${@: -1}\" \"${@: -2:1}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut command = Command::new("bash");
    command.args(["-c", ask, common::OTTLA]).args(words).env_remove("OTTLA_BOOTSTRAP_SERVERS");
    let Ok(output) = command.output() else {
        eprintln!("there is no bash here");
        return None;
    };
    let mut words: Vec<_> =
        String::from_utf8(output.stdout).unwrap().lines().map(|word| word.trim().to_owned()).collect();
    words.sort_unstable();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(words)
}

#[cfg(unix)]
#[test]
fn bash_completes_commands_and_names_of_the_cluster() {
    let dev = Dev::start(&["--topic", "orders:1", "--topic", "old:1", "--topic", "refunds:1"]);
    let Some(commands) = completed(&["ottla", "topics", "de"]) else { return };
    assert_eq!(commands, ["delete", "delete-records", "describe"]);
    dev.ok(&["groups", "seek", "billing", "orders", "--to", "start", "--execute"], "");
    for (words, expected) in [
        (&["topics", "describe", "-b", &dev.servers, "o"][..], &["old", "orders"][..]),
        (&["consume", "-b", &dev.servers, "or"], &["orders"]),
        (&["produce", "-b", &dev.servers, "ref"], &["refunds"]),
        (&["consume", "orders", "-b", &dev.servers, "--group", "b"], &["billing"]),
        (&["groups", "seek", "-b", &dev.servers, "bil"], &["billing"]),
    ] {
        assert_eq!(completed(&[&["ottla"], words].concat()).unwrap(), expected, "{words:?}");
    }
}

/// Nobody wants to wait for a cluster that is not there, nor to read why.
#[cfg(unix)]
#[test]
fn a_cluster_that_does_not_answer_completes_nothing_soon() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let begin = std::time::Instant::now();
    for address in [address.as_str(), "127.0.0.1:1"] {
        let Some(words) = completed(&["ottla", "topics", "describe", "-b", address, "o"]) else { return };
        assert_eq!(words.concat(), "", "{address}");
    }
    // Twice a second and a half, and a machine that is busy.
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}
