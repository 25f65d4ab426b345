//! One client: its commands in order, and what it holds.

use std::future::pending;
use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::commands::Kind;
use super::frames::{Broken, Scanner, error};
use super::link::Answers;
use super::{Batch, Lease, Proxy, converse};

/// The most commands in one exchange, so that one client does not keep a connection from
/// the others for long.
const BATCH_COMMANDS_MAX: usize = 128;

/// No command joins a batch of so many bytes.
const BATCH_BYTES_MAX: usize = 64 * 1024;

const READ_BYTES: usize = 16 * 1024;

/// While a client is blocked, no more than this is read from it.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

pub struct Session<'a> {
    proxy: &'a Proxy,
    client: TcpStream,
    draining: watch::Receiver<bool>,
    input: BytesMut,
    output: BytesMut,
    scanner: Scanner,
    held: Option<Held<'a>>,
}

/// A connection that belongs to a client for a while. Dropping it closes it, by which the
/// server forgets the transaction.
struct Held<'a> {
    lease: Lease<'a>,
    multi: bool,
    watching: bool,
    /// A command of the transaction was refused here, so the server may not execute the
    /// rest.
    refused: bool,
}

/// Whether there is more to do for a client.
#[derive(PartialEq, Eq)]
enum Next {
    More,
    /// Its connection is closed when it has got what is there for it.
    Close,
}

impl<'a> Session<'a> {
    pub fn new(proxy: &'a Proxy, client: TcpStream, draining: watch::Receiver<bool>) -> Self {
        Self {
            proxy,
            client,
            draining,
            input: BytesMut::new(),
            output: BytesMut::new(),
            scanner: Scanner::of_commands(),
            held: None,
        }
    }

    /// Serves the client until it goes, or the proxy does. What breaks a client's
    /// connection is the client's business.
    pub async fn run(mut self) -> io::Result<()> {
        loop {
            let next = match self.take() {
                Ok(Some(batch)) => self.serve(batch).await,
                Ok(None) => self.wait().await?,
                Err(broken) => self.refuse(&broken, Next::Close),
            };
            let writing = self.client.write_all(&self.output);
            timeout(self.proxy.settings.hold_timeout, writing).await??;
            self.output.clear();
            if next == Next::Close {
                return self.client.shutdown().await;
            }
        }
    }

    /// The next commands that go together, if any are complete.
    fn take(&mut self) -> Result<Option<Batch>, Broken> {
        let mut taken: Option<Batch> = None;
        loop {
            let length = match self.scanner.advance(&self.input) {
                Ok(Some(length)) => length,
                // What came before a mistake is served first.
                Err(broken) if taken.is_none() => return Err(broken),
                Ok(None) | Err(_) => return Ok(taken),
            };
            let kind = Kind::of(&self.input[..length]);
            match &mut taken {
                None => {
                    let bytes = self.input.split_to(length);
                    let batch = Batch { kind, count: 1, bytes };
                    let joins = matches!(kind, Kind::Repeatable | Kind::Ordinary);
                    if self.held.is_some() || !joins {
                        return Ok(Some(batch));
                    }
                    taken = Some(batch);
                }
                Some(batch)
                    if kind == batch.kind
                        && batch.count < BATCH_COMMANDS_MAX
                        && batch.bytes.len() + length <= BATCH_BYTES_MAX =>
                {
                    batch.count += 1;
                    batch.bytes.unsplit(self.input.split_to(length));
                }
                Some(_) => return Ok(taken),
            }
        }
    }

    /// Waits for the client.
    async fn wait(&mut self) -> io::Result<Next> {
        self.input.reserve(READ_BYTES);
        if self.held.is_some() {
            // Also when the proxy ends: a transaction may be completed.
            let reading = self.client.read_buf(&mut self.input);
            return match timeout(self.proxy.settings.hold_timeout, reading).await {
                Ok(read) => Ok(if read? == 0 { Next::Close } else { Next::More }),
                Err(_elapsed) => {
                    let limit = self.proxy.settings.hold_timeout;
                    let text = format!("nothing came for {limit:?}: the transaction is discarded");
                    Ok(self.refuse(text, Next::Close))
                }
            };
        }
        tokio::select! {
            read = self.client.read_buf(&mut self.input) => {
                Ok(if read? == 0 { Next::Close } else { Next::More })
            }
            () = ends(&mut self.draining) => Ok(Next::Close),
        }
    }

    async fn serve(&mut self, batch: Batch) -> Next {
        if batch.kind == Kind::Nothing {
            return Next::More;
        }
        self.proxy.tally.commands.more(batch.count as u64);
        match batch.kind {
            Kind::Quit => {
                self.output.extend_from_slice(b"+OK\r\n");
                Next::Close
            }
            Kind::Refused => {
                if let Some(held) = &mut self.held {
                    held.refused |= held.multi;
                }
                let text = "this command would concern a connection that others use as well";
                self.refuse(text, Next::More)
            }
            _ if self.held.is_some() => self.serve_held(batch).await,
            Kind::Blocking => self.serve_blocking(batch).await,
            _ => self.serve_freely(batch).await,
        }
    }

