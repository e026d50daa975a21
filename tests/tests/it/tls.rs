//! TLS on the sidecar's own listener.

use std::net::SocketAddr;
use std::sync::Arc;

use globus_auth_core::sidecar_config::Tls;
use globus_auth_tests::harness::stage::ALICE;
use globus_auth_tests::harness::{Stage, eventually, in_time};
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate of `app.test` that nobody else has.
fn certificate() -> Tls {
    let made = rcgen::generate_simple_self_signed(["app.test".to_owned()]).unwrap();
    Tls {
        certificates: made.cert.pem(),
        private_key: made.signing_key.serialize_pem().into(),
    }
}

/// Shakes hands as somebody who trusts this certificate only.
async fn connect(
    address: SocketAddr,
    trusted: &Tls,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let pem = trusted.certificates.as_bytes();
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_slice(pem).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("app.test").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Asks over HTTP/1.1 and returns the answer's beginning.
async fn ask(stream: &mut TlsStream<TcpStream>, target: &str, fields: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut beginning = vec![0; 4096];
    let length = in_time("an answer", stream.read(&mut beginning)).await;
    String::from_utf8_lossy(&beginning[..length.unwrap()]).into_owned()
}

/// A sidecar that speaks TLS, and the cookies of somebody who had logged in before it did.
async fn stage() -> (Stage, Tls, String) {
    let mut stage = Stage::start().await;
    let cookies = stage.logged_in(ALICE).await.cookie_field();
    let shown = certificate();
    let tls = shown.clone();
    let change = |config: &mut globus_auth_core::sidecar_config::SidecarConfig| {
        config.tls = Some(tls);
    };
    stage.sidecar.reconfigure(change).await;
    (stage, shown, cookies)
}

#[tokio::test]
async fn users_are_served_over_tls_and_no_longer_without() {
    let (stage, shown, cookies) = stage().await;
    let address = stage.sidecar.address();
    let mut stream = connect(address, &shown, &[b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let stranger = ask(&mut stream, "/", "").await;
    assert!(stranger.starts_with("HTTP/1.1 401"), "{stranger}");
    let alice = ask(&mut stream, "/", &format!("Cookie: {cookies}\r\n")).await;
    assert!(alice.starts_with("HTTP/1.1 200"), "{alice}");
    assert!(alice.contains(ALICE), "{alice}");

    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _reset = in_time("the end", plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // Probes and metrics stay where they are.
    stage.sidecar.ready().await;
}

#[tokio::test]
async fn whoever_offers_http2_gets_it() {
    let (stage, shown, cookies) = stage().await;
    let alpn: [&[u8]; 2] = [b"h2", b"http/1.1"];
    let stream = connect(stage.sidecar.address(), &shown, &alpn)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://app.test/")
        .header("cookie", cookies)
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let answer = in_time("an answer", sender.send_request(request))
        .await
        .unwrap();
    assert_eq!(
        (answer.version(), answer.status().as_u16()),
        (Version::HTTP_2, 200)
    );
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains(ALICE));
}

#[tokio::test]
async fn a_websocket_passes() {
    let (stage, shown, cookies) = stage().await;
    let mut stream = connect(stage.sidecar.address(), &shown, &[]).await.unwrap();
    let fields = format!(
        "Cookie: {cookies}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    let answer = ask(&mut stream, "/ws", &fields).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    // A text frame with "hi", and what the echo says to it, which is not masked (RFC 6455 §5.2).
    let frame = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    stream.write_all(&frame).await.unwrap();
    let mut echoed = [0; 4];
    in_time("an echo", stream.read_exact(&mut echoed))
        .await
        .unwrap();
    assert_eq!(echoed, [0x81, 2, b'h', b'i']);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_from_the_next_connection_on() {
    let (mut stage, old, _) = stage().await;
    let address = stage.sidecar.address();
    let mut open = connect(address, &old, &[]).await.unwrap();
    let new = certificate();
    let tls = new.clone();
    let change = |config: &mut globus_auth_core::sidecar_config::SidecarConfig| {
        config.tls = Some(tls);
    };
    stage.sidecar.reconfigure(change).await;
    assert!(connect(address, &new, &[]).await.is_ok());
    assert!(connect(address, &old, &[]).await.is_err());
    // What is open goes on.
    let answer = ask(&mut open, "/", "").await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn a_broken_pair_leaves_the_certificate_of_before_and_says_so() {
    let (stage, shown, _) = stage().await;
    let other = certificate();
    let mut config = serde_json::to_value(stage.sidecar.config()).unwrap();
    config["tls"]["certificates"] = other.certificates.clone().into();
    stage.sidecar.write(&serde_json::to_vec(&config).unwrap());
    let refused = "refused a new configuration; the last good one stays in force";
    let line = stage.sidecar.logged(refused).await;
    let error = line["error"].as_str().unwrap();
    assert!(error.contains("tls cannot be used"), "{error}");
    assert!(
        error.contains("does not belong to the first certificate"),
        "{error}"
    );
    let refusals = stage
        .sidecar
        .metric("config_reloads_total{result=\"refused\"}")
        .await;
    assert!(refusals >= 1);
    let address = stage.sidecar.address();
    assert!(connect(address, &shown, &[]).await.is_ok());
    assert!(connect(address, &other, &[]).await.is_err());
}

#[tokio::test]
async fn whoever_does_not_shake_hands_keeps_nobody_waiting() {
    let (stage, shown, _) = stage().await;
    let address = stage.sidecar.address();
    let before = stage.sidecar.descriptors();
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut stream = connect(address, &shown, &[]).await.unwrap();
    let answer = ask(&mut stream, "/", "").await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    drop(stream);
    // They are cut off, although they keep their side open.
    eventually("the silent ones to be cut off", async || {
        (stage.sidecar.descriptors() <= before + 2).then_some(())
    })
    .await;
    drop(silent);
}
