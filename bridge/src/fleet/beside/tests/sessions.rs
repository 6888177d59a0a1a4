//! Sessions as Redis keeps them.

use super::*;

#[test]
fn only_its_host_changes_a_session() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let [a, b] = Host::start_all(&redis.url(), [1, 2], &[]).await;
        a.word(remember("p", Some(session(1, 0, &[("r", 1)]))));
        a.word(remember("p", Some(session(1, 0, &[("r", 2)]))));
        a.word(remember("short", Some(session(1, 0, &[]))));
        a.word(remember("short", None));
        a.settled(&admin).await;
        let text = admin.text(&["GET", "t:session:p"]).await;
        let kept: Session = serde_json::from_str(&text).expect("a session");
        assert_eq!(kept, session(1, 0, &[("r", 2)]));
        let ttl: u64 = admin.text(&["PTTL", "t:session:p"]).await.parse().expect("a number");
        assert!((WINDOW_MS + 500_000..=WINDOW_MS + 600_000).contains(&ttl), "{ttl}");
        assert_eq!(admin.text(&["EXISTS", "t:session:short"]).await, "0");
        b.word(remember("p", Some(session(2, 0, &[]))));
        b.word(remember("p", None));
        b.settled(&admin).await;
        assert_eq!(admin.text(&["GET", "t:session:p"]).await, text, "it is another host's");
        a.word(remember("p", None));
        a.settled(&admin).await;
        assert_eq!(admin.text(&["EXISTS", "t:session:p"]).await, "0");
    });
}

#[test]
fn sessions_that_change_without_a_link_are_written_later() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let a = Host::start(&redis.url(), 1, &[]).await;
        a.word(remember("changes", Some(session(1, 0, &[]))));
        a.word(remember("ends", Some(session(1, 0, &[]))));
        a.settled(&admin).await;
        a.kill();
        let waiting = Rc::clone(&a.beside);
        let task = tokio::task::spawn_local(async move { waiting.wait().await });
        a.word(remember("changes", Some(session(1, 0, &[("r", 9)]))));
        a.word(remember("ends", None));
        a.word(remember("comes and goes", Some(session(1, 0, &[]))));
        a.word(remember("comes and goes", None));
        a.word(Word::Recover { ticket: Ticket(1), pid: "x".into(), offset: None });
        a.hears("1 false").await;
        task.abort();
        a.live();
        a.settled(&admin).await;
        let text = admin.text(&["GET", "t:session:changes"]).await;
        assert!(text.contains(r#""seq":9"#), "{text}");
        for pid in ["ends", "comes and goes"] {
            let key = format!("t:session:{pid}");
            assert_eq!(admin.text(&["EXISTS", &key]).await, "0", "{pid}");
        }
    });
}

#[test]
fn a_session_whose_client_is_gone_is_for_others_again() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let hosts = Host::start_all(&redis.url(), [1, 2, 3], &[]).await;
        let [a, b, c] = &hosts;
        let release = |session: &Session| Word::Release {
            pid: "p".into(),
            session: Box::new(session.clone()),
        };
        let mine = session(1, 0, &[]);
        a.word(remember("p", Some(mine.clone())));
        a.settled(&admin).await;
        assert!(recovers(b, 1).await && !recovers(c, 1).await);
        b.word(release(&mine));
        b.settled(&admin).await;
        let ttl: u64 = admin.text(&["PTTL", "t:session:p"]).await.parse().expect("a number");
        assert!(ttl > WINDOW_MS, "{ttl}");
        assert!(recovers(c, 2).await, "it is there as it was");
        b.word(release(&mine));
        b.settled(&admin).await;
        assert!(!recovers(b, 2).await, "another has it by now");
        // The host that it was on says that it is another, and may not say it.
        a.word(remember("p", Some(session(1, 0, &[("r", 1)]))));
        a.settled(&admin).await;
        c.word(release(&mine));
        c.settled(&admin).await;
        assert!(!recovers(b, 3).await, "it is out of date");
        c.word(remember("p", Some(session(3, 0, &[]))));
        c.word(release(&mine));
        c.settled(&admin).await;
        let text = admin.text(&["GET", "t:session:p"]).await;
        assert!(text.contains(r#""host":3,"shard""#), "{text}");
        // Its own.
        assert!(recovers(c, 4).await);
        c.word(release(&session(3, 0, &[])));
        c.word(remember("p", Some(session(3, 1, &[]))));
        c.settled(&admin).await;
        assert!(recovers(a, 4).await, "its socket goes on");
    });
}

