//! What a client as a whole is told.

use std::{fmt, str::FromStr, time::Duration};

use ottla_core::backoff::BackoffPolicy;

use super::{EffectiveSettings, Reader, Settings};
use crate::Result;

/// The settings of a client in effect; its [`Display`](fmt::Display) shows all of them with their origins, secrets
/// masked.
#[derive(Clone)]
pub struct ClientConfig {
    pub(crate) bootstrap_servers: Vec<HostPort>,
    pub(crate) client_id: Option<String>,
    pub(crate) client_rack: Option<String>,
    pub(crate) request_timeout: Duration,
    pub(crate) default_api_timeout: Duration,
    /// None: connections are never closed for being idle.
    pub(crate) connections_max_idle: Option<Duration>,
    pub(crate) connection_setup_timeout: Duration,
    pub(crate) reconnect_backoff: BackoffPolicy,
    pub(crate) retry_backoff: BackoffPolicy,
    pub(crate) metadata_max_age: Duration,
    pub(crate) allow_auto_create_topics: bool,
    pub(crate) max_response_bytes: usize,
    effective: EffectiveSettings,
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

impl ClientConfig {
    pub(crate) fn read(settings: &Settings) -> Result<Self> {
        let mut reader = Reader::new(settings);
        let config = Self::read_from(&mut reader);
        Ok(Self { effective: reader.finish()?, ..config })
    }

    fn read_from(reader: &mut Reader<'_>) -> Self {
        let bootstrap_servers = bootstrap_servers(reader);
        plaintext_only(reader);
        Self {
            bootstrap_servers,
            client_id: reader.text("client.id"),
            client_rack: reader.text("client.rack").filter(|rack| !rack.is_empty()),
            request_timeout: reader.duration("request.timeout.ms", 30 * SECOND, MILLISECOND..=HOUR),
            default_api_timeout: reader.duration("default.api.timeout.ms", 60 * SECOND, MILLISECOND..=HOUR),
            connections_max_idle: reader.duration_or_never(
                "connections.max.idle.ms",
                540 * SECOND,
                SECOND..=24 * HOUR,
            ),
            connection_setup_timeout: reader.duration(
                "socket.connection.setup.timeout.ms",
                10 * SECOND,
                MILLISECOND..=HOUR,
            ),
            reconnect_backoff: backoff(reader, "reconnect.backoff.ms", 50, "reconnect.backoff.max.ms"),
            retry_backoff: backoff(reader, "retry.backoff.ms", 100, "retry.backoff.max.ms"),
            metadata_max_age: reader.duration(
                "metadata.max.age.ms",
                300 * SECOND,
                10 * MILLISECOND..=24 * HOUR,
            ),
            allow_auto_create_topics: reader.flag("allow.auto.create.topics", false),
            max_response_bytes: reader.number("receive.message.max.bytes", 64 << 20, 1_024..=1 << 30),
            effective: EffectiveSettings::default(),
        }
    }
}

impl fmt::Display for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.effective, f)
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.effective, f)
    }
}

/// Java allows 0, which would be a busy loop: it counts as 1 ms.
fn backoff(
    reader: &mut Reader<'_>,
    initial: &'static str,
    default_ms: u32,
    max: &'static str,
) -> BackoffPolicy {
    let initial = reader.duration(initial, MILLISECOND * default_ms, Duration::ZERO..=HOUR);
    let max = reader.duration(max, SECOND, Duration::ZERO..=HOUR);
    BackoffPolicy::new(initial.max(MILLISECOND), max)
}

fn bootstrap_servers(reader: &mut Reader<'_>) -> Vec<HostPort> {
    let allowed = "host:port[,host:port…], as in b1.internal:9092 or [::1]:9092";
    let servers = reader.parsed("bootstrap.servers", "", allowed, |value| {
        let mut servers: Vec<HostPort> = Vec::new();
        for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let server = part.parse().ok()?;
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        (!servers.is_empty()).then_some(servers)
    });
    if reader.is_unset("bootstrap.servers") {
        reader.problem("bootstrap.servers", allowed);
    }
    servers.unwrap_or_default()
}

