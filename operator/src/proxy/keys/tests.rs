use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::proxy::fixtures::{secret, session_key};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const DAY: Duration = Duration::from_hours(24);
const MINUTE: Duration = Duration::from_mins(1);

fn rendered(json: &str) -> Secret {
    secret(&[(FILE_NAME, json.as_bytes())])
}

/// The Secret that `ring` becomes.
fn written(ring: &KeyRing) -> Secret {
    let json = serde_json::json!({"version": 1, "sessionKeys": ring.session_keys()}).to_string();
    let mut secret = rendered(&json);
    ring.record(&mut secret).unwrap();
    secret
}

fn facts() -> Facts<'static> {
    Facts {
        request: None,
        is_everywhere: false,
        longest_session: 7 * DAY,
    }
}

const EVERYWHERE: Facts<'static> = Facts {
    request: None,
    is_everywhere: true,
    longest_session: Duration::from_hours(7 * 24),
};

/// Takes a step with the key `id`, through the Secret, as the operator does.
fn step(ring: &KeyRing, facts: Facts<'_>, now: UnixSeconds, id: u32) -> (KeyRing, Vec<Step>) {
    let read = if ring.is_empty() {
        KeyRing::default()
    } else {
        KeyRing::read(Some(&written(ring)), now).unwrap()
    };
    let byte = u8::try_from(id).unwrap();
    let fresh = || Ok::<_, std::convert::Infallible>(session_key(id, byte));
    let Ok(next) = rotate(read, &facts, now, fresh);
    next
}

/// The ids and states of the keys, in the order of the configuration.
fn shown(ring: &KeyRing) -> Vec<(u32, State)> {
    let show = |key: &RingKey| (key.key.id.0, key.state);
    ring.keys.iter().map(show).collect()
}

/// A ring whose first key was made at `NOW`.
fn first() -> KeyRing {
    let (ring, steps) = step(&KeyRing::default(), facts(), NOW, 1);
    assert_eq!(steps, [Step::Made]);
    ring
}

/// A ring that has announced its second key at `NOW` + 30 days.
fn announced() -> KeyRing {
    let (ring, steps) = step(&first(), facts(), NOW.after(30 * DAY), 2);
    assert_eq!(steps, [Step::Announced]);
    ring
}

/// A ring that has promoted its second key at `NOW` + 30 days and a minute.
fn promoted() -> KeyRing {
    let (ring, steps) = step(&announced(), EVERYWHERE, NOW.after(30 * DAY + MINUTE), 3);
    assert_eq!(steps, [Step::Promoted]);
    ring
}

#[test]
fn the_first_key_seals_at_once() {
    assert_eq!(shown(&first()), [(1, State::Sealing)]);
}

#[rstest]
#[case::before_its_time(29 * DAY + Duration::from_mins(23 * 60 + 59), vec![])]
#[case::in_time(30 * DAY, vec![Step::Announced])]
#[case::late(300 * DAY, vec![Step::Announced])]
fn a_key_seals_for_thirty_days(#[case] age: Duration, #[case] expected: Vec<Step>) {
    let (_ring, steps) = step(&first(), facts(), NOW.after(age), 2);
    assert_eq!(steps, expected);
}

#[test]
fn an_announced_key_opens_and_does_not_seal() {
    let ring = announced();
    assert_eq!(shown(&ring), [(1, State::Sealing), (2, State::Announced)]);
    let ids: Vec<u32> = ring.session_keys().iter().map(|key| key.id.0).collect();
    assert_eq!(ids, [1, 2]);
}

#[rstest]
#[case::not_everywhere_yet(facts(), MINUTE, vec![])]
#[case::everywhere(EVERYWHERE, MINUTE, vec![Step::Promoted])]
#[case::almost_at_the_bound(facts(), Duration::from_mins(59), vec![])]
#[case::at_the_bound(facts(), Duration::from_hours(1), vec![Step::Promoted])]
fn a_key_seals_when_all_have_it_or_have_had_the_time(
    #[case] facts: Facts<'static>,
    #[case] later: Duration,
    #[case] expected: Vec<Step>,
) {
    let (_ring, steps) = step(&announced(), facts, NOW.after(30 * DAY + later), 3);
    assert_eq!(steps, expected);
}

#[test]
fn a_promoted_key_seals_and_the_one_before_still_opens() {
    assert_eq!(
        shown(&promoted()),
        [(2, State::Sealing), (1, State::Retired)]
    );
}

