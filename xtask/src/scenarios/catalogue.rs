//! The scenarios that a Kafka client has to survive, by id. `CORE` ones gate a release.

/// One thing that goes wrong, and what the client has to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scenario {
    pub(crate) id: &'static str,
    pub(crate) core: bool,
    pub(crate) happens: &'static str,
    pub(crate) required: &'static str,
}

/// Scenarios of one part of the client.
#[derive(Debug)]
pub(crate) struct Area {
    pub(crate) name: &'static str,
    /// Why none of its scenarios can be covered yet.
    pub(crate) missing: Option<&'static str>,
    pub(crate) scenarios: &'static [Scenario],
}

const fn core(id: &'static str, happens: &'static str, required: &'static str) -> Scenario {
    Scenario { id, core: true, happens, required }
}

const fn also(id: &'static str, happens: &'static str, required: &'static str) -> Scenario {
    Scenario { id, core: false, happens, required }
}

/// All of them.
pub(crate) const AREAS: &[Area] = &[
    Area { name: "Producer", missing: None, scenarios: PRODUCER },
    Area {
        name: "Transactions",
        missing: Some("the client has no transactions yet"),
        scenarios: TRANSACTIONS,
    },
    Area { name: "Consumer", missing: None, scenarios: CONSUMER },
    Area { name: "Groups", missing: None, scenarios: GROUPS },
    Area {
        name: "Groups of KIP-848",
        missing: Some("the client has classic groups only"),
        scenarios: NEXT_GEN_GROUPS,
    },
    Area { name: "Network and cluster", missing: None, scenarios: NETWORK },
    Area { name: "Security", missing: Some("the client has no TLS and no SASL yet"), scenarios: SECURITY },
    Area { name: "Hostile brokers", missing: None, scenarios: HOSTILE },
    Area { name: "Life of the process", missing: None, scenarios: LIFE },
    Area { name: "Processing", missing: None, scenarios: PROCESSING },
];

const PRODUCER: &[Scenario] = &[
    core(
        "P01",
        "the leader crashes between append and acknowledgement",
        "resent unchanged to the new leader; there once, in order",
    ),
    also("P02", "a request is lost before it is appended", "resent unchanged; there once"),
    also(
        "P03",
        "P01 without idempotence",
        "may be there twice, is never lost; acknowledged only after a real success",
    ),
    core(
        "P04",
        "NOT_LEADER_OR_FOLLOWER, with or without the new leader's name (KIP-951)",
        "the hint is used or metadata asked for; resent under the same sequence; never called not written",
    ),
    core(
        "P05",
        "the leader changes with five batches on their way, answers interleave",
        "queued again in order of sequence; nothing twice, nothing out of order",
    ),
    core(
        "P06",
        "REQUEST_TIMED_OUT, or no answer in time",
        "possibly written; the sequence is not used for anything else",
    ),
    core(
        "P07",
        "NOT_ENOUGH_REPLICAS, before or after the append",
        "both are retried; the second does not duplicate",
    ),
    core(
        "P08",
        "OUT_OF_ORDER_SEQUENCE_NUMBER, behind a failed batch or for a true gap",
        "retried, or the epoch is raised and everything renumbered in order; never fatal",
    ),
    core(
        "P09",
        "UNKNOWN_PRODUCER_ID after retention or DeleteRecords",
        "retried, or the epoch is raised, by what is known of the log's start",
    ),
    also("P10", "DUPLICATE_SEQUENCE_NUMBER", "success without an offset; none is invented"),
    core(
        "P11",
        "the delivery timeout passes while a batch is on its way, which is applied later",
        "told as possibly written; it stays first, later records are never written before its fate is known; its buffer is not reused",
    ),
    core("P12", "MESSAGE_TOO_LARGE", "a batch is split and keeps its order; a single record fails alone"),
    also(
        "P13",
        "INVALID_RECORD that names the culprits (KIP-467)",
        "they fail; the others of the batch are told apart",
    ),
    also(
        "P14",
        "one answer with different results for its partitions",
        "each partition is settled by itself",
    ),
    also(
        "P15",
        "an answer leaves out, doubles or adds a partition",
        "what is missing is sent again; what is too much is ignored",
    ),
    also("P16", "CORRUPT_MESSAGE on produce", "sent again, the same bytes, until the deadline"),
    also("P17", "a codec that the broker does not have", "fails at once"),
    also(
        "P18",
        "errors that pass, after a topic was created or a disk failed",
        "retried to the deadline; an unknown topic is told after a grace",
    ),
    core(
        "P19",
        "the topic is deleted and created anew",
        "an older leader epoch is accepted with another topic id only; no loop, no hang",
    ),
    core(
        "P20",
        "partitions are added, and a stale broker leaves them out",
        "they are used; no record fails by a stale view",
    ),
    core("P21", "throttle_time_ms (KIP-219)", "only that connection is silent, for all of the time"),
    also("P22", "metadata from a broker that lags", "older leader epochs are ignored (KIP-320)"),
    core(
        "P23",
        "all brokers are down for ten minutes under load",
        "bounded memory, backpressure or a typed error; what is left goes out in order",
    ),
    also(
        "P24",
        "acks=0 and a broken connection",
        "success means written to the socket; answers stay matched",
    ),
    core(
        "P25",
        "futures of sends are dropped, tasks are cancelled, anywhere",
        "a record is either never sent or settles",
    ),
    core(
        "P26",
        "flush and close during an outage",
        "they end by the deadline; every record is reported truthfully",
    ),
    also(
        "P27",
        "sequence numbers and epochs run out",
        "the sequence goes on at zero; a new producer id is taken",
    ),
];

