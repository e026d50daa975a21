//! Who comes by.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Tally;
use crate::harness::sidecar::SESSION_COOKIE;
use crate::harness::stage::{ALICE, CAROL};
use crate::harness::websocket::WebSocket;
use crate::harness::wire::Wire;
use crate::harness::{Browser, Stage};

/// Logs in and out, and in a long soak so often that the list of ended sessions overflows: then all sessions
/// of Dave end, and nobody else's.
pub(super) const DAVE: &str = "dave@example.org";

/// Sends everybody in, each until told to stop.
pub(super) async fn start(
    stage: &Stage,
    tally: &Tally,
    stop: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let alice = stage.logged_in(ALICE).await;
    let carol = stage.logged_in(CAROL).await;
    let token = stage.token_of(ALICE);
    let stranger = stage.browser();
    let mut users = Vec::new();
    for _ in 0..2 {
        users.push(spawn(stop, (alice.clone(), tally.clone()), work));
    }
    users.push(spawn(stop, (carol, tally.clone()), come_and_go));
    users.push(spawn(stop, (stranger.clone(), tally.clone()), look_around));
    users.push(spawn(
        stop,
        (stranger.clone(), tally.clone()),
        log_in_and_out,
    ));
    users.push(spawn(stop, (stranger.clone(), tally.clone()), attack));
    users.push(spawn(stop, (alice, tally.clone()), talk));
    let program = (stranger, tally.clone(), token);
    users.push(spawn(stop, program, run_a_program));
    users
}

fn spawn<P, F>(stop: &CancellationToken, person: P, once: fn(P) -> F) -> JoinHandle<()>
where
    P: Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let stop = stop.clone();
    tokio::spawn(async move {
        while !stop.is_cancelled() {
            once(person.clone()).await;
        }
    })
}

/// May enter all the time, whatever happens.
async fn work((alice, tally): (Browser, Tally)) {
    for path in ["/", "/sse?count=3&interval_ms=5", "/download?bytes=300000"] {
        let page = alice.get(path).send().await;
        tally.note("work", page.status.as_u16(), &[200]);
    }
    let page = alice.post("/upload", vec![b'x'; 200_000]).send().await;
    tally.note("an upload", page.status.as_u16(), &[200]);
    let page = alice.get("/oauth2/auth").send().await;
    tally.note("a question about a session", page.status.as_u16(), &[202]);
}

/// Is on the list at times.
async fn come_and_go((carol, tally): (Browser, Tally)) {
    // As a program, so that the cookie is kept that a refusal clears.
    let page = carol.thief().get("/").send().await;
    tally.note(
        "somebody who is listed at times",
        page.status.as_u16(),
        &[200, 403],
    );
}

async fn look_around((stranger, tally): (Browser, Tally)) {
    let page = stranger.stranger().get("/").send().await;
    tally.note("a stranger", page.status.as_u16(), &[401]);
    // The provider may be down just now.
    let page = stranger.stranger().open("/deep").send().await;
    tally.note("a stranger's browser", page.status.as_u16(), &[302]);
    let forged = stranger.stranger();
    forged.put_cookie(SESSION_COOKIE, "AAAAB_forged");
    let page = forged.get("/").send().await;
    tally.note("a forged session", page.status.as_u16(), &[401]);
}

async fn log_in_and_out((browser, tally): (Browser, Tally)) {
    let browser = browser.stranger();
    let page = browser.log_in_until_callback("/deep", DAVE).await;
    // The provider fails at times, and says so.
    tally.note("a login", page.status.as_u16(), &[302, 503]);
    if page.status == 302 {
        let copy = browser.thief();
        let page = browser.post("/oauth2/sign_out", "").send().await;
        tally.note("a sign-out", page.status.as_u16(), &[200]);
        let page = copy.get("/").send().await;
        tally.note(
            "a copy of a session that is over",
            page.status.as_u16(),
            &[401],
        );
    }
}

async fn run_a_program((browser, tally, token): (Browser, Tally, String)) {
    let page = browser.stranger().get("/").bearer(&token).send().await;
    tally.note("a token", page.status.as_u16(), &[200, 503]);
    let page = browser
        .stranger()
        .get("/")
        .bearer("made-up-token")
        .send()
        .await;
    tally.note("a made-up token", page.status.as_u16(), &[401, 503]);
}

async fn talk((alice, tally): (Browser, Tally)) {
    let cookies = alice.cookie_field();
    let headers = [("Cookie", cookies.as_str())];
    let socket = WebSocket::connect(alice.address(), "app.test", "/ws", &headers).await;
    match socket {
        Ok(mut socket) => {
            for _ in 0..10 {
                socket.echo("hello").await;
            }
            tally.note("a WebSocket", 101, &[101]);
        }
        Err(answer) => tally.note("a WebSocket", answer.status, &[101]),
    }
}

async fn attack((browser, tally): (Browser, Tally)) {
    for request in [
        "GET / HTTP/1.1\r\nHost: app.test\r\nCookie: x\r\nX: \0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nabcd",
        "GET /../../etc/passwd HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
        "CONNECT evil.test:443 HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
        "GET /oauth2/callback?code=x&state=y HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
        "NONSENSE\r\n\r\n",
    ] {
        let mut wire = Wire::connect(browser.address()).await;
        wire.send(request.as_bytes()).await;
        if let Ok(answer) = wire.try_answer().await {
            let refusals = [400, 401, 403, 404];
            tally.note("an attack", answer.status, &refusals);
        }
    }
    // Connections that are opened and left.
    for opening in ["", "GET / HTTP/1.1\r\nHost:"] {
        let mut wire = Wire::connect(browser.address()).await;
        wire.send(opening.as_bytes()).await;
    }
}