#[rstest]
#[case::sessions_may_be_left(7 * DAY + Duration::from_mins(59), vec![])]
#[case::all_have_expired(7 * DAY + Duration::from_hours(1), vec![Step::Removed])]
fn a_retired_key_opens_until_every_session_that_it_sealed_has_expired(
    #[case] later: Duration,
    #[case] expected: Vec<Step>,
) {
    let now = NOW.after(30 * DAY + MINUTE + later);
    let (ring, steps) = step(&promoted(), EVERYWHERE, now, 3);
    assert_eq!(steps, expected);
    let is_left = shown(&ring).contains(&(1, State::Retired));
    assert_eq!(is_left, expected.is_empty());
    assert_eq!(shown(&ring)[0], (2, State::Sealing));
}

#[test]
fn a_request_rotates_at_once_and_only_once() {
    let asked = |value| Facts {
        request: Some(value),
        ..facts()
    };
    let (ring, steps) = step(&first(), asked("2027-01"), NOW.after(MINUTE), 2);
    assert_eq!(steps, [Step::Announced]);
    let (ring, steps) = step(
        &ring,
        asked("2027-01"),
        NOW.after(2 * Duration::from_hours(1)),
        3,
    );
    assert_eq!(steps, [Step::Promoted]);
    let later = NOW.after(3 * Duration::from_hours(1));
    assert_eq!(step(&ring, asked("2027-01"), later, 3).1, []);
    // Without the annotation, and with it once more, nothing new is asked.
    let (ring, steps) = step(&ring, facts(), later, 3);
    assert_eq!(steps, []);
    assert_eq!(step(&ring, asked("2027-01"), later, 3).1, []);
    assert_eq!(step(&ring, asked("2027-02"), later, 3).1, [Step::Announced]);
}

#[test]
fn a_request_during_a_rotation_is_followed_after_it() {
    let asked = Facts {
        request: Some("leaked"),
        ..EVERYWHERE
    };
    let now = NOW.after(31 * DAY);
    let (ring, steps) = step(&announced(), asked, now, 3);
    assert_eq!(steps, [Step::Promoted]);
    assert_eq!(step(&ring, asked, now, 3).1, [Step::Announced]);
}

#[test]
fn a_proxy_that_is_created_with_the_request_needs_no_second_key() {
    let asked = Facts {
        request: Some("copied"),
        ..facts()
    };
    let (ring, _steps) = step(&KeyRing::default(), asked, NOW, 1);
    assert_eq!(step(&ring, asked, NOW, 2).1, []);
}

#[test]
fn a_clock_that_is_set_back_keeps_keys_rather_too_long() {
    // Retired in what is now the future.
    let ring = promoted();
    let (ring, steps) = step(&ring, EVERYWHERE, NOW, 3);
    assert_eq!(steps, []);
    assert_eq!(shown(&ring), [(2, State::Sealing), (1, State::Retired)]);
    // Its time counts anew, instead of waiting for that future.
    assert_eq!(step(&ring, EVERYWHERE, NOW.after(7 * DAY), 3).1, []);
    let (ring, steps) = step(&ring, EVERYWHERE, NOW.after(8 * DAY), 3);
    assert_eq!(steps, [Step::Removed]);
    assert_eq!(
        step(&ring, EVERYWHERE, NOW.after(30 * DAY), 3).1,
        [Step::Announced]
    );
}

#[test]
fn there_are_never_too_many_keys_and_none_goes_early() {
    let mut ring = first();
    for n in 0..20 {
        let value = n.to_string();
        let asked = Facts {
            request: Some(&value),
            ..EVERYWHERE
        };
        let now = NOW.after(n * MINUTE);
        let (announced, steps) = step(&ring, asked, now, 2 + n);
        assert_eq!(
            steps,
            [if n < 7 {
                Step::Announced
            } else {
                Step::Postponed
            }]
        );
        ring = step(&announced, asked, now, 99).0;
        assert!(ring.keys.len() <= MAX_KEYS);
        assert!(ring.holds(KeyId(1)));
    }
}

#[test]
fn a_name_that_is_taken_is_not_given_again() {
    let (ring, steps) = step(&first(), facts(), NOW.after(30 * DAY), 1);
    assert_eq!((shown(&ring), steps), (vec![(1, State::Sealing)], vec![]));
}

#[test]
fn without_randomness_nothing_happens() {
    let failed = rotate(first(), &facts(), NOW.after(30 * DAY), || Err("none"));
    assert_eq!(failed, Err("none"));
}

