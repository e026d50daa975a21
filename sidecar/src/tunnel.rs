//! Upgraded connections: bytes both ways, until somebody closes, the user may no longer be here, or the
//! proxy stops.

use std::io;
use std::time::Duration;

use globus_auth_core::random;
use http::{Response, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::watch;

use crate::forward::Ends;
use crate::websocket::{CloseCode, Frames};

/// Starts copying between the two ends that `response` left behind, until `ended` resolves or `stopping`
/// says that the proxy stops. A WebSocket hears why, in a Close frame to both ends (RFC 6455 §5.5.1).
///
/// Other protocols cannot be told of a stop, so they may go on for as long as requests may. `stopping` is
/// held until the connection is closed.
pub(crate) fn connect<B>(
    response: &mut Response<B>,
    ended: impl Future<Output = ()> + Send + 'static,
    stopping: watch::Receiver<bool>,
    open: Gauge,
) {
    let Some(Ends { client, workload }) = response.extensions_mut().remove::<Ends>() else {
        return;
    };
    let protocol = response.headers().get(header::UPGRADE);
    let is_websocket =
        protocol.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    tokio::spawn(async move {
        let (client, workload) = match tokio::try_join!(client, workload) {
            Ok(ends) => ends,
            Err(error) => {
                tracing::debug!(%error, "an upgrade broke off");
                return;
            }
        };
        open.inc();
        carry(client, workload, is_websocket, ended, stopping).await;
        open.dec();
    });
}

async fn carry(
    client: Upgraded,
    workload: Upgraded,
    is_websocket: bool,
    ended: impl Future<Output = ()>,
    mut stopping: watch::Receiver<bool>,
) {
    let (from_client, to_client) = split(TokioIo::new(client));
    let (from_workload, to_workload) = split(TokioIo::new(workload));
    let mut up = Direction::new(from_client, to_workload);
    let mut down = Direction::new(from_workload, to_client);
    let stops = async {
        // An error means that nobody is left who could say so.
        if !is_websocket || stopping.wait_for(|stops| *stops).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let code = tokio::select! {
        result = async { tokio::try_join!(up.pass_all(), down.pass_all()) } => {
            if let Err(error) = result {
                tracing::debug!(%error, "an upgraded connection broke off");
            }
            return;
        }
        () = ended => {
            tracing::info!("closed an upgraded connection whose user may no longer be here");
            CloseCode::PolicyViolation
        }
        () = stops => CloseCode::GoingAway,
    };
    if is_websocket {
        let closed = tokio::time::timeout(CLOSING, close(&mut up, &mut down, code)).await;
        if !matches!(closed, Ok(Ok(()))) {
            tracing::debug!("a WebSocket was not closed in time");
        }
    }
}

/// Says `code` to both ends, and waits until they have heard it: to close while something is unread would
/// reset the connection, and the frame would be lost.
async fn close<R, W>(
    up: &mut Direction<R, W>,
    down: &mut Direction<R, W>,
    code: CloseCode,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mask = random::bytes().map_err(io::Error::other)?;
    if code == CloseCode::GoingAway {
        tokio::try_join!(up.finish_frame(), down.finish_frame())?;
    }
    let (to_workload, to_client) = (code.client_frame(mask), code.server_frame());
    tokio::try_join!(up.end(&to_workload), down.end(&to_client))?;
    tokio::try_join!(up.discard(), down.discard())?;
    Ok(())
}

/// One direction of a connection.
///
/// What was read and not yet written is kept here and not in a future, so that a future may be dropped at
/// any time and it is still known where the bytes that went out stopped.
struct Direction<R, W> {
    from: R,
    to: W,
    buffer: Box<[u8]>,
    /// The part of `buffer` that waits to be written.
    waits: std::ops::Range<usize>,
    /// Where the bytes that were written stop.
    written: Frames,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Direction<R, W> {
    fn new(from: R, to: W) -> Self {
        Self {
            from,
            to,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            waits: 0..0,
            written: Frames::default(),
        }
    }

    /// Passes bytes on until there are no more, and says so to the other end.
    async fn pass_all(&mut self) -> io::Result<()> {
        loop {
            while !self.waits.is_empty() {
                self.write(usize::MAX).await?;
            }
            self.to.flush().await?;
            if !self.read().await? {
                return self.to.shutdown().await;
            }
        }
    }

    /// Passes on what is left of the frame that is under way.
    async fn finish_frame(&mut self) -> io::Result<()> {
        while !self.written.is_between() {
            if self.waits.is_empty() && !self.read().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let left = { self.written }.finish(self.waiting());
            self.write(left).await?;
        }
        Ok(())
    }

    /// Sends `frame`, unless the bytes of another would be taken for its beginning, and nothing more.
    async fn end(&mut self, frame: &[u8]) -> io::Result<()> {
        if self.written.is_between() {
            self.to.write_all(frame).await?;
        }
        self.to.shutdown().await
    }

    /// Reads until the peer has nothing more to say.
    async fn discard(&mut self) -> io::Result<()> {
        while self.read().await? {}
        Ok(())
    }

    /// Reads into the buffer, over what is there; `false` if there is no more.
    async fn read(&mut self) -> io::Result<bool> {
        let read = self.from.read(&mut self.buffer).await?;
        self.waits = 0..read;
        Ok(read > 0)
    }

    /// Writes `most` of what waits, or less.
    async fn write(&mut self, most: usize) -> io::Result<()> {
        let waiting = self.buffer.get(self.waits.clone()).unwrap_or_default();
        let part = waiting.get(..most).unwrap_or(waiting);
        let count = self.to.write(part).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written.pass(part.get(..count).unwrap_or(part));
        self.waits.start += count;
        Ok(())
    }

    fn waiting(&self) -> &[u8] {
        self.buffer.get(self.waits.clone()).unwrap_or_default()
    }
}

/// As much is read at once. There are two for each connection, also while it is idle.
const BUFFER: usize = 8 * 1024;
/// How long the two ends may take to hear that they are closed.
const CLOSING: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex};

    use super::*;

    type Half = Direction<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>;

    /// A client and a workload, and what is between them.
    struct Between {
        client: DuplexStream,
        workload: DuplexStream,
        up: Half,
        down: Half,
    }

    fn between() -> Between {
        let (client, at_client) = duplex(64);
        let (workload, at_workload) = duplex(64);
        let (from_client, to_client) = split(at_client);
        let (from_workload, to_workload) = split(at_workload);
        Between {
            client,
            workload,
            up: Direction::new(from_client, to_workload),
            down: Direction::new(from_workload, to_client),
        }
    }

    async fn rest(mut of: DuplexStream) -> Vec<u8> {
        let mut rest = Vec::new();
        of.read_to_end(&mut rest).await.unwrap();
        rest
    }

    /// Passes `bytes` of the workload on, and goes no further.
    async fn say(between: &mut Between, bytes: &[u8]) {
        between.workload.write_all(bytes).await.unwrap();
        assert!(between.down.read().await.unwrap());
        between.down.write(usize::MAX).await.unwrap();
    }

    const HALF: [u8; 4] = [0x82, 4, b'a', b'b'];

    /// Where the workload has said half a frame.
    async fn half_said() -> (DuplexStream, DuplexStream, [Half; 2]) {
        let mut between = between();
        say(&mut between, &HALF).await;
        let Between {
            client,
            workload,
            up,
            down,
        } = between;
        (client, workload, [up, down])
    }

    #[tokio::test]
    async fn a_stop_lets_the_frame_under_way_finish() {
        let (client, mut workload, [mut up, mut down]) = half_said().await;
        // The rest of the frame, and one that is not passed on any more.
        workload.write_all(b"cd\x82\x01x").await.unwrap();
        let (closed, heard, asked) = tokio::join!(
            async {
                let closed = close(&mut up, &mut down, CloseCode::GoingAway).await;
                drop((up, down));
                closed
            },
            async {
                let mut heard = Vec::new();
                let mut client = client;
                let mut bytes = [0; 10];
                client.read_exact(&mut bytes).await.unwrap();
                heard.extend(bytes);
                client.shutdown().await.unwrap();
                heard.extend(rest(client).await);
                heard
            },
            async {
                let mut close = [0; 8];
                workload.read_exact(&mut close).await.unwrap();
                workload.shutdown().await.unwrap();
                close
            },
        );
        closed.unwrap();
        assert_eq!(heard, b"\x82\x04abcd\x88\x02\x03\xe9");
        let [opcode, length, a, b, _, _, high, low] = asked;
        assert_eq!(
            [opcode, length, high ^ a, low ^ b],
            [0x88, 0x82, 0x03, 0xe9]
        );
    }

    #[tokio::test]
    async fn whoever_may_no_longer_be_here_gets_nothing_more_of_a_frame() {
        let (client, mut workload, [mut up, mut down]) = half_said().await;
        workload.write_all(b"cd").await.unwrap();
        let (_, heard) = tokio::join!(
            async {
                let code = CloseCode::PolicyViolation;
                let closing = Duration::from_millis(10);
                let closed = tokio::time::timeout(closing, close(&mut up, &mut down, code)).await;
                drop((up, down));
                closed
            },
            rest(client),
        );
        assert_eq!(heard, HALF);
    }

    #[tokio::test]
    async fn what_one_end_has_said_arrives_before_its_end() {
        let Between {
            mut client,
            workload,
            mut up,
            ..
        } = between();
        let said = vec![7; 100_000];
        let (passed, heard, ()) =
            tokio::join!(async { up.pass_all().await }, rest(workload), async {
                client.write_all(&said).await.unwrap();
                client.shutdown().await.unwrap();
            },);
        passed.unwrap();
        assert_eq!(heard, said);
    }
}
