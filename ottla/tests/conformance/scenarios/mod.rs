pub(crate) mod administration;
pub(crate) mod failover;
pub(crate) mod interop;
pub(crate) mod positions;
pub(crate) mod records;
pub(crate) mod topics;
