//! Connections to the workload, kept between requests.
//!
//! A request without a body, as most are, drives its connection itself: request and answer pass through
//! the task that serves the client, and no other task has to be woken in between. That is what makes
//! this cheaper than a client with a task for each connection. A request with a body gets such a task,
//! because an upload must go on while a slow client keeps the answer from being read; so does an upgrade,
//! which outlives its answer.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::future::poll_fn;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

use crate::multiplexed::Multiplexed;
use crate::origin::{Origin, Stream};

/// The connections to one workload.
#[derive(Clone, Debug)]
pub(crate) struct Workload(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    origin: Origin,
    idle: Mutex<Idle>,
    multiplexed: Multiplexed,
}

/// Those that nobody uses just now, the one used last at the end.
#[derive(Debug, Default)]
struct Idle {
    links: Vec<(u64, Box<Link>)>,
    /// Counts the sweeps, as the time for which a link has been idle.
    sweeps: u64,
    is_swept: bool,
}

/// One connection. Nothing happens on it unless it is polled.
#[derive(Debug)]
struct Link {
    sender: SendRequest<Body>,
    connection: Connection<TokioIo<Stream>, Body>,
}

/// What came of a request.
enum Outcome {
    Answered(Response<Body>),
    Failed(SendError),
    /// The workload had closed the connection before the request was sent.
    Unsent(Box<Request<Body>>),
}

impl Workload {
    /// The workload at `origin`.
    pub(crate) fn new(origin: Origin) -> Self {
        Self(Arc::new(Pool {
            origin,
            idle: Mutex::default(),
            multiplexed: Multiplexed::default(),
        }))
    }

    /// Sends a request, whose target must be a path, and waits for the head of the answer.
    ///
    /// A request that was not sent because the workload had closed a kept connection is sent again on
    /// another.
    ///
    /// # Errors
    /// [`SendError`].
    pub(crate) async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, SendError> {
        while let Some(link) = self.0.take() {
            match self.exchange(link, request).await {
                Outcome::Answered(response) => return Ok(response),
                Outcome::Failed(error) => return Err(error),
                Outcome::Unsent(unsent) => request = *unsent,
            }
        }
        let link = self.0.connect().await?;
        match self.exchange(link, request).await {
            Outcome::Answered(response) => Ok(response),
            Outcome::Failed(error) => Err(error),
            Outcome::Unsent(_) => Err(SendError::Closed),
        }
    }

