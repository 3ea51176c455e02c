//! Makes a plan that fails smaller, as long as it fails.

use super::{
    members::{GroupPlan, Subscription},
    plan::{PAUSE, Plan},
};
use crate::hostile::Lies;

/// Makes `plan`, which fails, as small as it goes. `fails` runs one; `budget` is how often it may.
///
/// First whole stretches of faults go, then single ones, then what is left comes sooner and gets shorter, and the load smaller.
pub fn shrink(plan: Plan, mut budget: usize, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut smallest = plan;
    let mut try_one = |smallest: &mut Plan, smaller: Plan| {
        let worth = smaller != *smallest && budget > 0;
        budget = budget.saturating_sub(usize::from(worth));
        let accepted = worth && fails(&smaller);
        if accepted {
            *smallest = smaller;
        }
        accepted
    };
    loop {
        let before = smallest.clone();
        remove_faults(&mut smallest, &mut try_one);
        shorten(&mut smallest, &mut try_one);
        reduce_load(&mut smallest, &mut try_one);
        if smallest == before {
            return smallest;
        }
    }
}

fn remove_faults(smallest: &mut Plan, try_one: &mut impl FnMut(&mut Plan, Plan) -> bool) {
    let mut stretch = smallest.faults.len().div_ceil(2);
    while stretch > 0 {
        let mut at = 0;
        while at < smallest.faults.len() {
            let mut smaller = smallest.clone();
            let end = (at + stretch).min(smaller.faults.len());
            smaller.faults.drain(at..end);
            if !try_one(smallest, smaller) {
                at += stretch;
            }
        }
        stretch /= 2;
    }
}

fn shorten(smallest: &mut Plan, try_one: &mut impl FnMut(&mut Plan, Plan) -> bool) {
    // A run takes as long as its last fault, whatever the load.
    loop {
        let mut smaller = smallest.clone();
        smaller.faults.iter_mut().for_each(|planned| planned.at /= 2);
        let latest = smaller.faults.iter().map(|planned| planned.at).max().unwrap_or_default();
        if latest.as_millis() < 100 || !try_one(smallest, smaller) {
            break;
        }
    }
    for at in 0..smallest.faults.len() {
        loop {
            let mut smaller = smallest.clone();
            smaller.faults[at].lasts /= 2;
            if smaller.faults[at].lasts.as_millis() < 10 || !try_one(smallest, smaller) {
                break;
            }
        }
    }
}

fn reduce_load(smallest: &mut Plan, try_one: &mut impl FnMut(&mut Plan, Plan) -> bool) {
    try_one(smallest, Plan { group: None, ..smallest.clone() });
    if let Some(group) = smallest.group {
        try_one(smallest, Plan { group: Some(GroupPlan { members: 1, ..group }), ..smallest.clone() });
    }
    if let Some(group) = smallest.group {
        let subscriptions = [Subscription::Orders; 3];
        try_one(smallest, Plan { group: Some(GroupPlan { subscriptions, ..group }), ..smallest.clone() });
    }
    if let Some(lies) = smallest.lies {
        reduce_lies(lies, smallest, try_one);
    }
    try_one(smallest, Plan { senders: 1, ..smallest.clone() });
    try_one(smallest, Plan { partitions: 1, ..smallest.clone() });
    try_one(smallest, Plan { deadline: None, ..smallest.clone() });
    try_one(smallest, Plan { request_timeout: None, ..smallest.clone() });
    try_one(smallest, Plan { metadata_max_age: None, ..smallest.clone() });
    try_one(smallest, Plan { racks: false, ..smallest.clone() });
    try_one(smallest, Plan { pause: PAUSE, ..smallest.clone() });
    while smallest.records > 1
        && try_one(smallest, Plan { records: smallest.records / 2, ..smallest.clone() })
    {}
}

fn reduce_lies(lies: Lies, smallest: &mut Plan, try_one: &mut impl FnMut(&mut Plan, Plan) -> bool) {
    let [one, two, three] = lies.kinds;
    let smaller = [
        Lies { kinds: [one; 3], ..lies },
        Lies { kinds: [two; 3], ..lies },
        Lies { kinds: [three; 3], ..lies },
        Lies { silent_per_mille: 0, ..lies },
        Lies { cut_per_mille: 0, ..lies },
        Lies { per_mille: 0, ..lies },
        Lies { bytes_per_second: None, ..lies },
        Lies { lasts_ms: lies.lasts_ms / 2, ..lies },
    ];
    for lies in smaller {
        // What is gained shows in the next round.
        if try_one(smallest, Plan { lies: Some(lies), ..smallest.clone() }) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::swarm::Fault;

    /// A bug that takes a kill of broker 1 for more than a second, and forty records.
    fn fails(plan: &Plan) -> bool {
        plan.records >= 40
            && plan.faults.iter().any(|planned| {
                planned.fault == Fault::BrokerKilled { broker: 1 } && planned.lasts > Duration::from_secs(1)
            })
    }

    #[test]
    fn what_has_nothing_to_do_with_the_failure_is_left_out() {
        let plan = Plan::draw(5).fault(500, 40_000, Fault::BrokerKilled { broker: 1 });
        assert!(plan.faults.len() > 5 && fails(&plan));
        let small = shrink(plan, 1_000, fails);
        assert_eq!(small.faults.len(), 1);
        assert!(small.faults[0].lasts < Duration::from_millis(2_500), "{small:?}");
        assert!(small.faults[0].at < Duration::from_millis(200), "{small:?}");
        assert!(small.records < 80 && small.senders == 1 && small.partitions == 1, "{small:?}");
        assert!(fails(&small));
    }

    #[test]
    fn the_budget_bounds_the_work() {
        let mut runs = 0;
        let plan = Plan::draw(5).fault(500, 40_000, Fault::BrokerKilled { broker: 1 });
        shrink(plan, 7, |plan| {
            runs += 1;
            fails(plan)
        });
        assert_eq!(runs, 7);
    }
}
