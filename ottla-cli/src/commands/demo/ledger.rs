//! What was really done: the effects of handling orders, counted where no client can forget them.

use std::{collections::BTreeMap, sync::Mutex};

use tokio::sync::Notify;

/// Where a record of an order lies: partition and offset.
pub(super) type Position = (i32, i64);

/// Remembers every effect: which order, and which record brought it about. Orders have numbers from 0 on.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    effects: Mutex<BTreeMap<u64, Vec<Position>>>,
    added: Notify,
}

/// What the ledger comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Orders that were handled, however often.
    pub(super) handled: u64,
    /// Effects that should not have been: every one of an order after its first.
    pub(super) twice: u64,
}

impl Ledger {
    /// An order is handled. Gives the record that had it handled before, if it was.
    pub(super) fn record(&self, order: u64, position: Position) -> Option<Position> {
        let mut effects = self.effects();
        let of_order = effects.entry(order).or_default();
        let before = of_order.last().copied();
        of_order.push(position);
        drop(effects);
        self.added.notify_waiters();
        before
    }

    pub(super) fn tally(&self) -> Tally {
        let effects = self.effects();
        let all: usize = effects.values().map(Vec::len).sum();
        Tally { handled: effects.len() as u64, twice: (all - effects.len()) as u64 }
    }

    /// Waits until so many different orders are handled.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn holds(&self, orders: u64) {
        loop {
            let mut added = std::pin::pin!(self.added.notified());
            // Before looking: an effect in between must not be missed.
            added.as_mut().enable();
            if self.effects().len() as u64 >= orders {
                return;
            }
            added.await;
        }
    }

    fn effects(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Vec<Position>>> {
        self.effects.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_effect_after_an_orders_first_is_one_too_many() {
        let ledger = Ledger::default();
        assert_eq!(ledger.record(7, (0, 3)), None);
        assert_eq!(ledger.record(8, (1, 0)), None);
        assert_eq!(ledger.record(7, (0, 3)), Some((0, 3)));
        assert_eq!(ledger.record(7, (0, 9)), Some((0, 3)));
        assert_eq!(ledger.tally(), Tally { handled: 2, twice: 2 });
    }

    #[tokio::test]
    async fn whoever_waits_for_orders_waits_for_different_ones() {
        let ledger = Ledger::default();
        let all_there = async {
            ledger.holds(2).await;
            assert_eq!(ledger.tally(), Tally { handled: 2, twice: 1 });
        };
        let handling = async {
            ledger.record(1, (0, 0));
            tokio::task::yield_now().await;
            ledger.record(1, (0, 0));
            tokio::task::yield_now().await;
            ledger.record(2, (0, 1));
        };
        tokio::join!(all_there, handling);
    }
}
