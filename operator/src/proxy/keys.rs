//! The keys that seal cookies, which must outlive every change of the configuration, and their rotation.
//!
//! A key goes through three states, so that no cookie meets a sidecar that cannot open it. It is *announced*:
//! every sidecar can open with it, none seals. It *seals* when all sidecars have it. It is *retired* when the
//! next one seals, and goes when whatever it sealed has expired.

use std::time::Duration;

use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::random;
use globus_auth_core::sealer::{KeyBytes, KeyId};
use globus_auth_core::sidecar_config::{self, FILE_NAME, SessionKey};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

/// The keys of one proxy, and how far their rotation has come.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyRing {
    /// In the order of the configuration: the first seals, all open.
    keys: Vec<RingKey>,
    /// Names the value of [`ROTATE_ANNOTATION`] that was followed last.
    request: Option<String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct RingKey {
    key: SessionKey,
    state: State,
    /// Since when it is in this state.
    since: UnixSeconds,
}

/// What a key does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
enum State {
    /// It opens, and will seal when every sidecar has it.
    Announced,
    /// It opens what it sealed before.
    Retired,
    /// It seals and opens.
    Sealing,
}

/// What the Secret's annotation says of the keys beside it. Sidecars need not know, so it is no part of
/// their configuration.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    keys: Vec<RecordedKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordedKey {
    id: KeyId,
    state: State,
    since: UnixSeconds,
}

/// The annotation of the rendered Secret with the states of its keys.
const RECORD_ANNOTATION: &str = "globus-auth.dev/session-keys";
/// The annotation of a proxy that asks for a new key, whenever its value is a new one.
pub const ROTATE_ANNOTATION: &str = "globus-auth.dev/rotate-session-keys";

/// There is a rendered Secret, but its keys cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unreadable;

impl KeyRing {
    /// The keys in the Secret that was rendered before; none if there is no Secret.
    ///
    /// A key of which the annotation does not tell, as in a Secret of an older operator, has begun only now to
    /// do what it does: it is kept rather too long.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(rendered: Option<&Secret>, now: UnixSeconds) -> Result<Self, Unreadable> {
        let Some(secret) = rendered else {
            return Ok(Self::default());
        };
        let record: Option<Record> = secret
            .annotations()
            .get(RECORD_ANNOTATION)
            .and_then(|json| serde_json::from_str(json).ok());
        let recorded = |id: KeyId| {
            let keys = record.iter().flat_map(|record| &record.keys);
            keys.into_iter().find(|key| key.id == id)
        };
        let keys = keys_in(secret).ok_or(Unreadable)?;
        let keys = keys.into_iter().enumerate().map(|(place, key)| {
            let before = recorded(key.id);
            // The order in the configuration is what sidecars go by.
            let state = match before.map(|before| before.state) {
                _ if place == 0 => State::Sealing,
                Some(State::Announced) => State::Announced,
                Some(State::Retired | State::Sealing) | None => State::Retired,
            };
            let since = before
                .filter(|before| before.state == state)
                // The clock may have been set back since.
                .map_or(now, |before| before.since.min(now));
            RingKey { key, state, since }
        });
        Ok(Self {
            keys: keys.collect(),
            request: record.as_ref().and_then(|record| record.request.clone()),
        })
    }

    /// Whether there is no key.
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys as sidecars get them.
    pub fn session_keys(&self) -> Vec<SessionKey> {
        self.keys.iter().map(|key| key.key.clone()).collect()
    }

    /// Writes the states of the keys beside the configuration that has them.
    ///
    /// # Errors
    /// They cannot be written as JSON; a bug.
    pub fn record(&self, secret: &mut Secret) -> Result<(), serde_json::Error> {
        let recorded = |key: &RingKey| RecordedKey {
            id: key.key.id,
            state: key.state,
            since: key.since,
        };
        let json = serde_json::to_string(&Record {
            keys: self.keys.iter().map(recorded).collect(),
            request: self.request.clone(),
        })?;
        secret
            .annotations_mut()
            .insert(RECORD_ANNOTATION.to_owned(), json);
        Ok(())
    }

    fn first_in(&self, state: State) -> Option<usize> {
        self.keys.iter().position(|key| key.state == state)
    }

    fn holds(&self, id: KeyId) -> bool {
        self.keys.iter().any(|key| key.key.id == id)
    }
}

/// The keys of the configuration in `secret`. Nothing else of it is read, so that a Secret of another version
/// of the operator keeps its keys.
fn keys_in(secret: &Secret) -> Option<Vec<SessionKey>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Keys {
        session_keys: Vec<SessionKey>,
    }
    let json = secret.data.as_ref()?.get(FILE_NAME)?;
    let keys = serde_json::from_slice::<Keys>(&json.0).ok()?.session_keys;
    (!keys.is_empty()).then_some(keys)
}

