//! The items of one request, and what is known of each.

use std::{collections::BTreeMap, fmt::Display};

use super::PerItem;
use crate::{Error, Result};

/// Answers by item.
pub(super) type Answers<K, T> = BTreeMap<K, Result<T>>;

/// Items that were asked for; each is open until it is settled.
pub(super) struct Items<K, T> {
    /// What is done with them, for errors.
    what: &'static str,
    asked: Vec<K>,
    /// In order, each once.
    open: Vec<K>,
    settled: Answers<K, T>,
}

impl<K: Ord + Clone + Display, T> Items<K, T> {
    pub(super) fn new(what: &'static str, items: Vec<K>) -> Self {
        let mut open = items.clone();
        open.sort();
        open.dedup();
        Self { what, asked: items, open, settled: Answers::new() }
    }

    /// What has no answer yet, without repetitions.
    pub(super) fn open(&self) -> &[K] {
        &self.open
    }

    pub(super) fn settle(&mut self, item: &K, outcome: Result<T>) {
        if let Ok(at) = self.open.binary_search(item) {
            self.open.remove(at);
        }
        self.settled.insert(item.clone(), outcome);
    }

    /// Takes over the answers about `asked`. Those that are `for_another_time` stay open, and the last one is given; what
    /// the answers leave out is the broker's fault.
    pub(super) fn take(
        &mut self,
        asked: &[K],
        mut answers: Answers<K, T>,
        mut for_another_time: impl FnMut(&K, &Error) -> bool,
    ) -> Option<Error> {
        let mut again = None;
        for item in asked {
            match answers.remove(item) {
                Some(Err(error)) if for_another_time(item, &error) => again = Some(error),
                Some(answer) => self.settle(item, answer),
                None => {
                    let what = self.what;
                    let left_out = Error::peer(format!("{what}: the broker's answer leaves {item} out"));
                    self.settle(item, Err(left_out));
                }
            }
        }
        again
    }

    /// Takes over the answers about everything that is open; there will be no others.
    pub(super) fn take_all(&mut self, answers: Answers<K, T>) {
        let open = self.open.clone();
        self.take(&open, answers, |_, _| false);
    }

    /// What is open will get no other answer than `error`.
    ///
    /// # Errors
    /// When no item was answered.
    pub(super) fn fail(&mut self, error: &Error) -> Result<()> {
        if self.settled.is_empty() {
            return Err(error.clone());
        }
        let open = std::mem::take(&mut self.open);
        self.settled.extend(open.into_iter().map(|item| (item, Err(error.clone()))));
        Ok(())
    }

    /// The results in the order they were asked for.
    pub(super) fn into_results(mut self) -> PerItem<K, T> {
        let twice = |item: &K| Error::misuse(format!("{item} was asked for twice"));
        let result = |item: K| {
            let result = self.settled.remove(&item).unwrap_or_else(|| Err(twice(&item)));
            (item, result)
        };
        PerItem::new(self.asked.into_iter().map(result).collect())
    }
}
