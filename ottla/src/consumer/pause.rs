//! Pauses as the user holds them.

use std::{fmt, sync::Arc};

use super::inner::Inner;

/// A pause of some partitions. It ends with [`PauseHandle::resume`] or when it is dropped; the pauses of others still
/// hold.
#[must_use = "the pause ends when its handle is dropped"]
pub struct PauseHandle {
    inner: Arc<Inner>,
    id: u64,
}

impl PauseHandle {
    pub(super) fn new(inner: &Arc<Inner>, id: u64) -> Self {
        Self { inner: Arc::clone(inner), id }
    }

    /// Ends the pause.
    pub fn resume(self) {
        drop(self);
    }
}

impl Drop for PauseHandle {
    fn drop(&mut self) {
        self.inner.with(|state| state.partitions.resume(self.id));
        self.inner.on_user_change();
    }
}

impl fmt::Debug for PauseHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PauseHandle").field("id", &self.id).finish_non_exhaustive()
    }
}
