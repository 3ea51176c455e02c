//! What a strict node looks at in its clients.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::messages::{
    ConsumerProtocolAssignment, FetchRequest, HeartbeatRequest, JoinGroupRequest,
};
use ottla_protocol::{ApiKey, Decoder, Str, frame};

use super::{Exchange, Node};
use crate::coordinator::{Commit, Identity};
use crate::io::{ConnectionId, Now, Output};
use crate::replica::ReplicaKey;
use crate::strict::{self, Asked, Batch, Place, Rule, Strict, Violation};

impl Node {
    /// Checks what clients do.
    #[must_use]
    pub fn with_strict(mut self, strict: Strict) -> Self {
        self.strict = Some(strict);
        self
    }

    pub(super) fn watch_connection(&mut self, now: Now, connection: ConnectionId, host: std::net::IpAddr) {
        let place = self.place(connection);
        self.blame(|strict| strict.connected(now.monotonic, place, host));
    }

    pub(super) fn watch_arrival(
        &mut self,
        now: Now,
        connection: ConnectionId,
        muted: Option<(Instant, Instant)>,
        frame: &Bytes,
    ) {
        let place = self.place(connection);
        let Some(Ok(request)) = self.strict.as_ref().map(|_| frame::decode_request_header(frame.clone()))
        else {
            return;
        };
        let (api, version) = (request.api_key, request.api_version);
        let content = request.body.clone().into_rest();
        let produces = api == ApiKey::PRODUCE;
        let batches =
            produces.then(|| strict::batches_of(&self.image, version, request.body).unwrap_or_default());
        let from = (api, &content, &request.client_id.unwrap_or_default());
        self.blame(|strict| strict.arrived(now.monotonic, place, from, batches, muted));
    }

    /// The client, or the network, has ended a connection.
    pub(super) fn watch_leave(&mut self, now: Now, connection: ConnectionId) {
        let place = self.place(connection);
        self.blame(|strict| strict.leaves(now.monotonic, place));
    }

    pub(super) fn watch_end(&self, connection: ConnectionId) {
        if let Some(strict) = &self.strict {
            strict.disconnected(self.place(connection));
        }
    }

    /// A request is going to be answered.
    pub(super) fn watch_answer(&self, exchange: &Exchange, body: &Decoder) -> Option<Asked> {
        let (place, api) = (self.place(exchange.connection), exchange.api_key);
        // Of those, no two are the same.
        let unique = api == ApiKey::PRODUCE || api == ApiKey::FETCH;
        let content = || if unique { Bytes::new() } else { body.clone().into_rest() };
        self.strict.as_ref().map(|strict| strict.asked(place, api, content()))
    }

    /// A request was dealt with.
    pub(super) fn watch_conclusion(&mut self, now: Now, exchange: &Exchange) {
        let place = self.place(exchange.connection);
        self.blame(|strict| strict.answered(now.monotonic, place, exchange.api_key));
        if let Some(strict) = self.strict.as_ref().filter(|_| exchange.api_key == ApiKey::PRODUCE) {
            strict.produced(self.place(exchange.connection));
        }
    }

    /// The answer says of these partitions that they are written.
    pub(crate) fn watch_acknowledged(&self, exchange: &Exchange, partitions: &[ReplicaKey]) {
        if let Some(strict) = &self.strict {
            strict.acknowledges(self.place(exchange.connection), partitions);
        }
    }

    pub(crate) fn watch_append(
        &mut self,
        exchange: &Exchange,
        key: ReplicaKey,
        records: &Bytes,
        is_new: bool,
    ) {
        let place = self.place(exchange.connection);
        let batch = self.strict.as_ref().and_then(|_| Batch::of(key, records));
        if let Some(batch) = batch {
            let image = Arc::clone(&self.image);
            self.blame(|strict| strict.appends(place, &batch, is_new, &image));
        }
    }

