//! What micro-benchmarks may reach: the session check and the decision, as a request meets them.

use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::email::Email;
use globus_auth_core::identity::Identity;
use globus_auth_core::session::Session;
use globus_auth_core::sidecar_config::Access;
use http::{HeaderMap, Request};

use crate::decide::{Asked, Credentials, Decision, decide};
use crate::intent::Intent;
use crate::rules::Rules;
use crate::{cookie, headers};

/// The rules of a workload.
#[derive(Debug)]
pub struct Decider(Rules);

impl Decider {
    /// Rules that admit these addresses.
    pub fn new(emails: Vec<Email>) -> Self {
        let access = Access {
            emails,
            ..Access::default()
        };
        Self(Rules::new(&access))
    }

    /// Whether a request by somebody with a session would be forwarded.
    pub fn forwards(&self, request: &Request<()>, session: Session, now: UnixSeconds) -> bool {
        let asked = Asked {
            intent: Intent::of(request),
            route: Some((request.method(), request.uri().path())),
        };
        let credentials = Credentials::Session(session);
        matches!(
            decide(credentials, asked, &self.0, now),
            Decision::Forward(_)
        )
    }

    /// Rewrites headers for the workload: what clients claim goes, who the user is comes.
    pub fn rewrite(&self, headers: &mut HeaderMap, identity: &Identity) {
        headers::remove_claims_of_clients(headers);
        headers::remove_hop_by_hop(headers);
        cookie::strip_ours(headers);
        headers::set_identity(headers, identity, &self.0);
    }
}
