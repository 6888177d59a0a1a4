//! What a shard asks, and what comes back, each passed to where it is done.

use super::state::Stored;
use crate::keep::{Done, Line, Question};
use crate::port::{Full, Outcome, Port, Request};

/// Passwords that may wait for their comparison, which is slow on purpose and done one at a time.
const VERIFYING_MAX: usize = 32;

impl Port for Stored {
    fn try_submit(&mut self, request: Request, now_ms: u64) -> Result<(), Full> {
        match request {
            Request::Open { room } => self.open(room, now_ms),
            Request::Close { room } => {
                self.logs.close(&room);
                self.leave_fleet(room);
            }
            Request::Publish { ticket, room, draft } => {
                return self.try_publish(ticket, room, draft, now_ms);
            }
            Request::Read { ticket, room, range } => {
                return self.try_read(ticket, room, range, now_ms);
            }
            Request::Record { ticket, room } => return self.try_record(ticket, room),
            Request::Configure { ticket, room, before, settings } => {
                self.try_question()?;
                match &mut self.fleet {
                    Some(fleet) => fleet.configure(ticket, room, (before, settings)),
                    None if self.line.is_some() => {
                        self.ask(Question::Configure { ticket, room, settings, now_ms });
                    }
                    None => self.configure_alone(ticket, &room, settings, now_ms),
                }
            }
            Request::Verify { ticket, .. } if self.line.is_none() => {
                self.outcomes.push_back(Outcome::Verified { ticket, right: None });
            }
            Request::Verify { ticket, password, hash } => {
                if self.verifying >= VERIFYING_MAX {
                    return Err(Full);
                }
                self.verifying += 1;
                self.ask(Question::Verify { ticket, password, hash });
            }
            Request::Tell(word) => self.tell(word),
        }
        Ok(())
    }

    fn poll_outcome(&mut self, now_ms: u64) -> Option<Outcome> {
        while self.outcomes.is_empty() {
            if let Some(done) = self.line.as_ref().and_then(Line::poll) {
                self.on_done(done, now_ms);
            } else {
                let news = self.fleet.as_ref()?.poll()?;
                self.on_news(news, now_ms);
            }
        }
        self.outcomes.pop_front()
    }

    fn is_shared(&self) -> bool {
        self.fleet.is_some()
    }

    fn expire(&mut self, now_ms: u64) {
        self.logs.expire(now_ms);
    }

    fn held_bytes(&self) -> usize {
        self.logs.held_bytes()
    }
}

impl Stored {
    fn on_done(&mut self, done: Done, now_ms: u64) {
        match done {
            Done::Kept(entries) => {
                for (entry, kept) in entries {
                    self.on_kept(&entry.room, &entry.message, kept);
                }
            }
            Done::Opened { room, found } => self.on_opened(room, found, now_ms),
            Done::Found { room, messages } => self.on_found(room, messages, now_ms),
            Done::Read { ticket, found } => self.on_read(ticket, found, now_ms),
            Done::Record { ticket, record } => self.on_record(ticket, record),
            Done::Configured { ticket, room, record } => {
                // In a fleet they come in Redis's order, this host's own as well.
                if self.fleet.is_none() {
                    self.on_configured(&room, record.as_ref());
                }
                self.on_record(ticket, record);
            }
            Done::Verified { ticket, right } => {
                self.verifying -= 1;
                self.outcomes.push_back(Outcome::Verified { ticket, right });
            }
            Done::Failing => self.on_failing(),
            Done::Recovered => self.failing = false,
        }
    }
}
