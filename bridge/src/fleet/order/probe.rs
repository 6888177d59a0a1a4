//! Whether what is published here comes back: a connection can stand, and take every publish, and
//! yet deliver nothing.
//!
//! Each node is asked every second to tell a channel of this host a word, which must come back on
//! the subscribing connection; if it does not, the link is given up.

use std::mem;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::orders::Orders;
use super::wire;
use crate::fleet::clock::now_ms;
use crate::fleet::link::{Link, LinkError, Refusal, together};

const INTERVAL: Duration = Duration::from_secs(1);

/// How long nothing at all may come while an echo is awaited, and the steps in which that passes.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_STEPS: u32 = 8;

/// How long an echo may take while other pushes come.
const BUSY_PATIENCE: Duration = Duration::from_secs(20);

impl Orders {
    /// Probes until the link ends, or ends it.
    pub(super) async fn probe(&self, link: &Rc<Link>) -> Result<(), LinkError> {
        let channels = self.echo.channels(link);
        link.subscribe(&channels, link.is_cluster()).await?;
        loop {
            let began = Instant::now();
            let word = format!("{:016x}", wire::random_epoch());
            *self.echo.expected.borrow_mut() = (word.clone(), channels.clone());
            let asked = channels.iter().map(|channel| self.publish_probe(link, channel, &word));
            together(asked).await.into_iter().collect::<Result<(), _>>()?;
            if !self.echo_comes().await {
                self.stats().is_fresh.store(false, Relaxed);
                return Err(self.give_up(link, "what is published does not come back"));
            }
            let took = began.elapsed();
            self.stats().last_echo_us.store(took.as_micros() as u64, Relaxed);
            self.stats().echoed_at_ms.store(now_ms(), Relaxed);
            self.stats().is_fresh.store(true, Relaxed);
            sleep(INTERVAL.saturating_sub(took)).await;
        }
    }

    /// Waits for the echo from every node; false if it does not come. While other pushes are worked
    /// off it stands behind them. Silence is counted in steps: a process that was itself stopped
    /// reads first what has come.
    async fn echo_comes(&self) -> bool {
        let (began, mut passed, mut steps) = (Instant::now(), self.echo.passed.get(), 0);
        while !self.echo.expected.borrow().1.is_empty() {
            if timeout(PATIENCE / PATIENCE_STEPS, self.echo.came.notified()).await.is_ok() {
                continue;
            }
            let before = mem::replace(&mut passed, self.echo.passed.get());
            steps = if before == passed { steps + 1 } else { 0 };
            if steps >= PATIENCE_STEPS || began.elapsed() > BUSY_PATIENCE {
                return false;
            }
        }
        true
    }

    /// So many pushes have been passed on.
    pub(in crate::fleet) fn note_passed(&self, count: usize) {
        let passed = &self.echo.passed;
        passed.set(passed.get().wrapping_add(count as u64));
    }

    async fn publish_probe(&self, link: &Link, channel: &str, word: &str) -> Result<(), LinkError> {
        let node = link.node_of(channel);
        let cmd = self.scripts.probe(channel, word, self.verb(link));
        let answers = link.send(node, &[cmd]).await?;
        match answers.first().and_then(Refusal::of) {
            Some(Refusal::NoScript) => {
                self.load_scripts(link, node).await?;
                let cmd = self.scripts.probe(channel, word, self.verb(link));
                link.send(node, &[cmd]).await.map(drop)
            }
            // Without an echo, time tells.
            _ => Ok(()),
        }
    }
}
