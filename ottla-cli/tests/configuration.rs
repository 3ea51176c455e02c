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
    assert_eq!(unknown.status.code(), Some(1));
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
    assert!(single.contains("client.rack = c (given as a pair)"), "{single}");
    assert!(single.contains("bootstrap.servers = flag:1 (set in code)"), "{single}");

    let wrong = ottla(&profiles, &["profiles", "show", "-X", "request.timeout.ms=soon"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("request.timeout.ms"), "{}", stderr(&wrong));
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
fn shells_are_told_what_they_complete() {
    let profiles = Scratch::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&ottla(&profiles, &["completion", shell]));
        for word in ["consume", "add-partitions", "compression-codec"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(ottla(&profiles, &["completion", "tcsh"]).status.code(), Some(2));
}

/// What somebody gets who types `ottla topics de` and presses tab.
#[cfg(unix)]
#[test]
fn bash_completes_with_the_script() {
    let ask = "source <(\"$0\" completion bash); COMP_WORDS=(ottla topics de); COMP_CWORD=2; \
               _ottla ottla de topics; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let Ok(completed) = Command::new("bash").args(["-c", ask, common::OTTLA]).output() else {
        eprintln!("there is no bash here");
        return;
    };
    let completed = String::from_utf8(completed.stdout).unwrap();
    let mut words: Vec<_> = completed.lines().collect();
    words.sort_unstable();
    assert_eq!(words, ["delete", "describe"]);
}
