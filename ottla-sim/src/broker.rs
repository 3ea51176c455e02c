//! Drives one of the broker's state machines, a node or the controller, on a host of the world.
//!
//! ```text
//!   streams ──frames──► ┌─────────┐ ──Disk──► queue, delay, MemoryDisk ──► completion
//!   parcels ──────────► │ Machine │ ──Peer──► parcel
//!   deadline ─────────► └─────────┘ ──Reply─► stream
//! ```
//!
//! Every arrow is carried by a task of the host: a frozen host handles nothing, a crashed one has nothing left but its
//! disk.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    io,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use ottla::env::Duplex;
use ottla_broker::{
    Controller, Node,
    controller::{ControllerInput, ControllerOutput},
    disk::{MemoryDisk, Patience},
    image::Image,
    io::{
        ConnectionId, DiskRequest, DiskResult, DiskToken, FileId, Input, NodeId, Now, Output, PeerMessage,
        Recipient, Sender,
    },
};
use ottla_protocol::TopicId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

use crate::{
    cluster::OFFSETS,
    env::wall_clock,
    failure::Failure,
    history::Elected,
    logged::{Logged, read_log},
    net::{Listener, Parcel},
    trace::{Event, hash_bytes},
    truth::Truth,
    world::{Host, HostId, Shared},
};

/// The largest part of disk requests takes no time worth mentioning, as with a page cache.
const SLOW_REQUESTS: f64 = 0.2;

/// How long the others take, at most: an append or a read.
const SLOW: Duration = Duration::from_millis(5);

/// How long a sync takes, at most.
const SLOW_SYNC: Duration = Duration::from_millis(20);

/// A node or the controller.
pub(crate) enum Machine {
    Node(Box<Node>),
    Controller(Box<Controller>),
}

impl Machine {
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        if let Self::Node(node) = self {
            return node.handle(now, input, out);
        }
        match input {
            Input::Peer(Sender::Node(node), message) => {
                self.command(now, ControllerInput::Peer(node, message), out);
            }
            Input::Disk(token, result) => self.command(now, ControllerInput::Disk(token, result), out),
            Input::Tick => self.command(now, ControllerInput::Tick, out),
            // The controller has no clients, and it does not write to itself.
            _ => {}
        }
    }

    /// What only a controller understands.
    fn command(&mut self, now: Now, input: ControllerInput, out: &mut Vec<Output>) {
        let Self::Controller(controller) = self else { return };
        let mut wanted = Vec::new();
        controller.handle(now, input, &mut wanted);
        out.extend(wanted.into_iter().map(|output| match output {
            ControllerOutput::Peer(node, message) => Output::Peer(Recipient::Node(node), message),
            ControllerOutput::Disk(token, request) => Output::Disk(token, request),
            ControllerOutput::Trouble(text) => Output::Trouble(text),
            ControllerOutput::Halt(reason) => Output::Halt(reason),
        }));
    }

    /// The metadata in which elections show, of a controller.
    fn elections(&self) -> Option<Arc<Image>> {
        match self {
            Self::Controller(controller) => Some(Arc::clone(controller.image())),
            Self::Node(_) => None,
        }
    }

    /// Where somebody was elected since who was not in sync before: then nobody is who was. Of which partition, in which leader
    /// epoch, and who. It may have died at once.
    fn unclean_since(&self, before: Option<Arc<Image>>) -> Vec<((TopicId, i32), i32, NodeId)> {
        let Some((before, after)) = before.zip(self.elections()) else { return Vec::new() };
        if Arc::ptr_eq(&before, &after) {
            return Vec::new();
        }
        let mut unclean = Vec::new();
        for topic in after.topics.values() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                let Some(known) = before.partition(topic.id, index) else { continue };
                let still_in_sync = partition.isr.iter().any(|replica| known.isr.contains(replica));
                let elected = partition.leader.or(partition.isr.first().copied());
                if let Some(elected) = elected.filter(|_| !still_in_sync)
                    && partition.leader_epoch > known.leader_epoch
                {
                    unclean.push(((topic.id, index), partition.leader_epoch, elected));
                }
            }
        }
        unclean
    }

    /// The topic of the committed offsets, as a node knows it.
    fn offsets_topic(&self) -> Option<TopicId> {
        match self {
            Self::Node(node) => node.image().topic(OFFSETS).map(|topic| topic.id),
            Self::Controller(_) => None,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Node(node) => node.next_deadline(),
            Self::Controller(controller) => controller.next_deadline(),
        }
    }
}

