//! The `Keep-Alive` parser: any bytes are read, and what is well said is understood.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use slabpool::{KeepAlive, PutOptions};

/// A parameter of which it is known what it says.
#[derive(Arbitrary, Debug)]
struct Parameter {
    name: Name,
    /// Which of the letters of the name are in upper case.
    upper: u8,
    value: Value,
    blanks: [Blank; 4],
    /// What comes after it.
    semicolon: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Name {
    Timeout,
    Max,
    Unknown,
}

#[derive(Arbitrary, Debug)]
enum Value {
    Number {
        number: Number,
        style: Style,
        zeros: u8,
    },
    /// More digits than any number has.
    TooLarge {
        first: u8,
        digits: u8,
        style: Style,
    },
    /// In quotes: whatever is in there separates nothing.
    Text(Vec<u8>),
    Missing,
    Empty,
}

/// As many bits as it happens to have.
#[derive(Debug)]
struct Number(u64);

impl Arbitrary<'_> for Number {
    fn arbitrary(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let bits = u.int_in_range(0..=63_u32)?;
        Ok(Self(u64::arbitrary(u)? >> bits))
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Style {
    Plain,
    Quoted,
    /// In quotes, and each digit with a backslash before it.
    Escaped,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Blank {
    None,
    Space,
    Tabs,
}

impl Blank {
    fn write(self, to: &mut Vec<u8>) {
        to.extend_from_slice(match self {
            Self::None => b"",
            Self::Space => b" ",
            Self::Tabs => b"\t \t",
        });
    }
}

impl Style {
    fn write(self, digits: &str, to: &mut Vec<u8>) {
        match self {
            Self::Plain => to.extend_from_slice(digits.as_bytes()),
            Self::Quoted => to.extend_from_slice(format!("\"{digits}\"").as_bytes()),
            Self::Escaped => {
                to.push(b'"');
                digits.bytes().for_each(|digit| to.extend_from_slice(&[b'\\', digit]));
                to.push(b'"');
            }
        }
    }
}

impl Parameter {
    /// Writes it, and tells what it says.
    fn write(&self, to: &mut Vec<u8>) -> KeepAlive {
        let name = match self.name {
            Name::Timeout => "timeout",
            Name::Max => "max",
            Name::Unknown => "timeouts",
        };
        self.blanks[0].write(to);
        for (at, letter) in name.bytes().enumerate() {
            let upper = self.upper >> at & 1 != 0;
            to.push(if upper { letter.to_ascii_uppercase() } else { letter });
        }
        self.blanks[1].write(to);
        let mut said = None;
        if !matches!(self.value, Value::Missing) {
            to.push(b'=');
            self.blanks[2].write(to);
            said = self.value.write(to);
            self.blanks[3].write(to);
        }
        to.push(if self.semicolon { b';' } else { b',' });
        let mut expected = KeepAlive::default();
        match self.name {
            Name::Timeout => expected.timeout = said.map(Duration::from_secs),
            Name::Max => expected.max = said,
            Name::Unknown => {}
        }
        expected
    }
}

impl Value {
    fn write(&self, to: &mut Vec<u8>) -> Option<u64> {
        match self {
            Self::Number { number, style, zeros } => {
                let zeros = "0".repeat(usize::from(*zeros));
                style.write(&format!("{zeros}{}", number.0), to);
                Some(number.0)
            }
            Self::TooLarge { first, digits, style } => {
                let rest = "9".repeat(20 + usize::from(*digits));
                style.write(&format!("{}{rest}", first % 9 + 1), to);
                Some(u64::MAX)
            }
            Self::Text(text) => {
                to.extend_from_slice(b"\"x");
                for &byte in text {
                    if matches!(byte, b'"' | b'\\') {
                        to.push(b'\\');
                    }
                    to.push(byte);
                }
                to.push(b'"');
                None
            }
            Self::Missing | Self::Empty => None,
        }
    }
}

/// What holds of any bytes at all.
fn any_bytes(bytes: &[u8]) -> KeepAlive {
    let said = KeepAlive::parse(bytes);
    assert_eq!(said.and(said), said);
    assert_eq!(said.timeout.map_or(0, |timeout| timeout.subsec_nanos()), 0);
    assert_eq!(KeepAlive::parse(said.to_string()), said, "it reads what it writes");
    let options = PutOptions::from(said);
    assert_eq!(options.max_uses, said.max);
    let sooner = said.timeout.map(|timeout| timeout.saturating_sub(KeepAlive::GUARD));
    assert_eq!(options.idle_timeout, sooner);
    let has = |digit: &u8| digit.is_ascii_digit();
    assert!(said == KeepAlive::default() || bytes.iter().any(has), "numbers out of nothing");
    said
}

#[derive(Arbitrary, Debug)]
pub struct Input<'a> {
    well_said: Vec<Parameter>,
    rest: &'a [u8],
}

pub fn run(input: Input<'_>) {
    let rest = any_bytes(input.rest);
    let (mut text, mut expected) = (Vec::new(), KeepAlive::default());
    for parameter in &input.well_said {
        expected = expected.and(parameter.write(&mut text));
    }
    assert_eq!(any_bytes(&text), expected);
    // Both in one line, and in two.
    text.extend_from_slice(input.rest);
    let both = any_bytes(&text);
    assert_eq!((both, both), (expected.and(rest), rest.and(expected)));
}
