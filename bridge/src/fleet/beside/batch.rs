//! Commands for any number of nodes, sent in one go, and the scripts among them.
//!
//! Commands for one node are carried out in the order in which they were put in, those for
//! different nodes side by side. A node that has lost the scripts gets them again and goes on where
//! it stopped: every script here can be repeated.

use redis::{Cmd, FromRedisValue, Script, Value, cmd, from_redis_value_ref};

use crate::fleet::link::{Link, LinkError, Refusal, together};

/// Commands sent to a node at once.
const PIPELINE_MAX: usize = 512;

/// Times that one node is given its scripts again before the link is given up.
const LOADS_MAX: usize = 3;

/// The scripts of this part.
pub(super) struct Scripts {
    pub(super) member: Loaded,
    pub(super) reap: Loaded,
    pub(super) remember: Loaded,
    pub(super) claim: Loaded,
    pub(super) user: Loaded,
}

/// A script and its hash.
pub(super) struct Loaded {
    code: &'static str,
    script: Script,
}

impl Loaded {
    fn new(code: &'static str) -> Self {
        Self { code, script: Script::new(code) }
    }

    /// A call of it, without its arguments.
    pub(super) fn call(&self, keys: &[&str]) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(self.script.get_hash()).arg(keys.len());
        keys.iter().for_each(|key| {
            call.arg(*key);
        });
        call
    }
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            member: Loaded::new(include_str!("member.lua")),
            reap: Loaded::new(include_str!("reap.lua")),
            remember: Loaded::new(include_str!("remember.lua")),
            claim: Loaded::new(include_str!("claim.lua")),
            user: Loaded::new(include_str!("user.lua")),
        }
    }

    /// Gives them to every node.
    pub(super) async fn load(&self, link: &Link) -> Result<(), LinkError> {
        for node in 0..link.nodes_count() {
            self.load_at(link, node).await?;
        }
        Ok(())
    }

    async fn load_at(&self, link: &Link, node: usize) -> Result<(), LinkError> {
        let all = [&self.member, &self.reap, &self.remember, &self.claim, &self.user];
        let loads: Vec<Cmd> = all
            .map(|it| {
                let mut load = cmd("SCRIPT");
                load.arg("LOAD").arg(it.code);
                load
            })
            .into();
        link.send(node, &loads).await.map(drop)
    }
}

/// Commands on their way.
#[derive(Default)]
pub(super) struct Batch {
    commands: Vec<(usize, Cmd, bool)>,
}

impl Batch {
    /// A command for the node that has a key.
    pub(super) fn push(&mut self, link: &Link, key: &str, command: Cmd) {
        self.commands.push((link.node_of(key), command, false));
    }

    /// A call of a script.
    pub(super) fn call(&mut self, link: &Link, key: &str, call: Cmd) {
        self.commands.push((link.node_of(key), call, true));
    }

    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Carries all out; the answers are in the order of the commands. An answer may be an error
    /// that concerns its command alone.
    pub(super) async fn send(
        self,
        link: &Link,
        scripts: &Scripts,
    ) -> Result<Vec<Value>, LinkError> {
        let mut answers: Vec<Value> = Vec::new();
        answers.resize(self.commands.len(), Value::Nil);
        let mut by_node: Vec<Vec<(usize, Cmd, bool)>> = Vec::new();
        by_node.resize_with(link.nodes_count().max(1), Vec::new);
        for (index, (node, command, is_script)) in self.commands.into_iter().enumerate() {
            let node = node.min(by_node.len() - 1);
            by_node[node].push((index, command, is_script));
        }
        let parts = by_node.into_iter().enumerate().filter(|(_, part)| !part.is_empty());
        let sends = parts.map(|(node, part)| send_part(link, scripts, node, part));
        for part in together(sends).await {
            for (index, answer) in part? {
                answers[index] = answer;
            }
        }
        Ok(answers)
    }
}

async fn send_part(
    link: &Link,
    scripts: &Scripts,
    node: usize,
    part: Vec<(usize, Cmd, bool)>,
) -> Result<Vec<(usize, Value)>, LinkError> {
    let mut done = Vec::with_capacity(part.len());
    let mut left = part.into_iter();
    loop {
        let chunk: Vec<_> = left.by_ref().take(PIPELINE_MAX).collect();
        if chunk.is_empty() {
            return Ok(done);
        }
        send_chunk(link, scripts, node, chunk, &mut done).await?;
    }
}

async fn send_chunk(
    link: &Link,
    scripts: &Scripts,
    node: usize,
    mut chunk: Vec<(usize, Cmd, bool)>,
    done: &mut Vec<(usize, Value)>,
) -> Result<(), LinkError> {
    let is_unknown = |it: &Value| matches!(Refusal::of(it), Some(Refusal::NoScript));
    for _ in 0..=LOADS_MAX {
        let commands: Vec<Cmd> = chunk.iter().map(|(_, command, _)| command.clone()).collect();
        let answers = link.send(node, &commands).await?;
        let lost = answers.iter().position(is_unknown).unwrap_or(answers.len());
        let mut again = Vec::new();
        for (at, ((index, command, is_script), answer)) in
            chunk.into_iter().zip(answers).enumerate()
        {
            if at >= lost && is_script {
                again.push((index, command, is_script));
            } else {
                done.push((index, answer));
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        scripts.load_at(link, node).await?;
        chunk = again;
    }
    link.give_up("Redis loses its scripts");
    Err(LinkError("Redis loses its scripts".to_owned()))
}

/// An answer as a type, `None` if it is another or an error.
pub(super) fn read<T: FromRedisValue>(answer: &Value) -> Option<T> {
    from_redis_value_ref(answer).ok()
}

/// Whether Redis will not do this at this key, now or later, whatever it does elsewhere: the key is
/// something else, or this user's to leave alone.
pub(super) fn is_barred(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if matches!(error.code(), "WRONGTYPE" | "NOPERM"))
}

/// How something is published on a room's channel.
pub(super) fn verb(link: &Link) -> &'static str {
    if link.is_cluster() { "SPUBLISH" } else { "PUBLISH" }
}
