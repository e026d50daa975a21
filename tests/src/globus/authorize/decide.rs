//! What happens next on the way to a code. No effects here.

use super::request::Prompt;

/// Where the user stands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Standing {
    pub(super) login: Done,
    /// The first requirement of the request that the session does not meet.
    pub(super) unmet: Option<String>,
    pub(super) consent: Done,
}

/// Whether a user has done something, and when.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Done {
    Before,
    #[default]
    Never,
    /// For this very request.
    Now,
}

/// The next step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    AskConsent,
    /// With what the present session lacks.
    AskLogin(Option<String>),
    Issue,
    RefuseConsent,
    RefuseLogin,
}

/// `prompt=none` refuses where a page would be needed; `prompt=login` and `prompt=consent` want the
/// page even where it would not be (OpenID Connect Core §3.1.2.1).
pub(super) fn decide(prompt: Option<Prompt>, standing: &Standing) -> Step {
    let silent = prompt == Some(Prompt::None);
    let again = prompt == Some(Prompt::Login) && standing.login != Done::Now;
    if standing.login == Done::Never || again || standing.unmet.is_some() {
        return if silent {
            Step::RefuseLogin
        } else {
            Step::AskLogin(standing.unmet.clone())
        };
    }
    let again = prompt == Some(Prompt::Consent) && standing.consent != Done::Now;
    if standing.consent == Done::Never || again {
        return if silent {
            Step::RefuseConsent
        } else {
            Step::AskConsent
        };
    }
    Step::Issue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_follows_from_prompt_and_standing() {
        let nobody = Standing::default();
        let known = Standing {
            login: Done::Before,
            ..nobody.clone()
        };
        let done = Standing {
            consent: Done::Before,
            ..known.clone()
        };
        let now = Standing {
            login: Done::Now,
            consent: Done::Now,
            unmet: None,
        };
        let unmet = Standing {
            unmet: Some("mfa".to_owned()),
            ..now.clone()
        };
        let lacking = || Step::AskLogin(Some("mfa".to_owned()));
        for (prompt, standing, step) in [
            (None, &nobody, Step::AskLogin(None)),
            (None, &known, Step::AskConsent),
            (None, &done, Step::Issue),
            (None, &unmet, lacking()),
            (Some(Prompt::None), &nobody, Step::RefuseLogin),
            (Some(Prompt::None), &known, Step::RefuseConsent),
            (Some(Prompt::None), &done, Step::Issue),
            (Some(Prompt::None), &unmet, Step::RefuseLogin),
            (Some(Prompt::Login), &done, Step::AskLogin(None)),
            (Some(Prompt::Login), &now, Step::Issue),
            (Some(Prompt::Login), &unmet, lacking()),
            (Some(Prompt::Consent), &done, Step::AskConsent),
            (Some(Prompt::Consent), &now, Step::Issue),
        ] {
            assert_eq!(decide(prompt, standing), step, "{prompt:?} {standing:?}");
        }
    }
}
