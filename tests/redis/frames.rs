//! Where messages end, however they come.

use proptest::collection::vec;
use proptest::prelude::*;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::encode::encode;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};

use crate::client::encoded;
use crate::proxy::frames::{Scanner, arguments};

fn answer() -> impl Strategy<Value = OwnedFrame> {
    let leaf = prop_oneof![
        "[ -~]{0,20}".prop_map(|text| OwnedFrame::SimpleString(text.into_bytes())),
        "[A-Z]{1,8} [ -~]{0,20}".prop_map(OwnedFrame::Error),
        any::<i64>().prop_map(OwnedFrame::Integer),
        // Anything goes in a string, also what looks like a frame.
        "(\\*[0-9]\r\n|\\$[0-9]\r\n|[ -~\r\n]){0,8}"
            .prop_map(|text| OwnedFrame::BulkString(text.into_bytes())),
        Just(OwnedFrame::Null),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| vec(inner, 0..5).prop_map(OwnedFrame::Array))
}

fn bytes_of(frame: &OwnedFrame) -> Vec<u8> {
    let mut bytes = vec![0; frame.encode_len(false)];
    let length = encode(&mut bytes, frame, false).unwrap();
    bytes.truncate(length);
    bytes
}

/// Feeds the scanner piece by piece, and collects the messages that it finds.
fn scan(mut scanner: Scanner, bytes: &[u8], pieces: &[usize]) -> Vec<Vec<u8>> {
    let (mut input, mut rest, mut found) = (Vec::new(), bytes, Vec::new());
    let mut pieces = pieces.iter().cycle();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at((*pieces.next().unwrap()).min(rest.len()));
        input.extend_from_slice(piece);
        rest = later;
        while let Some(length) = scanner.advance(&input).unwrap() {
            found.push(input.drain(..length).collect());
        }
    }
    assert!(input.is_empty(), "{:?} is left", String::from_utf8_lossy(&input));
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// As the library has it, which needs all of a message at once.
    #[test]
    fn answers_end_where_they_end(
        answers in vec(answer(), 1..8),
        pieces in vec(1..30_usize, 1..8),
    ) {
        let encoded: Vec<_> = answers.iter().map(bytes_of).collect();
        let found = scan(Scanner::of_answers(), &encoded.concat(), &pieces);
        prop_assert_eq!(&found, &encoded);
        for (bytes, answer) in found.iter().zip(&answers) {
            prop_assert_eq!(decode(bytes).unwrap(), Some((answer.clone(), bytes.len())));
        }
    }

    #[test]
    fn commands_end_where_they_end(
        commands in vec(vec("[ -~\r\n]{0,8}", 1..5), 1..8),
        pieces in vec(1..30_usize, 1..8),
    ) {
        let words: Vec<Vec<&str>> =
            commands.iter().map(|words| words.iter().map(String::as_str).collect()).collect();
        let bytes: Vec<_> = words.iter().map(|words| encoded(words).unwrap()).collect();
        let found = scan(Scanner::of_commands(), &bytes.concat(), &pieces);
        prop_assert_eq!(&found, &bytes);
        for (bytes, words) in found.iter().zip(&words) {
            let seen: Vec<_> = arguments(bytes).map(|word| str::from_utf8(word).unwrap()).collect();
            prop_assert_eq!(&seen, words);
        }
    }

    /// Whatever comes, it ends in a message, an error or a wish for more, and in no panic.
    #[test]
    fn rubbish_does_no_harm(bytes in "([*$:+\\-]|-?[0-9]{1,20}|\r|\n|\r\n|[a-z]){0,40}") {
        for mut scanner in [Scanner::of_commands(), Scanner::of_answers()] {
            let mut input = bytes.as_bytes();
            while let Ok(Some(length)) = scanner.advance(input) {
                prop_assert!((1..=input.len()).contains(&length));
                _ = arguments(&input[..length]).count();
                input = &input[length..];
            }
        }
    }
}