/// A record that a follower cut off its log, since its leader did not have it.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    pub(crate) partition: (TopicId, i32),
    pub(crate) record: Logged,
    /// The epoch of the leader that it follows.
    pub(crate) leader_epoch: i32,
}

/// An election of a replica that was not in sync.
#[derive(Debug, Clone)]
pub(crate) struct Unclean {
    pub(crate) partition: (TopicId, i32),
    pub(crate) elected: Elected,
}

/// What survives the process. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Lasting {
    /// Of a node.
    pub(crate) cuts: Rc<RefCell<Vec<Cut>>>,
    /// Of the controller.
    pub(crate) unclean: Rc<RefCell<Vec<Unclean>>>,
    /// Those of the nodes, in which the controller's elections show.
    pub(crate) disks: BTreeMap<NodeId, Rc<RefCell<MemoryDisk>>>,
    /// Of all nodes together.
    pub(crate) truth: Truth,
    pub(crate) disk: Rc<RefCell<MemoryDisk>>,
    /// How long each request of the disk takes at most, on top of what it takes anyway.
    pub(crate) disk_delay: Rc<Cell<Duration>>,
    pub(crate) disk_toll: Rc<Cell<DiskToll>>,
}

/// How many requests of a disk did not go as they would have if nothing went wrong on purpose.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DiskToll {
    /// They took longer.
    pub(crate) slow: u64,
    /// There was no room for what they wrote.
    pub(crate) no_room: u64,
}

/// Which host is which machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory {
    pub(crate) controller: Option<HostId>,
    pub(crate) nodes: BTreeMap<NodeId, HostId>,
}

impl Directory {
    fn host(&self, of: Recipient) -> Option<HostId> {
        match of {
            Recipient::Controller => self.controller,
            Recipient::Node(id) => self.nodes.get(&id).copied(),
        }
    }

    fn sender(&self, host: HostId) -> Option<Sender> {
        if self.controller == Some(host) {
            return Some(Sender::Controller);
        }
        self.nodes.iter().find(|(_, of)| **of == host).map(|(id, _)| Sender::Node(*id))
    }
}

/// The replies of one connection that are not written yet.
#[derive(Default)]
struct Outbox {
    replies: RefCell<VecDeque<Bytes>>,
    /// Nothing more comes: the connection ends after them.
    ended: Cell<bool>,
    changed: Notify,
}

struct State {
    machine: Machine,
    outboxes: BTreeMap<ConnectionId, Rc<Outbox>>,
    disk_queue: VecDeque<(DiskToken, DiskRequest)>,
}

/// One machine on one host, for one incarnation of it.
pub(crate) struct Driver {
    host: Host,
    shared: Arc<Shared>,
    directory: Rc<Directory>,
    state: RefCell<State>,
    lasting: Lasting,
    disk_work: Notify,
    handled: Notify,
}

/// Starts a machine on its host: nothing of it is left when the host crashes, except the disk.
///
/// # Errors
/// When the port is taken.
pub(crate) fn start(
    host: &Host,
    shared: &Arc<Shared>,
    directory: Rc<Directory>,
    machine: Machine,
    lasting: Lasting,
    port: Option<u16>,
) -> io::Result<Rc<Driver>> {
    let listener = port.map(|port| host.listen(port)).transpose()?;
    let state = State { machine, outboxes: BTreeMap::new(), disk_queue: VecDeque::new() };
    let driver = Rc::new(Driver {
        host: host.clone(),
        shared: Arc::clone(shared),
        directory,
        state: RefCell::new(state),
        lasting,
        disk_work: Notify::new(),
        handled: Notify::new(),
    });
    shared.with_net(|net, _, _| net.open_inbox(host.id));
    drop(host.spawn("disk", Rc::clone(&driver).serve_disk()));
    drop(host.spawn("messages", Rc::clone(&driver).receive()));
    drop(host.spawn("deadlines", Rc::clone(&driver).keep_deadlines()));
    if let Some(listener) = listener {
        drop(host.spawn("listener", Rc::clone(&driver).accept(listener)));
    }
    Ok(driver)
}

