//! One file per command.

pub(crate) mod bench;
pub(crate) mod completion;
pub(crate) mod consume;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod groups;
pub(crate) mod produce;
pub(crate) mod profiles;
pub(crate) mod reference;
pub(crate) mod topics;
