//! A client that nobody here wrote: kcat, and with it librdkafka, from Debian's package.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are drivers")]

mod common;

use std::{
    env,
    process::{Command, Output, Stdio},
};

use common::cluster;
use ottla_broker::tcp::Cluster;
use tokio::{io::AsyncWriteExt, process};

/// Whether kcat is there. On the build server it has to be.
fn kcat_is_there() -> bool {
    let found = Command::new("kcat").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match found {
        Ok(_) => true,
        Err(error) if env::var_os("CI").is_some_and(|ci| ci == "true") => panic!("kcat: {error}"),
        Err(error) => {
            println!("skipped: kcat: {error} (Debian: apt-get install kcat)");
            false
        }
    }
}

struct Kcat<'a>(&'a Cluster);

impl Kcat<'_> {
    async fn try_run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = process::Command::new("kcat")
            .args(["-b", &self.0.bootstrap_servers().join(","), "-m", "20"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        tokio::time::timeout(common::PATIENCE, child.wait_with_output()).await.expect("kcat hangs").unwrap()
    }

    async fn run(&self, arguments: &[&str], input: &str) -> String {
        let output = self.try_run(arguments, input).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kcat {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[tokio::test]
async fn kcat_reads_what_it_wrote_with_keys_and_headers() {
    if !kcat_is_there() {
        return;
    }
    let cluster = cluster(1).await;
    let kcat = Kcat(&cluster);
    let headers = ["-H", "via=web", "-H", "via=eu"];
    let produce = [&["-P", "-t", "users", "-p", "0", "-K", ":"][..], &headers].concat();
    kcat.run(&produce, "ada:first\nbob:second\n:no key\n").await;
    let format = r"%p %o [%k] %s %h\n";
    let seen = kcat.run(&["-C", "-t", "users", "-o", "beginning", "-e", "-q", "-f", format], "").await;
    let expected =
        "0 0 [ada] first via=web,via=eu\n0 1 [bob] second via=web,via=eu\n0 2 [] no key via=web,via=eu\n";
    assert_eq!(seen, expected);
    cluster.stop().await;
}

#[tokio::test]
async fn kcat_reads_every_codec_that_it_writes() {
    if !kcat_is_there() {
        return;
    }
    let cluster = cluster(1).await;
    let kcat = Kcat(&cluster);
    let features = kcat.run(&["-V"], "").await;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        // Debian's librdkafka has them all but perhaps zstd; it says so itself.
        if codec == "zstd" && !features.contains("zstd") {
            println!("this kcat has no zstd: {features}");
            continue;
        }
        let topic = format!("codec-{codec}");
        let lines: String = (0..500).map(|n| format!("line {n} is a line like the others\n")).collect();
        kcat.run(&["-P", "-t", &topic, "-z", codec, "-X", "linger.ms=100"], &lines).await;
        let seen =
            kcat.run(&["-C", "-t", &topic, "-o", "beginning", "-e", "-q", "-X", "check.crcs=true"], "").await;
        assert_eq!(seen, lines, "{codec}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn kcat_produces_idempotently() {
    if !kcat_is_there() {
        return;
    }
    let cluster = cluster(3).await;
    let kcat = Kcat(&cluster);
    let lines: String = (0..2_000).map(|n| format!("{n}\n")).collect();
    let settings = ["-X", "enable.idempotence=true", "-X", "acks=all"];
    kcat.run(&[&["-P", "-t", "exact", "-p", "0"][..], &settings].concat(), &lines).await;
    let seen = kcat.run(&["-C", "-t", "exact", "-p", "0", "-o", "beginning", "-e", "-q"], "").await;
    assert_eq!(seen, lines);
    cluster.stop().await;
}

#[tokio::test]
async fn kcat_asks_for_offsets_and_starts_at_them() {
    if !kcat_is_there() {
        return;
    }
    let cluster = cluster(1).await;
    let kcat = Kcat(&cluster);
    kcat.run(&["-P", "-t", "t", "-p", "0"], "a\nb\nc\nd\n").await;
    assert_eq!(kcat.run(&["-Q", "-t", "t:0:-1"], "").await.trim(), "t [0] offset 4");
    assert_eq!(kcat.run(&["-Q", "-t", "t:0:-2"], "").await.trim(), "t [0] offset 0");
    assert_eq!(kcat.run(&["-Q", "-t", "t:0:1"], "").await.trim(), "t [0] offset 0");
    let consume = |offset| ["-C", "-t", "t", "-p", "0", "-o", offset, "-e", "-q", "-f", "%s,"];
    assert_eq!(kcat.run(&consume("2"), "").await, "c,d,");
    assert_eq!(kcat.run(&consume("-1"), "").await, "d,");
    assert_eq!(kcat.run(&consume("end"), "").await, "");
    assert_eq!(kcat.run(&consume("s@1"), "").await, "a,b,c,d,");
    cluster.stop().await;
}

#[tokio::test]
async fn kcat_lists_nodes_topics_and_leaders() {
    if !kcat_is_there() {
        return;
    }
    let cluster = cluster(3).await;
    let kcat = Kcat(&cluster);
    kcat.run(&["-P", "-t", "t", "-p", "0"], "x\n").await;
    let listing = kcat.run(&["-L"], "").await;
    for server in cluster.bootstrap_servers() {
        assert!(listing.contains(&format!(" at {server}")), "{listing}");
    }
    assert!(listing.contains("3 brokers:"), "{listing}");
    assert!(listing.contains("topic \"t\" with 1 partitions:"), "{listing}");
    assert!(listing.contains("partition 0, leader "), "{listing}");
    cluster.stop().await;
}

#[tokio::test]
async fn kcat_goes_on_when_the_leader_is_gone() {
    if !kcat_is_there() {
        return;
    }
    let cluster = cluster(3).await;
    let kcat = Kcat(&cluster);
    kcat.run(&["-P", "-t", "t", "-p", "0"], "before\n").await;
    for node in 1..=3 {
        cluster.crash(node, ottla_broker::disk::Tail::Lost).await.unwrap();
        // It finds whoever leads by then.
        kcat.run(&["-P", "-t", "t", "-p", "0", "-X", "acks=all"], &format!("without {node}\n")).await;
        cluster.restart(node).await.unwrap();
        let mut client = common::RawClient::connect(&cluster.bootstrap_servers()[0]).await;
        client.metadata_until("t", |metadata| metadata.topics[0].partitions[0].isr_nodes.len() == 3).await;
    }
    let seen = kcat.run(&["-C", "-t", "t", "-p", "0", "-o", "beginning", "-e", "-q"], "").await;
    assert_eq!(seen, "before\nwithout 1\nwithout 2\nwithout 3\n");
    cluster.stop().await;
}
