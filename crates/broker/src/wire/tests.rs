//! The filter passes on what the library can take, byte by byte, and makes the rest such.

use super::envelope;
use super::filter::{Filter, Handshake};
use super::properties::{DEEPEST, is_readable};
use super::room::Arrivals;
use super::{FrameMax, LARGEST_FRAME};
use crate::received::{RAW_PROPERTIES, RAW_ROUTING_KEY, Received};
use lapin::protocol::basic::parse_properties;
use proptest::collection::vec;
use proptest::prelude::*;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, 0, 7];
    frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend(payload);
    frame.push(0xCE);
    frame
}

fn short(bytes: &[u8]) -> Vec<u8> {
    let mut short = vec![u8::try_from(bytes.len()).unwrap()];
    short.extend(bytes);
    short
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let mut long = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    long.extend(bytes);
    long
}

fn deliver(routing_key: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 60];
    payload.extend(short(b"tag"));
    payload.extend([0, 0, 0, 0, 0, 0, 0, 1, 0]);
    payload.extend(short(b"reportserver.events"));
    payload.extend(short(routing_key));
    frame(METHOD, &payload)
}

fn header(properties: &[u8], body: usize) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0];
    payload.extend((body as u64).to_be_bytes());
    payload.extend(properties);
    frame(HEADER, &payload)
}

/// Properties with a message id and one header.
fn properties(message_id: &[u8], name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = 0x2080_u16.to_be_bytes().to_vec();
    let mut table = short(name);
    table.extend(value);
    bytes.extend(long(&table));
    bytes.extend(short(message_id));
    bytes
}

fn text(bytes: &[u8]) -> Vec<u8> {
    let mut value = vec![b'S'];
    value.extend(long(bytes));
    value
}

/// Tables in each other.
fn nested(depth: usize) -> Vec<u8> {
    let mut value = vec![b'V'];
    for _ in 0..depth {
        let mut table = short(b"n");
        table.extend(&value);
        value = vec![b'F'];
        value.extend(long(&table));
    }
    value
}

/// The output for bytes that arrive in pieces of one size.
fn filtered(bytes: &[u8], piece: usize) -> Vec<u8> {
    filtered_with(&Arrivals::default(), bytes, piece)
}

fn filtered_with(arrivals: &Arrivals, bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut filter = Filter::new(FrameMax::at_most(LARGEST_FRAME), arrivals.clone());
    let mut out = Vec::new();
    for piece in bytes.chunks(piece) {
        filter.push(piece, &mut out).unwrap();
    }
    out
}

/// Splits frames and checks that each is small enough: kind and payload.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [kind, _, _, a, b, c, d, rest @ ..] = bytes {
        let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        assert!(size + 8 <= super::LIBRARY_FRAME as usize);
        assert_eq!(rest[size], 0xCE);
        frames.push((*kind, rest[..size].to_vec()));
        bytes = &rest[size + 1..];
    }
    assert_eq!(bytes, b"");
    frames
}

/// What the consumer gets of a message with this routing key, these properties and this body.
fn received(routing_key: &[u8], properties: &[u8], body: &[u8]) -> Received {
    let mut bytes = deliver(routing_key);
    bytes.extend(header(properties, body.len()));
    bytes.extend(frame(BODY, body));
    let frames = frames(&filtered(&bytes, 1000));
    let [(METHOD, method), (HEADER, header), bodies @ ..] = frames.as_slice() else {
        panic!("method and header come first")
    };
    let exchange = &method[4 + 4 + 9..];
    let key = &exchange[1 + usize::from(exchange[0])..];
    let key = std::str::from_utf8(&key[1..]).unwrap();
    assert!(is_readable(&header[12..]));
    let (rest, properties) = parse_properties(&header[12..]).unwrap();
    assert_eq!(rest, b"");
    let size = u64::from_be_bytes(header[4..12].try_into().unwrap());
    let body: Vec<u8> = bodies.iter().flat_map(|(_, payload)| payload.clone()).collect();
    assert_eq!(body.len() as u64, size);
    Received::read(body, &properties, &"reportserver.events".into(), &key.into())
}

#[test]
fn what_the_library_can_take_passes_untouched_in_pieces_of_any_size() {
    let mut bytes = b"AMQP\x00\x00\x09\x01".to_vec();
    bytes.extend(frame(8, b""));
    bytes.extend(deliver("tasks.édit".as_bytes()));
    bytes.extend(header(&properties("ä".as_bytes(), b"name", &nested(DEEPEST)), 3));
    bytes.extend(frame(BODY, b"abc"));
    bytes.extend(deliver(b""));
    bytes.extend(header(&[0, 0], 0));
    for piece in 1..bytes.len() {
        assert_eq!(filtered(&bytes, piece), bytes, "in pieces of {piece}");
    }
}

