//! Where a member stands and why, in one line.

use std::fmt::Write as _;

use super::{super::Moment, Call, Member, Phase, Trouble, Turn, action::STALLED};

impl Member {
    /// Where it stands and why, in one line.
    #[must_use]
    pub fn describe(&self, at: Moment) -> String {
        let mut line = self.describe_phase();
        // Writing to a string cannot fail.
        if let Some(tenure) = self.tenure {
            let (id, generation) = (self.member_id.as_str(), tenure.generation);
            let _ = write!(line, "; member {id} of generation {generation} ({})", tenure.assignor.name());
        }
        let _ = match self.lease.until() {
            Some(until) if until > at.elapsed => {
                write!(line, "; lease for another {:.1} s", (until - at.elapsed).as_secs_f64())
            }
            Some(until) => {
                let since = (at.elapsed - until).as_secs_f64();
                write!(line, "; lease over for {since:.1} s: records wait for a heartbeat and a commit")
            }
            None if self.owned.is_empty() => Ok(()),
            None => write!(line, "; no lease yet: records wait for a heartbeat and a commit"),
        };
        let _ = match self.trouble {
            Some(Trouble::Unanswered(call)) => write!(line, "; last trouble: {call} was not answered"),
            Some(Trouble::Answered(call, code)) => write!(line, "; last trouble: {call} was answered {code}"),
            None => Ok(()),
        };
        line
    }

    fn describe_phase(&self) -> String {
        let owned = self.owned.len();
        match &self.phase {
            Phase::Idle => "not subscribed".to_owned(),
            Phase::Joining(Turn::UnderWay) => format!("joining: waits for the other members; owns {owned}"),
            Phase::Joining(_) => {
                format!("about to join: {}; owns {owned}", self.rejoin.unwrap_or("tries again"))
            }
            Phase::Balancing(_) => format!("leads the group: waits for metadata of its topics; owns {owned}"),
            Phase::Syncing(..) => format!("joined: waits for its assignment; owns {owned}"),
            Phase::Stable if self.assigning.is_empty() => format!("stable: owns {owned}"),
            Phase::Stable => format!("stable: owns {owned}, {} still without position", self.assigning.len()),
            Phase::Revoking => {
                format!(
                    "giving up {} of {owned}: {}",
                    self.revocation.partitions().len(),
                    self.why_revoking()
                )
            }
            Phase::Leaving(_) => "leaving".to_owned(),
            Phase::Away => format!("has left until somebody asks for records again: {STALLED}"),
            Phase::Left => "has left".to_owned(),
            Phase::Failed => "has failed".to_owned(),
        }
    }

    fn why_revoking(&self) -> &str {
        match &self.departure {
            Some(departure) => &departure.reason,
            None => self.rejoin.unwrap_or("the group is rebalanced"),
        }
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Join => "JoinGroup",
            Self::Sync => "SyncGroup",
            Self::Heartbeat => "Heartbeat",
            Self::Leave => "LeaveGroup",
            Self::Commit => "OffsetCommit",
        })
    }
}
