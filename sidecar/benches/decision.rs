//! What it costs to decide about a request, and to rewrite its headers.

#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot be made ends the program that measures"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::identity::Identity;
use globus_auth_core::session::{Limits, Session};
use globus_auth_sidecar::measured::Decider;
use http::Request;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

const LIMITS: Limits = Limits {
    idle: Duration::from_hours(12),
    absolute: Duration::from_hours(168),
};

fn identity() -> Identity {
    Identity {
        subject: "c2f5a5b0-1f6f-4c2b-9d8e-000000000001".to_owned(),
        email: Some("user500@example.org".parse().unwrap()),
        username: "user500@example.org".to_owned(),
        ..Identity::default()
    }
}

fn request() -> Request<()> {
    Request::builder()
        .uri("/api/2.0/mlflow/experiments/search?max_results=100")
        .header("host", "mlflow.example.org")
        .header("user-agent", "mlflow-python-client/3.1")
        .header("accept", "*/*")
        .header("accept-encoding", "gzip, deflate")
        .header("connection", "keep-alive")
        .header("x-forwarded-email", "mallory@example.net")
        .header(
            "cookie",
            format!("theme=dark; __Host-globus-auth={}", "x".repeat(250)),
        )
        .body(())
        .unwrap()
}

fn decisions(criterion: &mut Criterion) {
    let emails = (0..1000).map(|number| format!("user{number}@example.org").parse().unwrap());
    let decider = Decider::new(emails.collect());
    let request = request();
    let session = Session::start(identity(), LIMITS, NOW).unwrap();
    criterion.bench_function("decide about a session, 1,000 addresses", |bencher| {
        bencher.iter_batched(
            || session.clone(),
            |session| decider.forwards(black_box(&request), session, NOW),
            BatchSize::SmallInput,
        );
    });
    let identity = identity();
    criterion.bench_function("rewrite the headers of a request", |bencher| {
        bencher.iter_batched(
            || request.headers().clone(),
            |mut headers| {
                decider.rewrite(&mut headers, &identity);
                headers
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, decisions);
criterion_main!(benches);
