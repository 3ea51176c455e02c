//! What a hostile broker says in place of its answers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use ottla_broker::faults::Effect;
use ottla_protocol::{
    ApiKey, ErrorCode, Request, frame,
    messages::{InitProducerIdRequest, ProduceRequest},
};
use tokio::time::Instant;

/// A way to spoil an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Up to eight bits are others, anywhere.
    FlippedBits,
    /// The length in front of the answer is another one: negative, nothing, gigabytes, text, or nearly right.
    WrongLength,
    /// The answer ends early, and its length says so.
    CutShort,
    /// A number of two, four or eight bytes is an absurd one: a count, an error code, an epoch, an offset, a length.
    AbsurdNumber,
    /// A number of variable length does not end.
    EndlessVarint,
    /// It is the answer to another request.
    WrongCorrelation,
    /// Something follows the answer, within its length or behind it.
    Garbage,
    /// An earlier answer of the broker to whatever it was, under the number of this one.
    EarlierAnswer,
    /// The answer comes twice.
    Twice,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::FlippedBits,
        Self::WrongLength,
        Self::CutShort,
        Self::AbsurdNumber,
        Self::EndlessVarint,
        Self::WrongCorrelation,
        Self::Garbage,
        Self::EarlierAnswer,
        Self::Twice,
    ];

    fn tell(self, random: &mut fastrand::Rng, answer: &Bytes, earlier: &VecDeque<Bytes>) -> BytesMut {
        let mut told = BytesMut::from(&answer[..]);
        match self {
            Self::FlippedBits => {
                for _ in 0..random.u32(1..=8) {
                    let at = random.usize(..told.len());
                    told[at] ^= 1 << random.u32(..8);
                }
            }
            Self::WrongLength => {
                let right = told.len() as i32 - 4;
                let near = right + random.i32(-20..20);
                let lengths = [-1, 0, 1, 3, near, i32::MAX, i32::MIN, 0x4854_5450, 64 << 20, 100 << 20];
                put(&mut told, 0, &lengths[random.usize(..lengths.len())].to_be_bytes());
            }
            Self::CutShort => {
                told.truncate(random.usize(4..=told.len()));
                set_length(&mut told);
            }
            Self::AbsurdNumber => absurd_number(random, &mut told),
            Self::EndlessVarint => {
                let at = random.usize(HEADER..=told.len().max(HEADER));
                let end = told.len().min(at + random.usize(1..=12));
                told.get_mut(at..end).unwrap_or_default().fill(0xff);
            }
            Self::WrongCorrelation => {
                let off = if random.bool() { random.i32(-2..=2) } else { random.i32(..) };
                let id = correlation_id(&told).wrapping_add(off);
                put(&mut told, 4, &id.to_be_bytes());
            }
            Self::Garbage => {
                told.extend((0..random.usize(1..64)).map(|_| random.u8(..)));
                if random.bool() {
                    set_length(&mut told);
                }
            }
            Self::EarlierAnswer => {
                if let Some(earlier) = earlier.get(random.usize(..earlier.len().max(1))) {
                    let id = correlation_id(&told);
                    told = BytesMut::from(&earlier[..]);
                    put(&mut told, 4, &id.to_be_bytes());
                }
            }
            Self::Twice => told.extend_from_slice(answer),
        }
        told
    }
}

/// The length and the number of an answer.
const HEADER: usize = 8;

/// So many earlier answers are there to be told again.
const EARLIER: usize = 16;

fn put(told: &mut BytesMut, at: usize, bytes: &[u8]) {
    if let Some(place) = told.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn set_length(told: &mut BytesMut) {
    let length = told.len() as i32 - 4;
    put(told, 0, &length.to_be_bytes());
}

fn correlation_id(told: &[u8]) -> i32 {
    told.get(4..HEADER).and_then(|id| id.try_into().ok()).map_or(0, i32::from_be_bytes)
}

fn absurd_number(random: &mut fastrand::Rng, told: &mut BytesMut) {
    let absurd = [i64::MAX, i64::MIN, -1, -2, 0, 1, i64::from(i32::MAX), random.i64(..)];
    let number = absurd[random.usize(..absurd.len())];
    let at = random.usize(HEADER..=told.len().max(HEADER));
    match random.u32(..3) {
        0 => {
            let codes = [random.i16(-2..130), random.i16(..)];
            put(told, at, &codes[random.usize(..2)].to_be_bytes());
        }
        // The highest half: extremes stay extremes.
        1 => put(told, at, &((number >> 32) as i32).to_be_bytes()),
        _ => put(told, at, &number.to_be_bytes()),
    }
}

/// Spoils answers, and remembers which acknowledgements were its own invention.
#[derive(Debug, Clone)]
pub(super) struct Liar(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    kinds: Vec<Lie>,
    earlier: VecDeque<Bytes>,
    forged: Vec<(Instant, i32)>,
    told: u64,
}

impl Liar {
    pub(super) fn new(random: fastrand::Rng, kinds: &[Lie]) -> Self {
        let (kinds, earlier, forged) = (kinds.to_vec(), VecDeque::new(), Vec::new());
        Self(Arc::new(Mutex::new(State { random, kinds, earlier, forged, told: 0 })))
    }

    /// What becomes of an answer.
    pub(super) fn effect(&self) -> Effect {
        let state = Arc::clone(&self.0);
        Effect::rewrite(move |api, version, answer| {
            state.lock().unwrap_or_else(PoisonError::into_inner).tell(api, version, answer)
        })
    }

    /// How many answers were spoiled.
    pub(super) fn told(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).told
    }

    /// Whether an acknowledgement of a record of a partition, heard at that time, may be the liar's invention.
    pub(super) fn may_have_forged(&self, partition: i32, heard: Instant) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |(at, of): &(Instant, i32)| *of == partition && *at <= heard && heard <= *at + TRAVELS;
        state.forged.iter().any(fits)
    }
}

