//! Groups of real clients against embedded coordinators, while things go wrong: every record is handled, none twice
//! unless a crash came between handling and committing, no partition has two owners, no commit is ahead of the work.

mod answers;
mod coordinator;
mod cut;
mod frozen_member;
mod lanes;
mod loading;
mod lost_answers;
mod members;
mod pause;
mod revoke;
mod stalled;
mod static_member;

use std::time::Duration;

use ottla_sim::group::{Group, Settings};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// Handling takes long enough that there is always something buffered and something under way.
fn busy() -> Settings {
    Settings { handling: Duration::from_millis(20), ..Settings::default() }
}

/// A hundred records a second, for so long.
async fn flow(group: &Group, seconds: usize) {
    for _ in 0..seconds {
        group.produce(100).await;
        sleep(SECOND).await;
    }
}
