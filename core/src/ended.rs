//! Sessions that ended before their time: a bounded list that the operator keeps for all replicas of a
//! proxy, beside its configuration.
//!
//! A session is a cookie, and whoever has a copy of it has the session. So a session that its user ended
//! is named here until it would have ended by itself. The list never forgets one that it must still
//! name: where there is no room, it ends more sessions than was asked for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::identity::NameDigest;
use crate::session::{Session, SessionId};

/// The file in the mounted Secret.
pub const FILE_NAME: &str = "ended.json";
/// Where sidecars say which sessions ended, below the operator's address.
pub const PATH: &str = "/v1/sessions/end";
/// The most that one message may name.
pub const MAX_IN_MESSAGE: usize = 256;

/// Which sessions of a proxy ended.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EndedList {
    /// Every session that began until then, because there were too many to name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<UnixSeconds>,
    /// What ended, and until when it must be named.
    ended: BTreeMap<Ended, UnixSeconds>,
}

/// What ended.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ended {
    /// Whose it was; unknown if the provider named its own session only.
    pub subject: Option<NameDigest>,
    /// Which of their sessions.
    pub sessions: Sessions,
}

/// Sessions of one subject.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Sessions {
    /// One session of ours.
    One(SessionId),
    /// Those that began in one session of the provider (`sid`, OpenID Connect Back-Channel Logout §2.1).
    OfProvider(NameDigest),
    /// All that began until then.
    Before(UnixSeconds),
}

/// What a sidecar tells the operator.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EndSessions {
    /// What ended, and until when it must be named; at most [`MAX_IN_MESSAGE`].
    pub ended: BTreeMap<Ended, UnixSeconds>,
}

impl EndedList {
    /// Reads the file.
    ///
    /// # Errors
    /// Not such a list.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// The list where nothing can be told any more: it ends every session that began until `now`.
    pub fn of_everything(now: UnixSeconds) -> Self {
        Self {
            before: Some(now),
            ended: BTreeMap::new(),
        }
    }

    /// Adds `ended`, which must be named until `until`, at most [`LONGEST`] from `now`.
    pub fn add(&mut self, ended: Ended, until: UnixSeconds, now: UnixSeconds) {
        self.prune(now);
        let until = until.min(now.after(LONGEST));
        if until <= now {
            return;
        }
        let known = self.ended.entry(ended).or_insert(until);
        *known = until.max(*known);
        if self.ended.len() > MAX_ENTRIES {
            self.make_room(now);
        }
    }

    /// Drops what has ended by itself.
    pub fn prune(&mut self, now: UnixSeconds) {
        self.ended.retain(|_, until| now < *until);
        // No session lives longer, so none of those is left.
        self.before = self.before.filter(|before| now < before.after(LONGEST));
    }

    /// Ends all sessions of the subject that has most entries; if nobody has several, all of everybody.
    fn make_room(&mut self, now: UnixSeconds) {
        let mut counts: HashMap<NameDigest, usize> = HashMap::new();
        for subject in self.ended.keys().filter_map(|ended| ended.subject) {
            *counts.entry(subject).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        match most {
            Some((subject, count)) if count > 1 => {
                self.ended.retain(|ended, _| ended.subject != Some(subject));
                let all = Ended {
                    subject: Some(subject),
                    sessions: Sessions::Before(now),
                };
                self.ended.insert(all, now.after(LONGEST));
            }
            _ => *self = Self::of_everything(now),
        }
    }

    /// Whether nothing ended.
    pub fn is_empty(&self) -> bool {
        self.before.is_none() && self.ended.is_empty()
    }

    /// The list, ready to be asked on every request.
    pub fn index(&self) -> EndedIndex {
        let mut index = EndedIndex {
            before: self.before,
            ..EndedIndex::default()
        };
        for ended in self.ended.keys() {
            match (ended.sessions, ended.subject) {
                (Sessions::One(id), _) => {
                    index.one.insert(id);
                }
                (Sessions::OfProvider(sid), _) => {
                    index.of_provider.insert(sid);
                }
                (Sessions::Before(time), Some(subject)) => {
                    let latest = index.of_subject.entry(subject).or_insert(time);
                    *latest = time.max(*latest);
                }
                (Sessions::Before(time), None) => index.before = index.before.max(Some(time)),
            }
        }
        index
    }
}

/// Which sessions ended, by what a session knows of itself.
#[derive(Clone, Debug, Default)]
pub struct EndedIndex {
    before: Option<UnixSeconds>,
    one: HashSet<SessionId>,
    of_provider: HashSet<NameDigest>,
    of_subject: HashMap<NameDigest, UnixSeconds>,
}

impl EndedIndex {
    /// Whether `session` ended.
    pub fn contains(&self, session: &Session) -> bool {
        self.before
            .is_some_and(|before| session.logged_in_at <= before)
            || (!self.one.is_empty() && self.one.contains(&session.id))
            || (!self.of_provider.is_empty()
                && session
                    .provider_session
                    .is_some_and(|sid| self.of_provider.contains(&sid)))
            || (!self.of_subject.is_empty()
                && self
                    .of_subject
                    .get(&NameDigest::of(&session.identity.subject))
                    .is_some_and(|before| session.logged_in_at <= *before))
    }
}

/// As text, so that it can name a member of a JSON object: `<subject>.<kind>.<value>`.
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let subject = self.subject.map(|subject| text(subject.as_bytes()));
        write!(f, "{}.", subject.unwrap_or_default())?;
        match &self.sessions {
            Sessions::One(id) => write!(f, "s.{}", text(id.as_bytes())),
            Sessions::OfProvider(sid) => write!(f, "p.{}", text(sid.as_bytes())),
            Sessions::Before(time) => write!(f, "b.{}", time.0),
        }
    }
}

