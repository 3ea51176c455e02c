//! What a group is and does, in the brokers' words.

use std::fmt;

/// Makes an enum of words that brokers use, of which there may be more.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)*
            /// A word that this version does not know, as it came.
            Other(String),
        }

        impl $name {
            /// The broker's word.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            /// Upper and lower case count the same.
            fn from(word: &str) -> Self {
                match word {
                    $(_ if word.eq_ignore_ascii_case($word) => Self::$variant,)*
                    _ => Self::Other(word.to_owned()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// What a group does.
    GroupState {
        /// Nobody is in it; offsets may be kept.
        Empty = "Empty",
        /// Its members are joining anew.
        PreparingRebalance = "PreparingRebalance",
        /// Its members wait for the assignment.
        CompletingRebalance = "CompletingRebalance",
        /// Every member knows what it has.
        Stable = "Stable",
        /// It is being removed.
        Dead = "Dead",
        /// A new assignment is being computed (KIP-848).
        Assigning = "Assigning",
        /// Members are moving to a new assignment (KIP-848).
        Reconciling = "Reconciling",
        /// A streams group whose topics are not there yet (KIP-1071).
        NotReady = "NotReady",
    }
}

words! {
    /// What a group's members speak.
    GroupType {
        /// JoinGroup and SyncGroup.
        Classic = "classic",
        /// The protocol of KIP-848.
        Consumer = "consumer",
        /// KIP-932.
        Share = "share",
        /// KIP-1071.
        Streams = "streams",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_words_are_read_and_unknown_ones_kept() {
        assert_eq!(GroupState::from("Stable"), GroupState::Stable);
        assert_eq!(GroupState::from("preparingrebalance"), GroupState::PreparingRebalance);
        assert_eq!(GroupType::from("Classic").to_string(), "classic");
        let unknown = GroupState::from("Sleeping");
        assert_eq!((unknown.as_str(), format!("{unknown:>9}")), ("Sleeping", " Sleeping".to_owned()));
    }
}
