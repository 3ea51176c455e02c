//! The first exchange on a connection: which versions does the broker speak (KIP-35, KIP-511)?
//!
//! ```text
//!            ApiVersions(v)          answer
//!   start ─────────────────▶ asked ───────────▶ ready
//!                            ▲   │
//!                            └───┤ UNSUPPORTED_VERSION: once more, in the newest version that both know
//!                                │
//!                                ├ closed without an answer: on a new connection, with the next lower of 4, 3, 0
//!                                ▼ (some brokers cut the connection where Kafka answers 35)
//!                              failed: another error code, undecodable, another correlation id
//! ```

use bytes::Bytes;
use ottla_protocol::{
    ApiKey, DecodeError, ErrorCode, Str,
    frame::decode_response,
    messages::{ApiVersionsRequest, ApiVersionsResponse},
};

use crate::versions::Versions;

/// The versions of ApiVersions to try when a broker cuts the connection: 3 carries features and is what everybody but
/// the newest knows, 0 is what everybody knows.
const LADDER: [i16; 3] = [4, 3, 0];

/// What is remembered of a broker between connections: in which version it can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandshakeMemory {
    version: i16,
    /// The broker has answered in this version.
    proven: bool,
}

impl Default for HandshakeMemory {
    fn default() -> Self {
        Self { version: LADDER[0], proven: false }
    }
}

impl HandshakeMemory {
    /// A connection was closed without an answer: the next lower version, if there is one.
    ///
    /// `None` starts over with the newest: the version was not what the broker minded, since there is no lower one, or
    /// since the broker has answered in it before.
    pub fn on_closed_unanswered(&mut self) -> Option<i16> {
        let lower = LADDER.into_iter().find(|version| *version < self.version && !self.proven);
        *self = Self { version: lower.unwrap_or(LADDER[0]), proven: false };
        lower
    }

    /// The broker has answered in the version that it was asked in.
    pub fn on_ready(&mut self) {
        self.proven = true;
    }

    /// The broker could not be connected to: it may be another version when it comes back.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The handshake of one connection.
#[derive(Debug)]
pub struct Handshake {
    version: i16,
}

/// What an answer means.
#[derive(Debug)]
pub enum HandshakeStep {
    /// Ask once more on this connection, in [`Handshake::version`].
    AskAgain,
    /// The connection can be used.
    Ready {
        /// What the broker speaks.
        versions: Versions,
        /// For so long nothing may be sent on it: brokers throttle this answer like every other (KIP-219).
        throttle_time_ms: i32,
    },
}

/// The broker cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The first answer does not belong to the first question: this is no Kafka broker.
    #[error("the first answer has correlation id {got} where {expected} was due; is this a Kafka broker?")]
    WrongCorrelationId {
        /// What was sent.
        expected: i32,
        /// What came back.
        got: i32,
    },
    /// The first answer cannot be decoded.
    #[error("the answer to ApiVersions cannot be decoded; is this a Kafka broker?")]
    Undecodable(#[from] DecodeError),
    /// The broker answered with an error.
    #[error("the broker refused ApiVersions: {0}")]
    Refused(ErrorCode),
    /// The broker knows no version of ApiVersions that this client knows.
    #[error("the broker knows no version of ApiVersions that this client knows")]
    NoCommonVersion,
}

impl Handshake {
    /// Begins with what is remembered of the broker.
    #[must_use]
    pub fn new(memory: HandshakeMemory) -> Self {
        Self { version: memory.version }
    }

    /// The version in which ApiVersions has to be asked now.
    #[must_use]
    pub fn version(&self) -> i16 {
        self.version
    }

    /// What has to be asked: `software_version` is shown by the broker in its metrics (KIP-511).
    #[must_use]
    pub fn request(&self, software_version: &'static str) -> ApiVersionsRequest {
        // Versions below 3 cannot say who asks; the encoder leaves ignorable fields out.
        ApiVersionsRequest {
            client_software_name: Str::from_static("ottla"),
            client_software_version: Str::from_static(software_version),
            ..ApiVersionsRequest::default()
        }
    }

    /// Takes the answer to the question with `correlation_id`. `frame` is without its length.
    ///
    /// # Errors
    /// When the connection cannot be used.
    pub fn on_answer(&mut self, correlation_id: i32, frame: Bytes) -> Result<HandshakeStep, HandshakeError> {
        // An UNSUPPORTED_VERSION answer is in version 0 whatever was asked: look at the code before decoding.
        let code = frame.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(i16::from_be_bytes);
        let unsupported = code == Some(ErrorCode::UNSUPPORTED_VERSION.0);
        let version = if unsupported { 0 } else { self.version };
        let (got, response) = decode_response::<ApiVersionsRequest>(version, frame)?;
        if got != correlation_id {
            return Err(HandshakeError::WrongCorrelationId { expected: correlation_id, got });
        }
        if unsupported {
            return self.downgrade(&response);
        }
        if response.error_code != ErrorCode::NONE {
            return Err(HandshakeError::Refused(response.error_code));
        }
        let throttle_time_ms = response.throttle_time_ms;
        Ok(HandshakeStep::Ready { versions: Versions::new(&response), throttle_time_ms })
    }