#[test]
fn a_socket_that_ends_leaves_a_newer_ones_session() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let a = Host::start(&redis.url(), 1, &[]).await;
        let of = |sid: &str| Session { sid: sid.into(), ..session(1, 0, &[]) };
        let forget = |sid: &str| Word::Forget { pid: "p".into(), sid: sid.into() };
        a.word(remember("p", Some(of("old"))));
        a.settled(&admin).await;
        assert!(recovers(&a, 1).await);
        a.word(remember("p", Some(of("new"))));
        a.word(remember("p", Some(of("old"))));
        a.settled(&admin).await;
        a.word(remember("p", Some(of("old"))));
        a.word(forget("old"));
        a.settled(&admin).await;
        let text = admin.text(&["GET", "t:session:p"]).await;
        assert!(text.contains(r#""sid":"new""#), "{text}");
        // Redis tells what this host does not know any more.
        a.word(forget("older"));
        a.settled(&admin).await;
        assert_eq!(admin.text(&["GET", "t:session:p"]).await, text);
        a.word(forget("older"));
        a.word(forget("new"));
        a.settled(&admin).await;
        assert_eq!(admin.text(&["EXISTS", "t:session:p"]).await, "0");
        a.word(remember("p", Some(of("x"))));
        a.word(forget("y"));
        a.settled(&admin).await;
        assert_eq!(admin.text(&["EXISTS", "t:session:p"]).await, "1");
        a.word(remember("p", Some(of("z"))));
        a.word(forget("z"));
        a.settled(&admin).await;
        assert_eq!(admin.text(&["EXISTS", "t:session:p"]).await, "0");
    });
}

#[test]
fn a_session_that_redis_refuses_is_gone_and_comes_back() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let a = Host::start(&redis.url(), 1, &[]).await;
        a.word(remember("p", Some(session(1, 0, &[]))));
        a.word(remember("q", Some(session(1, 0, &[]))));
        a.settled(&admin).await;
        admin.send(&["CONFIG", "SET", "maxmemory", "1"]).await;
        a.word(remember("p", Some(session(1, 0, &[("r", 1)]))));
        a.word(remember("q", Some(session(1, 0, &[("r", 1)]))));
        for key in ["t:session:p", "t:session:q"] {
            admin.until(&["EXISTS", key], |it| it == "0").await;
        }
        a.word(remember("q", None));
        admin.send(&["CONFIG", "SET", "maxmemory", "0"]).await;
        admin.until(&["GET", "t:session:p"], |it| it.contains(r#""seq":1"#)).await;
        a.settled(&admin).await;
        assert_eq!(admin.text(&["EXISTS", "t:session:q"]).await, "0");
        until("nothing is refused", || {
            let sessions = &a.beside.desk.sessions;
            sessions.refused_count() == 0
        })
        .await;
    });
}

/// Whether a host takes the session `p` over. Any ticket serves once.
async fn recovers(host: &Host, ticket: u64) -> bool {
    host.word(Word::Recover { ticket: Ticket(ticket), pid: "p".into(), offset: None });
    let [no, yes] = [format!("{ticket} false"), format!("{ticket} true")];
    until("an answer", || host.heard().iter().any(|it| *it == no || *it == yes)).await;
    host.heard().contains(&yes)
}

pub(super) fn session(host: HostId, shard: u16, rooms: &[(&str, u64)]) -> Session {
    let stay = |(room, seq): &(&str, u64)| Stay {
        room: (*room).into(),
        member: "{}".into(),
        listens: true,
        seq: *seq,
        replays: Vec::new(),
    };
    Session {
        host,
        shard,
        since: 0,
        namespace: "/".into(),
        sid: "sid".into(),
        data: "{}".into(),
        rooms: rooms.iter().map(stay).collect(),
    }
}

pub(super) fn remember(pid: &str, session: Option<Session>) -> Word {
    Word::Remember { pid: pid.into(), session: session.map(Box::new) }
}