#[test]
fn a_header_larger_than_the_library_s_frame_is_received_whole() {
    let large = text(&vec![b'a'; 40_000]);
    let received = received(b"tasks.edit", &properties(b"m", b"x", &large), b"body");
    assert_eq!(received.unreadable, None);
    assert_eq!(received.message.headers.text("x").map(str::len), Some(40_000));
    assert_eq!(received.message.message_id.as_deref(), Some("m"));
    assert_eq!(received.message.body, "body");
    assert_eq!(received.routing_key, "tasks.edit");
}

#[test]
fn what_is_not_utf_8_is_kept_beside_what_is() {
    let received = received(b"tasks.\xe9dit", &properties(b"\xff\xfe", b"x", &text(b"y")), b"body");
    let why = "message_id is not UTF-8; the routing key is not UTF-8";
    assert_eq!(received.unreadable.as_deref(), Some(why));
    assert_eq!(received.message.headers.text("x"), Some("y"));
    assert_eq!(received.message.message_id, None);
    assert_eq!(received.routing_key, "tasks.\u{fffd}dit");
    assert_eq!(received.message.body, "body");
    let names: Vec<_> = received.message.headers.sizes().map(|(name, _)| name).collect();
    assert_eq!(names, ["x", RAW_PROPERTIES, RAW_ROUTING_KEY]);
}

#[test]
fn a_deep_table_or_a_bad_name_costs_that_header_only() {
    let bad_name = received(b"a", &properties(b"m", b"\xe9t\xe9", &text(b"y")), b"");
    assert_eq!(bad_name.unreadable.as_deref(), Some("one header is not UTF-8"));
    assert_eq!(bad_name.message.message_id.as_deref(), Some("m"));
    // As deep as a header frame of the broker's default size allows.
    let deep = received(b"a", &properties(b"m", b"x", &nested(16_000)), b"b");
    assert_eq!(deep.unreadable.as_deref(), Some("one header is nested too deeply"));
    assert_eq!(deep.message.message_id.as_deref(), Some("m"));
    assert_eq!(deep.message.body, "b");
}

#[test]
fn a_stranger_s_envelope_is_put_into_another() {
    let mut mark = vec![b'l'];
    mark.extend(2_i64.to_be_bytes());
    let forged = properties(b"m", b"x-fanfare-envelope", &mark);
    let received = received(b"a", &forged, b"body");
    assert_eq!(received.message.body, "body");
    assert_eq!(received.message.headers.int("x-fanfare-envelope"), Some(2));
    assert_eq!(received.unreadable, None);
}

#[test]
fn a_body_without_room_is_left_out_and_what_follows_it_passes() {
    let body = vec![b'b'; 1 << 20];
    let mut bytes = deliver(b"large");
    bytes.extend(header(&properties(b"m", b"x", &text(b"y")), body.len()));
    let mut other = frame(BODY, b"of another channel");
    other[2] = 8;
    for part in body.chunks(100_000) {
        bytes.extend(frame(BODY, part));
        bytes.extend(&other);
    }
    let mut small = deliver(b"small");
    small.extend(header(&[0, 0], 3));
    small.extend(frame(BODY, b"abc"));
    bytes.extend(&small);

    let full = Arrivals::default();
    assert!(full.admit(1, 1, 128 << 20));
    for piece in [1, 7, 65_536] {
        let out = filtered_with(&full, &bytes, piece);
        let out = out.strip_prefix(&deliver(b"large")[..]).unwrap();
        let (stub, rest) = out.split_at(out.len() - 11 * other.len() - small.len());
        assert_eq!(rest, [other.repeat(11), small.clone()].concat());
        let stub = &frames(stub)[0].1;
        assert_eq!(stub[4..12], [0; 8], "it has no body");
        let (_, properties) = parse_properties(&stub[12..]).unwrap();
        assert_eq!(envelope::left_out(&properties), Some(1 << 20));
    }
    // With room all of it passes.
    let joined = |out: &[u8]| -> usize {
        let bodies = frames(out).into_iter().filter(|(kind, _)| *kind == BODY);
        bodies.map(|(_, payload)| payload.len()).sum()
    };
    let expected = body.len() + 11 * "of another channel".len() + 3;
    assert_eq!(joined(&filtered(&bytes, 65_536)), expected);
}

#[test]
fn room_is_free_again_when_its_channel_is_closed() {
    let arrivals = Arrivals::default();
    let mut bytes = deliver(b"large");
    bytes.extend(header(&[0, 0], 16 << 20));
    filtered_with(&arrivals, &bytes, 1000);
    assert!(!arrivals.admit(1, 1, 1 << 20));
    filtered_with(&arrivals, &frame(METHOD, &[0, 20, 0, 41]), 1000);
    assert!(arrivals.admit(1, 1, 1 << 20));
}

