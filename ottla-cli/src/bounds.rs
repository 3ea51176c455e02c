//! How long a command may take when nobody answers: a minute, unless `--timeout` or a setting says otherwise.
//!
//! | command | steps, one after the other |
//! |---|---|
//! | `topics`, `groups` | everything within [`COMMAND`]; each question within [`API`], so that its error tells more |
//! | `produce` | [`CONNECT`]; a record is taken within `max.block.ms` and acknowledged within `delivery.timeout.ms` |
//! | `consume --exit` | [`CONNECT`]; what there is to read is looked up within [`LOOK_UP`]; something comes within [`STALL`] |
//! | `consume` | the same without an end: it waits for records |
//! | `consume --group`, told to stop | [`COMMIT`], then [`LEAVE`]; who runs programs kills them half a minute after SIGTERM |
//! | `consume --group` | what there is to read is looked up within [`LOOK_UP`]; a group that cannot be joined is told after [`JOIN`] |

use std::time::Duration;

use crate::output::Failure;

/// What the client gives a connection (`socket.connection.setup.timeout.ms`), and half a second.
#[cfg(test)]
const CONNECT: Duration = Duration::from_millis(10_500);
/// A whole command that asks or changes something; the default of `--timeout`.
pub(crate) const COMMAND: &str = "60s";
/// One question (`default.api.timeout.ms`).
pub(crate) const API: Duration = Duration::from_secs(20);
/// Topics, partitions and offsets, before anything is read.
pub(crate) const LOOK_UP: Duration = Duration::from_secs(22);
/// Without anything that was read.
pub(crate) const STALL: Duration = Duration::from_secs(25);
/// What was printed, at the end of a membership.
pub(crate) const COMMIT: Duration = Duration::from_secs(7);
/// Telling the group that a member goes; without a word it finds out when the session is over.
pub(crate) const LEAVE: Duration = Duration::from_secs(3);
/// Until a group is joined, if anything is wrong.
pub(crate) const JOIN: Duration = Duration::from_secs(40);
/// For a look whether there is more to read than what came.
pub(crate) const LAST_LOOK: Duration = Duration::from_secs(5);

/// Settings of producers, where nobody says any of a line. A record that is refused for want of a topic is told after a
/// quarter of a minute, and should be.
pub(crate) const PRODUCING: &[&[(&str, &str)]] =
    &[&[("max.block.ms", "20000")], &[("delivery.timeout.ms", "25000"), ("request.timeout.ms", "12000")]];

/// What may be true of a command that has ended before it was done.
pub(crate) const CHANGES: &str = "what it was to change, if anything, may have been changed, or will be";
/// The same of one that has only looked.
pub(crate) const LOOKED: &str =
    "brokers did not say in time which partitions there are, and where they begin and end";

/// Gives up on work that takes longer, and says what follows from that.
pub(crate) async fn within<T>(
    time: Duration,
    consequence: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(time, work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::new(format!("not done within {time:?}; {consequence}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::time;

    #[test]
    fn a_command_ends_within_a_minute() {
        let minute = Duration::from_secs(60);
        let setting = |name: &str| {
            let found = PRODUCING.iter().copied().flatten().find(|(key, _)| *key == name);
            Duration::from_millis(found.unwrap().1.parse().unwrap())
        };
        assert!(time::duration(COMMAND).unwrap() <= minute);
        assert!(CONNECT + API < time::duration(COMMAND).unwrap(), "its error is seen");
        assert!(CONNECT + setting("max.block.ms") + setting("delivery.timeout.ms") <= minute);
        assert!(
            setting("request.timeout.ms") * 2 < setting("delivery.timeout.ms"),
            "there is a second attempt"
        );
        assert!(CONNECT + LOOK_UP + STALL <= minute && API < LOOK_UP);
        assert!(CONNECT + COMMIT + LEAVE < minute / 2, "before it is killed");
        assert!(CONNECT + JOIN <= minute, "brokers that do not answer the look-up join nobody");
    }
}
