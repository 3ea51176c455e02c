//! What all requests have in common.

use ottla_protocol::{ErrorCode, Str};

use crate::{Error, Result};

/// Has requests run when they are awaited.
macro_rules! awaited {
    ($($request:ident => $output:ty),* $(,)?) => {$(
        impl std::future::IntoFuture for $request {
            type Output = crate::Result<$output>;
            type IntoFuture = crate::env::BoxFuture<'static, Self::Output>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(self.run())
            }
        }
    )*};
}
pub(super) use awaited;

/// The broker's code as an error, with the broker's own words if it has any.
pub(super) fn check(code: ErrorCode, message: Option<&Str>, what: impl FnOnce() -> String) -> Result<()> {
    if code == ErrorCode::NONE {
        return Ok(());
    }
    match message.filter(|message| !message.is_empty()) {
        Some(message) => Err(Error::broker(code, format!("{} ({message})", what()))),
        None => Err(Error::broker(code, what())),
    }
}
