//! As much of HTTP/1.1 as is needed.

use std::io;

/// The head of a message.
#[derive(Debug)]
pub struct Head {
    /// Its length in bytes, with the empty line.
    pub len: usize,
    /// Of a request: what it is for. Of a response: the status.
    pub path: String,
    /// The length of the body.
    pub body: usize,
    /// Whether the connection ends after this message.
    pub close: bool,
}

impl Head {
    /// The head at the beginning of a buffer; `None` if it is not complete.
    pub fn parse(buffer: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&buffer[..end]).map_err(io::Error::other)?;
        let mut lines = text.split("\r\n");
        let path = lines.next().and_then(|line| line.split(' ').nth(1));
        let path = path.ok_or(io::ErrorKind::InvalidData)?.to_owned();
        let mut head = Self { len: end + 4, path, body: 0, close: false };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                head.body = value.parse().map_err(io::Error::other)?;
            } else if name.eq_ignore_ascii_case("connection") {
                head.close = value.eq_ignore_ascii_case("close");
            }
        }
        Ok(Some(head))
    }
}

/// Makes a body so long that it does not come in one piece.
pub fn grow_body(body: &mut Vec<u8>, len: usize) {
    let mut state = body.len() as u32;
    while body.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        body.push(b'a' + (state >> 28) as u8);
    }
}
