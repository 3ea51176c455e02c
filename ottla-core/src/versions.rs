//! Which version of an API to speak with a broker (KIP-35).

use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

use ottla_protocol::{ApiKey, Request, Str, messages::ApiVersionsResponse};

/// What one broker speaks, as it said on this connection: it may say otherwise after a restart.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    ranges: BTreeMap<i16, RangeInclusive<i16>>,
    features: BTreeMap<Str, i16>,
}

/// Client and broker have no version of an API in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoCommonVersion {
    api: &'static str,
    ours: RangeInclusive<i16>,
    theirs: Option<RangeInclusive<i16>>,
}

impl fmt::Display for NoCommonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { api, ours, theirs } = self;
        write!(f, "{api} is needed in version {} to {}, but the broker ", ours.start(), ours.end())?;
        match theirs {
            Some(theirs) => write!(f, "speaks {} to {}", theirs.start(), theirs.end()),
            None => f.write_str("does not know it"),
        }
    }
}

impl std::error::Error for NoCommonVersion {}

/// Without topic ids in its metadata a broker cannot be asked by topic id, whatever it advertises: Azure Event Hubs
/// and clusters with an old inter-broker version do. The newest versions that ask by name.
const WITHOUT_TOPIC_IDS: [(ApiKey, i16); 4] =
    [(ApiKey::PRODUCE, 12), (ApiKey::FETCH, 12), (ApiKey::OFFSET_COMMIT, 9), (ApiKey::OFFSET_FETCH, 9)];

/// Topic ids exist from this version of Metadata on (KIP-516).
const METADATA_WITH_TOPIC_IDS: i16 = 10;

impl Versions {
    /// Takes what the broker said.
    #[must_use]
    pub fn new(response: &ApiVersionsResponse) -> Self {
        let said = response.api_keys.iter().filter(|api| (0..=api.max_version).contains(&api.min_version));
        let mut ranges: BTreeMap<_, _> =
            said.map(|api| (api.api_key, api.min_version..=api.max_version)).collect();
        let metadata = ranges.get(&ApiKey::METADATA.0).map_or(-1, |range| *range.end());
        if metadata < METADATA_WITH_TOPIC_IDS {
            for (api, newest) in WITHOUT_TOPIC_IDS {
                ranges.entry(api.0).and_modify(|range| *range = *range.start()..=newest.min(*range.end()));
            }
        }
        let features = response.finalized_features.iter();
        let features = features.map(|feature| (feature.name.detached(), feature.max_version_level)).collect();
        Self { ranges, features }
    }

    /// The newest version of `R` that the broker, this client, and `wanted` have in common.
    ///
    /// # Errors
    /// When there is none.
    pub fn choose<R: Request>(&self, wanted: &RangeInclusive<i16>) -> Result<i16, NoCommonVersion> {
        let ours = *R::VERSIONS.start().max(wanted.start())..=*R::VERSIONS.end().min(wanted.end());
        let theirs = self.ranges.get(&R::API_KEY.0);
        let common = theirs.and_then(|theirs| {
            let newest = *ours.end().min(theirs.end());
            (newest >= *ours.start().max(theirs.start())).then_some(newest)
        });
        common.ok_or_else(|| NoCommonVersion { api: R::NAME, ours, theirs: theirs.cloned() })
    }

    /// The level at which a feature is finalized in the cluster (KIP-584), as `transaction.version`.
    #[must_use]
    pub fn feature(&self, name: &str) -> Option<i16> {
        self.features.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::messages::{
        FetchRequest, MetadataRequest, ProduceRequest, api_versions_response::ApiVersion,
    };

    use super::*;

    fn versions(apis: &[(ApiKey, i16, i16)]) -> Versions {
        let api_keys = apis.iter().map(|(api, min_version, max_version)| ApiVersion {
            api_key: api.0,
            min_version: *min_version,
            max_version: *max_version,
        });
        Versions::new(&ApiVersionsResponse { api_keys: api_keys.collect(), ..Default::default() })
    }

    const ANY: RangeInclusive<i16> = 0..=i16::MAX;

    #[test]
    fn the_newest_common_version_is_spoken() {
        let versions = versions(&[(ApiKey::METADATA, 0, 11)]);
        assert_eq!(versions.choose::<MetadataRequest>(&ANY), Ok(11));
        assert_eq!(versions.choose::<MetadataRequest>(&(0..=9)), Ok(9));
    }

    #[test]
    fn a_broker_of_the_future_is_spoken_to_in_our_newest_version() {
        let versions = versions(&[(ApiKey::METADATA, 0, i16::MAX)]);
        assert_eq!(
            versions.choose::<MetadataRequest>(&ANY),
            Ok(*<MetadataRequest as ottla_protocol::Message>::VERSIONS.end())
        );
    }

    #[test]
    fn nothing_in_common_says_who_speaks_what() {
        let versions = versions(&[(ApiKey::METADATA, 0, 3)]);
        let error = versions.choose::<MetadataRequest>(&(7..=12)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "MetadataRequest is needed in version 7 to 12, but the broker speaks 0 to 3"
        );
        let error = versions.choose::<FetchRequest>(&(4..=12)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "FetchRequest is needed in version 4 to 12, but the broker does not know it"
        );
    }

    #[test]
    fn without_topic_ids_nothing_is_asked_by_topic_id() {
        let without = versions(&[(ApiKey::METADATA, 0, 9), (ApiKey::FETCH, 0, 17), (ApiKey::PRODUCE, 0, 13)]);
        assert_eq!(without.choose::<FetchRequest>(&ANY), Ok(12));
        assert_eq!(without.choose::<ProduceRequest>(&ANY), Ok(12));
        let with = versions(&[(ApiKey::METADATA, 0, 10), (ApiKey::FETCH, 0, 17)]);
        assert_eq!(with.choose::<FetchRequest>(&ANY), Ok(17));
    }

    #[test]
    fn ranges_that_cannot_be_true_are_dropped() {
        let versions = versions(&[(ApiKey::METADATA, 5, 3), (ApiKey::FETCH, -3, 5)]);
        assert!(versions.choose::<MetadataRequest>(&ANY).is_err());
        assert!(versions.choose::<FetchRequest>(&ANY).is_err());
    }
}
