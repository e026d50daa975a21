//! Health and metrics: what a load balancer may ask is nobody's way in.

use super::target::{Target, reflection};

/// User agents of health checkers, and none at all (the empty one of CVE-2021-era proxies).
const PROBERS: &[&str] = &[
    "User-Agent: kube-probe/1.33\r\n",
    "User-Agent: GoogleHC/1.0\r\n",
    "User-Agent: ELB-HealthChecker/2.0\r\n",
    "User-Agent: Prometheus/3.0\r\n",
    "User-Agent: \r\n",
    "User-Agent:\r\n",
    "",
];

pub(super) async fn a_probe_by_its_user_agent_is_anybody(target: &Target) -> Result<(), String> {
    let paths = [
        "/",
        "/private",
        "/oauth2/auth",
        "/oauth2/userinfo",
        "/ping/../private",
        "/oauth2/auth?x=/ping",
    ];
    let requests: Vec<String> = paths
        .iter()
        .flat_map(|path| {
            let get = move |agent: &&str| target.request(&format!("GET {path}"), agent);
            PROBERS.iter().map(get)
        })
        .collect();
    target.keeps_out(&requests).await
}

pub(super) async fn metrics_and_debugging_are_not_on_the_public_listener(
    target: &Target,
) -> Result<(), String> {
    let paths = [
        "/metrics",
        "/livez",
        "/readyz",
        "/healthz",
        "/probe/app/readiness",
        "/debug/pprof/",
        "/debug/pprof/heap",
        "/debug/vars",
        "/config",
        "/config.json",
        "/oauth2/metrics",
        "/oauth2/debug",
        "/oauth2/static/../../config.json",
        "/.well-known/../metrics",
    ];
    for path in paths {
        let line = format!("GET {path}");
        let answer = target.ask(&line, "").await;
        if reflection(&answer).is_some() || !matches!(answer.status, 302 | 401 | 403 | 404) {
            return Err(format!("{path} got {} without a session", answer.status));
        }
        // With one, they are the workload's, or not there at all.
        let answer = target.ask(&line, &target.cookie_line()).await;
        if reflection(&answer).is_none() && answer.status != 404 {
            return Err(format!("{path} got {} with a session", answer.status));
        }
    }
    Ok(())
}
