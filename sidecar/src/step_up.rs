//! When a workload says that its user must do more at Globus first (a Globus Auth Requirements Error,
//! GARE): from its answer to the address of a login that asks for exactly that.

use std::time::Duration;

use axum::body::Body;
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::sealer::Sealer;
use http::header::{self, HeaderMap, HeaderName};
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;

/// Where a program finds the address at which its user can do what the workload asked for.
pub(crate) const LOGIN_URL: HeaderName = HeaderName::from_static("x-globus-auth-login-url");
/// The parameter of `/oauth2/start` that carries it.
pub(crate) const PARAMETER: &str = "step_up";

/// Reads the requirements in the answer of a workload, if it is a GARE. The answer stays what it was.
///
/// Only a short one is read, and only if its length is known beforehand: nothing that streams is held up.
pub(crate) async fn in_answer(
    response: Response<Body>,
) -> (Response<Body>, Option<SessionRequirements>) {
    if !may_be_error(response.status(), response.headers())
        || response
            .body()
            .size_hint()
            .exact()
            .is_none_or(|length| length > MAX_LENGTH)
    {
        return (response, None);
    }
    let (parts, body) = response.into_parts();
    // A workload that breaks off in so short an answer has given none.
    let Ok(body) = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
    else {
        let broken = StatusCode::BAD_GATEWAY;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = broken;
        return (response, None);
    };
    let requirements = SessionRequirements::from_error(&body);
    (Response::from_parts(parts, Body::from(body)), requirements)
}

fn may_be_error(status: StatusCode, headers: &HeaderMap) -> bool {
    let is_json = |value: &[u8]| {
        value
            .split(|byte| *byte == b';')
            .next()
            .is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"application/json"))
    };
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        && !headers.contains_key(header::CONTENT_ENCODING)
        && headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| is_json(value.as_bytes()))
}

/// The value of [`PARAMETER`] for `requirements`. Sealed, so that nobody but a workload behind this proxy
/// can make users consent to something here.
pub(crate) fn seal(
    requirements: &SessionRequirements,
    sealer: &Sealer,
    now: UnixSeconds,
) -> Option<String> {
    let text = serde_json::to_vec(&(now.after(LIFETIME), requirements)).ok()?;
    sealer.seal(&text).ok()
}

/// The requirements in the value of [`PARAMETER`], if we sealed it a short while ago.
pub(crate) fn open(value: &str, sealer: &Sealer, now: UnixSeconds) -> Option<SessionRequirements> {
    let mut buffer = vec![0; value.len()];
    let text = sealer.open(value.as_bytes(), &mut buffer).ok()?;
    let (until, requirements): (UnixSeconds, _) = serde_json::from_slice(text).ok()?;
    (now < until).then_some(requirements)
}

/// Longer than any such error; shorter than anything worth waiting for.
const MAX_LENGTH: u64 = 16 * 1024;
/// As long as a login may take: a program shows the address to its user.
const LIFETIME: Duration = Duration::from_mins(15);

#[cfg(test)]
mod tests {
    use globus_auth_core::sealer::{Context, KeyBytes, KeyId};
    use rstest::rstest;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
    const ERROR: &str = r#"{"code":"X","authorization_parameters":{"session_required_mfa":true}}"#;

    fn sealer(purpose: &'static str) -> Sealer {
        let keys = [(KeyId(1), KeyBytes::new([7; 32]))];
        let context = Context {
            purpose,
            binding: &[],
        };
        Sealer::new(&keys, context).unwrap()
    }

    fn second_factor() -> SessionRequirements {
        SessionRequirements {
            session_required_mfa: true,
            ..SessionRequirements::default()
        }
    }

    fn answer(status: u16, content_type: &str, body: Body) -> Response<Body> {
        Response::builder()
            .status(status)
            .header("content-type", content_type)
            .body(body)
            .unwrap()
    }

    #[rstest]
    #[case(403, "application/json", true)]
    #[case(401, "Application/JSON; charset=utf-8", true)]
    #[case(200, "application/json", false)]
    #[case(403, "text/html", false)]
    #[case(403, "application/jsonp", false)]
    #[tokio::test]
    async fn a_short_error_in_json_is_read_and_passed_on(
        #[case] status: u16,
        #[case] content_type: &str,
        #[case] read: bool,
    ) {
        let answer = answer(status, content_type, Body::from(ERROR));
        let (answer, requirements) = in_answer(answer).await;
        assert_eq!(requirements, read.then(second_factor));
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, ERROR);
    }

    #[tokio::test]
    async fn what_streams_or_is_long_or_compressed_is_not_read() {
        let stream = futures_util::stream::pending::<Result<String, std::io::Error>>();
        let stream = answer(403, "application/json", Body::from_stream(stream));
        assert_eq!(in_answer(stream).await.1, None);
        let long = format!("{ERROR}{}", " ".repeat(20_000));
        assert_eq!(
            in_answer(answer(403, "application/json", Body::from(long)))
                .await
                .1,
            None
        );
        let mut compressed = answer(403, "application/json", Body::from(ERROR));
        let gzip = http::HeaderValue::from_static("gzip");
        compressed.headers_mut().insert("content-encoding", gzip);
        assert_eq!(in_answer(compressed).await.1, None);
    }

    #[test]
    fn requirements_come_back_as_they_were_sealed_for_a_while() {
        let sealed = seal(&second_factor(), &sealer("step-up"), NOW).unwrap();
        let open = |sealer: &Sealer, now| open(&sealed, sealer, now);
        assert_eq!(open(&sealer("step-up"), NOW), Some(second_factor()));
        assert_eq!(open(&sealer("step-up"), NOW.after(LIFETIME)), None);
        assert_eq!(open(&sealer("session"), NOW), None);
        assert_eq!(super::open("nonsense", &sealer("step-up"), NOW), None);
    }
}
