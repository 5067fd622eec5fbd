//! Runs the parts of one request side by side on this worker and keeps their order.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Parts in flight at a time: each wake-up polls all of them.
const SIDE_BY_SIDE: usize = 64;

/// The results of all futures, in the order of the futures.
pub async fn in_order<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut futures = futures.into_iter();
    let mut out = Vec::new();
    loop {
        let group: Vec<F> = futures.by_ref().take(SIDE_BY_SIDE).collect();
        if group.is_empty() {
            return out;
        }
        out.extend(all(group).await);
    }
}

async fn all<F: Future>(group: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<Option<Pin<Box<F>>>> = group.into_iter().map(|f| Some(Box::pin(f))).collect();
    let mut done: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (slot, result) in waiting.iter_mut().zip(&mut done) {
            if let Some(future) = slot
                && let Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *result = Some(output);
                *slot = None;
            }
        }
        if waiting.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[actix_web::test]
    async fn order_is_kept_and_groups_are_bounded() {
        let (running, most) = (Cell::new(0), Cell::new(0));
        let (running, most) = (&running, &most);
        let futures = (0..200).map(|i| async move {
            running.set(running.get() + 1);
            most.set(running.get().max(most.get()));
            if i % 3 == 0 {
                tokio::task::yield_now().await;
            }
            running.set(running.get() - 1);
            i
        });
        assert_eq!(in_order(futures).await, (0..200).collect::<Vec<_>>());
        assert!(most.get() > 1 && most.get() <= SIDE_BY_SIDE);
    }
}
