//! Heads: what is read and what is refused. Whole requests: cuts anywhere, pipelining.

use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes_max: 1000, headers_max: 10 };

pub(super) fn parsed(text: &str) -> Result<Option<Head<'_>>, HeadError> {
    Ok(parse_head(text.as_bytes(), &LIMITS)?.map(|(head, _)| head))
}

/// Calls `check` with the head of a request that has these field lines besides its `Host`.
pub(super) fn with_head(fields: &str, check: impl FnOnce(&Head<'_>)) {
    let text = format!("POST /x HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
    check(&parsed(&text).expect("a head").expect("whole"));
}

/// The error of a head, which must be the answer to every prefix that is not "more".
fn refused(bytes: &[u8]) -> HeadError {
    let error = parse_head(bytes, &LIMITS).map(|_| ()).expect_err("refused");
    for end in 0..bytes.len() {
        match parse_head(&bytes[..end], &LIMITS) {
            Ok(None) => {}
            Ok(Some(_)) => panic!("{:?} is whole", String::from_utf8_lossy(&bytes[..end])),
            Err(early) => assert_eq!(early, error, "{:?}", String::from_utf8_lossy(bytes)),
        }
    }
    error
}

#[test]
fn a_head_is_read_at_every_cut_and_no_further() {
    let bytes =
        b"\r\n\r\nGET /socket.io/?EIO=4&transport=polling&t=%41 HTTP/1.1\r\nHost: chat:3000\r\n\
        cookie:  a=b\t\r\nX-Empty:\r\nCookie: \xff\xe9\r\n\r\nGET / HTTP/9.9\n\n\0";
    let (head, head_bytes) = parse_head(bytes, &LIMITS).expect("a head").expect("whole");
    assert_eq!(&bytes[head_bytes..], b"GET / HTTP/9.9\n\n\0");
    assert_eq!((head.method(), head.version()), ("GET", Version::Http11));
    assert_eq!(head.target(), "/socket.io/?EIO=4&transport=polling&t=%41");
    assert_eq!((head.path(), head.query()), ("/socket.io/", "EIO=4&transport=polling&t=%41"));
    assert_eq!(head.value("COOKIE"), Some(&b"a=b"[..]));
    assert_eq!(head.values("cookie").collect::<Vec<_>>(), [&b"a=b"[..], b"\xff\xe9"]);
    assert_eq!((head.value("x-empty"), head.value("x")), (Some(&b""[..]), None));
    assert_eq!((head.count("cookie"), head.count("host"), head.count("")), (2, 1, 0));
    for end in 0..head_bytes {
        assert!(matches!(parse_head(&bytes[..end], &LIMITS), Ok(None)), "at {end}");
    }
    for end in head_bytes..bytes.len() {
        let cut = parse_head(&bytes[..end], &LIMITS).expect("a head").expect("whole");
        assert_eq!(cut.1, head_bytes);
    }
}

#[test]
fn targets() {
    for (line, path, query) in [
        ("GET /", "/", ""),
        ("GET /a?b?c", "/a", "b?c"),
        ("GET /a?", "/a", ""),
        ("GET //b/../%2e", "//b/../%2e", ""),
        ("GET /é", "/é", ""),
        ("OPTIONS *", "*", ""),
        ("GET http://h:80/a?b", "/a", "b"),
        ("GET HTTPS://H:80/", "/", ""),
        ("GET http://h:80", "/", ""),
        ("GET http://h:80?b=/", "/", "b=/"),
    ] {
        let text = format!("{line} HTTP/1.1\r\nHost: h:80\r\n\r\n");
        let head = parsed(&text).expect(line).expect("whole");
        assert_eq!((head.path(), head.query()), (path, query), "{line}");
        assert_eq!(format!("{} {}", head.method(), head.target()), line);
    }
    for line in [
        "GET *",
        "GET a",
        "GET ?a",
        "CONNECT h:80",
        "GET h:80",
        "GET http://h/a",
        "GET http:///a",
        "GET http://u@h:80/",
        "GET http://h:80@x/",
        "GET ftp://h:80/",
        "GET ://h:80/",
        "GET http:/h:80/",
        "GET http://h:80#/",
    ] {
        let text = format!("{line} HTTP/1.1\r\nHost: h:80\r\n\r\n");
        assert_eq!(refused(text.as_bytes()), HeadError::Malformed, "{line}");
    }
    assert_eq!(refused(b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n"), HeadError::Malformed);
    assert_eq!(refused(b"GET http://h/ HTTP/1.0\r\n\r\n"), HeadError::Malformed);
}

#[test]
fn hosts() {
    let answer = |version: &str, fields: &str| {
        parsed(&format!("GET / HTTP/{version}\r\n{fields}\r\n")).map(|head| head.is_some())
    };
    for host in ["h", "", "[::1]:3000", "a_b.example.:1", "xn--e1afmkfd.example"] {
        assert_eq!(answer("1.1", &format!("Host: {host}\r\n")), Ok(true), "{host}");
    }
    for host in ["a b", "a\tb", "h/p", "u@h", "h?", "h#", "é", "h\\", "<h>"] {
        let wrong = Err(HeadError::Malformed);
        assert_eq!(answer("1.1", &format!("Host: {host}\r\n")), wrong, "{host}");
        assert_eq!(answer("1.0", &format!("Host: {host}\r\n")), wrong, "{host}");
    }
    assert_eq!(answer("1.0", ""), Ok(true));
    for (version, fields) in
        [("1.1", ""), ("1.1", "Host: h\r\nhost: h\r\n"), ("1.0", "Host: h\r\nHost: h\r\n")]
    {
        assert_eq!(answer(version, fields), Err(HeadError::Malformed), "{version} {fields}");
    }
}

#[test]
fn versions() {
    for line in
        ["PRI * HTTP/2.0", "GET / HTTP/1.2", "GET / HTTP/0.9", "GET / http/1.1", "GET /  HTTP/1.1"]
    {
        let text = format!("{line}\r\nHost: h\r\n\r\n");
        assert_eq!(refused(text.as_bytes()), HeadError::Version, "{line}");
    }
    let old = parsed("GET / HTTP/1.0\r\n\r\n").expect("a head").expect("whole");
    assert_eq!(old.version(), Version::Http10);
    let statuses = [HeadError::TooLarge, HeadError::Version, HeadError::Malformed];
    assert_eq!(statuses.map(HeadError::status), [431, 505, 400]);
    assert_eq!([BodyError::TooLarge, BodyError::Malformed].map(BodyError::status), [413, 400]);
}

#[test]
fn what_proxies_could_read_differently() {
    for text in [
        "GET /\r\n\r\n",
        "GET\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: h\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "\rGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\rHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "GET / HTTP/1.1\r\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: a\nY: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: a\rY: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\r\nY: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX:\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX:\r\n\tb\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX\t: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX a: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX\u{e9}: a\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0",
    ] {
        assert_eq!(refused(text.as_bytes()), HeadError::Malformed, "{text:?}");
    }
}

/// Where a byte stands in a field must not matter to the vector code that looks for its end.
#[test]
fn control_characters_are_refused_wherever_they_stand() {
    for control in (0..=0x20).chain([0x7f]) {
        for before in 0..40 {
            let request = |start: &[u8]| {
                let pad = vec![b'a'; before];
                let control = [control];
                let parts: [&[u8]; 5] = [b"GET /", start, &pad, &control, &pad];
                let rest: &[u8] = if start.is_empty() {
                    b" HTTP/1.1\r\nHost: h\r\n\r\n"
                } else {
                    b"z: b\r\nHost: h\r\n\r\n"
                };
                [&parts.concat(), rest].concat()
            };
            let value = request(b" HTTP/1.1\r\nX: a");
            match control {
                b'\t' | b' ' => assert!(parse_head(&value, &LIMITS).is_ok_and(|it| it.is_some())),
                _ => assert_eq!(refused(&value), HeadError::Malformed, "{control} in a value"),
            }
            let name = refused(&request(b" HTTP/1.1\r\nX"));
            assert_eq!(name, HeadError::Malformed, "{control} in a name");
            let target = parse_head(&request(b""), &LIMITS).map(|_| ());
            assert!(target.is_err(), "{control} in a target");
        }
    }
}

#[test]
fn heads_are_bounded() {
    let of_length = |length: usize| {
        let start = "GET / HTTP/1.1\r\nHost: h\r\nX: ";
        format!("{start}{}\r\n\r\n", "a".repeat(length - start.len() - 4))
    };
    assert!(parsed(&of_length(1000)).is_ok_and(|head| head.is_some()));
    assert_eq!(refused(of_length(1001).as_bytes()), HeadError::TooLarge);
    assert_eq!(
        refused(of_length(100_000).get(..2000).expect("long").as_bytes()),
        HeadError::TooLarge
    );
    assert_eq!(refused(&b"\r\n".repeat(500)), HeadError::TooLarge);
    let pipelined = of_length(1000) + &"x".repeat(5000);
    assert!(parsed(&pipelined).is_ok_and(|head| head.is_some()));

    let with_fields =
        |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert!(parsed(&with_fields(10)).is_ok_and(|head| head.is_some()));
    assert_eq!(refused(with_fields(11).as_bytes()), HeadError::TooLarge);
    let default = HeadLimits::default();
    let fits = |count, limits: &HeadLimits| {
        parse_head(with_fields(count).as_bytes(), limits).map(|head| head.is_some())
    };
    assert_eq!(fits(64, &default), Ok(true));
    for count in [65, 100, 2000, 20_000] {
        assert_eq!(fits(count, &default), Err(HeadError::TooLarge));
    }
    let wider = HeadLimits { headers_max: 1000, ..default };
    assert_eq!((fits(64, &wider), fits(65, &wider)), (Ok(true), Err(HeadError::TooLarge)));
    let none = HeadLimits { bytes_max: 0, headers_max: 0 };
    assert!(matches!(parse_head(b"", &none), Err(HeadError::TooLarge)));
}

/// What one connection is understood as: the requests that came whole, and how it ended.
type Reading = (Vec<(String, Vec<u8>)>, Result<usize, u16>);

/// Reads requests as a server does, from bytes that arrive in these pieces.
fn read_requests<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Reading {
    let mut requests = Vec::new();
    let mut buffer = Vec::new();
    let mut open: Option<(String, Body)> = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if let Err(status) = drain(&mut buffer, &mut open, &mut requests) {
            return (requests, Err(status));
        }
    }
    (requests, Ok(buffer.len()))
}

fn drain(
    buffer: &mut Vec<u8>,
    open: &mut Option<(String, Body)>,
    requests: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), u16> {
    loop {
        let (target, mut body) = match open.take() {
            Some(open) => open,
            None => {
                let head = parse_head(buffer, &LIMITS).map_err(HeadError::status)?;
                let Some((head, head_bytes)) = head else { return Ok(()) };
                let framing = head.framing().map_err(HeadError::status)?;
                let body = Body::new(framing, 100).map_err(BodyError::status)?;
                let target = head.target().to_owned();
                buffer.drain(..head_bytes);
                (target, body)
            }
        };
        let taken = body.read(buffer).map_err(BodyError::status)?;
        buffer.drain(..taken);
        if !body.is_done() {
            assert!(buffer.is_empty());
            *open = Some((target, body));
            return Ok(());
        }
        requests.push((target, body.into_bytes()));
    }
}

fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|at| at % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

#[test]
fn pipelined_requests_at_every_pair_of_cuts() {
    let stream = b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n4hello\
        POST /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
        3;x\r\n4a\x1e\r\n2\r\n4b\r\n0\r\nT: x\r\n\r\nGET /3 HTTP/1.1\r\nHost: h\r\n\r\nGET";
    let whole = read_requests([&stream[..]].into_iter());
    let bodies: [(&str, &[u8]); 3] = [("/1", b"4hello"), ("/2", b"4a\x1e4b"), ("/3", b"")];
    let expected = bodies.map(|(target, body)| (target.to_owned(), body.to_owned()));
    assert_eq!(whole, (expected.to_vec(), Ok(3)));
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let pieces = cut(stream, &[first, second]);
            assert_eq!(read_requests(pieces.into_iter()), whole, "at {first} and {second}");
        }
    }
}

/// Requests that are mostly right, with a byte turned into another now and then.
fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let fields = prop_oneof![
        Just("Content-Length: 5\r\n\r\nhello"),
        Just("Content-Length: 105\r\n\r\nhello"),
        Just("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\na;b\r\n0123456789\r\n0\r\n\r\n"),
        Just("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\nC\r\n\r\n"),
        Just("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n60\r\n"),
        Just("Accept: x\r\n\r\n"),
        Just("\r\n"),
    ];
    let change = prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b':'), any::<u8>()];
    (fields, any::<prop::sample::Index>(), change, 0..4).prop_map(|(fields, at, change, chance)| {
        let mut bytes = format!("POST /a HTTP/1.1\r\nHost: h\r\n{fields}").into_bytes();
        if chance == 0 {
            let at = at.index(bytes.len());
            bytes[at] = change;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn cuts_never_matter(
        requests in proptest::collection::vec(any_request(), 1..4),
        cuts in proptest::collection::vec(any::<usize>(), 0..8),
    ) {
        let stream = requests.concat();
        let whole = read_requests([&stream[..]].into_iter());
        prop_assert_eq!(&read_requests(cut(&stream, &cuts).into_iter()), &whole);
        prop_assert_eq!(&read_requests(stream.chunks(1)), &whole);
    }

    #[test]
    fn chunks_carry_what_was_put_in(
        body in proptest::collection::vec(any::<u8>(), 0..100),
        sizes in proptest::collection::vec(1..20_usize, 1..10),
        next in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut stream = Vec::new();
        let mut rest = &body[..];
        for size in sizes.iter().cycle() {
            let (chunk, after) = rest.split_at(rest.len().min(*size));
            if chunk.is_empty() {
                break;
            }
            stream.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            stream.extend_from_slice(chunk);
            stream.extend_from_slice(b"\r\n");
            rest = after;
        }
        stream.extend_from_slice(b"0\r\n\r\n");
        let length = stream.len();
        stream.extend_from_slice(&next);
        let mut decoder = Body::new(Framing::Chunked, 100).expect("nothing announced");
        prop_assert_eq!(decoder.read(&stream), Ok(length));
        prop_assert!(decoder.is_done());
        prop_assert_eq!(decoder.into_bytes(), body);
    }
}