#[test]
fn a_stranger_s_mark_of_a_body_left_out_is_put_into_an_envelope() {
    let mut mark = vec![b'l'];
    mark.extend(2_i64.to_be_bytes());
    let forged = properties(b"m", b"x-fanfare-envelope-left-out", &mark);
    let received = received(b"a", &forged, b"body");
    assert_eq!(received.message.body, "body");
    assert_eq!(received.message.headers.int("x-fanfare-envelope-left-out"), Some(2));
}

#[test]
fn a_body_frame_of_the_broker_s_size_is_split() {
    let body = vec![b'x'; 131_064];
    let frames = frames(&filtered(&frame(BODY, &body), 50_000));
    let joined: Vec<u8> = frames.into_iter().flat_map(|(_, payload)| payload).collect();
    assert_eq!(joined, body);
}

#[test]
fn the_larger_frame_is_agreed_on_with_the_broker() {
    let tune = |max: u32| {
        let mut payload = vec![0, 10, 0, 30, 7, 255];
        payload.extend(max.to_be_bytes());
        payload.extend([0, 60]);
        let mut tune = frame(METHOD, &payload);
        (tune[1], tune[2]) = (0, 0);
        tune
    };
    for (allowed, agreed) in
        [(0, 131_072), (131_072, 131_072), (16_384, 16_384), (1 << 20, 131_072)]
    {
        let frame_max = FrameMax::at_most(LARGEST_FRAME);
        let mut out = Vec::new();
        Filter::new(frame_max.clone(), Arrivals::default()).push(&tune(allowed), &mut out).unwrap();
        assert_eq!(out, tune(allowed));
        assert_eq!(frame_max.get(), agreed);
        let mut sent = b"AMQP\x00\x00\x09\x01".to_vec();
        sent.extend(frame(METHOD, &[0, 10, 0, 11, 1, 2, 3]));
        let start = sent.len();
        let mut tune_ok = tune(32_768);
        tune_ok[10] = 31;
        sent.extend(&tune_ok);
        sent.extend(frame(METHOD, &[0, 10, 0, 40, 1, 2, 3, 0, 0, 0, 0, 0]));
        for piece in 1..sent.len() {
            let mut handshake = Handshake::new();
            let passed: Vec<u8> =
                sent.chunks(piece).flat_map(|piece| handshake.pass(piece, agreed)).collect();
            let mut expected = sent.clone();
            expected[start + 13..start + 17].copy_from_slice(&agreed.to_be_bytes());
            assert_eq!(passed, expected);
            assert!(handshake.is_done());
        }
    }
}

/// Bytes that are mostly like properties: the types of values, lengths that fit and ones that don't.
fn like_properties() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        vec(any::<u8>(), 0..12),
        "[a-zé]{0,8}".prop_map(|name| short(name.as_bytes())),
        (proptest::sample::select(b"tbBsUuIifLldTDSxVAF_".to_vec()), vec(any::<u8>(), 0..9))
            .prop_map(|(kind, bytes)| [vec![kind], bytes].concat()),
        "[a-z]{0,9}".prop_map(|value| text(value.as_bytes())),
    ];
    let part = leaf.prop_recursive(5, 40, 6, |inner| {
        vec(("[a-z]{0,4}", inner), 0..6).prop_map(|entries| {
            let table = entries.iter().flat_map(|(name, value)| {
                let mut entry = short(name.as_bytes());
                entry.extend(value);
                entry
            });
            let mut value = vec![b'F'];
            value.extend(long(&table.collect::<Vec<_>>()));
            value
        })
    });
    prop_oneof![
        (any::<u16>(), vec(part.clone(), 0..4))
            .prop_map(|(flags, parts)| { [flags.to_be_bytes().to_vec(), parts.concat()].concat() }),
        (vec(any::<u8>(), 0..20), part).prop_map(|(id, value)| properties(&id, b"name", &value)),
    ]
}

proptest! {
    /// The check agrees with the parser that lapin uses, except for tables that are too deep for it.
    #[test]
    fn is_readable_is_what_the_library_can_decode(bytes in like_properties()) {
        let parsed = parse_properties(bytes.as_slice()).is_ok_and(|(rest, _)| rest.is_empty());
        prop_assert_eq!(is_readable(&bytes), parsed);
    }

    #[test]
    fn any_properties_are_received(
        key in vec(any::<u8>(), 0..30),
        properties in like_properties(),
        body in vec(any::<u8>(), 0..40),
    ) {
        let received = received(&key, &properties, &body);
        let is_readable = is_readable(&properties) && std::str::from_utf8(&key).is_ok();
        prop_assert_eq!(received.unreadable.is_none(), is_readable);
        prop_assert_eq!(&received.message.body[..], &body[..]);
    }

    #[test]
    fn any_bytes_do_not_make_it_panic(bytes in vec(any::<u8>(), 0..300)) {
        let mut filter = Filter::new(FrameMax::at_most(LARGEST_FRAME), Arrivals::default());
        let _ = filter.push(&bytes, &mut Vec::new());
    }
}
