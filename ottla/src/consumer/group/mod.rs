//! The consumer as a member of a group: the driver of `ottla_core::group`.
//!
//! ```text
//!   Consumer ── subscribe, close ──▶ member ◀── membership task ──▶ heartbeat, group lanes ──▶ coordinator
//!      ▲                              │  ▲            │
//!      │ gate: until when records     │  │ commits    ├──▶ handovers ──▶ rebalance listener
//!      └─── may be handed out ◀───────┘  │            ▼
//!                                        └── offsets: acquire, open, drain, commit, release
//! ```

mod calls;
mod close;
mod committed;
mod config;
mod gate;
mod handle;
mod handover;
mod lease_watch;
mod listener;
mod member;
mod membership;
mod tell;

pub use self::{
    close::CloseOptions,
    committed::OffsetAndMetadata,
    listener::{BoxError, Rebalance, RebalanceListener},
};
pub(super) use self::{
    config::{GroupCode, GroupConfig, assignors_to_text},
    gate::Gate,
    member::Group,
};