    /// Commands that hold nothing; or the first one that does.
    async fn serve_freely(&mut self, batch: Batch) -> Next {
        let mut answers = Answers::default();
        let limit = Some(self.proxy.settings.answer_timeout);
        let outcome = self.proxy.run(&batch, limit, &mut answers).await;
        let accepted = answers.bytes.starts_with(b"+OK");
        let begins = matches!(batch.kind, Kind::Multi | Kind::Watch);
        let next = match outcome {
            Ok(lease) if begins && accepted => {
                let multi = batch.kind == Kind::Multi;
                self.held = Some(Held { lease, multi, watching: !multi, refused: false });
                Next::More
            }
            Ok(lease) => {
                self.proxy.finish(lease);
                Next::More
            }
            Err(failure) => {
                self.fail(&mut answers, batch.count, &failure.to_string());
                // What follows may rely on a transaction that is not there.
                if begins { Next::Close } else { Next::More }
            }
        };
        self.output.unsplit(answers.bytes);
        next
    }

    /// A command that may block, for as long as the client and the proxy are there.
    async fn serve_blocking(&mut self, batch: Batch) -> Next {
        let Ok(_permit) = self.proxy.blocking.try_acquire() else { return self.refuse_to_block() };
        let mut answers = Answers::default();
        let outcome = tokio::select! {
            outcome = self.proxy.run(&batch, None, &mut answers) => outcome,
            _ = gone(&mut self.client, &mut self.input) => return Next::Close,
            () = ends(&mut self.draining) => return self.refuse("the proxy ends", Next::Close),
        };
        match outcome {
            Ok(lease) => self.proxy.finish(lease),
            Err(failure) => self.fail(&mut answers, batch.count, &failure.to_string()),
        }
        self.output.unsplit(answers.bytes);
        Next::More
    }

    /// A command on the connection that the client holds.
    async fn serve_held(&mut self, batch: Batch) -> Next {
        let Some(mut held) = self.held.take() else { return Next::Close };
        if batch.kind == Kind::Exec && held.multi && held.refused {
            held.lease.close();
            let text = b"-EXECABORT Transaction discarded because of previous errors.\r\n";
            self.output.extend_from_slice(text);
            return Next::More;
        }
        // In a transaction nothing blocks.
        let blocks = batch.kind == Kind::Blocking && !held.multi;
        let permit = self.proxy.blocking.try_acquire();
        if blocks && permit.is_err() {
            self.held = Some(held);
            return self.refuse_to_block();
        }
        let _permit = permit.ok().filter(|_| blocks);
        let mut answers = Answers::default();
        let limit = (!blocks).then_some(self.proxy.settings.answer_timeout);
        let outcome = tokio::select! {
            outcome = converse(&mut held.lease, &batch, limit, &mut answers) => outcome,
            // Dropping what it held ends the transaction.
            _ = gone(&mut self.client, &mut self.input), if blocks => return Next::Close,
        };
        if let Err(fault) = outcome {
            held.lease.close();
            self.fail(&mut answers, batch.count, &format!("{fault}: the transaction is lost"));
            self.output.unsplit(answers.bytes);
            return Next::Close;
        }
        let (accepted, failed) =
            (answers.bytes.starts_with(b"+OK"), answers.bytes.starts_with(b"-"));
        match batch.kind {
            Kind::Multi => held.multi |= accepted,
            Kind::Watch => held.watching |= accepted,
            Kind::Unwatch if !held.multi => held.watching &= !accepted,
            // Whatever comes of it, it is over.
            Kind::Exec if held.multi => {
                (held.multi, held.watching) = (false, false);
                held.refused = failed;
            }
            Kind::Discard if held.multi && accepted => {
                (held.multi, held.watching, held.refused) = (false, false, false);
            }
            _ => {}
        }
        self.output.unsplit(answers.bytes);
        if held.multi || held.watching {
            self.held = Some(held);
        } else if held.refused {
            // Who knows what it has refused: not for the next one.
            held.lease.close();
        } else {
            self.proxy.finish(held.lease);
        }
        Next::More
    }

    /// An error for each command that has no answer.
    fn fail(&self, answers: &mut Answers, count: usize, text: &str) {
        let left = count - answers.count;
        self.proxy.tally.errors.more(left as u64);
        for _ in 0..left {
            answers.bytes.extend_from_slice(&error(text));
        }
    }

    fn refuse_to_block(&mut self) -> Next {
        let text = format!("{} clients block already", self.proxy.blocking_max);
        self.refuse(text, Next::More)
    }

    fn refuse(&mut self, text: impl std::fmt::Display, next: Next) -> Next {
        self.proxy.tally.errors.add();
        self.output.extend_from_slice(&error(text));
        next
    }
}

/// Ready when the proxy ends.
async fn ends(draining: &mut watch::Receiver<bool>) {
    _ = draining.wait_for(|&draining| draining).await;
}

/// Ready when the client has gone. What it sends meanwhile is kept for later.
async fn gone(client: &mut TcpStream, input: &mut BytesMut) {
    while input.len() < AHEAD_BYTES_MAX {
        input.reserve(READ_BYTES);
        match client.read_buf(input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    pending().await
}
