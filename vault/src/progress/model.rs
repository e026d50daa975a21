//! The rules of [`super`] under every order of events: replicas that crash and pause, answers that are
//! slow or lost, issuers that rotate and issuers that do not.
//!
//! The replicas of the model write what [`claim`], [`settle`] and [`land`] say, as the refresher does.

use std::time::Duration;

use rstest::rstest;
use stateright::{Checker, Model, Property};

use super::*;

/// What is tried.
#[derive(Clone, Debug)]
struct Vault {
    replicas: usize,
    issuer: Issuer,
    rotation: Rotation,
    crashes: u8,
    lost: u8,
    /// Whether a replica may stand still between looking at its clock and sending.
    pauses: bool,
}

/// What an issuer does when a spent token comes again within the grace.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Issuer {
    /// It gives out the same child again.
    Replays,
    /// It gives out another child beside the first, and both are good.
    Branches,
    /// It gives out another child, and the first dies.
    Supersedes,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct World {
    now: u8,
    row: Row,
    replicas: Vec<Replica>,
    tokens: Vec<Token>,
    is_family_revoked: bool,
    crashes: u8,
    lost: u8,
    /// Which try of which token was redeemed, as often as it was.
    redemptions: Vec<(u8, u32)>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Row {
    progress: Progress<u8>,
    reauthenticate: Option<bool>,
    /// When the row was given up while the issuer would still have taken the token.
    was_given_up_early: bool,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Token {
    spent_at: Option<u8>,
    child: Option<u8>,
    is_dead: bool,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Replica {
    Idle,
    Claimed(Held),
    Waiting(Held, Answer),
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Held {
    fence: u64,
    attempt: Attempt<u8>,
    send_before: Moment,
    sent_at: u8,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Answer {
    Tokens(u8),
    Failed(Failure),
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Event {
    Tick,
    Begin(usize),
    Send(usize),
    NeverArrives(usize),
    AnswerIsLost(usize),
    Settle(usize),
    Crash(usize),
}

const LEASE: u8 = 2;
/// Time goes on by itself until here, and further only to let the leases of the dead end.
const HORIZON: u8 = 5;

fn moment(time: u8) -> Moment {
    Duration::from_secs(time.into())
}

impl Vault {
    fn redeem(&self, world: &mut World, sent: u8) -> Answer {
        let refused = Answer::Failed(Failure::Refused);
        let token = world.tokens[usize::from(sent)];
        if world.is_family_revoked || token.is_dead {
            return refused;
        }
        let Rotation::Grace(grace) = self.rotation else {
            return Answer::Tokens(sent);
        };
        match (token.spent_at, token.child) {
            (Some(spent_at), _) if moment(world.now) >= moment(spent_at) + grace => {
                world.is_family_revoked = true;
                refused
            }
            (Some(_), Some(child)) if self.issuer == Issuer::Replays => Answer::Tokens(child),
            (spent_at, child) => {
                if let (Issuer::Supersedes, Some(child)) = (self.issuer, child) {
                    world.tokens[usize::from(child)].is_dead = true;
                }
                let new = u8::try_from(world.tokens.len()).unwrap();
                world.tokens.push(UNUSED);
                world.tokens[usize::from(sent)] = Token {
                    spent_at: Some(spent_at.unwrap_or(world.now)),
                    child: Some(new),
                    ..token
                };
                Answer::Tokens(new)
            }
        }
    }

    /// What the store does with what a replica got.
    fn write(world: &mut World, held: Held, answer: Answer) {
        let progress = &mut world.row.progress;
        match answer {
            Answer::Tokens(token) => match land(progress, &held.attempt, moment(held.sent_at)) {
                Landing::Store { version } => {
                    *progress = Progress {
                        version: version + 1,
                        token: Some(token),
                        parent: Some(held.attempt.token),
                        sent_at: moment(held.sent_at),
                        attempt: None,
                        lease_until: Moment::ZERO,
                    };
                    world.row.reauthenticate = None;
                }
                Landing::Discard => {}
            },
            Answer::Failed(failure) if progress.version == held.fence => {
                progress.version += 1;
                progress.lease_until = Moment::ZERO;
                match settle(&held.attempt, failure) {
                    Settlement::Forget => progress.attempt = None,
                    Settlement::Remember => {}
                    Settlement::Reauthenticate { ambiguous } => {
                        world.row.reauthenticate = Some(ambiguous);
                    }
                }
            }
            Answer::Failed(_) => {}
        }
    }

    fn begin(&self, world: &mut World, replica: usize) -> bool {
        let now = world.now;
        let progress = &mut world.row.progress;
        match claim(progress, self.rotation, moment(now)) {
            Claim::Redeem(attempt) => {
                progress.version += 1;
                progress.attempt = Some(attempt);
                progress.lease_until = moment(now + LEASE);
                world.replicas[replica] = Replica::Claimed(Held {
                    fence: progress.version,
                    attempt,
                    send_before: send_before(&attempt, self.rotation, progress.lease_until),
                    sent_at: now,
                });
                true
            }
            Claim::Ambiguous => {
                let attempt = progress.attempt.unwrap();
                progress.version += 1;
                world.row.reauthenticate = Some(true);
                world.row.was_given_up_early = match self.rotation {
                    Rotation::Never => true,
                    Rotation::Grace(grace) => moment(now) < attempt.started_at + grace,
                };
                true
            }
            Claim::Held | Claim::Revoked => false,
        }
    }
}

const UNUSED: Token = Token {
    spent_at: None,
    child: None,
    is_dead: false,
};

impl Model for Vault {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            now: 0,
            row: Row {
                progress: Progress {
                    version: 0,
                    token: Some(0),
                    parent: None,
                    sent_at: Moment::ZERO,
                    attempt: None,
                    lease_until: Moment::ZERO,
                },
                reauthenticate: None,
                was_given_up_early: false,
            },
            replicas: vec![Replica::Idle; self.replicas],
            tokens: vec![UNUSED],
            is_family_revoked: false,
            crashes: 0,
            lost: 0,
            redemptions: Vec::new(),
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Event>) {
        let is_leased = world.row.progress.lease_until > moment(world.now);
        let nobody_acts = world
            .replicas
            .iter()
            .all(|replica| *replica == Replica::Idle);
        if world.now < HORIZON || (is_leased && nobody_acts) {
            actions.push(Event::Tick);
        }
        for (index, replica) in world.replicas.iter().enumerate() {
            match replica {
                Replica::Idle => {
                    // Two generations show what there is to see.
                    let is_due =
                        world.row.progress.version < 3 || world.row.progress.attempt.is_some();
                    if world.row.reauthenticate.is_none() && is_due {
                        actions.push(Event::Begin(index));
                    }
                }
                Replica::Claimed(held) => {
                    if self.pauses || moment(world.now) < held.send_before {
                        actions.push(Event::Send(index));
                        if world.lost < self.lost {
                            actions.push(Event::AnswerIsLost(index));
                        }
                    }
                    if world.lost < self.lost || moment(world.now) >= held.send_before {
                        actions.push(Event::NeverArrives(index));
                    }
                }
                Replica::Waiting(..) => actions.push(Event::Settle(index)),
            }
            if *replica != Replica::Idle && world.crashes < self.crashes {
                actions.push(Event::Crash(index));
            }
        }
    }

    fn next_state(&self, last: &World, event: Event) -> Option<World> {
        let mut world = last.clone();
        let waiting = |world: &mut World, index: usize, held: Held, answer| {
            world.replicas[index] = Replica::Waiting(held, answer);
        };
        match event {
            Event::Tick => world.now += 1,
            Event::Begin(index) => {
                if !self.begin(&mut world, index) {
                    return None;
                }
            }
            Event::Send(index) | Event::AnswerIsLost(index) => {
                let Replica::Claimed(held) = world.replicas[index] else {
                    return None;
                };
                let held = Held {
                    sent_at: world.now,
                    ..held
                };
                world
                    .redemptions
                    .push((held.attempt.token, held.attempt.tries));
                let answer = self.redeem(&mut world, held.attempt.token);
                let answer = if event == Event::AnswerIsLost(index) {
                    world.lost += 1;
                    Answer::Failed(Failure::Unknown)
                } else {
                    answer
                };
                waiting(&mut world, index, held, answer);
            }
            Event::NeverArrives(index) => {
                let Replica::Claimed(held) = world.replicas[index] else {
                    return None;
                };
                world.lost += u8::from(moment(world.now) < held.send_before);
                waiting(&mut world, index, held, Answer::Failed(Failure::Unspent));
            }
            Event::Settle(index) => {
                let Replica::Waiting(held, answer) = world.replicas[index] else {
                    return None;
                };
                Self::write(&mut world, held, answer);
                world.replicas[index] = Replica::Idle;
            }
            Event::Crash(index) => {
                world.crashes += 1;
                world.replicas[index] = Replica::Idle;
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::always("no try redeems a rotating token twice", |model, world| {
                let mut seen = world.redemptions.clone();
                seen.sort_unstable();
                model.rotation == Rotation::Never || seen.windows(2).all(|pair| pair[0] != pair[1])
            }),
            Property::<Self>::always("nothing is given up while the grace allows", |_, world| {
                !world.row.was_given_up_early
            }),
            Property::<Self>::eventually(
                "every grant is refreshed, or its user asked",
                |_, world| {
                    world.row.progress.token != Some(0)
                        || world.row.reauthenticate.is_some()
                        || world.row.progress.version >= 3
                },
            ),
            Property::<Self>::sometimes("a grant is refreshed", |_, world| {
                world.row.progress.version >= 2 && world.row.progress.attempt.is_none()
            }),
        ];
        if !self.pauses {
            properties.push(Property::<Self>::always(
                "no family is revoked for what we did",
                |_, world| !world.is_family_revoked,
            ));
            properties.push(Property::<Self>::always(
                "what is stored at rest is good at the issuer",
                |model, world| {
                    let progress = &world.row.progress;
                    let is_answer_under_way = world
                        .replicas
                        .iter()
                        .any(|replica| matches!(replica, Replica::Waiting(..)));
                    let is_at_rest = progress.attempt.is_none()
                        && world.row.reauthenticate.is_none()
                        && !is_answer_under_way;
                    let token = world.tokens[usize::from(progress.token.unwrap())];
                    let is_good = model.rotation == Rotation::Never
                        || (!token.is_dead && token.spent_at.is_none());
                    // Where a second child kills the first and nobody ever heard of the second, the first
                    // is the best that there is.
                    let is_excused =
                        model.issuer == Issuer::Supersedes && world.lost + world.crashes > 0;
                    !is_at_rest || is_good || is_excused
                },
            ));
        }
        if self.rotation == Rotation::Never {
            properties.push(Property::<Self>::always(
                "no user is asked where tokens do not rotate",
                |_, world| world.row.reauthenticate.is_none(),
            ));
        }
        if self.crashes > 0 && self.rotation != Rotation::Never {
            properties.push(Property::<Self>::sometimes(
                "a crash is recovered from",
                |_, world| world.crashes > 0 && world.row.progress.parent == Some(0),
            ));
        }
        properties
    }
}

const GRACE: Rotation = Rotation::Grace(Duration::from_secs(3));
const NO_GRACE: Rotation = Rotation::Grace(Duration::ZERO);

/// For the report: `cargo test -p globus-auth-vault model -- --nocapture`.
#[expect(clippy::print_stdout, reason = "what was tried, for whoever asks")]
fn report(line: &str) {
    println!("{line}");
}

#[rstest]
fn no_order_of_events_loses_a_token(
    #[values(Issuer::Replays, Issuer::Branches, Issuer::Supersedes)] issuer: Issuer,
    #[values(Rotation::Never, GRACE, NO_GRACE)] rotation: Rotation,
    #[values(false, true)] pauses: bool,
) {
    let vault = Vault {
        replicas: 2,
        issuer,
        rotation,
        crashes: 1,
        lost: 1,
        pauses,
    };
    let checker = vault.checker().threads(2).spawn_bfs().join();
    report(&format!(
        "| {issuer:?} | {rotation:?} | {pauses} | {} | {} |",
        checker.unique_state_count(),
        checker.max_depth()
    ));
    checker.assert_properties();
}