#[test]
fn the_keys_of_a_secret_without_times_are_kept_in_their_order() {
    let keys = vec![session_key(9, 1), session_key(2, 2)];
    let json = serde_json::json!({"version": 2, "new": {}, "sessionKeys": keys}).to_string();
    let ring = KeyRing::read(Some(&rendered(&json)), NOW).unwrap();
    assert_eq!(ring.session_keys(), keys);
    assert_eq!(shown(&ring), [(9, State::Sealing), (2, State::Retired)]);
    // Each has its full time from now on.
    assert_eq!(step(&ring, facts(), NOW.after(7 * DAY), 3).1, []);
    let (ring, steps) = step(&ring, facts(), NOW, 3);
    assert_eq!((ring.session_keys(), steps), (keys, vec![]));
}

#[rstest]
#[case::not_json("keys")]
#[case::another_shape(r#"{"keys": [{"id": 9}]}"#)]
#[case::of_other_keys(r#"{"keys": [{"id": 5, "state": "Retired", "since": 0}]}"#)]
#[case::that_contradicts_the_order(
    r#"{"keys": [{"id": 9, "state": "Retired", "since": 0}, {"id": 2, "state": "Sealing", "since": 0}]}"#
)]
fn a_record_that_is_of_no_use_costs_no_key(#[case] record: &str) {
    let keys = vec![session_key(9, 1), session_key(2, 2)];
    let json = serde_json::json!({"sessionKeys": keys}).to_string();
    let mut secret = rendered(&json);
    secret
        .annotations_mut()
        .insert(RECORD_ANNOTATION.to_owned(), record.to_owned());
    let ring = KeyRing::read(Some(&secret), NOW).unwrap();
    let (ring, steps) = step(&ring, facts(), NOW, 3);
    assert_eq!((ring.session_keys(), steps), (keys, vec![]));
    assert_eq!(shown(&ring), [(9, State::Sealing), (2, State::Retired)]);
}

#[test]
fn the_record_has_no_key() {
    let secret = written(&announced());
    let record = &secret.annotations()[RECORD_ANNOTATION];
    let key = serde_json::to_value(session_key(1, 1)).unwrap()["key"].to_string();
    assert!(!record.contains(key.trim_matches('"')), "{record}");
    assert_eq!(
        KeyRing::read(Some(&secret), NOW.after(60 * DAY)),
        Ok(announced())
    );
}

#[test]
fn where_there_is_no_secret_there_is_no_key() {
    assert_eq!(KeyRing::read(None, NOW), Ok(KeyRing::default()));
}

#[rstest]
#[case::no_data(Secret::default())]
#[case::another_file(secret(&[("config.yaml", b"{}")]))]
#[case::not_json(rendered("sessionKeys:"))]
#[case::without_keys(rendered("{}"))]
#[case::with_no_key(rendered(r#"{"sessionKeys": []}"#))]
#[case::a_key_that_is_too_short(rendered(r#"{"sessionKeys": [{"id": 1, "key": "c2hvcnQ="}]}"#))]
fn a_secret_whose_keys_cannot_be_read_is_not_taken_for_none(#[case] rendered: Secret) {
    assert_eq!(KeyRing::read(Some(&rendered), NOW), Err(Unreadable));
}

#[test]
fn every_key_is_another() {
    let (one, other) = (generate().unwrap(), generate().unwrap());
    assert_ne!(one.id, other.id);
    assert_ne!(one.key, other.key);
}

proptest! {
    /// Whatever happens, in whatever order: one key seals, the bound holds, and a key opens for as long as a
    /// session that it sealed can last.
    #[test]
    fn no_key_goes_before_what_it_sealed(
        events in prop::collection::vec((0_u64..2_000_000, any::<bool>(), 0_u8..4), 1..120),
    ) {
        let (mut ring, mut now) = (first(), NOW);
        let mut sealed_last = std::collections::HashMap::new();
        for (id, (later, is_everywhere, request)) in (2_u32..).zip(events) {
            now = now.after(Duration::from_secs(later));
            // Until this moment the old ring was in force.
            sealed_last.insert(ring.keys[0].key.id.0, now);
            let value = request.to_string();
            let facts = Facts { request: Some(&value), is_everywhere, ..facts() };
            ring = step(&ring, facts, now, id).0;
            prop_assert!(ring.keys.len() <= MAX_KEYS);
            prop_assert_eq!(ring.first_in(State::Sealing), Some(0));
            let sealing = ring.keys.iter().filter(|key| key.state == State::Sealing);
            prop_assert_eq!(sealing.count(), 1);
            for (id, sealed) in &sealed_last {
                prop_assert!(ring.holds(KeyId(*id)) || now.since(*sealed) >= 7 * DAY);
            }
        }
    }
}
