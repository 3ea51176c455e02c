//! Pauses that say who asked for them, and why.

use std::borrow::Cow;

/// Who pauses partitions, and why; `explain` repeats it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    owner: Cow<'static, str>,
    reason: Option<Cow<'static, str>>,
}

impl Pause {
    /// A pause by `owner`.
    #[must_use]
    pub fn by(owner: impl Into<Cow<'static, str>>) -> Self {
        Self { owner: owner.into(), reason: None }
    }

    /// Says why.
    #[must_use]
    pub fn because(self, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// Who pauses.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Why, if that was said.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}