impl FromStr for Ended {
    type Err = NotEnded;

    fn from_str(text: &str) -> Result<Self, NotEnded> {
        fn bytes<const N: usize>(text: &str) -> Result<[u8; N], NotEnded> {
            let mut bytes = [0; N];
            match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
                Ok(length) if length == N => Ok(bytes),
                _ => Err(NotEnded),
            }
        }
        let mut parts = text.splitn(3, '.');
        let (Some(subject), Some(kind), Some(value)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(NotEnded);
        };
        let subject = match subject {
            "" => None,
            subject => Some(NameDigest::from_bytes(bytes(subject)?)),
        };
        let sessions = match kind {
            "s" => Sessions::One(SessionId::from_bytes(bytes(value)?)),
            "p" => Sessions::OfProvider(NameDigest::from_bytes(bytes(value)?)),
            "b" => Sessions::Before(UnixSeconds(value.parse().map_err(|_number| NotEnded)?)),
            _ => return Err(NotEnded),
        };
        Ok(Self { subject, sessions })
    }
}

impl Serialize for Ended {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ended {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text names nothing that ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the text names no session that ended")]
pub struct NotEnded;

/// About 60 bytes each in the Secret, which may have a mebibyte.
pub const MAX_ENTRIES: usize = 4096;
/// No session is longer; the schema sees to it.
pub const LONGEST: Duration = Duration::from_hours(30 * 24);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::Identity;
    use crate::session::Limits;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
    const DAY: Duration = Duration::from_hours(24);
    const LIMITS: Limits = Limits {
        idle: DAY,
        absolute: DAY,
    };

    fn session(subject: &str, logged_in_at: UnixSeconds) -> Session {
        let identity = Identity {
            subject: subject.to_owned(),
            ..Identity::default()
        };
        Session {
            provider_session: Some(NameDigest::of(&format!("sid of {subject}"))),
            ..Session::start(identity, LIMITS, logged_in_at).unwrap()
        }
    }

    fn one(session: &Session) -> Ended {
        Ended {
            subject: Some(NameDigest::of(&session.identity.subject)),
            sessions: Sessions::One(session.id),
        }
    }

    fn has(list: &EndedList, session: &Session) -> bool {
        let written = serde_json::to_vec(list).unwrap();
        let read = EndedList::parse(&written).unwrap();
        assert_eq!(read, *list);
        read.index().contains(session)
    }

    #[test]
    fn a_session_that_ended_is_named_until_it_would_have_ended_by_itself() {
        let (ended, other) = (session("alice", NOW), session("alice", NOW));
        let mut list = EndedList::default();
        list.add(one(&ended), NOW.after(DAY), NOW);
        assert!(has(&list, &ended));
        assert!(!has(&list, &other));
        list.prune(UnixSeconds(NOW.after(DAY).0 - 1));
        assert!(has(&list, &ended));
        list.prune(NOW.after(DAY));
        assert!(list.is_empty());
    }

