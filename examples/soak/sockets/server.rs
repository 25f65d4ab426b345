//! Servers that answer, and now and then do something else.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::dice::Dice;

/// Longer than clients wait.
const STALL: Duration = Duration::from_millis(300);
/// What servers send without a request. Longer than an answer.
pub const GARBAGE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n\r\n";

/// Accepts connections, until it is aborted, and with it all of them.
pub async fn serve(listener: TcpListener, mut dice: Dice) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let dice = Dice::new(dice.below(u64::MAX), 0, 0);
        connections.spawn(answer(stream, dice));
        while connections.try_join_next().is_some() {}
    }
}

/// Answers requests on one connection, until it breaks it.
async fn answer(mut stream: TcpStream, mut dice: Dice) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let request = stream.read_u64().await?;
        match dice.below(400) {
            // FIN in place of an answer.
            0 => return Ok(()),
            // RST in place of an answer.
            1 => return reset(stream),
            2 => sleep(STALL).await,
            4 => {
                stream.write_all(GARBAGE).await?;
                return Ok(());
            }
            // Half of an answer.
            3 => {
                stream.write_u32((request >> 32) as u32).await?;
                return if dice.once_in(2) { Ok(()) } else { reset(stream) };
            }
            _ => {}
        }
        stream.write_u64(request).await?;
        match dice.below(200) {
            // After the answer: FIN, RST, both at once or when the connection is idle, or
            // what nobody has asked for, by itself and with an end.
            0 => return Ok(()),
            1 => return reset(stream),
            2 => {
                sleep(Duration::from_millis(dice.below(20))).await;
                return Ok(());
            }
            3 => {
                sleep(Duration::from_millis(dice.below(20))).await;
                return reset(stream);
            }
            4 => {
                stream.write_all(GARBAGE).await?;
                return Ok(());
            }
            5 => {
                // It stays open.
                sleep(Duration::from_millis(dice.below(20))).await;
                stream.write_all(GARBAGE).await?;
            }
            _ => {}
        }
    }
}

/// Ends the connection with a reset.
fn reset(stream: TcpStream) -> io::Result<()> {
    let socket = stream.into_std()?;
    rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    Ok(())
}