const TRANSACTIONS: &[Scenario] = &[
    also("T01", "InitProducerId fails for now", "retried until the timeout, never fatal"),
    core("T02", "the coordinator moves within a transaction", "found again; the same transaction goes on"),
    core(
        "T03",
        "EndTxn is applied and the answer lost",
        "sent again; no new transaction before it is resolved",
    ),
    core(
        "T04",
        "an old EndTxn arrives late, in the next transaction",
        "nothing torn, lost or read though aborted (KAFKA-17754)",
    ),
    core("T05", "EndTxn answers UNKNOWN_SERVER_ERROR", "never told as committed"),
    core("T06", "a second producer with the same transactional id", "the first is fenced and writes no more"),
    also(
        "T07",
        "the client stands still past the transaction's timeout",
        "told so; nothing of it is visible",
    ),
    core("T08", "one record of a transaction fails", "commit is refused; all of it stays invisible"),
    core(
        "T09",
        "a batch times out, the transaction is aborted, the append comes late",
        "the epoch is raised first; the last stable offset is not stuck",
    ),
    also("T10", "AddPartitionsToTxn fails in part", "only what failed is retried"),
    core(
        "T11",
        "TxnOffsetCommit of a fenced member (KIP-447)",
        "aborted; the consumer goes back to what is committed",
    ),
    core("T12", "UNSTABLE_OFFSET_COMMIT", "waited for; no stale start"),
    also("T13", "abort with batches unsent and on their way", "the former fail, the latter are awaited"),
    core(
        "T14",
        "read_committed with odd markers and lists of aborted transactions",
        "filtered rightly; the position moves on",
    ),
    also("T15", "TRANSACTION_ABORTABLE, CONCURRENT_TRANSACTIONS", "aborted, or retried"),
];

const CONSUMER: &[Scenario] = &[
    core("C01", "OFFSET_OUT_OF_RANGE", "the reset policy, or a typed error; a stale answer resets nothing"),
    core(
        "C02",
        "unclean election and truncation",
        "goes on where the logs part, not at the beginning; without a policy a typed error",
    ),
    core(
        "C03",
        "the leader moves twice in a row, nothing is truncated",
        "nothing twice, nothing skipped, no loop, no stall",
    ),
    core(
        "C04",
        "a checksum does not match, once or always",
        "fetched again once; then an error with its offset; other partitions flow",
    ),
    core(
        "C05",
        "a partial batch at the end; a first batch larger than the limit",
        "the tail is ignored; the consumer always gets on (KIP-74)",
    ),
    also("C06", "unknown codecs and formats", "a typed error"),
    core("C07", "fetch sessions are lost, evicted, confused", "a full fetch; nothing skipped, nothing twice"),
    core("C08", "the topic is created anew under its name", "old offsets are not applied to the new topic"),
    core("C09", "seek, assign and pause race a fetch on its way", "what is stale is dropped"),
    also("C10", "pause with records buffered", "none is delivered meanwhile, none is skipped later"),
    also(
        "C11",
        "a slow application and a fast broker",
        "memory is bounded; fetching stops; heartbeats go on",
    ),
    also("C12", "the preferred replica lags or is down", "back to the leader"),
    also("C13", "ListOffsets: the leader moved, a negative offset", "asked again; refused"),
    core(
        "C14",
        "gaps of compaction, empty batches, records below what was asked for",
        "skipped, crossed; the position follows the batch",
    ),
    also("C15", "the topic is deleted while it is consumed", "not fatal; others go on"),
];

