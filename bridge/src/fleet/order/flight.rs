//! Futures whose outputs are taken in their order.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Futures whose outputs come in the order of the futures.
pub(super) struct Flights<'a, T>(VecDeque<(Boxed<'a, T>, Option<T>)>);

impl<'a, T> Flights<'a, T> {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    /// It is started by the next [`Flights::poll_next`].
    pub(super) fn push(&mut self, future: Boxed<'a, T>) {
        self.0.push_back((future, None));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first future's output.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<T> {
        for (future, output) in self.0.iter_mut().filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(done) = future.as_mut().poll(context) {
                *output = Some(done);
            }
        }
        if !self.0.front().is_some_and(|(_, output)| output.is_some()) {
            return Poll::Pending;
        }
        self.0.pop_front().and_then(|(_, output)| output).map_or(Poll::Pending, Poll::Ready)
    }
}
