//! The one error type of the client.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use ottla_protocol::ErrorCode;

use crate::{TopicPartition, config::ConfigProblem};

/// The result of everything that this crate does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, where, and who is at fault.
///
/// One shared word: cloning is cheap, and a batch of a thousand records that fails makes one error.
///
/// `{}` says what was tried and where, `{:#}` adds the causes in the same line, and so does `{:?}`;
/// [`std::error::Error::source`] leads to them one by one.
///
/// Decide by [`Error::kind`] and the predicates, never by the text.
///
/// ```
/// use ottla::*;
///
/// fn advice(error: &Error) -> &'static str {
///     match error.kind() {
///         // who is at fault
///         ErrorKind::Broker(ErrorCode::TOPIC_AUTHORIZATION_FAILED) => "ask for the right",
///         ErrorKind::Broker(ErrorCode(9999)) => "unknown codes arrive as they came",
///         ErrorKind::Misuse | ErrorKind::Config => "fix the program",
///         _ if error.possibly_written() => "look before sending it again",
///         _ if error.is_retriable() => "try again",
///         _ if error.is_fatal() => "build a new producer, consumer or session",
///         _ => "report it, with its source",
///     }
/// }
///
/// let error = Client::builder().bootstrap_servers(["nonsense"]).build().unwrap_err();
/// assert_eq!(advice(&error), "fix the program");
/// assert_eq!(error.config()[0].key(), "bootstrap.servers");
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    what: Cow<'static, str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    topic_partition: Option<TopicPartition>,
    retry_after: Option<Duration>,
    possibly_written: bool,
    retriable: bool,
    problems: Vec<ConfigProblem>,
}

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The program: it called something in a way that can never work.
    Misuse,
    /// The configuration; [`Error::config`] has every problem.
    Config,
    /// A broker said no, with this code. Codes that this version does not know arrive as they came.
    Broker(ErrorCode),
    /// The peer does not follow the protocol: wrong correlation id, undecodable answer, no Kafka at all.
    Peer,
    /// Client and broker have no version of an API in common.
    Incompatible,
    /// The broker does not accept the credentials.
    Authentication,
    /// The network or the operating system.
    Io,
    /// Something did not happen in time.
    Timeout,
    /// Stored data is damaged or cannot be decoded.
    Data,
    /// The client, or the runtime that it was built on, is closed.
    Closed,
}

impl Error {
    /// Who is at fault.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later.
    ///
    /// It does not say that nothing has happened: look at [`Error::possibly_written`] first.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self.0.kind {
            _ if self.0.retriable => true,
            ErrorKind::Broker(code) => code.is_retriable(),
            // The connection was closed; a new one may well answer properly.
            ErrorKind::Io | ErrorKind::Timeout | ErrorKind::Peer => true,
            _ => false,
        }
    }

    /// Whether the producer, consumer or session that returned it is of no use any more.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self.0.kind {
            ErrorKind::Closed => true,
            // Somebody else has taken its place.
            ErrorKind::Broker(code) => {
                [ErrorCode::PRODUCER_FENCED, ErrorCode::FENCED_INSTANCE_ID].contains(&code)
            }
            _ => false,
        }
    }

    /// Whether the record may be in the log all the same, so that sending it again may duplicate it.
    #[must_use]
    pub fn possibly_written(&self) -> bool {
        self.0.possibly_written
    }

    /// Whether the open transaction has to be aborted.
    #[must_use]
    pub fn requires_abort(&self) -> bool {
        self.broker_code() == Some(ErrorCode::TRANSACTION_ABORTABLE)
    }

    /// The broker's error code, if a broker said no.
    #[must_use]
    pub fn broker_code(&self) -> Option<ErrorCode> {
        match self.0.kind {
            ErrorKind::Broker(code) => Some(code),
            _ => None,
        }
    }

    /// The partition that it is about.
    #[must_use]
    pub fn topic_partition(&self) -> Option<&TopicPartition> {
        self.0.topic_partition.as_ref()
    }

    /// How long to wait before the next try, if somebody said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Every problem of the configuration, when that is what failed.
    #[must_use]
    pub fn config(&self) -> &[ConfigProblem] {
        &self.0.problems
    }
}

