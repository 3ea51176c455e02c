//! How many fetched bytes may be in memory, and who holds them.
//!
//! ```text
//!   response ──▶ Charge (its size, once) ◀── Lease (a partition's part of it) ◀── range in the queue ──▶ view of the user
//! ```
//!
//! A response counts from its arrival until the last view of it is dropped, whichever partition that view is of:
//! all of them are slices of one frame. Each partition counts its own part as well, so that the one that fills the
//! budget stops, and not the one that has nothing.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// The bytes that all partitions of a consumer share.
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    /// Somebody was refused since the last release.
    starving: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Budget {
    /// A budget of `limit` bytes. `wake` is called when bytes were released after somebody had been refused; it must
    /// neither block nor release bytes itself.
    pub fn new(limit: usize, wake: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
            starving: AtomicBool::new(false),
            wake: Box::new(wake),
        })
    }

    /// Bytes that are in memory now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// Bytes that may be in memory.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether a partition may be fetched. One that holds nothing always may: progress is worth more than the limit.
    ///
    /// After a refusal the next release wakes.
    pub(super) fn admits(&self, account: &Account, share: usize) -> bool {
        if self.has_room(account, share) {
            return true;
        }
        self.starving.store(true, Ordering::SeqCst);
        // A release between the look and the note would have woken nobody.
        self.has_room(account, share)
    }

    fn has_room(&self, account: &Account, share: usize) -> bool {
        let held = account.held();
        held == 0 || (held < share && self.used() < self.limit)
    }

    /// Counts a response of `bytes`.
    pub(super) fn charge(self: &Arc<Self>, bytes: usize) -> Arc<Charge> {
        self.used.fetch_add(bytes, Ordering::SeqCst);
        Arc::new(Charge { bytes, budget: Arc::clone(self) })
    }

    fn released(&self) {
        if self.starving.swap(false, Ordering::SeqCst) {
            (self.wake)();
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("limit", &self.limit)
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}

/// One response's bytes, until nobody looks at any of them.
#[derive(Debug)]
pub(super) struct Charge {
    bytes: usize,
    budget: Arc<Budget>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::SeqCst);
        self.budget.released();
    }
}

/// The bytes that one partition holds, in its queue or in the user's hands.
#[derive(Debug, Clone, Default)]
pub(super) struct Account(Arc<AtomicUsize>);

impl Account {
    pub(super) fn held(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// One partition's part of a response, until the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Lease {
    _part: Arc<Part>,
}

#[derive(Debug)]
struct Part {
    bytes: usize,
    account: Account,
    charge: Arc<Charge>,
}

impl Lease {
    pub(super) fn new(bytes: usize, account: &Account, charge: &Arc<Charge>) -> Self {
        account.0.fetch_add(bytes, Ordering::SeqCst);
        Self { _part: Arc::new(Part { bytes, account: account.clone(), charge: Arc::clone(charge) }) }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.account.0.fetch_sub(self.bytes, Ordering::SeqCst);
        self.charge.budget.released();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(limit: usize) -> (Arc<Budget>, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let budget = Budget::new(limit, move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        (budget, wakes)
    }

    #[test]
    fn a_response_counts_until_its_last_view_is_dropped() {
        let (budget, _) = counting(100);
        let (a, b) = (Account::default(), Account::default());
        let charge = budget.charge(60);
        let (of_a, of_b) = (Lease::new(20, &a, &charge), Lease::new(40, &b, &charge));
        drop(charge);
        let view = of_b.clone();
        drop((of_a, of_b));
        assert_eq!((a.held(), b.held(), budget.used()), (0, 40, 60));
        drop(view);
        assert_eq!((b.held(), budget.used()), (0, 0));
    }

    #[test]
    fn a_full_budget_refuses_who_fills_it_and_nobody_else() {
        let (budget, _) = counting(100);
        let (greedy, idle) = (Account::default(), Account::default());
        let charge = budget.charge(120);
        let _lease = Lease::new(120, &greedy, &charge);
        assert!(!budget.admits(&greedy, 50));
        assert!(budget.admits(&idle, 50));
    }

    #[test]
    fn a_partition_stops_at_its_share_while_others_have_room() {
        let (budget, _) = counting(100);
        let account = Account::default();
        let charge = budget.charge(50);
        let _lease = Lease::new(50, &account, &charge);
        assert!(!budget.admits(&account, 50));
        assert!(budget.admits(&account, 51));
    }

    #[test]
    fn a_release_wakes_once_and_only_who_was_refused() {
        let (budget, wakes) = counting(10);
        let account = Account::default();
        drop(Lease::new(10, &account, &budget.charge(10)));
        assert_eq!(wakes.load(Ordering::SeqCst), 0);
        let lease = Lease::new(10, &account, &budget.charge(10));
        assert!(!budget.admits(&account, 10));
        drop(lease);
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
        assert!(budget.admits(&account, 10));
    }
}
