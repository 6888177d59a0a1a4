//! What each parser takes and what it refuses.

use super::*;

/// All that `parser` refuses must be refused with words.
fn refuses<T: std::fmt::Debug>(parser: impl Fn(&str) -> Parsed<T>, texts: &[&str]) {
    for text in texts {
        let reason = parser(text).expect_err(text);
        assert!(reason.contains("must be"), "{text:?}: {reason}");
    }
}

#[test]
fn numbers_within_their_bounds() {
    let parse = |text: &str| number(text, 1..=1024_usize);
    assert_eq!((parse("1"), parse("1024")), (Ok(1), Ok(1024)));
    refuses(parse, &["", "0", "1025", "-1", "1.5", "4x", "99999999999999999999999"]);
}

#[test]
fn sizes_with_and_without_units() {
    let parse = |text: &str| bytes(text, 1..=1 << 30);
    for (text, size) in [
        ("65536", 65536),
        ("64KiB", 65536),
        ("64 kib", 65536),
        ("1MiB", 1_048_576),
        ("1MB", 1_000_000),
        ("1kB", 1000),
        ("1GiB", 1 << 30),
        ("12b", 12),
    ] {
        assert_eq!(parse(text), Ok(size), "{text}");
    }
    refuses(parse, &["", "0", "KiB", "1K", "1.5MiB", "-1", "2GiB", "18446744073709551615GiB"]);
}

#[test]
fn times_need_their_unit() {
    let parse = |text: &str| duration(text, Duration::ZERO..=Duration::from_secs(7 * 86_400));
    for (text, millis) in [
        ("0", 0),
        ("0s", 0),
        ("300ms", 300),
        ("25s", 25_000),
        ("1m", 60_000),
        ("24h", 86_400_000),
        ("7d", 604_800_000),
    ] {
        assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    refuses(parse, &["", "25", "s", "1.5s", "-1s", "8d", "1M", "99999999999999999999d"]);
    refuses(|text| duration(text, Duration::from_millis(1)..=Duration::MAX), &["0"]);
}

#[test]
fn what_is_kept_is_kept_for_a_second_at_least() {
    for (text, kept) in [
        ("off", None),
        ("1s", Some(Duration::from_secs(1))),
        ("365d", Some(Duration::from_secs(365 * 86_400))),
    ] {
        assert_eq!(retention(text), Ok(kept), "{text}");
    }
    refuses(retention, &["", "0", "999ms", "30", "on", "36501d", "OFF"]);
}

#[test]
fn alerts_have_a_threshold_or_none() {
    let parse = |text: &str| alert(text, 1..=100);
    assert_eq!((parse("80"), parse("off")), (Ok(Some(80)), Ok(None)));
    refuses(parse, &["", "0", "101", "80%", "none"]);
}

#[test]
fn rates_per_second_and_per_minute() {
    for (text, parsed) in [
        ("30/m", Rate::per_minute(30)),
        ("30", Rate::per_minute(30)),
        ("5/s", Rate::per_second(5)),
        ("0", Rate::UNLIMITED),
        ("0/s", Rate::UNLIMITED),
    ] {
        assert_eq!(rate(text), Ok(parsed), "{text}");
    }
    assert!(Rate::per_minute(0).is_unlimited());
    refuses(rate, &["", "/s", "5/", "5/h", "5/s/s", "-1/s", "1.5/s", "5000000000/s"]);
}

#[test]
fn words_addresses_paths_and_filters() {
    assert_eq!(choice("b", &[("a", 1), ("b", 2)]), Ok(2));
    refuses(|text| choice(text, &[("a", 1), ("b", 2)]), &["", "A", "c"]);
    assert_eq!(address("0.0.0.0"), Ok(Some(IpAddr::from([0; 4]))));
    refuses(address, &["", "localhost", "1.2.3", "[::1]", "1.2.3.4:80"]);
    refuses(data_dir, &[""]);
    assert_eq!(data_dir("none"), Ok(None));
    assert_eq!(data_dir("./none"), Ok(Some(PathBuf::from("./none"))));
    assert!(log_filter("info,throng::shard=trace").is_ok());
    refuses(log_filter, &["throng=loud", "[[["]);
}

#[test]
fn where_redis_is() {
    for host in ["cache", "redis-0.svc.cluster.local", "127.0.0.1", "::1"] {
        assert_eq!(redis_host(host), Ok(()), "{host}");
    }
    refuses(redis_host, &["", "a:6379", "redis://a", "a b", "user@a", "[::1]", "a/0"]);
    assert_eq!((redis_port("1"), redis_port("65535")), (Ok(1), Ok(65535)));
    refuses(redis_port, &["", "0", "65536", "tcp://10.0.0.1:6379"]);
}

#[test]
fn a_prefix_matches_nothing_and_chooses_no_slot() {
    for prefix in ["", "staging:", "ü/", &"x".repeat(64)] {
        assert_eq!(redis_key_prefix(prefix).as_deref(), Ok(prefix));
    }
    let long = "x".repeat(65);
    refuses(redis_key_prefix, &["{", "a}", "*", "a?", "[a", "]", "\\", "a\tb", "\u{7f}", &long]);
}

#[test]
fn names_are_folded() {
    let folded = vec!["ädmin".to_owned(), "the boss".to_owned()];
    assert_eq!(names(" ÄDMIN ,, The Boss,"), Ok(folded));
    assert_eq!(names(""), Ok(Vec::new()));
}

#[test]
fn origins_are_exact() {
    assert_eq!(origins(""), Ok(CorsOrigins::None));
    assert_eq!(origins("*"), Ok(CorsOrigins::Any));
    let text = "https://Example.com:443, http://localhost:3000,http://[::1]:80,app://x";
    let parsed = origins(text).expect("these are origins");
    for allowed in ["https://example.com", "http://localhost:3000", "http://[::1]", "app://x"] {
        assert!(parsed.allows(allowed.as_bytes()), "{allowed}");
    }
    for refused in [
        "null",
        "",
        "http://example.com",
        "https://EXAMPLE.com",
        "https://example.com.",
        "https://example.com:444",
        "https://evil-example.com",
        "https://example.com.evil",
        "https://user@example.com",
    ] {
        assert!(!parsed.allows(refused.as_bytes()), "{refused}");
    }
    refuses(origins, &["null", "example.com", "https://", "https://a/", "https://a/b", "://a"]);
    refuses(origins, &["https://*.a", "*,https://a", "https://u@a", "https://a:", "https://a:x"]);
    refuses(origins, &["https://ü.example", "https://a b", "http://::1", "http://[::g]"]);
}
