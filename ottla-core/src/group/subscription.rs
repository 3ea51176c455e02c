//! What members tell each other: subscriptions to the leader, assignments from it (`ConsumerProtocol`).
