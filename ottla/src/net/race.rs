//! Several attempts at one thing, one after the other, without waiting for a slow one.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// Starts the attempts in order, the next one when one has failed or when `stagger` has passed, and gives the first
/// success. The others are dropped.
///
/// # Errors
/// When all have failed: their errors, in the order they failed.
pub(super) async fn first_success<T, E, F>(
    stagger: Duration,
    attempts: impl IntoIterator<Item = F>,
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting: VecDeque<Pin<Box<F>>> = attempts.into_iter().map(Box::pin).collect();
    let mut running = Vec::new();
    let mut errors = Vec::new();
    loop {
        running.extend(waiting.pop_front());
        if running.is_empty() {
            return Err(errors);
        }
        let ended = poll_fn(|cx| poll_any(&mut running, cx));
        let ended = match waiting.is_empty() {
            true => Some(ended.await),
            false => tokio::time::timeout(stagger, ended).await.ok(),
        };
        match ended {
            Some(Ok(value)) => return Ok(value),
            Some(Err(error)) => errors.push(error),
            None => {}
        }
    }
}

/// Waits for all of them, at the same time. The outcomes are in the order of `futures`.
pub(crate) async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut outcomes: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut all_ended = true;
        for (future, outcome) in running.iter_mut().zip(&mut outcomes) {
            if outcome.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(ended) => *outcome = Some(ended),
                    Poll::Pending => all_ended = false,
                }
            }
        }
        if all_ended { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outcomes.into_iter().flatten().collect()
}

/// The outcome of the first that has ended; it is taken out.
fn poll_any<F: Future>(running: &mut Vec<Pin<Box<F>>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    for at in 0..running.len() {
        if let Poll::Ready(outcome) = running[at].as_mut().poll(cx) {
            drop(running.remove(at));
            return Poll::Ready(outcome);
        }
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn attempt(takes: Duration, outcome: Result<u32, u32>) -> Result<u32, u32> {
        sleep(takes).await;
        outcome
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_starts_the_next_at_once() {
        let started = Instant::now();
        let attempts = [attempt(Duration::ZERO, Err(1)), attempt(Duration::ZERO, Ok(2))];
        assert_eq!(first_success(SECOND, attempts).await, Ok(2));
        assert!(started.elapsed() < SECOND / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_holds_the_next_up_by_the_stagger_only() {
        let started = Instant::now();
        let attempts = [attempt(60 * SECOND, Ok(1)), attempt(60 * SECOND, Ok(2)), attempt(SECOND, Ok(3))];
        assert_eq!(first_success(SECOND, attempts).await, Ok(3));
        assert_eq!(started.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_may_still_win() {
        let attempts = [attempt(2 * SECOND, Ok(1)), attempt(9 * SECOND, Ok(2)), attempt(SECOND / 2, Err(3))];
        assert_eq!(first_success(SECOND, attempts).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_waited_for_at_the_same_time() {
        let started = Instant::now();
        let outcomes =
            join_all([attempt(3 * SECOND, Ok(1)), attempt(SECOND, Err(2)), attempt(Duration::ZERO, Ok(3))]);
        assert_eq!(outcomes.await, [Ok(1), Err(2), Ok(3)]);
        assert_eq!(started.elapsed().as_secs(), 3);
        assert!(join_all(std::iter::empty::<std::future::Ready<()>>()).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_every_error_is_told() {
        let attempts = [attempt(2 * SECOND, Err(1)), attempt(Duration::ZERO, Err(2))];
        assert_eq!(first_success(SECOND, attempts).await, Err(vec![2, 1]));
        assert_eq!(first_success::<u32, u32, std::future::Ready<_>>(SECOND, []).await, Err(vec![]));
    }
}
