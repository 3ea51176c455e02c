//! Panics of tasks that nobody waits for: tokio keeps what a spawned task panicked with for its handle, and drops it with that.

use std::{cell::RefCell, panic, sync::Once};

thread_local! {
    /// The first that panicked on this thread since [`forget`]: where, and with what.
    static FIRST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notices panics from now on, besides what was done about them before; and forgets those of this thread.
pub(crate) fn forget() {
    static NOTICE: Once = Once::new();
    NOTICE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            let note = |first: &RefCell<Option<String>>| {
                first.borrow_mut().get_or_insert_with(|| panicked.to_string());
            };
            // A thread that ends has none any more.
            let _ = FIRST.try_with(note);
            before(panicked);
        }));
    });
    FIRST.take();
}

/// The first panic on this thread since [`forget`].
pub(crate) fn first() -> Option<String> {
    FIRST.with_borrow(Clone::clone)
}