    pub(crate) fn watch_fetch(&mut self, exchange: &Exchange, request: &FetchRequest) {
        let place = self.place(exchange.connection);
        self.blame(|strict| strict.fetches(place, request));
    }

    /// The session of an answer; none after an error.
    pub(crate) fn watch_fetched(&self, exchange: &Exchange, session: Option<i32>) {
        if let Some(strict) = &self.strict {
            strict.fetched(self.place(exchange.connection), session, exchange.effect.is_some());
        }
    }

    /// A fetch of which nothing comes, and no error, after it waited so long.
    pub(crate) fn watch_empty(&mut self, now: Now, exchange: &Exchange, waited: Duration) {
        let place = self.place(exchange.connection);
        self.blame(|strict| strict.found_nothing(now.monotonic, place, waited));
    }

    /// A heartbeat that the coordinator heeds.
    pub(crate) fn watch_heartbeat(&mut self, now: Now, exchange: &Exchange, request: &HeartbeatRequest) {
        let (group, member) = (&request.group_id, &request.member_id);
        let place = self.place(exchange.connection);
        if let Some(session_timeout) = self.session_timeout(group, member) {
            self.blame(|strict| strict.beats(now.monotonic, place, (group, member), session_timeout));
        }
    }

    pub(crate) fn watch_join(&self, request: &JoinGroupRequest) {
        if let Some(strict) = &self.strict {
            strict.joins(&request.group_id, &request.member_id);
        }
    }

    pub(crate) fn watch_version(&mut self, exchange: &Exchange) {
        let place = self.place(exchange.connection);
        let happened = format!("it spoke version {} of API {}", exchange.version, exchange.api_key);
        let expected = "a version that ApiVersions offers";
        self.blame(|strict| strict.broke(place, Rule::OfferedVersions, expected, happened));
    }

    /// A member commits: what the present generation of its group gives to others is not its own. What it gives to nobody
    /// may be committed by the member that gives it up. A static member that came back took its place over within the
    /// generation: what its former self has sent before may arrive behind that, and was for the same partitions.
    pub(crate) fn watch_commit(&mut self, exchange: &Exchange, group: &Str, commit: &Commit) {
        if self.strict.is_none() || commit.generation < 0 {
            return;
        }
        let place = self.place(exchange.connection);
        let owners = self.owners(group, commit.generation);
        for one in &commit.partitions {
            let Some(owner) = owners.get(&(one.topic.clone(), one.partition)) else { continue };
            let former = owner.instance_id.is_some() && owner.instance_id == commit.instance_id;
            if owner.member_id != commit.member_id && !former {
                let (topic, partition, member) = (&one.topic, one.partition, &commit.member_id);
                let happened = format!(
                    "{member} committed for {topic}-{partition} in generation {}, which gives it to {}",
                    commit.generation, owner.member_id
                );
                let expected = "commits for partitions of one's own";
                self.blame(|strict| strict.broke(place, Rule::OwnedCommits, expected, happened));
            }
        }
    }

    /// Who owns what in a generation, if it is the present one.
    fn owners(&self, group: &Str, generation: i32) -> BTreeMap<(Str, i32), Identity> {
        let mut owners = BTreeMap::new();
        for (member, assignment) in self.group_assignments(group, generation) {
            let assigned = frame::decode_versioned::<ConsumerProtocolAssignment>(assignment);
            let Ok((_, assigned)) = assigned else { continue };
            for topic in assigned.assigned_partitions {
                let name = topic.topic.detached();
                owners.extend(topic.partitions.iter().map(|p| ((name.clone(), *p), member.clone())));
            }
        }
        owners
    }

    fn place(&self, connection: ConnectionId) -> Place {
        (self.id, connection)
    }

    fn blame(&mut self, look: impl FnOnce(&Strict) -> Option<Violation>) {
        let violation = self.strict.as_ref().and_then(look);
        self.out.extend(violation.map(Output::Violation));
    }
}
