//! What it costs to open a session cookie, and to make one.

#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot be made ends the program that measures"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::identity::{Groups, Identity, MAX_GROUPS, NameDigest};
use globus_auth_core::sealer::{Context, KeyBytes, KeyId, Sealer};
use globus_auth_core::session::{Limits, Session};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const LIMITS: Limits = Limits {
    idle: Duration::from_hours(12),
    absolute: Duration::from_hours(168),
};

fn sealer() -> Sealer {
    let context = Context {
        purpose: "session",
        binding: &["uid", "https://auth.globus.org", "client"],
    };
    Sealer::new(&[(KeyId(1), KeyBytes::new([7; 32]))], context).unwrap()
}

fn session(groups: usize) -> Session {
    let identity = Identity {
        subject: "c2f5a5b0-1f6f-4c2b-9d8e-000000000001".to_owned(),
        email: Some("alice@example.org".parse().unwrap()),
        username: "alice@example.org".to_owned(),
        name: Some("Alice Example".to_owned()),
        groups: Groups {
            names: (0..groups)
                .map(|number| NameDigest::of(&number.to_string()))
                .collect(),
            as_of: NOW,
            asked_at: NOW,
        },
        ..Identity::default()
    };
    Session::start(identity, LIMITS, NOW).unwrap()
}

fn sessions(criterion: &mut Criterion) {
    let sealer = sealer();
    for (name, groups) in [
        ("open a session", 0),
        ("open a session with the most groups", MAX_GROUPS),
    ] {
        let cookie = session(groups).seal(&sealer).unwrap();
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| Session::open(&sealer, black_box(cookie.as_bytes()), LIMITS, NOW));
        });
    }
    let usual = session(0);
    criterion.bench_function("seal a session", |bencher| {
        bencher.iter(|| black_box(&usual).seal(&sealer));
    });
    let forged = "x".repeat(300);
    criterion.bench_function("refuse a forged session", |bencher| {
        bencher.iter(|| Session::open(&sealer, black_box(forged.as_bytes()), LIMITS, NOW));
    });
}

criterion_group!(benches, sessions);
criterion_main!(benches);
