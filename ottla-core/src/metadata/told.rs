//! Who has told of the cluster, so that somebody else is asked when it did not help.

/// The brokers that have told, each once, the latest at the end.
#[derive(Debug, Clone, Default)]
pub struct Told(Vec<i32>);

/// More brokers than are cut off together. Those that have left the cluster make room for others.
const KEPT: usize = 100;

impl Told {
    /// `broker` has told; one that is negative is a server whose id is not known.
    pub fn by(&mut self, broker: i32) {
        if broker < 0 {
            return;
        }
        self.0.retain(|told| *told != broker);
        if self.0.len() == KEPT {
            self.0.remove(0);
        }
        self.0.push(broker);
    }

    /// Whom to ask after all the other brokers, in this order: who told longest ago first.
    #[must_use]
    pub fn last(&self) -> &[i32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(by: impl IntoIterator<Item = i32>) -> Told {
        let mut told = Told::default();
        by.into_iter().for_each(|broker| told.by(broker));
        told
    }

    #[test]
    fn who_told_longest_ago_is_asked_first() {
        assert_eq!(told([1, 2, 3, 1]).last(), [2, 3, 1]);
    }

    #[test]
    fn bootstrap_servers_have_no_id_and_are_not_remembered() {
        assert_eq!(told([-1, 0, -1]).last(), [0]);
    }

    #[test]
    fn brokers_that_come_and_go_do_not_pile_up() {
        let told = told(0..1_000);
        assert_eq!((told.last().len(), told.last().last()), (KEPT, Some(&999)));
    }
}
