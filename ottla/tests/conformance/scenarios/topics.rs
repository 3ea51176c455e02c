//! Topics as an administrator sees them.

use std::time::Duration;

use ottla::{
    Admin, ErrorCode, NewTopic,
    admin::{ConfigChange, ConfigEntry, ConfigSource},
};

use crate::World;
use crate::world::fresh_name;

/// Between two looks at what a broker knows.
const GLANCE: Duration = Duration::from_millis(20);

pub(crate) async fn a_topic_is_created_described_and_deleted(world: &World) {
    let (admin, name) = (world.admin(), fresh_name());
    let created = admin.create_topics([NewTopic::new(name.clone(), 3, 1).config("retention.ms", "-1")]).await;
    for (topic, result) in created.expect("the controller answers") {
        assert_eq!((topic.as_str(), result.expect("it is created").partitions), (name.as_str(), 3));
    }

    // A broker may learn of it a moment later than the controller.
    let topic = loop {
        let described = admin.describe_topics([name.as_str()]).await.expect("a broker answers");
        match described.into_iter().next().expect("one was asked for").1 {
            Ok(topic) if topic.partitions.iter().all(|partition| partition.leader.is_some()) => break topic,
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.broker_code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}")
            }
        }
        tokio::time::sleep(GLANCE).await;
    };
    let partitions: Vec<_> = topic.partitions.iter().map(|partition| partition.partition).collect();
    assert_eq!(partitions, [0, 1, 2]);
    assert!(
        topic.partitions.iter().all(|partition| partition.replicas.len() == 1 && partition.isr.len() == 1)
    );
    assert!(admin.list_topics().await.expect("a broker answers").iter().any(|listed| listed.name == name));

    admin.delete_topics([name.as_str()]).await.expect("the controller answers").all().expect("it is deleted");
    loop {
        let described = admin.describe_topics([name.as_str()]).await.expect("a broker answers");
        if let Err(error) = described.into_iter().next().expect("one was asked for").1 {
            assert_eq!(error.broker_code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
            break;
        }
        tokio::time::sleep(GLANCE).await;
    }
}

pub(crate) async fn what_fails_is_told_topic_by_topic(world: &World) {
    let (admin, old, new) = (world.admin(), world.topic(1).await, fresh_name());
    let topics = [old.as_str(), "not a name!", new.as_str()].map(|name| NewTopic::new(name, 1, 1));
    let results = admin.create_topics(topics).await.expect("the controller answers").into_iter();
    let codes: Vec<_> =
        results.map(|(_, result)| result.err().and_then(|error| error.broker_code())).collect();
    assert_eq!(
        codes,
        [Some(ErrorCode::TOPIC_ALREADY_EXISTS), Some(ErrorCode::INVALID_TOPIC_EXCEPTION), None]
    );

    let deleted =
        admin.delete_topics([fresh_name().as_str(), old.as_str()]).await.expect("the controller answers");
    let codes: Vec<_> =
        deleted.into_iter().map(|(_, r)| r.err().and_then(|error| error.broker_code())).collect();
    assert_eq!(codes, [Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), None]);
}

/// A setting as a broker knows it; a moment later than the controller, so that it is looked at until it is as expected.
async fn wait_for_setting(admin: &Admin, topic: &str, name: &str, expected: (&str, bool)) {
    loop {
        let described = admin.describe_topic_configs([topic]).await.expect("a broker answers");
        let (_, entries) = described.into_iter().next().expect("one was asked for");
        let is_expected = |found: &ConfigEntry| {
            found.name == name
                && (found.value.as_deref(), found.source == ConfigSource::Topic)
                    == (Some(expected.0), expected.1)
        };
        if entries.is_ok_and(|entries| entries.iter().any(is_expected)) {
            return;
        }
        tokio::time::sleep(GLANCE).await;
    }
}

pub(crate) async fn topics_grow_and_their_settings_change(world: &World) {
    let (admin, topic, missing) = (world.admin(), world.topic(2).await, fresh_name());
    let grown = admin.create_partitions([(topic.as_str(), 5), (missing.as_str(), 5)]).await;
    let codes: Vec<_> = grown
        .expect("the controller answers")
        .into_iter()
        .map(|(_, result)| result.err().and_then(|error| error.broker_code()))
        .collect();
    assert_eq!(codes, [None, Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
    loop {
        let described = admin.describe_topics([topic.as_str()]).await.expect("a broker answers");
        let (_, described) = described.into_iter().next().expect("one was asked for");
        // A broker may learn of the topic itself a moment later than the controller.
        if described.is_ok_and(|topic| {
            topic.partitions.len() == 5 && topic.partitions.iter().all(|one| one.leader.is_some())
        }) {
            break;
        }
        tokio::time::sleep(GLANCE).await;
    }
    let again = admin.create_partitions([(topic.as_str(), 4)]).await.expect("the controller answers").all();
    assert_eq!(again.expect_err("it has more").broker_code(), Some(ErrorCode::INVALID_PARTITIONS));

    let changes =
        [ConfigChange::set("retention.ms", "1234567"), ConfigChange::append("cleanup.policy", "compact")];
    let altered =
        admin.alter_topic_configs([(topic.as_str(), changes)]).await.expect("the controller answers");
    altered.all().expect("they are topics' settings");
    wait_for_setting(&admin, &topic, "retention.ms", ("1234567", true)).await;
    wait_for_setting(&admin, &topic, "cleanup.policy", ("delete,compact", true)).await;
    let back =
        [ConfigChange::subtract("cleanup.policy", "delete"), ConfigChange::set("max.message.bytes", "2000")];
    admin.alter_topic_configs([(topic.as_str(), back)]).await.expect("it answers").all().expect("it is done");
    wait_for_setting(&admin, &topic, "cleanup.policy", ("compact", true)).await;
    let delete = [ConfigChange::delete("cleanup.policy")];
    admin
        .alter_topic_configs([(topic.as_str(), delete)])
        .await
        .expect("it answers")
        .all()
        .expect("it is done");
    wait_for_setting(&admin, &topic, "cleanup.policy", ("delete", false)).await;
    wait_for_setting(&admin, &topic, "max.message.bytes", ("2000", true)).await;

    let unknown = admin.alter_topic_configs([(topic.as_str(), [ConfigChange::set("colour", "red")])]).await;
    let error = unknown.expect("the controller answers").all().expect_err("topics have no colour");
    assert_eq!(error.broker_code(), Some(ErrorCode::INVALID_CONFIG), "{error}");
}