impl Driver {
    /// Looks at the machine.
    pub(crate) fn with_machine<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.state.borrow().machine)
    }

    /// Lets the machine handle an input, and carries out what it wants.
    fn handle(&self, input: Input) {
        self.act(|machine, now, outputs| machine.handle(now, input, outputs));
    }

    /// Lets the machine, if it is a controller, do something that no message asks for.
    pub(crate) fn command(&self, input: ControllerInput) {
        self.act(|machine, now, outputs| machine.command(now, input, outputs));
    }

    fn act(&self, act: impl FnOnce(&mut Machine, Now, &mut Vec<Output>)) {
        let mut outputs = Vec::new();
        {
            let machine = &mut self.state.borrow_mut().machine;
            let before = machine.elections();
            act(machine, self.now(), &mut outputs);
            for (partition, leader_epoch, leader) in machine.unclean_since(before) {
                let (at, instant) = (self.shared.lived(), tokio::time::Instant::now());
                let elected = Elected { at, instant, leader_epoch, ends: self.ends(partition, leader) };
                self.lasting.unclean.borrow_mut().push(Unclean { partition, elected });
            }
        }
        for output in outputs {
            self.carry_out(output);
        }
        self.handled.notify_one();
    }

    /// Where each epoch ends in the log of a node, on its disk.
    fn ends(&self, (topic, partition): (TopicId, i32), node: NodeId) -> BTreeMap<i32, i64> {
        let disk =
            self.lasting.disks.get(&node).expect("the controller knows the disks of all nodes").borrow();
        let file = FileId::Log(topic, partition);
        // A replica that has never been written to has no file, and no epoch.
        let log = disk.contents(&file).unwrap_or_default();
        read_log(&file, log).iter().map(|logged| (logged.leader_epoch, logged.offset + 1)).collect()
    }

    fn carry_out(&self, output: Output) {
        match output {
            Output::Reply(id, segments) => {
                if let Some(outbox) = self.state.borrow().outboxes.get(&id) {
                    outbox.answer(segments);
                }
            }
            Output::Close(id, reason) => {
                let reason = format!("{}: closes connection {}: {reason}", self.host.name(), id.0);
                self.shared.record(Event::Note(reason.into()));
                if let Some(outbox) = self.state.borrow_mut().outboxes.remove(&id) {
                    outbox.end();
                }
            }
            Output::Disk(token, request) => {
                let offsets = self.with_machine(Machine::offsets_topic);
                self.lasting.truth.asked(self.shared.lived(), &request, offsets);
                self.state.borrow_mut().disk_queue.push_back((token, request));
                self.disk_work.notify_one();
            }
            Output::Peer(to, message) => self.post(to, message),
            Output::Note(text) | Output::Trouble(text) => {
                let text = format!("{}: {text}", self.host.name());
                self.shared.record(Event::Note(text.into()));
            }
            Output::Violation(violation) => {
                self.shared.fail(Failure::broken_rule(self.shared.elapsed(), &violation))
            }
            Output::Halt(reason) => panic!("{} halted: {reason}", self.host.name()),
        }
    }

    fn post(&self, to: Recipient, message: PeerMessage) {
        let Some(to) = self.directory.host(to) else { return };
        let parcel = Parcel { from: self.host.id, hash: fingerprint(&message), content: Box::new(message) };
        self.shared.with_net(|net, now, _| net.post(now, to, parcel));
    }

    fn now(&self) -> Now {
        let wall = wall_clock(&self.shared, self.host.id).duration_since(UNIX_EPOCH).unwrap_or_default();
        // Milliseconds fit for another 290 million years.
        let monotonic = tokio::time::Instant::now().into_std() + self.shared.clients_slept();
        Now { monotonic, wall_ms: wall.as_millis() as i64 }
    }

    /// The clock of the machine moved.
    pub(crate) fn look_at_clock(&self) {
        self.handled.notify_one();
    }

    async fn receive(self: Rc<Self>) {
        loop {
            let next = |waker: &Waker| self.shared.with_net(|net, _, _| net.poll_parcel(self.host.id, waker));
            let parcel = poll_fn(|cx| next(cx.waker())).await;
            let message = parcel.content.downcast::<PeerMessage>();
            if let (Some(sender), Ok(message)) = (self.directory.sender(parcel.from), message) {
                self.handle(Input::Peer(sender, *message));
            }
        }
    }

    async fn keep_deadlines(self: Rc<Self>) {
        self.handle(Input::Tick);
        loop {
            // The machine's clock is ahead of tokio's; whoever moves it further calls `look_at_clock`.
            let ahead = self.shared.clients_slept();
            let deadline = self.with_machine(Machine::next_deadline);
            let deadline = deadline.map(|at| at.checked_sub(ahead).unwrap_or(at));
            tokio::select! {
                biased;
                () = self.handled.notified() => {}
                () = sleep_until(deadline) => self.handle(Input::Tick),
            }
        }
    }

    async fn serve_disk(self: Rc<Self>) {
        let mut random = self.shared.fork_random(self.host.id);
        let mut patience = Patience::default();
        let mut retry_at = tokio::time::Instant::now();
        loop {
            if patience.is_waiting() && retry_at <= tokio::time::Instant::now() {
                self.use_disk(|disk, complete| patience.retry(disk, complete));
                retry_at = tokio::time::Instant::now() + Patience::RETRY;
            }
            let next = self.state.borrow_mut().disk_queue.pop_front();
            let Some((token, request)) = next else {
                tokio::select! {
                    biased;
                    () = self.disk_work.notified() => {}
                    () = tokio::time::sleep_until(retry_at), if patience.is_waiting() => {}
                }
                continue;
            };
            if random.f64() < SLOW_REQUESTS {
                let most = if matches!(request, DiskRequest::Sync(_)) { SLOW_SYNC } else { SLOW };
                tokio::time::sleep(Duration::from_nanos(random.u64(..most.as_nanos() as u64))).await;
            }
            let delay = self.lasting.disk_delay.get();
            if !delay.is_zero() {
                let toll = self.lasting.disk_toll.get();
                self.lasting.disk_toll.set(DiskToll { slow: toll.slow + 1, ..toll });
                tokio::time::sleep(Duration::from_nanos(random.u64(..=delay.as_nanos() as u64))).await;
            }
            self.shared.record(disk_event(self.host.id, &request));
            self.keep_what_is_cut(&request);
            self.lasting.truth.goes(&self.lasting.disk.borrow(), &request);
            self.use_disk(|disk, complete| patience.handle(disk, token, request, complete));
        }
    }

    /// Tells the machine what the disk has done.
    fn use_disk(&self, act: impl FnOnce(&mut MemoryDisk, &mut dyn FnMut(DiskToken, DiskResult))) {
        let mut done = Vec::new();
        act(&mut self.lasting.disk.borrow_mut(), &mut |token, result| done.push((token, result)));
        for (token, result) in done {
            if matches!(result, DiskResult::NoRoom(_)) {
                let toll = self.lasting.disk_toll.get();
                self.lasting.disk_toll.set(DiskToll { no_room: toll.no_room + 1, ..toll });
            }
            self.handle(Input::Disk(token, result));
        }
    }

    /// What a follower cuts off its log is remembered, for whoever wants to know what an election has cost.
    fn keep_what_is_cut(&self, request: &DiskRequest) {
        let DiskRequest::Truncate(file @ FileId::Log(topic, partition), length) = request else { return };
        let epoch = self.with_machine(|machine| match machine {
            Machine::Node(node) => Some(node.image().partition(*topic, *partition)?.leader_epoch),
            Machine::Controller(_) => None,
        });
        // Who does not know of the partition follows nobody in it, and cuts nothing that anybody asks for.
        let Some(leader_epoch) = epoch else { return };
        let disk = self.lasting.disk.borrow();
        let (_, cut) = disk.split(file, *length);
        // A log is cut between batches.
        let records = read_log(file, cut);
        let partition = (*topic, *partition);
        let cuts = records.into_iter().map(|record| Cut { partition, record, leader_epoch });
        self.lasting.cuts.borrow_mut().extend(cuts);
    }

    async fn accept(self: Rc<Self>, listener: Listener) {
        while let Ok(accepted) = listener.accept().await {
            let id = ConnectionId(accepted.number);
            let outbox = Rc::new(Outbox::default());
            self.state.borrow_mut().outboxes.insert(id, Rc::clone(&outbox));
            self.handle(Input::Connected(id, accepted.from));
            drop(self.host.spawn("connection", Rc::clone(&self).serve(id, accepted.stream, outbox)));
        }
    }

    async fn serve(self: Rc<Self>, id: ConnectionId, stream: Duplex, outbox: Rc<Outbox>) {
        let Duplex { mut reader, mut writer } = stream;
        let frames = async {
            // The client's end of the connection, however it came, is the end.
            while let Ok(frame) = read_frame(&mut reader).await {
                self.handle(Input::Frame(id, frame));
            }
        };
        let replies = async {
            while let Some(bytes) = outbox.next().await {
                if writer.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = frames => {}
            () = replies => {}
        }
        let known = self.state.borrow_mut().outboxes.remove(&id).is_some();
        if known {
            self.handle(Input::Disconnected(id));
        }
    }
}

