//! Notices that a peer of HTTP/2 has said something of its settings: hyper does not say.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::upstream::{Fate, Stream};

/// The length is in the first three bytes, the kind in the next, the flags in the one after.
const HEAD: usize = 9;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;

/// Where in the frames that come a connection is.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD],
    /// How much of the head has come.
    known: usize,
    /// How much of the frame is still to come, once its head is there.
    left: usize,
}

impl Frames {
    /// Whether these bytes, which come next, end a frame of settings that is no mere answer.
    fn heed(&mut self, mut bytes: &[u8]) -> bool {
        let mut heard = false;
        while !bytes.is_empty() {
            if self.known < HEAD {
                let (part, rest) = bytes.split_at(bytes.len().min(HEAD - self.known));
                self.head[self.known..][..part.len()].copy_from_slice(part);
                self.known += part.len();
                bytes = rest;
                if self.known < HEAD {
                    break;
                }
                let [a, b, c, ..] = self.head;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
            }
            let passed = bytes.len().min(self.left);
            self.left -= passed;
            bytes = &bytes[passed..];
            if self.left == 0 {
                self.known = 0;
                heard |= self.head[3] == SETTINGS && self.head[4] & ACK == 0;
            }
        }
        heard
    }
}

/// Tells the task of the connection when settings have come, and hold.
pub(super) struct Heeding<S> {
    stream: S,
    fate: Arc<Fate>,
    frames: Frames,
    /// Settings were read, and are not known to hold.
    heard: bool,
}

impl<S> Heeding<S> {
    pub fn new(stream: S, fate: &Arc<Fate>) -> Self {
        Self { stream, fate: Arc::clone(fate), frames: Frames::default(), heard: false }
    }
}

impl<S: Stream> AsyncRead for Heeding<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Whoever reads on has worked off what it has read.
        if std::mem::take(&mut this.heard) {
            this.fate.wake_driver();
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.heard = this.frames.heed(&buffer.filled()[before..]);
        read
    }
}

impl<S: Stream> AsyncWrite for Heeding<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut frame = (length as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        // What would be heads of settings.
        frame.extend([0, 0, 0, SETTINGS, 0].iter().cycle().take(length));
        frame
    }

    /// However the bytes are cut.
    #[test]
    fn settings_are_heard_at_their_end() {
        let frames = [
            (frame(SETTINGS, 0, 18), true),
            (frame(1, 5, 40), false),
            (frame(SETTINGS, ACK, 0), false),
            (frame(0, 0, 70_000), false),
            (frame(SETTINGS, 0, 0), true),
            (frame(6, 0, 8), false),
            (frame(SETTINGS, 0, 6), true),
        ];
        let (mut all, mut ends) = (Vec::new(), Vec::new());
        for (bytes, settings) in frames {
            all.extend(bytes);
            ends.extend(settings.then_some(all.len()));
        }
        for step in [1, 2, 7, 9, 10, 1_000, all.len()] {
            let (mut frames, mut read) = (Frames::default(), 0);
            for part in all.chunks(step) {
                let span = read + 1..=read + part.len();
                assert_eq!(frames.heed(part), ends.iter().any(|end| span.contains(end)), "{step}");
                read += part.len();
            }
        }
    }
}
