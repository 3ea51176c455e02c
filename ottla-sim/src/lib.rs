//! The deterministic world: virtual time, virtual network, the real client and the embedded broker inside it.

#![expect(dead_code, reason = "the driver of the broker, which posts parcels and has disks, follows")]

mod env;
mod failure;
mod gate;
pub mod kit;
mod names;
pub mod net;
mod trace;
mod world;

pub use self::{
    env::SimEnv,
    world::{Host, Network, Running, World},
};
