//! Results of a request about several things.

use std::slice;

use crate::Result;

/// What became of each item of a request, in the order they were asked for.
#[derive(Debug, Clone)]
#[must_use = "some items may have failed"]
pub struct PerItem<K, T>(Vec<(K, Result<T>)>);

impl<K, T> PerItem<K, T> {
    pub(super) fn new(items: Vec<(K, Result<T>)>) -> Self {
        Self(items)
    }

    /// Every item, if none failed.
    ///
    /// # Errors
    /// That of the first item that failed.
    pub fn all(self) -> Result<Vec<(K, T)>> {
        self.0.into_iter().map(|(item, result)| Ok((item, result?))).collect()
    }

    /// The items with their results.
    pub fn iter(&self) -> slice::Iter<'_, (K, Result<T>)> {
        self.0.iter()
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K, T> IntoIterator for PerItem<K, T> {
    type Item = (K, Result<T>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, K, T> IntoIterator for &'a PerItem<K, T> {
    type Item = &'a (K, Result<T>);
    type IntoIter = slice::Iter<'a, (K, Result<T>)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
