//! Groups: list, describe, delete; their committed offsets.

mod delete;
mod describe;
mod fetch_offsets;
mod list;
mod offsets;
mod state;

pub use self::{
    delete::DeleteGroups,
    describe::{DescribeGroups, GroupDescription, MemberDescription, Node},
    list::{GroupListing, ListGroups, ListedGroups},
    offsets::{AlterGroupOffsets, DeleteGroupOffsets, GroupOffsets, ListGroupOffsets},
    state::{GroupState, GroupType},
};

#[cfg(test)]
mod tests;