/// Constructors and additions, for the rooms of this crate.
impl Error {
    fn new(kind: ErrorKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            what: what.into(),
            source: None,
            topic_partition: None,
            retry_after: None,
            possibly_written: false,
            retriable: false,
            problems: Vec::new(),
        }))
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// A broker answered `what` with `code`.
    pub(crate) fn broker(code: ErrorCode, what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Broker(code), what)
    }

    /// `what` did not happen in time.
    pub(crate) fn timeout(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Timeout, what)
    }

    /// The network or the operating system failed at `what`.
    pub(crate) fn io(what: impl Into<Cow<'static, str>>, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, what).with_source(source)
    }

    /// The peer did what no Kafka broker may do.
    pub(crate) fn peer(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Peer, what)
    }

    /// The caller did what can never work.
    pub(crate) fn misuse(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Misuse, what)
    }

    /// Client and broker have nothing in common.
    pub(crate) fn incompatible(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Incompatible, what)
    }

    /// Stored data is damaged.
    pub(crate) fn data(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Data, what)
    }

    /// The configuration is wrong in these places.
    pub(crate) fn invalid_config(problems: Vec<ConfigProblem>) -> Self {
        Self::new(ErrorKind::Config, "the configuration is wrong").edit(|inner| inner.problems = problems)
    }

    /// The configuration cannot even be read.
    pub(crate) fn config_text(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, what)
    }

    /// The client is closed, or its runtime is gone.
    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the client is closed, or the runtime that it was built on is gone")
    }

    /// Adds the cause.
    pub(crate) fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = Arc::from(source.into());
        self.edit(|inner| inner.source = Some(source))
    }

    /// The same kind of error, one step further from its cause: `what` failed because of `self`.
    pub(crate) fn context(self, what: impl Into<Cow<'static, str>>) -> Self {
        let what = what.into();
        let cause = self.clone();
        self.edit(|inner| {
            inner.what = what;
            inner.source = Some(Arc::new(cause));
            // They stay with the cause; shown once is enough.
            inner.problems = Vec::new();
        })
    }

    /// The same kind of error in other words, which include its causes.
    pub(crate) fn restate(self, what: impl Into<Cow<'static, str>>) -> Self {
        let what = what.into();
        self.edit(|inner| (inner.what, inner.source) = (what, None))
    }

    /// Names the partition that it is about.
    pub(crate) fn with_topic_partition(self, topic_partition: TopicPartition) -> Self {
        self.edit(|inner| inner.topic_partition = Some(topic_partition))
    }

    /// Says how long to wait before the next try.
    pub(crate) fn with_retry_after(self, wait: Duration) -> Self {
        self.edit(|inner| inner.retry_after = Some(wait))
    }

    /// Marks it as one after which the record may be in the log.
    pub(crate) fn with_possibly_written(self) -> Self {
        self.edit(|inner| inner.possibly_written = true)
    }

    /// Marks it as one after which the same call may succeed, whatever its kind.
    pub(crate) fn with_retriable(self) -> Self {
        self.edit(|inner| inner.retriable = true)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)?;
        if let ErrorKind::Broker(code) = self.0.kind
            && self.0.source.is_none()
        {
            write!(f, ": {code}")?;
        }
        if let Some(partition) = &self.0.topic_partition {
            write!(f, " ({partition})")?;
        }
        for problem in &self.0.problems {
            write!(f, "\n  {problem}")?;
        }
        if f.alternate() {
            let mut cause = self.source();
            while let Some(source) = cause {
                write!(f, ": {source}")?;
                cause = source.source();
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self:#}", self.0.kind)?;
        if self.0.possibly_written { f.write_str(" [possibly written]") } else { Ok(()) }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn is_one_word() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Option<Error>>(), size_of::<usize>());
    }

    #[test]
    fn the_text_leads_from_what_was_tried_to_the_cause() {
        let refused = Error::io("cannot connect to 127.0.0.1:9092", io::ErrorKind::ConnectionRefused.into());
        let error = refused.context("no bootstrap server answered");
        assert_eq!(
            format!("{error:#}"),
            "no bootstrap server answered: cannot connect to 127.0.0.1:9092: connection refused"
        );
        assert_eq!(error.to_string(), "no bootstrap server answered");
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.source().is_some_and(|cause| cause.source().is_some()));
    }

    #[test]
    fn unknown_codes_arrive_as_they_came() {
        let error = Error::broker(ErrorCode(9999), "create topic orders");
        assert_eq!(error.broker_code(), Some(ErrorCode(9999)));
        assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode(9999)));
        assert!(!error.is_retriable());
    }

    #[test]
    fn what_is_added_later_leaves_earlier_clones_alone() {
        let error = Error::timeout("no answer");
        let marked = error.clone().with_possibly_written().with_topic_partition(("orders", 1).into());
        assert!(marked.possibly_written() && !error.possibly_written());
        assert_eq!(marked.to_string(), "no answer (orders-1)");
        assert_eq!(error.to_string(), "no answer");
    }

    #[test]
    fn what_is_fatal_is_not_retriable() {
        for fatal in [Error::closed(), Error::broker(ErrorCode::PRODUCER_FENCED, "produce")] {
            assert!(fatal.is_fatal() && !fatal.is_retriable());
        }
        let passes = Error::broker(ErrorCode::NOT_LEADER_OR_FOLLOWER, "produce");
        assert!(passes.is_retriable() && !passes.is_fatal());
    }
}