    #[test]
    fn the_sessions_that_a_provider_ended_are_those_of_its_session() {
        let (alice, bob) = (session("alice", NOW), session("bob", NOW));
        let mut list = EndedList::default();
        let ended = Ended {
            subject: None,
            sessions: Sessions::OfProvider(alice.provider_session.unwrap()),
        };
        list.add(ended, NOW.after(DAY), NOW);
        assert!(has(&list, &alice));
        assert!(!has(&list, &bob));
        let without = Session {
            provider_session: None,
            ..alice
        };
        assert!(!has(&list, &without));
    }

    #[test]
    fn all_sessions_of_a_subject_are_those_that_began_until_then() {
        let mut list = EndedList::default();
        let ended = Ended {
            subject: Some(NameDigest::of("alice")),
            sessions: Sessions::Before(NOW),
        };
        list.add(ended, NOW.after(DAY), NOW);
        assert!(has(&list, &session("alice", NOW)));
        assert!(!has(
            &list,
            &session("alice", NOW.after(Duration::from_secs(1)))
        ));
        assert!(!has(&list, &session("bob", NOW)));
    }

    #[test]
    fn whoever_ends_very_many_sessions_ends_all_of_theirs_and_nobody_elses() {
        let mut list = EndedList::default();
        let bob = session("bob", NOW);
        list.add(one(&bob), NOW.after(DAY), NOW);
        let alices: Vec<Session> = (0..MAX_ENTRIES).map(|_| session("alice", NOW)).collect();
        for session in &alices {
            list.add(one(session), NOW.after(DAY), NOW);
        }
        assert_eq!(list.ended.len(), 2);
        assert!(alices.iter().all(|session| has(&list, session)));
        assert!(has(&list, &bob));
        assert!(!has(&list, &session("carol", NOW)));
    }

    #[test]
    fn where_very_many_people_end_theirs_everybody_logs_in_again() {
        let mut list = EndedList::default();
        let sessions: Vec<Session> = (0..=MAX_ENTRIES)
            .map(|n| session(&format!("user-{n}"), NOW))
            .collect();
        for session in &sessions {
            list.add(one(session), NOW.after(DAY), NOW);
        }
        assert_eq!(list.ended.len(), 0);
        assert!(
            sessions
                .iter()
                .all(|session| list.index().contains(session))
        );
        assert!(has(&list, &session("somebody", NOW)));
        assert!(!has(
            &list,
            &session("somebody", NOW.after(Duration::from_secs(1)))
        ));
        list.prune(NOW.after(LONGEST));
        assert!(list.is_empty());
    }

    #[test]
    fn nothing_is_named_for_longer_than_a_session_can_live() {
        let mut list = EndedList::default();
        list.add(one(&session("alice", NOW)), UnixSeconds(u64::MAX), NOW);
        list.prune(NOW.after(LONGEST));
        assert!(list.is_empty());
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for text in [
            "",
            "[]",
            r#"{"ended": {"x": 1}}"#,
            r#"{"ended": {".s.c2hvcnQ": 1}}"#,
            r#"{"ended": {".q.AAAAAAAAAAA": 1}}"#,
            r#"{"end": {}}"#,
            "{}",
        ] {
            assert!(EndedList::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(EndedList::parse(br#"{"ended": {}}"#).unwrap().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// In whatever order things end, and however many: what ended stays ended for its time.
        #[test]
        fn an_ended_session_never_revives(
            steps in prop::collection::vec((0..40_u8, 0..100_000_u64, 0..3_u8), 1..300),
        ) {
            let mut list = EndedList::default();
            let mut now = NOW;
            let mut gone: Vec<(Session, UnixSeconds)> = Vec::new();
            for (subject, pause, kind) in steps {
                now = now.after(Duration::from_secs(pause / 100));
                let session = session(&subject.to_string(), now);
                let until = now.after(Duration::from_secs(pause));
                let ended = match kind {
                    0 => one(&session),
                    1 => Ended { subject: None, sessions: Sessions::OfProvider(session.provider_session.unwrap()) },
                    _ => Ended {
                        subject: Some(NameDigest::of(&session.identity.subject)),
                        sessions: Sessions::Before(now),
                    },
                };
                list.add(ended, until, now);
                gone.push((session, until));
                let index = list.index();
                for (session, until) in gone.iter().filter(|(_, until)| now < *until) {
                    prop_assert!(index.contains(session), "{until:?}");
                }
                prop_assert!(list.ended.len() <= MAX_ENTRIES);
            }
        }
    }
}