    /// Brokers since 2.4 name the versions of ApiVersions that they know; older ones say nothing and know 0.
    fn downgrade(&mut self, response: &ApiVersionsResponse) -> Result<HandshakeStep, HandshakeError> {
        let theirs = response.api_keys.iter().find(|api| api.api_key == ApiKey::API_VERSIONS.0);
        let version = theirs.map_or(0, |api| api.max_version).clamp(0, LADDER[0]);
        // Strictly downwards, so that it ends whatever the broker says.
        if version >= self.version {
            return Err(HandshakeError::NoCommonVersion);
        }
        self.version = version;
        Ok(HandshakeStep::AskAgain)
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::{
        frame::encode_response,
        messages::{MetadataRequest, api_versions_response::ApiVersion},
    };

    use super::*;

    fn answer(version: i16, correlation_id: i32, error_code: ErrorCode, apis: &[(ApiKey, i16)]) -> Bytes {
        let api_keys = apis.iter().map(|(api, max_version)| ApiVersion {
            api_key: api.0,
            min_version: 0,
            max_version: *max_version,
        });
        let response = ApiVersionsResponse { error_code, api_keys: api_keys.collect(), ..Default::default() };
        let segments = encode_response::<ApiVersionsRequest>(version, correlation_id, &response).unwrap();
        Bytes::from(segments.concat()).slice(4..)
    }

    fn handshake() -> Handshake {
        Handshake::new(HandshakeMemory::default())
    }

    #[test]
    fn a_current_broker_is_ready_at_once() {
        let frame = answer(4, 1, ErrorCode::NONE, &[(ApiKey::METADATA, 12)]);
        let step = handshake().on_answer(1, frame);
        let Ok(HandshakeStep::Ready { versions, throttle_time_ms: 0 }) = step else { panic!("{step:?}") };
        assert_eq!(versions.choose::<MetadataRequest>(&(0..=20)), Ok(12));
    }

    #[test]
    fn a_broker_may_throttle_the_connection_from_its_first_answer_on() {
        let response = ApiVersionsResponse { throttle_time_ms: 700, ..Default::default() };
        let frame = encode_response::<ApiVersionsRequest>(4, 1, &response).unwrap().concat();
        let step = handshake().on_answer(1, Bytes::from(frame).slice(4..));
        assert!(matches!(step, Ok(HandshakeStep::Ready { throttle_time_ms: 700, .. })), "{step:?}");
    }

    #[test]
    fn an_older_broker_is_asked_again_in_its_newest_version() {
        let mut handshake = handshake();
        let frame = answer(0, 1, ErrorCode::UNSUPPORTED_VERSION, &[(ApiKey::API_VERSIONS, 3)]);
        assert!(matches!(handshake.on_answer(1, frame), Ok(HandshakeStep::AskAgain)));
        assert_eq!(handshake.version(), 3);
        let frame = answer(3, 2, ErrorCode::NONE, &[(ApiKey::METADATA, 9)]);
        assert!(matches!(handshake.on_answer(2, frame), Ok(HandshakeStep::Ready { .. })));
    }

    #[test]
    fn a_broker_that_names_no_version_is_asked_in_version_0() {
        let mut handshake = handshake();
        let frame = answer(0, 1, ErrorCode::UNSUPPORTED_VERSION, &[]);
        assert!(matches!(handshake.on_answer(1, frame), Ok(HandshakeStep::AskAgain)));
        assert_eq!(handshake.version(), 0);
    }

    #[test]
    fn a_broker_that_refuses_for_ever_is_given_up() {
        let mut handshake = handshake();
        for _ in 0..5 {
            let frame = answer(0, 1, ErrorCode::UNSUPPORTED_VERSION, &[(ApiKey::API_VERSIONS, 9)]);
            if let Err(error) = handshake.on_answer(1, frame) {
                assert!(matches!(error, HandshakeError::NoCommonVersion));
                return;
            }
        }
        panic!("it would ask for ever");
    }

    #[test]
    fn the_answer_to_another_question_is_refused() {
        let frame = answer(4, 77, ErrorCode::NONE, &[]);
        let error = handshake().on_answer(1, frame).unwrap_err();
        assert!(matches!(error, HandshakeError::WrongCorrelationId { expected: 1, got: 77 }));
    }

    #[test]
    fn garbage_and_error_codes_are_refused() {
        assert!(matches!(
            handshake().on_answer(1, Bytes::from_static(b"HTTP/1.1 400")),
            Err(HandshakeError::Undecodable(_))
        ));
        assert!(matches!(handshake().on_answer(1, Bytes::new()), Err(HandshakeError::Undecodable(_))));
        let frame = answer(4, 1, ErrorCode::CLUSTER_AUTHORIZATION_FAILED, &[]);
        assert!(matches!(handshake().on_answer(1, frame), Err(HandshakeError::Refused(_))));
    }

    #[test]
    fn a_broker_that_cuts_the_connection_is_asked_in_lower_versions() {
        let mut memory = HandshakeMemory::default();
        assert_eq!(Handshake::new(memory).version(), 4);
        assert_eq!(memory.on_closed_unanswered(), Some(3));
        assert_eq!(memory.on_closed_unanswered(), Some(0));
        assert_eq!(memory.on_closed_unanswered(), None);
        assert_eq!(memory, HandshakeMemory::default());
    }

    #[test]
    fn a_broker_that_has_answered_before_does_not_mind_the_version() {
        let mut memory = HandshakeMemory::default();
        memory.on_closed_unanswered();
        memory.on_ready();
        assert_eq!(Handshake::new(memory).version(), 3);
        assert_eq!(memory.on_closed_unanswered(), None);
        // It may be another broker by now: the next time everything is tried.
        assert_eq!(memory, HandshakeMemory::default());
    }
}
