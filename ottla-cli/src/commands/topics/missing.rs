//! Topics that a command needs.

use ottla::{Admin, Client, ErrorCode, NewTopic, admin::CreatedTopic};

use crate::output::Failure;

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
