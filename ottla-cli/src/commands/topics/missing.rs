//! Topics that a command needs.

use ottla::{Admin, Client, Error, ErrorCode, NewTopic, admin::CreatedTopic};

use crate::{
    output::{Failure, with_causes},
    text::similar::similar,
};

/// Why nothing can be done with a topic; of one that does not exist, with what may have been meant.
pub(crate) async fn why_not(admin: &Admin, topic: &str, error: &Error) -> String {
    match error.broker_code() {
        Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {}
        Some(code @ ErrorCode::TOPIC_AUTHORIZATION_FAILED) => {
            return format!("no right to describe topic {topic}, or to do this with it: {code}");
        }
        _ => return with_causes(error),
    }
    let others: Vec<_> =
        admin.list_topics().await.unwrap_or_default().into_iter().map(|it| it.name).collect();
    let meant = similar(topic, others.iter().map(String::as_str));
    let meant = meant.map_or_else(|| ".".to_owned(), |meant| format!("; did you mean {meant}?"));
    format!(
        "there is no topic {topic}{meant} `ottla topics list` shows what there is, `ottla topics create {topic}` makes it"
    )
}

/// What a topic of that many partitions lacks.
pub(crate) fn no_such_partition(topic: &str, missing: i32, partitions: usize) -> Failure {
    let last = partitions.saturating_sub(1);
    Failure::new(format!("{topic} has no partition {missing}: they are 0 to {last}"))
}

/// Creates those that do not exist, and tells what it has created. The first that cannot be created is a failure.
pub(crate) async fn create_missing(
    client: &Client,
    topics: impl IntoIterator<Item = NewTopic>,
    created: impl Fn(&str, &CreatedTopic),
) -> Result<(), Failure> {
    for (name, result) in Admin::new(client).create_topics(topics).await? {
        match result {
            Ok(topic) => created(&name, &topic),
            Err(error) if error.broker_code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {}
            Err(error) => return Err(Failure::new(format!("{name}: {error}"))),
        }
    }
    Ok(())
}
