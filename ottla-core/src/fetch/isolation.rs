//! Reading committed records only: which batches of a range belong to aborted transactions.
//!
//! ```text
//!   aborted list of the response, by first offset        batches of the range, by offset
//!     (pid 7, from 10) (pid 9, from 14) …                  10 11 12 … marker(7, abort) … 14 15 …
//!                    └────────────── merged while walking ──────────────┘
//!   a transaction opens when the walk reaches its first offset, and closes at its abort marker
//! ```

/// The aborted transactions of one partition's part of a response, and how far the walk has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AbortedTransactions {
    /// By first offset; those in front of `next` are open or over.
    list: Vec<Aborted>,
    next: usize,
    /// Producer ids of the open ones; few, so that a list is the fastest set.
    open: Vec<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Aborted {
    first_offset: i64,
    producer_id: i64,
}

impl AbortedTransactions {
    /// From pairs of producer id and first offset, in any order. Empty for a reader of everything.
    pub fn new(transactions: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut list: Vec<_> = transactions
            .into_iter()
            .map(|(producer_id, first_offset)| Aborted { first_offset, producer_id })
            .collect();
        list.sort_unstable_by_key(|aborted| aborted.first_offset);
        Self { list, next: 0, open: Vec::new() }
    }

    /// Whether the next transactional batch of data, which ends at `last_offset`, was aborted. Batches must come in
    /// the order of the log.
    pub fn hides(&mut self, producer_id: i64, last_offset: i64) -> bool {
        self.open_through(last_offset);
        self.open.contains(&producer_id)
    }

    /// The walk has come to the marker at `offset` that ends an aborted transaction of `producer_id`.
    pub fn on_abort_marker(&mut self, producer_id: i64, offset: i64) {
        self.open_through(offset);
        // The same producer may have several aborted transactions in the range; one marker ends one of them.
        if let Some(at) = self.open.iter().position(|open| *open == producer_id) {
            self.open.swap_remove(at);
        }
    }

    fn open_through(&mut self, last_offset: i64) {
        while let Some(aborted) = self.list.get(self.next)
            && aborted.first_offset <= last_offset
        {
            self.open.push(aborted.producer_id);
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_from_the_first_offset_to_the_marker() {
        let mut aborted = AbortedTransactions::new([(7, 10)]);
        assert!(!aborted.hides(7, 9));
        assert!(aborted.hides(7, 12));
        assert!(!aborted.hides(8, 13));
        aborted.on_abort_marker(7, 14);
        assert!(!aborted.hides(7, 15));
    }

    #[test]
    fn the_same_producer_may_abort_twice() {
        let mut aborted = AbortedTransactions::new([(7, 20), (7, 10)]);
        assert!(aborted.hides(7, 10));
        aborted.on_abort_marker(7, 11);
        assert!(!aborted.hides(7, 12));
        assert!(aborted.hides(7, 20));
    }

    #[test]
    fn a_transaction_that_began_before_the_range_is_open_at_once() {
        let mut aborted = AbortedTransactions::new([(7, 3)]);
        assert!(aborted.hides(7, 100));
    }

    #[test]
    fn a_marker_of_a_transaction_that_is_not_in_the_list_does_nothing() {
        let mut aborted = AbortedTransactions::new([(7, 10)]);
        aborted.on_abort_marker(9, 5);
        assert!(aborted.hides(7, 10));
    }
}