/// An answer has reached its client after so long, or never will.
const TRAVELS: Duration = Duration::from_secs(15);

impl State {
    fn tell(&mut self, api: ApiKey, version: i16, answer: Bytes) -> Bytes {
        let kind = self.kinds[self.random.usize(..self.kinds.len())];
        let told = kind.tell(&mut self.random, &answer, &self.earlier).freeze();
        if self.earlier.len() == EARLIER {
            self.earlier.pop_front();
        }
        self.earlier.push_back(answer.clone());
        if api == ApiKey::INIT_PRODUCER_ID && gives_another_id(version, &answer, &told) {
            return answer;
        }
        if api == ApiKey::PRODUCE {
            let now = Instant::now();
            self.forged.extend(forged(version, &answer, &told).into_iter().map(|partition| (now, partition)));
        }
        self.told += 1;
        told
    }
}

/// Two producers of one id are one to honest brokers, which take records of the second for repetitions of the first's: no
/// client can notice. This the liar does not do.
fn gives_another_id(version: i16, answer: &Bytes, told: &Bytes) -> bool {
    let id = |frame: &Bytes| decoded::<InitProducerIdRequest>(version, frame).map(|(_, response)| response);
    let Some(told) = id(told).filter(|told| told.error_code == ErrorCode::NONE) else { return false };
    id(answer).is_none_or(|answer| {
        (answer.producer_id, answer.producer_epoch) != (told.producer_id, told.producer_epoch)
    })
}

/// The partitions of which the liar says that something is written, and the broker did not, or not to that request.
fn forged(version: i16, answer: &Bytes, told: &Bytes) -> Vec<i32> {
    let written = |frame: &Bytes| -> Vec<(i32, i32, i64)> {
        let Some((id, response)) = decoded::<ProduceRequest>(version, frame) else { return Vec::new() };
        let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let written = partitions.filter(|partition| partition.error_code == ErrorCode::NONE);
        written.map(|partition| (id, partition.index, partition.base_offset)).collect()
    };
    let honest = written(answer);
    written(told).into_iter().filter(|one| !honest.contains(one)).map(|(_, partition, _)| partition).collect()
}

/// The first frame, as far as it is one.
fn decoded<R: Request>(version: i16, frame: &Bytes) -> Option<(i32, R::Response)> {
    let length = usize::try_from(i32::from_be_bytes(*frame.first_chunk()?)).ok()?;
    let frame = frame.get(4..4 + length.min(frame.len() - 4))?;
    frame::decode_response::<R>(version, Bytes::copy_from_slice(frame)).ok()
}

#[cfg(test)]
mod tests {
    use ottla_protocol::{
        ProduceResponse,
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
    };

    use super::*;

    fn answer(error_code: ErrorCode, index: i32) -> Bytes {
        let partition = PartitionProduceResponse { index, error_code, ..Default::default() };
        let topic = TopicProduceResponse { partition_responses: vec![partition], ..Default::default() };
        let response = ProduceResponse { responses: vec![topic], ..Default::default() };
        frame::encode_response::<ProduceRequest>(9, 7, &response).unwrap().concat().into()
    }

    #[test]
    fn an_acknowledgement_that_no_broker_gave_is_known_as_such() {
        let (refused, written) = (answer(ErrorCode::NOT_LEADER_OR_FOLLOWER, 3), answer(ErrorCode::NONE, 3));
        assert_eq!(forged(9, &refused, &written), [3]);
        assert_eq!(forged(9, &written, &written), [0; 0]);
        assert_eq!(forged(9, &written, &refused), [0; 0]);
        assert_eq!(forged(9, &written, &answer(ErrorCode::NONE, 4)), [4]);
    }

    #[test]
    fn each_lie_changes_something_now_and_then_and_none_panics() {
        let mut random = fastrand::Rng::with_seed(1);
        for kind in Lie::ALL {
            let mut changed = 0;
            for length in 0..300 {
                let mut honest = BytesMut::zeroed(HEADER + length % 60);
                set_length(&mut honest);
                let honest = honest.freeze();
                let earlier = VecDeque::from([answer(ErrorCode::NONE, 0)]);
                changed += u32::from(kind.tell(&mut random, &honest, &earlier) != honest);
            }
            assert!(changed > 100, "{kind:?} changed {changed} of 300");
        }
    }
}
