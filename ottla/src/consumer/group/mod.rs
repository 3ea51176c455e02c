//! The consumer as a member of a group: the driver of `ottla_core::group`.
#![allow(dead_code, reason = "the settings and types come first, what uses them next")]

mod close;
mod committed;
mod config;
mod gate;
mod handle;
mod listener;

pub use self::{
    close::CloseOptions,
    committed::OffsetAndMetadata,
    listener::{BoxError, Rebalance, RebalanceListener},
};
pub(super) use self::{
    config::{GroupCode, GroupConfig, assignors_to_text},
    gate::Gate,
};