/// A file that asks for TLS must never lead to a plaintext connection.
fn plaintext_only(reader: &mut Reader<'_>) {
    let allowed = "PLAINTEXT: TLS and SASL are not built yet";
    let plaintext = |value: &str| value.eq_ignore_ascii_case("PLAINTEXT").then_some(());
    reader.parsed("security.protocol", "PLAINTEXT", allowed, plaintext);
}

/// An address as the configuration or a broker gives it: a name, or a literal IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostPort {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for HostPort {
    type Err = ();

    /// Also understands a listener's URL, as it is often pasted: `PLAINTEXT://host:port`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or(())?,
            None if host.contains(':') => return Err(()),
            None => host,
        };
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(())?;
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Properties;

    fn read(pairs: &[(&str, &str)]) -> Result<ClientConfig> {
        let mut settings = Settings::default();
        settings.extend(&pairs.iter().copied().collect::<Properties>());
        ClientConfig::read(&settings)
    }

    #[test]
    fn understands_every_form_of_address() {
        let config = read(&[("bootstrap.servers", "b1:9092, [::1]:9093,PLAINTEXT://b2:1,,b1:9092")]).unwrap();
        let servers: Vec<_> = config.bootstrap_servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["b1:9092", "[::1]:9093", "b2:1"]);
    }

    #[test]
    fn refuses_addresses_that_cannot_be_meant() {
        for wrong in ["b1", "b1:", ":9092", "b1:0", "b1:70000", "::1:9092", "[::1:9092", "b 1:9092", ","] {
            let error = read(&[("bootstrap.servers", wrong)]).unwrap_err();
            assert_eq!(error.config().len(), 1, "{wrong}");
            assert_eq!(error.config()[0].value(), Some(wrong));
        }
    }

    #[test]
    fn missing_servers_are_a_problem_of_their_own() {
        let error = read(&[]).unwrap_err();
        assert_eq!(error.config()[0].key(), "bootstrap.servers");
        assert_eq!(error.config()[0].value(), None);
    }

    #[test]
    fn a_file_that_asks_for_tls_is_refused() {
        let error = read(&[("bootstrap.servers", "b1:1"), ("security.protocol", "SASL_SSL")]).unwrap_err();
        assert_eq!(error.config()[0].key(), "security.protocol");
        assert!(error.to_string().contains("TLS and SASL are not built yet"), "{error}");
    }

    #[test]
    fn what_java_allows_is_allowed() {
        let servers = ("bootstrap.servers", "b1:1");
        let zero =
            ["retry.backoff.ms", "retry.backoff.max.ms", "reconnect.backoff.ms", "reconnect.backoff.max.ms"];
        let pairs: Vec<_> = zero.iter().map(|key| (*key, "0")).chain([servers]).collect();
        let config = read(&pairs).unwrap();
        let millisecond = BackoffPolicy::new(MILLISECOND, MILLISECOND);
        assert_eq!([config.retry_backoff, config.reconnect_backoff], [millisecond; 2]);

        assert_eq!(read(&[servers]).unwrap().connections_max_idle, Some(540 * SECOND));
        for (value, idle) in [("-1", None), ("60000", Some(60 * SECOND))] {
            let config = read(&[servers, ("connections.max.idle.ms", value)]).unwrap();
            assert_eq!(config.connections_max_idle, idle, "{value}");
        }
        let error = read(&[servers, ("connections.max.idle.ms", "-2")]).unwrap_err();
        assert!(error.config()[0].allowed().ends_with("or -1 (never)"), "{error}");
    }

    #[test]
    fn shows_every_setting_with_its_origin() {
        let shown =
            read(&[("metadata.broker.list", "b1:1"), ("client.id", "a,zone=b ")]).unwrap().to_string();
        assert!(shown.contains("bootstrap.servers = b1:1 (given as a pair)"), "{shown}");
        assert!(shown.contains("client.id = a,zone=b  (given as a pair)"), "{shown}");
        assert!(shown.contains("request.timeout.ms = 30000 (default)"), "{shown}");
    }
}