/// Names the configuration in the Secret that was rendered before.
pub fn hash_of(rendered: &Secret) -> Option<String> {
    let json = rendered.data.as_ref()?.get(FILE_NAME)?;
    Some(sidecar_config::hash(&json.0))
}

/// What the next step depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The proxy's [`ROTATE_ANNOTATION`].
    pub request: Option<&'a str>,
    /// Whether there are sidecars, and each has said that the configuration that was rendered last is in force.
    pub is_everywhere: bool,
    /// How long a session can last.
    pub longest_session: Duration,
}

/// What became of the keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// A new key opens.
    Announced,
    /// The first key was made.
    Made,
    /// A new key was due, but there are too many that still open.
    Postponed,
    /// The announced key seals.
    Promoted,
    /// A retired key has gone.
    Removed,
}

impl Step {
    /// The reason and the message of the Event that tells of it, if it is worth one.
    pub const fn event(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Made => None,
            Self::Announced => Some((
                "SessionKeyAnnounced",
                "a new session key was given to the sidecars; it will seal cookies when all of them have it",
            )),
            Self::Promoted => Some((
                "SessionKeyPromoted",
                "the new session key seals cookies now; the one before opens its cookies until they expire",
            )),
            Self::Removed => Some((
                "SessionKeyRemoved",
                "a session key whose cookies have all expired was removed",
            )),
            Self::Postponed => Some((
                "SessionKeyPostponed",
                "no new session key is made until the cookies of an older one have expired: there are too \
                 many keys; to end all sessions at once, delete the Secret with the configuration instead",
            )),
        }
    }
}

/// Takes `ring` one step further, if one is due; `fresh` makes a key.
///
/// # Errors
/// That of `fresh`.
pub fn rotate<E>(
    mut ring: KeyRing,
    facts: &Facts<'_>,
    now: UnixSeconds,
    fresh: impl FnOnce() -> Result<SessionKey, E>,
) -> Result<(KeyRing, Vec<Step>), E> {
    let request = facts
        .request
        .map(|value| sidecar_config::hash(value.as_bytes()));
    if ring.is_empty() {
        ring.keys.push(RingKey {
            key: fresh()?,
            state: State::Sealing,
            since: now,
        });
        ring.request = request;
        return Ok((ring, vec![Step::Made]));
    }
    let mut steps = Vec::new();
    let before = ring.keys.len();
    // A sidecar may learn late that its key was retired.
    let kept_for = facts.longest_session.saturating_add(SPREAD);
    ring.keys
        .retain(|key| key.state != State::Retired || now.since(key.since) < kept_for);
    steps.extend(std::iter::repeat_n(
        Step::Removed,
        before.saturating_sub(ring.keys.len()),
    ));
    if let Some(place) = ring.first_in(State::Announced) {
        let waited = |key: &RingKey| now.since(key.since) >= SPREAD;
        if facts.is_everywhere || ring.keys.get(place).is_some_and(waited) {
            promote(&mut ring, place, now);
            steps.push(Step::Promoted);
        }
        return Ok((ring, steps));
    }
    let is_asked = request.is_some() && request != ring.request;
    let is_old = |key: &RingKey| now.since(key.since) >= PERIOD;
    if !is_asked && !ring.keys.first().is_some_and(is_old) {
        return Ok((ring, steps));
    }
    if ring.keys.len() >= MAX_KEYS {
        steps.push(Step::Postponed);
        return Ok((ring, steps));
    }
    let key = fresh()?;
    // Of four thousand million names; the next reconciliation draws again.
    if !ring.holds(key.id) {
        ring.keys.push(RingKey {
            key,
            state: State::Announced,
            since: now,
        });
        ring.request = request.or(ring.request);
        steps.push(Step::Announced);
    }
    Ok((ring, steps))
}

/// The key at `place` seals from `now` on.
fn promote(ring: &mut KeyRing, place: usize, now: UnixSeconds) {
    for key in &mut ring.keys {
        if key.state == State::Sealing {
            key.state = State::Retired;
            key.since = now;
        }
    }
    let mut key = ring.keys.remove(place);
    key.state = State::Sealing;
    key.since = now;
    ring.keys.insert(0, key);
}

/// A new key.
///
/// # Errors
/// [`random::Unavailable`].
pub fn generate() -> Result<SessionKey, random::Unavailable> {
    let id = KeyId(u32::from_be_bytes(random::bytes()?));
    let key = KeyBytes::new(random::bytes()?);
    Ok(SessionKey {
        id,
        key: key.into(),
    })
}

/// How long a key seals. Far fewer cookies than AES-GCM with random nonces bears.
const PERIOD: Duration = Duration::from_hours(30 * 24);
/// By then every sidecar that can have a configuration has it; kubelets take a minute or two. A pod that says
/// nothing does not hold up the others for longer.
const SPREAD: Duration = Duration::from_hours(1);
/// One seals, and sessions of at most 30 days keep one or two open. The others are room for rotations that
/// are asked for.
const MAX_KEYS: usize = 8;

#[cfg(test)]
mod tests;
