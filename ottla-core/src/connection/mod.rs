//! What a connection to a broker decides: how it is set up, what is in flight, when it must be silent.

pub mod handshake;
pub mod in_flight;
pub mod reconnect;
pub mod throttle;

pub use self::{
    handshake::{Handshake, HandshakeError, HandshakeMemory, HandshakeStep},
    in_flight::{Answer, InFlight, UnexpectedAnswer},
    reconnect::{DialLimit, DialPermit, Ended, Reconnect},
    throttle::Throttle,
};