const GROUPS: &[Scenario] = &[
    core(
        "G01",
        "an eager rebalance in the middle of processing",
        "revocation is awaited; only what was processed is committed",
    ),
    core("G02", "a cooperative rebalance", "partitions that are kept neither stop nor rewind"),
    core("G03", "a rolling upgrade from eager to cooperative", "a common protocol; never two owners"),
    core("G04", "a consumer is killed", "redelivery from what is committed; no gap"),
    core(
        "G05",
        "max.poll.interval is exceeded",
        "leaves, is told, joins again; the late commit fails cleanly",
    ),
    core(
        "G06",
        "heartbeats answer REBALANCE_IN_PROGRESS, ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID",
        "joins again; loses; joins under a new name",
    ),
    also("G07", "FENCED_INSTANCE_ID", "fatal for that instance; it commits no more"),
    also("G08", "a static member restarts within its session", "no rebalance, the same partitions"),
    also(
        "G09",
        "the coordinator is loading, moving or away, at any request",
        "found again after a back-off; fetching goes on",
    ),
    core("G10", "a commit during a rebalance", "retried, or failed and told; no stall, no lost assignment"),
    core("G11", "the answer of a commit is lost; commits overlap", "what is committed never goes back"),
    core("G12", "auto-commit and a crash at any point", "nothing is lost"),
    core("G13", "OffsetFetch fails or leaves a partition out", "asked again; never taken for \"no offset\""),
    also(
        "G16",
        "the coordinator stands still for 45 s",
        "no commit of a zombie; recovery within two sessions",
    ),
    also(
        "G17",
        "the answer to JoinGroup or SyncGroup is lost",
        "the same member joins again; no ghost stays",
    ),
    core("G18", "close while the coordinator is dead", "ends in bounded time"),
    also("G19", "the elected leader is given malformed subscriptions", "ignored, no panic"),
];

const NEXT_GEN_GROUPS: &[Scenario] = &[
    core(
        "G14",
        "KIP-848: fenced, unknown or stale members",
        "lost and joined again, retried, or a typed error",
    ),
    also(
        "G15",
        "KIP-848: the order of revocation; unknown topics in an assignment",
        "never two owners; consumed when metadata has caught up",
    ),
];

const NETWORK: &[Scenario] = &[
    core(
        "N01",
        "a reset in the middle of an answer",
        "all that was on its way is possibly written; the order is kept",
    ),
    core("N02", "half-open: answers vanish", "the request timeout ends the connection, not just the request"),
    core("N03", "one byte per second", "the deadline of a request is absolute; buffers grow with data only"),
    core(
        "N04",
        "a broker stands still for 45 s while its kernel accepts",
        "connected is not healthy; other brokers are unaffected; recovers",
    ),
    core(
        "N05",
        "bootstrap servers are partly or all down, and come back",
        "back-off with jitter, at most ten dials a second, recovers",
    ),
    core("N06", "every known broker is replaced", "starts from the bootstrap servers anew (KIP-899)"),
    also(
        "N07",
        "names: several addresses of which the first is dead, changes, failures, hangs",
        "resolved anew on each connect; all are tried, in bounded time",
    ),
    also("N08", "an advertised address cannot be reached", "the error names it"),
    also("N09", "two broker ids at one address; an id moves to another address", "the id is the identity"),
    also("N10", "an idle connection is closed while a request is sent", "retried unseen"),
    core(
        "N11",
        "a wrong correlation id, frames that nobody asked for or swapped",
        "the connection is given up; nothing is delivered to the wrong one",
    ),
    also(
        "N12",
        "ApiVersions is refused; versions change with a restart",
        "steps down; negotiates per connection",
    ),
    also("N13", "the wall clock jumps by an hour", "timers do not notice"),
    also("N14", "the client stands still for ten minutes", "no storm; what has expired is told truthfully"),
    also("N15", "one broker is slow", "the others are not"),
    also("N16", "a tenth of all packets is lost", "progress"),
    also("N17", "no sockets are left", "back-off"),
    core("N18", "brokers restart one after the other under load", "no send fails, nothing is lost"),
];

const SECURITY: &[Scenario] = &[
    core("S01", "TLS: unknown issuer, expired, wrong host", "refused, typed, no way around"),
    also("S02", "plaintext and TLS mixed up; a handshake hangs", "recognised by the first bytes; bounded"),
    also("S03", "SASL is refused", "typed, backed off; secrets are never logged"),
    core("S04", "re-authentication under load (KIP-368)", "in time, requests wait, nothing is mixed up"),
    also("S05", "a hostile SCRAM server", "refused; bounded work"),
    also(
        "S06",
        "a slow, dead or forged token endpoint",
        "refreshed in the background; addresses are restricted",
    ),
    also("S07", "permissions come and go", "an error per resource; recovers"),
];

const HOSTILE: &[Scenario] = &[
    core("D01", "a frame's length is negative, zero, huge, or text", "refused before anything is allocated"),
    core(
        "D02",
        "counts, varints, tags and strings that lie",
        "a typed error; memory in proportion to the input",
    ),
    core("D03", "decompression bombs", "bounded absolutely and by ratio"),
    also(
        "D04",
        "counts, lengths and deltas of batches that lie",
        "an error of the partition; no panic, no loop",
    ),
    also("D05", "metadata with doubled or negative partitions, unknown leaders, none at all", "sanitised"),
];

const LIFE: &[Scenario] = &[core(
    "L01",
    "the client is dropped, or its runtime ends, anywhere",
    "no panic; no task and no socket is left",
)];

const PROCESSING: &[Scenario] = &[core(
    "RP-A1",
    "the only broker stands still for 50 s while a group waits for records",
    "the session is lost once; nothing is handled twice, nothing is lost",
)];
