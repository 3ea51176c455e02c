//! The memory that unsent records may take (`buffer.memory`): bytes, taken in grains, with a queue of waiters.
//!
//! ```text
//!              enough, and nobody waits                      dropped
//!  take ───────────────────────────────────▶ Reservation ───────────────▶ free, or to the waiters in front
//!    │                                           ▲
//!    └── otherwise: wait in line ────────────────┘ as many as there is room for, in order
//! ```
//!
//! A batch takes its next grain when it grows, not a record its bytes; so the lock here is taken once in some hundred
//! records. Whoever frees memory hands it over to the waiters in front, each with what it asked for: nobody is woken
//! in vain, and a newcomer cannot overtake. Never wait with a partition's lock held: what frees memory needs it.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use crate::net::lock;

/// Bytes that are shared by everything a producer buffers.
#[derive(Debug)]
pub(super) struct Budget {
    total: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: VecDeque<Arc<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    bytes: usize,
    turn: Mutex<Turn>,
}

#[derive(Debug)]
enum Turn {
    Waiting(Waker),
    Granted,
    /// Granted and taken, or given up.
    Over,
}

impl Budget {
    pub(super) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, state: Mutex::new(State { free: total, waiting: VecDeque::new() }) })
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Takes `bytes` if they are free and nobody waits.
    pub(super) fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let mut state = lock(&self.state);
        if !state.waiting.is_empty() || state.free < bytes {
            return None;
        }
        state.free -= bytes;
        Some(Reservation { budget: self.clone(), bytes })
    }

    /// Waits for `bytes`, behind everybody who came before.
    ///
    /// # Cancel safety
    /// Nothing is taken when the future is dropped before it is ready.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Take {
        Take { budget: self.clone(), bytes, waiter: None }
    }

    /// Whether somebody waits.
    pub(super) fn is_exhausted(&self) -> bool {
        !lock(&self.state).waiting.is_empty()
    }

    fn give_back(&self, bytes: usize) {
        let mut wake = Vec::new();
        {
            let mut state = lock(&self.state);
            state.free += bytes;
            state.hand_out(&mut wake);
        }
        wake.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn hand_out(&mut self, wake: &mut Vec<Waker>) {
        while let Some(waiter) = self.waiting.front() {
            let mut turn = lock(&waiter.turn);
            match &*turn {
                Turn::Waiting(waker) if waiter.bytes <= self.free => {
                    self.free -= waiter.bytes;
                    wake.push(waker.clone());
                    *turn = Turn::Granted;
                }
                Turn::Waiting(_) => return,
                Turn::Granted | Turn::Over => {}
            }
            drop(turn);
            self.waiting.pop_front();
        }
    }
}

/// Bytes taken from a [`Budget`]; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds another reservation of the same budget to this one.
    pub(super) fn add(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Moves `bytes`, or all if it has less, into a reservation of their own.
    pub(super) fn split_off(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: self.budget.clone(), bytes }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.bytes);
        }
    }
}

/// The future of [`Budget::take`].
pub(super) struct Take {
    budget: Arc<Budget>,
    bytes: usize,
    waiter: Option<Arc<Waiter>>,
}

impl Future for Take {
    type Output = Reservation;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reservation> {
        let this = self.get_mut();
        let Some(waiter) = &this.waiter else {
            let mut state = lock(&this.budget.state);
            if state.waiting.is_empty() && state.free >= this.bytes {
                state.free -= this.bytes;
                return Poll::Ready(Reservation { budget: this.budget.clone(), bytes: this.bytes });
            }
            let turn = Mutex::new(Turn::Waiting(cx.waker().clone()));
            let waiter = Arc::new(Waiter { bytes: this.bytes, turn });
            state.waiting.push_back(waiter.clone());
            this.waiter = Some(waiter);
            return Poll::Pending;
        };
        let mut turn = lock(&waiter.turn);
        match &mut *turn {
            Turn::Waiting(waker) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            Turn::Granted | Turn::Over => {
                *turn = Turn::Over;
                Poll::Ready(Reservation { budget: this.budget.clone(), bytes: this.bytes })
            }
        }
    }
}

impl Drop for Take {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        let was = std::mem::replace(&mut *lock(&waiter.turn), Turn::Over);
        let freed = match was {
            Turn::Granted => self.bytes,
            // It may have been the one in front that all others wait behind.
            Turn::Waiting(_) => 0,
            Turn::Over => return,
        };
        self.budget.give_back(freed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(take: &mut Pin<Box<Take>>) -> Poll<Reservation> {
        take.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn waiting(budget: &Arc<Budget>, bytes: usize) -> Pin<Box<Take>> {
        let mut take = Box::pin(budget.take(bytes));
        assert!(poll(&mut take).is_pending());
        take
    }

    #[test]
    fn what_is_dropped_is_free_again() {
        let budget = Budget::new(100);
        let mut all = budget.try_take(60).expect("free");
        all.add(budget.try_take(40).expect("free"));
        assert!(budget.try_take(1).is_none());
        let rest = all.split_off(30);
        assert_eq!((all.bytes(), rest.bytes()), (70, 30));
        drop(all);
        assert!(budget.try_take(71).is_none());
        assert!(budget.try_take(70).is_some());
    }

    #[test]
    fn waiters_are_served_in_order_as_many_as_there_is_room_for() {
        let budget = Budget::new(100);
        let taken = budget.try_take(100).expect("free");
        let (mut first, mut second, mut third) =
            (waiting(&budget, 40), waiting(&budget, 60), waiting(&budget, 10));
        drop(taken);
        let Poll::Ready(first) = poll(&mut first) else { panic!("there is room") };
        let Poll::Ready(second) = poll(&mut second) else { panic!("there is room") };
        assert!(poll(&mut third).is_pending());
        drop(first);
        assert!(poll(&mut third).is_ready());
        drop(second);
    }

    #[test]
    fn nobody_overtakes_who_waits() {
        let budget = Budget::new(100);
        let taken = budget.try_take(90).expect("free");
        let mut large = waiting(&budget, 50);
        assert!(budget.try_take(5).is_none());
        let mut small = waiting(&budget, 5);
        assert!(budget.is_exhausted());
        drop(taken);
        assert!(poll(&mut large).is_ready());
        assert!(poll(&mut small).is_ready());
        assert!(!budget.is_exhausted());
    }

    #[test]
    fn a_waiter_that_gives_up_holds_up_nobody() {
        let budget = Budget::new(100);
        let _taken = budget.try_take(90).expect("free");
        let large = waiting(&budget, 50);
        let mut small = waiting(&budget, 10);
        drop(large);
        assert!(poll(&mut small).is_ready());
    }

    #[test]
    fn what_was_granted_to_a_waiter_that_gave_up_is_not_lost() {
        let budget = Budget::new(100);
        let taken = budget.try_take(100).expect("free");
        let granted = waiting(&budget, 100);
        drop(taken);
        drop(granted);
        assert!(budget.try_take(100).is_some());
    }
}
