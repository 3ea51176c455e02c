//! What members of a group have handled: numbers, of which each is to be handled once.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::time::Duration;

use ottla::{Consumer, Producer, Record};

pub(crate) const PARTITIONS: i32 = 6;
/// Between two looks at what somebody else is doing.
const GLANCE: Duration = Duration::from_millis(20);

/// How often each number was handled.
#[derive(Default)]
pub(crate) struct Effects {
    times: RefCell<Vec<u32>>,
    different: Cell<usize>,
}

impl Effects {
    /// Handles what the consumer is given, until it is closed.
    pub(crate) async fn handle_all(&self, consumer: &Consumer) {
        while let Some(record) = consumer.recv().await.expect("what happens to brokers is no error") {
            let value = record.view().value().expect("all records have one");
            self.handle(std::str::from_utf8(value).expect("it is text").parse().expect("a number"));
            record.complete();
        }
    }

    fn handle(&self, number: usize) {
        let mut times = self.times.borrow_mut();
        if times.len() <= number {
            times.resize(number + 1, 0);
        }
        times[number] += 1;
        if times[number] == 1 {
            self.different.set(self.different.get() + 1);
        }
    }

    /// How many different numbers were handled.
    pub(crate) fn count(&self) -> usize {
        self.different.get()
    }

    /// Waits until so many different numbers are handled.
    pub(crate) async fn until(&self, count: usize) {
        while self.count() < count {
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// The numbers below `count` that were handled several times.
    ///
    /// # Panics
    /// When one of them was not handled.
    pub(crate) fn twice(&self, count: usize) -> Vec<usize> {
        let times = self.times.borrow();
        let lost: Vec<_> = (0..count).filter(|number| times[*number] == 0).collect();
        assert!(lost.is_empty(), "{} numbers were never handled: {lost:?}", lost.len());
        (0..count).filter(|number| times[*number] > 1).collect()
    }
}

/// Writes these numbers and waits until all are acknowledged. The number `n` is at offset `n / PARTITIONS` of partition
/// `n % PARTITIONS`, if they are written from 0 on.
pub(crate) async fn produce(producer: &Producer, topic: &str, numbers: Range<usize>) {
    for number in numbers {
        let text = number.to_string();
        let record = Record::new(&text).partition(number as i32 % PARTITIONS);
        drop(producer.enqueue(topic, record).await.expect("there is room"));
    }
    producer.flush().await.expect("a producer with time outlives what happens to brokers");
}