    /// Sends a request over HTTP/2, whose target must be a path.
    ///
    /// # Errors
    /// [`SendError`].
    pub(crate) async fn send_multiplexed(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Body>, SendError> {
        self.0.multiplexed.send(&self.0.origin, request).await
    }

    /// Sends a request that asks for an upgrade, on a connection of its own.
    ///
    /// # Errors
    /// [`SendError`].
    pub(crate) async fn upgrade(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Body>, SendError> {
        let link = self.0.connect().await?;
        let Link {
            mut sender,
            connection,
        } = *link;
        let response = sender.send_request(request);
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the workload broke off");
            }
        });
        let response = response.await.map_err(SendError::Request)?;
        // An upgrade that was refused has an ordinary body; with it goes the connection.
        Ok(response.map(|body| Body::new(Kept(body, sender))))
    }

    async fn exchange(&self, link: Box<Link>, request: Request<Body>) -> Outcome {
        if http_body::Body::is_end_stream(request.body()) {
            self.exchange_here(link, request).await
        } else {
            self.exchange_in_a_task(link, request).await
        }
    }

    async fn exchange_here(&self, mut link: Box<Link>, request: Request<Body>) -> Outcome {
        let Link { sender, connection } = &mut *link;
        let answer = sender.try_send_request(request);
        // What moves the answer on is polled beside it, so it need not wake anybody; and since nobody
        // would be woken, it must not be made to wait for its turn.
        let mut answer = pin!(tokio::task::coop::unconstrained(answer));
        let (answer, is_over) = poll_fn(|context| {
            let is_over = Pin::new(&mut *connection).poll(context).is_ready();
            let mut quiet = Context::from_waker(Waker::noop());
            match answer.as_mut().poll(&mut quiet) {
                Poll::Ready(answer) => Poll::Ready((Some(answer), is_over)),
                Poll::Pending if is_over => Poll::Ready((None, is_over)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match answer {
            Some(Ok(response)) => {
                let link = (!is_over).then_some(link);
                Outcome::Answered(response.map(|body| Answer::body(body, link, &self.0)))
            }
            Some(Err(error)) => Outcome::from_error(error),
            None => Outcome::Failed(SendError::Closed),
        }
    }

    async fn exchange_in_a_task(&self, link: Box<Link>, request: Request<Body>) -> Outcome {
        let mut link = link;
        let answer = link.sender.try_send_request(request);
        let pool = Arc::clone(&self.0);
        tokio::spawn(async move {
            let is_ready = poll_fn(|context| {
                if Pin::new(&mut link.connection).poll(context).is_ready() {
                    return Poll::Ready(false);
                }
                let ready = link.sender.poll_ready(context);
                ready.map(|ready| ready.is_ok())
            })
            .await;
            if is_ready {
                pool.put(link);
            }
        });
        match answer.await {
            Ok(response) => Outcome::Answered(response.map(Body::new)),
            Err(error) => Outcome::from_error(error),
        }
    }
}

impl Outcome {
    fn from_error(mut error: hyper::client::conn::TrySendError<Request<Body>>) -> Self {
        match error.take_message() {
            Some(unsent) => Self::Unsent(Box::new(unsent)),
            None => Self::Failed(SendError::Request(error.into_error())),
        }
    }
}

/// A new connection to the workload, in bounded time.
///
/// # Errors
/// [`SendError`].
pub(crate) async fn connect(origin: &Origin) -> Result<Stream, SendError> {
    let timeout = match origin {
        Origin::Loopback(_) => CONNECT_TIMEOUT,
        Origin::Remote { .. } => REMOTE_CONNECT_TIMEOUT,
    };
    tokio::time::timeout(timeout, origin.connect())
        .await
        .map_err(|_elapsed| SendError::Timeout)?
        .map_err(SendError::Connect)
}

impl Pool {
    async fn connect(&self) -> Result<Box<Link>, SendError> {
        let stream = connect(&self.origin).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(SendError::Request)?;
        Ok(Box::new(Link { sender, connection }))
    }

    /// The link used last that the workload has not closed, as far as the kernel has told.
    fn take(&self) -> Option<Box<Link>> {
        loop {
            let (_, mut link) = self.idle.lock().links.pop()?;
            if link.is_usable() {
                return Some(link);
            }
        }
    }

    /// Keeps a link whose exchange is over.
    fn put(self: &Arc<Self>, link: Box<Link>) {
        let mut idle = self.idle.lock();
        let sweeps = idle.sweeps;
        idle.links.push((sweeps, link));
        if !std::mem::replace(&mut idle.is_swept, true) {
            drop(idle);
            tokio::spawn(Arc::clone(self).sweep());
        }
    }

    /// Closes links that have been idle for too long, until none is left.
    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(IDLE_TIMEOUT / 2).await;
            let mut idle = self.idle.lock();
            idle.sweeps += 1;
            let sweeps = idle.sweeps;
            idle.links.retain(|(put, _)| sweeps - put < 2);
            if idle.links.is_empty() {
                idle.is_swept = false;
                // A burst leaves nothing behind.
                idle.links.shrink_to_fit();
                return;
            }
        }
    }
}

impl Link {
    /// Whether an exchange is over and another can begin. Forgets who polled it before, too, so that
    /// they are not woken for the next.
    fn is_usable(&mut self) -> bool {
        let mut quiet = Context::from_waker(Waker::noop());
        Pin::new(&mut self.connection).poll(&mut quiet).is_pending() && self.sender.is_ready()
    }
}

/// The body of an answer, with the connection that it comes from.
struct Answer {
    body: Incoming,
    link: Option<Box<Link>>,
    pool: Arc<Pool>,
}

impl Answer {
    fn body(body: Incoming, link: Option<Box<Link>>, pool: &Arc<Pool>) -> Body {
        let is_empty = http_body::Body::is_end_stream(&body);
        let answer = Self {
            body,
            link,
            pool: Arc::clone(pool),
        };
        // Dropped, it gives the connection back at once.
        if is_empty {
            Body::empty()
        } else {
            Body::new(answer)
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        if let Some(link) = &mut this.link
            && Pin::new(&mut link.connection).poll(context).is_ready()
        {
            // Over, well or badly: what is left to say is in the body.
            this.link = None;
        }
        Pin::new(&mut this.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    /// A body that was read to its end leaves a connection to be kept; one that was not closes it.
    fn drop(&mut self) {
        if let Some(mut link) = self.link.take()
            && link.is_usable()
        {
            self.pool.put(link);
        }
    }
}

/// A body, and what must live as long.
struct Kept(
    Incoming,
    #[expect(dead_code, reason = "it is kept, not used")] SendRequest<Body>,
);

impl http_body::Body for Kept {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.get_mut().0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Loopback answers at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A name to look up, a network, perhaps TLS.
const REMOTE_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than the keep-alive of common servers (uvicorn: 5 s), so that a kept connection is rarely one
/// that the workload is closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Why the workload gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the workload closed the connection")]
    Closed,
    #[error("failed to connect to the workload")]
    Connect(#[source] std::io::Error),
    #[error("failed to exchange request and answer with the workload")]
    Request(#[source] hyper::Error),
    #[error("the workload did not accept a connection in time")]
    Timeout,
}