impl Outbox {
    fn answer(&self, segments: Vec<Bytes>) {
        self.replies.borrow_mut().extend(segments);
        self.changed.notify_one();
    }

    /// After what is to be written already.
    fn end(&self) {
        self.ended.set(true);
        self.changed.notify_one();
    }

    /// The next bytes to write; `None` when the connection is to be closed.
    async fn next(&self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.replies.borrow_mut().pop_front() {
                return Some(bytes);
            }
            if self.ended.get() {
                return None;
            }
            self.changed.notified().await;
        }
    }
}

/// The clients of this world are trusted: a length is believed.
async fn read_frame(reader: &mut (dyn tokio::io::AsyncRead + Send + Unpin)) -> io::Result<Bytes> {
    let length = reader.read_u32().await? as usize;
    let mut frame = BytesMut::zeroed(length);
    reader.read_exact(&mut frame).await?;
    Ok(frame.freeze())
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn disk_event(host: HostId, request: &DiskRequest) -> Event {
    let (operation, length, hash) = match request {
        DiskRequest::Append(_, bytes) => ("append", bytes.len(), hash_bytes(bytes)),
        DiskRequest::Sync(_) => ("sync", 0, 0),
        DiskRequest::Read { position, length, .. } => ("read", *length as usize, *position),
        DiskRequest::Truncate(_, length) => ("truncate", *length as usize, 0),
        DiskRequest::Release(_, length) => ("release", *length as usize, 0),
        DiskRequest::Replace(_, bytes) => ("replace", bytes.len(), hash_bytes(bytes)),
        DiskRequest::Remove(_) => ("remove", 0, 0),
    };
    Event::Disk { host, operation, length, hash }
}

/// What the trace keeps of a message.
fn fingerprint(message: &PeerMessage) -> u64 {
    match message {
        PeerMessage::ReplicaAppend(append) => {
            let position =
                (append.base_offset, append.leader_epoch, append.high_watermark, append.start_offset);
            hash_bytes(&append.data) ^ hash_bytes(format!("{position:?}").as_bytes())
        }
        PeerMessage::Metadata(image) => image.version,
        other => hash_bytes(format!("{other:?}").as_bytes()),
    }
}
