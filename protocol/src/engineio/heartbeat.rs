//! When a session is pinged and when it is given up.
//!
//! The server pings `interval` after the open packet and `interval` after each pong, traffic or
//! not: clients count on the pings themselves. Eight bytes per connection; times are `u32`
//! milliseconds since any epoch of the caller's and may wrap, as long as a deadline is looked at
//! within 2^31 ms (24 days) of its time.

/// The two periods of a heartbeat, each below 2^31 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From a pong to the next ping.
    pub ping_interval_ms: u32,
    /// From a ping to giving up.
    pub ping_timeout_ms: u32,
}

/// What [`Heartbeat::on_deadline`] asks the caller to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Send a ping now; there is a new deadline.
    SendPing,
    /// Close the session with reason `ping timeout`.
    TimedOut,
    /// The deadline is still to come; look again then.
    NotYet,
}

/// The heartbeat of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    deadline_ms: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The deadline is that of the next ping.
    WaitingPing,
    /// A ping is out; the deadline is that of its pong.
    WaitingPong,
}

impl Heartbeat {
    /// A session that began at `now_ms` and is to be pinged `first_delay_ms` later: the interval,
    /// or less to spread many sessions.
    pub fn new(now_ms: u32, first_delay_ms: u32) -> Self {
        let deadline_ms = now_ms.wrapping_add(first_delay_ms);
        Heartbeat { deadline_ms, state: State::WaitingPing }
    }

    /// When [`Heartbeat::on_deadline`] next has something to say.
    pub fn deadline_ms(&self) -> u32 {
        self.deadline_ms
    }

    /// Whether a ping is out whose pong has not come.
    pub fn awaits_pong(&self) -> bool {
        self.state == State::WaitingPong
    }

    /// To be called at the deadline; calls before it change nothing.
    pub fn on_deadline(&mut self, now_ms: u32, timing: &Timing) -> Beat {
        // The deadline lies less than half the circle back: it has passed.
        if now_ms.wrapping_sub(self.deadline_ms) > i32::MAX as u32 {
            return Beat::NotYet;
        }
        match self.state {
            State::WaitingPing => {
                self.deadline_ms = now_ms.wrapping_add(timing.ping_timeout_ms);
                self.state = State::WaitingPong;
                Beat::SendPing
            }
            State::WaitingPong => Beat::TimedOut,
        }
    }

    /// Notes a pong. One that answers no ping is ignored: restarting the interval for it would
    /// let a peer put off its pings for ever.
    pub fn on_pong(&mut self, now_ms: u32, timing: &Timing) {
        if self.awaits_pong() {
            *self = Heartbeat::new(now_ms, timing.ping_interval_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing { ping_interval_ms: 300, ping_timeout_ms: 200 };

    #[test]
    fn is_eight_bytes() {
        assert_eq!(size_of::<Heartbeat>(), 8);
    }

    fn runs_from(start: u32) {
        let at = |ms: u32| start.wrapping_add(ms);
        let mut beat = Heartbeat::new(start, 300);
        assert_eq!(beat.on_deadline(at(299), &TIMING), Beat::NotYet);
        assert_eq!(beat.on_deadline(at(300), &TIMING), Beat::SendPing);
        assert_eq!(beat.deadline_ms(), at(500));
        assert_eq!(beat.on_deadline(at(499), &TIMING), Beat::NotYet);
        beat.on_pong(at(499), &TIMING);
        assert!(!beat.awaits_pong());
        assert_eq!(beat.deadline_ms(), at(799));
        assert_eq!(beat.on_deadline(at(798), &TIMING), Beat::NotYet);
        assert_eq!(beat.on_deadline(at(805), &TIMING), Beat::SendPing);
        assert_eq!(beat.on_deadline(at(1004), &TIMING), Beat::NotYet);
        assert_eq!(beat.on_deadline(at(1005), &TIMING), Beat::TimedOut);
    }

    #[test]
    fn pings_and_times_out() {
        runs_from(0);
        runs_from(123_456);
    }

    #[test]
    fn runs_across_the_wrap() {
        for before in 0..1200 {
            runs_from(0u32.wrapping_sub(before));
        }
        runs_from(i32::MAX as u32 - 400);
    }

    #[test]
    fn stray_pongs_change_nothing() {
        let mut beat = Heartbeat::new(0, 300);
        let before = beat;
        beat.on_pong(250, &TIMING);
        assert_eq!(beat, before);
    }

    #[test]
    fn a_late_look_still_pings_and_still_waits_the_whole_timeout() {
        let mut beat = Heartbeat::new(0, 300);
        assert_eq!(beat.on_deadline(1_000_000, &TIMING), Beat::SendPing);
        assert_eq!(beat.deadline_ms(), 1_000_200);
    }
}
