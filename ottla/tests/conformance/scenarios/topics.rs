//! Topics as an administrator sees them.

use std::time::Duration;

use ottla::{ErrorCode, NewTopic};

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
