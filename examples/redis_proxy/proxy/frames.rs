//! Where messages of the Redis protocol (RESP2) end. What is in them is passed on as it
//! came.

use std::fmt;
use std::mem;

use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::types::RangeFrame;

/// The longest message, command or answer.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The longest line in one: a length, a number, an error.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The most elements that one may still have before it: more than any command of Redis.
const ELEMENTS_MAX: usize = 8 * 1024 * 1024;

const CRLF: &[u8] = b"\r\n";

/// What came is no message, or one that is too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(String);

impl Broken {
    pub fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "protocol error: {}", self.0)
    }
}

/// Finds the ends of messages in what has come so far, each byte looked at once, however
/// it comes in pieces.
///
/// Arrays are counted, not descended into: a nested one costs no stack.
#[derive(Debug)]
pub struct Scanner {
    /// Whether only arrays of strings may come, as clients send them.
    commands: bool,
    /// Where the next element of the message begins.
    at: usize,
    /// How many elements are missing.
    missing: usize,
}

impl Scanner {
    pub fn of_commands() -> Self {
        Self { commands: true, at: 0, missing: 1 }
    }

    pub fn of_answers() -> Self {
        Self { commands: false, at: 0, missing: 1 }
    }

    /// The length of the message at the beginning of `input`; `None` if not all of it has
    /// come. Until it has, `input` may only grow.
    pub fn advance(&mut self, input: &[u8]) -> Result<Option<usize>, Broken> {
        while self.missing > 0 {
            let Some(length) = self.element(&input[self.at..])? else {
                if input.len() > MESSAGE_BYTES_MAX {
                    return Err(Broken::new(format_args!("more than {MESSAGE_BYTES_MAX} bytes")));
                }
                return Ok(None);
            };
            self.at += length;
        }
        self.missing = 1;
        Ok(Some(mem::take(&mut self.at)))
    }

    /// Takes the next element, or the head of an array.
    fn element(&mut self, rest: &[u8]) -> Result<Option<usize>, Broken> {
        let Some(&kind) = rest.first() else { return Ok(None) };
        if self.commands && self.at == 0 && kind == b'\r' {
            // An empty line is no command, and has no answer.
            return match rest.get(1) {
                None => Ok(None),
                Some(b'\n') => {
                    self.missing -= 1;
                    Ok(Some(CRLF.len()))
                }
                Some(_) => Err(Broken::new("a line that begins with a return")),
            };
        }
        if self.commands && kind != if self.at == 0 { b'*' } else { b'$' } {
            return Err(Broken::new(match self.at {
                0 => "inline commands are not taken, only arrays",
                _ => "a command consists of strings",
            }));
        }
        if kind == b'*' {
            let Some((elements, length)) = array_head(rest)? else { return Ok(None) };
            self.missing += elements;
            if self.missing > ELEMENTS_MAX {
                return Err(Broken::new(format_args!("more than {ELEMENTS_MAX} elements")));
            }
            self.missing -= 1;
            return Ok(Some(length));
        }
        match decode_range(rest) {
            Ok(Some((RangeFrame::Null, _))) if self.commands => {
                Err(Broken::new("a string of a command is null"))
            }
            Ok(Some((_, length))) => {
                self.missing -= 1;
                Ok(Some(length))
            }
            Ok(None) => line(rest).map(|_| None),
            Err(error) => Err(Broken::new(error.details())),
        }
    }
}

/// How many elements an array has, and how long its head is. Null has none.
fn array_head(rest: &[u8]) -> Result<Option<(usize, usize)>, Broken> {
    let Some(line) = line(rest)? else { return Ok(None) };
    let count = line
        .strip_prefix(b"*")
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<i64>().ok());
    let Some(count) = count else { return Err(Broken::new("the length of an array is no number")) };
    Ok(Some((usize::try_from(count).unwrap_or(0), line.len() + CRLF.len())))
}

/// The line at the beginning, if it has come.
fn line(rest: &[u8]) -> Result<Option<&[u8]>, Broken> {
    let seen = &rest[..rest.len().min(LINE_BYTES_MAX)];
    match seen.windows(CRLF.len()).position(|pair| pair == CRLF) {
        Some(length) => Ok(Some(&rest[..length])),
        None if seen.len() == LINE_BYTES_MAX => {
            Err(Broken::new(format_args!("a line of more than {LINE_BYTES_MAX} bytes")))
        }
        None => Ok(None),
    }
}

/// The strings of a whole command.
pub fn arguments(command: &[u8]) -> impl Iterator<Item = &[u8]> {
    let head = array_head(command).ok().flatten().map_or(command.len(), |(_, length)| length);
    let mut rest = &command[head..];
    std::iter::from_fn(move || {
        let Ok(Some((RangeFrame::BulkString((from, to)), length))) = decode_range(rest) else {
            return None;
        };
        let argument = &rest[from..to];
        rest = &rest[length..];
        Some(argument)
    })
}

/// An error, as the protocol has it.
pub fn error(text: impl fmt::Display) -> Vec<u8> {
    // A line break would end it too early.
    format!("-PROXY {}\r\n", text.to_string().replace(['\r', '\n'], " ")).into_bytes()
}
