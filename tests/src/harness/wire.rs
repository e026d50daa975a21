//! Bytes over TCP: what a client library would not send, and answers as they came.

use std::io;
use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::wait::in_time;

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: BufReader<TcpStream>,
}

/// An answer over HTTP/1, unframed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Header fields in order, names as they were sent.
    pub headers: Vec<(String, String)>,
    /// The body, without the framing of chunks.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
}

impl Answer {
    /// The first field with this name, or nothing.
    pub fn header(&self, name: &str) -> &str {
        let named = self
            .headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name));
        named.map_or("", |(_, value)| value)
    }

    /// Every field with this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self
            .headers
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none of this type.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {}", self.status, self.text()))
    }
}

impl Wire {
    /// Connects.
    ///
    /// # Panics
    /// If nobody listens.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        stream.set_nodelay(true).expect("a socket option");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Sends bytes; a peer that has hung up by now shows in the answer.
    pub async fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes).await {
            tracing::debug!(%error, "the peer does not read any more");
        }
    }

    /// Says that nothing more will be sent; a peer that has hung up by now shows in the answer.
    pub async fn finish(&mut self) {
        if let Err(error) = self.stream.get_mut().shutdown().await {
            tracing::debug!(%error, "the peer was faster");
        }
    }

    /// Sends a request and reads its answer.
    ///
    /// # Panics
    /// If there is no whole answer.
    pub async fn ask(mut self, request: &str) -> Answer {
        self.send(request.as_bytes()).await;
        self.answer().await
    }

    /// The next answer.
    ///
    /// # Panics
    /// If there is no whole answer.
    pub async fn answer(&mut self) -> Answer {
        let answer = in_time("an answer", self.try_answer()).await;
        answer.expect("a whole answer")
    }

    /// The next answer, if there is a whole one.
    ///
    /// # Errors
    /// When the connection ends or breaks before the answer does.
    pub async fn try_answer(&mut self) -> io::Result<Answer> {
        let mut answer = self.head().await?;
        let chunked = answer.header("transfer-encoding").ends_with("chunked");
        let length = answer.header("content-length").parse::<u64>().ok();
        match length {
            _ if chunked => {
                while let Some(chunk) = self.chunk().await? {
                    answer.body.extend(chunk);
                }
                answer.trailers = self.fields().await?;
            }
            _ if matches!(answer.status, 100..200 | 204 | 304) => {}
            Some(length) => {
                let mut body = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
                self.stream.read_exact(&mut body).await?;
                answer.body = body;
            }
            None => {
                self.stream.read_to_end(&mut answer.body).await?;
            }
        }
        Ok(answer)
    }

    /// Status and header of the next answer; its body stays where it is.
    ///
    /// # Errors
    /// When the connection ends or breaks.
    pub async fn head(&mut self) -> io::Result<Answer> {
        let line = self.line().await?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Ok(Answer {
            status: status.ok_or_else(|| io::Error::other(format!("not HTTP: {line:?}")))?,
            headers: self.fields().await?,
            body: Vec::new(),
            trailers: Vec::new(),
        })
    }

    /// The next chunk of a chunked body; `None` after the last.
    ///
    /// # Errors
    /// When the connection ends or breaks.
    pub async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line().await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        if size == 0 {
            return Ok(None);
        }
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).await?;
        chunk.truncate(size);
        Ok(Some(chunk))
    }

    /// Exactly this many bytes.
    ///
    /// # Errors
    /// When the connection ends or breaks.
    pub async fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    /// Everything until the peer closes or breaks off.
    ///
    /// # Panics
    /// If it does neither.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // What came before a reset is an answer, too.
        let _broken = in_time(
            "the end of a connection",
            self.stream.read_to_end(&mut rest),
        )
        .await;
        rest
    }

    /// Whether the peer has closed or reset the connection, which it must do soon.
    ///
    /// # Panics
    /// If it goes on.
    pub async fn closed(&mut self) {
        let _discarded = self.rest().await;
    }

    /// Reads until the peer closes or breaks off, however long it takes.
    pub async fn into_end(mut self) {
        // What came before a reset does not matter here.
        let _broken = self.stream.read_to_end(&mut Vec::new()).await;
    }

    /// Gives the socket back.
    pub fn into_inner(self) -> BufReader<TcpStream> {
        self.stream
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).await?;
        if !line.ends_with(b"\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned())
    }

    async fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }
}

/// Sends bytes on a connection of their own, closes our side, and returns all that comes back.
///
/// # Panics
/// If the peer does not end.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut wire = Wire::connect(address).await;
    wire.send(bytes).await;
    wire.finish().await;
    wire.rest().await
}
