//! Every flag of oauth2-proxy (7.15), and what becomes of it here. The guide shows this table.

use super::flags::Fate::{Absent, Carried, Needless, Refused};
use super::flags::Flag;
use super::flags::Kind::{List, Switch, Text};

/// By name.
#[rustfmt::skip]
pub(super) const FLAGS: &[Flag] = &[
    Flag { name: "acr-values", cfg: "acr_values", kind: Text, default: "", fate: Absent, text: ACR_VALUES },
    Flag { name: "allow-query-semicolons", cfg: "allow_query_semicolons", kind: Switch, default: "false", fate: Needless, text: "always so: the query is passed on byte for byte" },
    Flag { name: "allowed-group", cfg: "allowed_groups", kind: List, default: "", fate: Carried, text: ALLOWED_GROUP },
    Flag { name: "allowed-role", cfg: "allowed_roles", kind: List, default: "", fate: Refused, text: "roles are not read; let the provider put them into the claim of `provider.groupsClaim`, and name them as groups" },
    Flag { name: "alpha-config", cfg: "alpha_config", kind: Text, default: "", fate: Refused, text: "rules and upstreams may be in it; write them as flags, which the same program still takes" },
    Flag { name: "api-route", cfg: "api_routes", kind: List, default: "", fate: Needless, text: API_ROUTE },
    Flag { name: "approval-prompt", cfg: "approval_prompt", kind: Text, default: "force", fate: Absent, text: ACR_VALUES },
    Flag { name: "auth-logging", cfg: "auth_logging", kind: Switch, default: "true", fate: Needless, text: AUTH_LOGGING },
    Flag { name: "auth-logging-format", cfg: "auth_logging_format", kind: Text, default: "", fate: Needless, text: AUTH_LOGGING },
    Flag { name: "auth-request-response-mode", cfg: "auth_request_response_mode", kind: Text, default: "", fate: Absent, text: ACR_VALUES },
    Flag { name: "authenticated-emails-file", cfg: "authenticated_emails_file", kind: Text, default: "", fate: Carried, text: "`access.emailsFrom`, a ConfigMap" },
    Flag { name: "azure-graph-group-field", cfg: "azure_graph_group_field", kind: Text, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "azure-tenant", cfg: "azure_tenant", kind: Text, default: "common", fate: Carried, text: "the issuer of `provider: azure`, if it names one tenant; otherwise refused" },
    Flag { name: "backend-logout-url", cfg: "backend_logout_url", kind: Text, default: "", fate: Absent, text: "signing out ends the session here" },
    Flag { name: "banner", cfg: "banner", kind: Text, default: "", fate: Absent, text: BANNER },
    Flag { name: "basic-auth-password", cfg: "basic_auth_password", kind: Text, default: "", fate: Absent, text: BASIC_AUTH_PASSWORD },
    Flag { name: "bearer-token-login-fallback", cfg: "bearer_token_login_fallback", kind: Switch, default: "true", fate: Needless, text: API_ROUTE },
    Flag { name: "bitbucket-repository", cfg: "bitbucket_repository", kind: Text, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "bitbucket-team", cfg: "bitbucket_team", kind: Text, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "client-id", cfg: "client_id", kind: Text, default: "", fate: Carried, text: CLIENT_ID },
    Flag { name: "client-secret", cfg: "client_secret", kind: Text, default: "", fate: Carried, text: CLIENT_ID },
    Flag { name: "client-secret-file", cfg: "client_secret_file", kind: Text, default: "", fate: Carried, text: CLIENT_ID },
    Flag { name: "code-challenge-method", cfg: "code_challenge_method", kind: Text, default: "", fate: Needless, text: CODE_CHALLENGE_METHOD },
    Flag { name: "config", cfg: "config", kind: Text, default: "", fate: Carried, text: "the settings of that file; give it as a further FILE" },
    Flag { name: "config-test", cfg: "config_test", kind: Switch, default: "false", fate: Needless, text: CONFIG_TEST },
    Flag { name: "convert-config-to-alpha", cfg: "convert_config_to_alpha", kind: Switch, default: "false", fate: Needless, text: CONFIG_TEST },
    Flag { name: "cookie-csrf-expire", cfg: "cookie_csrf_expire", kind: Text, default: "", fate: Needless, text: COOKIE_CSRF_EXPIRE },
    Flag { name: "cookie-csrf-per-request", cfg: "cookie_csrf_per_request", kind: Switch, default: "false", fate: Needless, text: COOKIE_CSRF_EXPIRE },
    Flag { name: "cookie-csrf-per-request-limit", cfg: "cookie_csrf_per_request_limit", kind: Text, default: "", fate: Needless, text: COOKIE_CSRF_EXPIRE },
    Flag { name: "cookie-csrf-samesite", cfg: "cookie_csrf_samesite", kind: Text, default: "", fate: Needless, text: COOKIE_CSRF_SAMESITE },
    Flag { name: "cookie-domain", cfg: "cookie_domains", kind: List, default: "", fate: Absent, text: "the cookie belongs to one host, so a neighbour cannot plant or read it; make a GlobusAuthProxy for each host" },
    Flag { name: "cookie-expire", cfg: "cookie_expire", kind: Text, default: "168h", fate: Carried, text: "`session.absoluteTimeoutSeconds`, at most 30 days" },
    Flag { name: "cookie-httponly", cfg: "cookie_httponly", kind: Switch, default: "true", fate: Needless, text: COOKIE_CSRF_SAMESITE },
    Flag { name: "cookie-name", cfg: "cookie_name", kind: Text, default: "_oauth2_proxy", fate: Needless, text: COOKIE_CSRF_SAMESITE },
    Flag { name: "cookie-path", cfg: "cookie_path", kind: Text, default: "/", fate: Needless, text: COOKIE_CSRF_SAMESITE },
    Flag { name: "cookie-refresh", cfg: "cookie_refresh", kind: Text, default: "0", fate: Absent, text: "a session renews itself while it is used, and ends after `session.idleTimeoutSeconds` without a request" },
    Flag { name: "cookie-samesite", cfg: "cookie_samesite", kind: Text, default: "", fate: Needless, text: COOKIE_CSRF_SAMESITE },
    Flag { name: "cookie-secret", cfg: "cookie_secret", kind: Text, default: "", fate: Needless, text: COOKIE_SECRET },
    Flag { name: "cookie-secret-file", cfg: "cookie_secret_file", kind: Text, default: "", fate: Needless, text: COOKIE_SECRET },
    Flag { name: "cookie-secure", cfg: "cookie_secure", kind: Switch, default: "true", fate: Needless, text: COOKIE_CSRF_SAMESITE },
    Flag { name: "custom-sign-in-logo", cfg: "custom_sign_in_logo", kind: Text, default: "", fate: Absent, text: BANNER },
    Flag { name: "custom-templates-dir", cfg: "custom_templates_dir", kind: Text, default: "", fate: Absent, text: BANNER },
    Flag { name: "disable-keep-alives", cfg: "disable_keep_alives", kind: Switch, default: "false", fate: Absent, text: "connections are kept while they are of use" },
    Flag { name: "display-htpasswd-form", cfg: "display_htpasswd_form", kind: Switch, default: "true", fate: Absent, text: DISPLAY_HTPASSWD_FORM },
    Flag { name: "email-domain", cfg: "email_domains", kind: List, default: "", fate: Carried, text: "`access.emailDomains`; `*` is `access.anyAuthenticated: Enabled`, and refused beside a file or other domains" },
    Flag { name: "encode-state", cfg: "encode_state", kind: Switch, default: "false", fate: Needless, text: "always so: the state is random and tells nothing" },
    Flag { name: "entra-id-allowed-tenant", cfg: "entra_id_allowed_tenants", kind: List, default: "", fate: Refused, text: "name one tenant by its issuer, `https://login.microsoftonline.com/TENANT/v2.0`" },
    Flag { name: "entra-id-federated-token-auth", cfg: "entra_id_federated_token_auth", kind: Switch, default: "false", fate: Refused, text: ENTRA_ID_FEDERATED_TOKEN_AUTH },
    Flag { name: "errors-to-info-log", cfg: "errors_to_info_log", kind: Switch, default: "false", fate: Needless, text: AUTH_LOGGING },
    Flag { name: "exclude-logging-path", cfg: "exclude_logging_paths", kind: List, default: "", fate: Needless, text: AUTH_LOGGING },
    Flag { name: "extra-jwt-issuers", cfg: "extra_jwt_issuers", kind: List, default: "", fate: Carried, text: "`bearer.jwt`, one entry for each issuer; as there, only with `skip-jwt-bearer-tokens`" },
    Flag { name: "flush-interval", cfg: "flush_interval", kind: Text, default: "", fate: Needless, text: "always so: what streams is passed on at once" },
    Flag { name: "footer", cfg: "footer", kind: Text, default: "", fate: Absent, text: BANNER },
    Flag { name: "force-code-challenge-method", cfg: "force_code_challenge_method", kind: Text, default: "", fate: Needless, text: CODE_CHALLENGE_METHOD },
    Flag { name: "force-https", cfg: "force_https", kind: Switch, default: "false", fate: Absent, text: "`externalUrl` is https anyway; let the ingress send browsers from http there" },
    Flag { name: "force-json-errors", cfg: "force_json_errors", kind: Switch, default: "false", fate: Needless, text: API_ROUTE },
    Flag { name: "gcp-healthchecks", cfg: "gcp_healthchecks", kind: Switch, default: "false", fate: Needless, text: GCP_HEALTHCHECKS },
    Flag { name: "github-org", cfg: "github_org", kind: Text, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "github-repo", cfg: "github_repo", kind: Text, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "github-team", cfg: "github_team", kind: Text, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "github-token", cfg: "github_token", kind: Text, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "github-user", cfg: "github_users", kind: List, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "gitlab-group", cfg: "gitlab_groups", kind: List, default: "", fate: Carried, text: ALLOWED_GROUP },
    Flag { name: "gitlab-project", cfg: "gitlab_projects", kind: List, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "google-admin-api-user-scope", cfg: "google_admin_api_user_scope", kind: Text, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "google-admin-email", cfg: "google_admin_email", kind: Text, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "google-group", cfg: "google_groups", kind: List, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "google-service-account-json", cfg: "google_service_account_json", kind: Text, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "google-target-principal", cfg: "google_target_principal", kind: Text, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "google-use-application-default-credentials", cfg: "google_use_application_default_credentials", kind: Text, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "google-use-organization-id", cfg: "google_use_organization_id", kind: Text, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "htpasswd-file", cfg: "htpasswd_file", kind: Text, default: "", fate: Absent, text: DISPLAY_HTPASSWD_FORM },
    Flag { name: "htpasswd-user-group", cfg: "htpasswd_user_groups", kind: List, default: "", fate: Absent, text: DISPLAY_HTPASSWD_FORM },
    Flag { name: "http-address", cfg: "http_address", kind: Text, default: "127.0.0.1:4180", fate: Needless, text: HTTP_ADDRESS },
    Flag { name: "https-address", cfg: "https_address", kind: Text, default: ":443", fate: Needless, text: HTTP_ADDRESS },
    Flag { name: "insecure-oidc-allow-unverified-email", cfg: "insecure_oidc_allow_unverified_email", kind: Switch, default: "false", fate: Carried, text: "`provider.emailVerification: IfPresent`, which still refuses an address that the provider calls unverified" },
    Flag { name: "insecure-oidc-skip-issuer-verification", cfg: "insecure_oidc_skip_issuer_verification", kind: Switch, default: "false", fate: Refused, text: "the issuer of a token must be that of the provider" },
    Flag { name: "insecure-oidc-skip-nonce", cfg: "insecure_oidc_skip_nonce", kind: Switch, default: "true", fate: Needless, text: "always on: each login has a nonce, and it is checked" },
    Flag { name: "jwt-key", cfg: "jwt_key", kind: Text, default: "", fate: Refused, text: ENTRA_ID_FEDERATED_TOKEN_AUTH },
    Flag { name: "jwt-key-file", cfg: "jwt_key_file", kind: Text, default: "", fate: Refused, text: ENTRA_ID_FEDERATED_TOKEN_AUTH },
    Flag { name: "keycloak-group", cfg: "keycloak_groups", kind: List, default: "", fate: Refused, text: AZURE_GRAPH_GROUP_FIELD },
    Flag { name: "logging-compress", cfg: "logging_compress", kind: Switch, default: "false", fate: Needless, text: AUTH_LOGGING },
    Flag { name: "logging-filename", cfg: "logging_filename", kind: Text, default: "", fate: Needless, text: AUTH_LOGGING },
    Flag { name: "logging-local-time", cfg: "logging_local_time", kind: Switch, default: "true", fate: Needless, text: AUTH_LOGGING },
    Flag { name: "logging-max-age", cfg: "logging_max_age", kind: Text, default: "7", fate: Needless, text: AUTH_LOGGING },
    Flag { name: "logging-max-backups", cfg: "logging_max_backups", kind: Text, default: "", fate: Needless, text: AUTH_LOGGING },
    Flag { name: "logging-max-size", cfg: "logging_max_size", kind: Text, default: "100", fate: Needless, text: AUTH_LOGGING },
    Flag { name: "login-url", cfg: "login_url", kind: Text, default: "", fate: Needless, text: LOGIN_URL },
    Flag { name: "metrics-address", cfg: "metrics_address", kind: Text, default: "", fate: Needless, text: "metrics are on the port after `proxy.port`, also as PodMonitor by the chart" },
    Flag { name: "metrics-secure-address", cfg: "metrics_secure_address", kind: Text, default: "", fate: Absent, text: METRICS_SECURE_ADDRESS },
    Flag { name: "metrics-tls-cert-file", cfg: "metrics_tls_cert_file", kind: Text, default: "", fate: Absent, text: METRICS_SECURE_ADDRESS },
    Flag { name: "metrics-tls-key-file", cfg: "metrics_tls_key_file", kind: Text, default: "", fate: Absent, text: METRICS_SECURE_ADDRESS },
    Flag { name: "oidc-audience-claim", cfg: "oidc_audience_claims", kind: List, default: "aud", fate: Refused, text: "a token must be for our client by its claim `aud`" },
    Flag { name: "oidc-email-claim", cfg: "oidc_email_claim", kind: Text, default: "email", fate: Refused, text: OIDC_EMAIL_CLAIM },
    Flag { name: "oidc-enabled-signing-alg", cfg: "oidc_enabled_signing_algs", kind: List, default: "", fate: Needless, text: "any asymmetric algorithm that the provider's discovery names; `none` and shared keys never" },
    Flag { name: "oidc-extra-audience", cfg: "oidc_extra_audiences", kind: List, default: "", fate: Carried, text: "`bearer.jwt[].audiences`; logins need tokens for our client itself" },
    Flag { name: "oidc-groups-claim", cfg: "oidc_groups_claim", kind: Text, default: "groups", fate: Carried, text: "`provider.groupsClaim`" },
    Flag { name: "oidc-issuer-url", cfg: "oidc_issuer_url", kind: Text, default: "", fate: Carried, text: "`provider.issuer`; `provider.type: Globus` if it is Globus Auth" },
    Flag { name: "oidc-jwks-url", cfg: "oidc_jwks_url", kind: Text, default: "", fate: Needless, text: LOGIN_URL },
    Flag { name: "oidc-public-key-file", cfg: "oidc_public_key_files", kind: List, default: "", fate: Refused, text: "keys come from the provider's discovery, so that it can change them" },
    Flag { name: "pass-access-token", cfg: "pass_access_token", kind: Switch, default: "false", fate: Absent, text: PASS_ACCESS_TOKEN },
    Flag { name: "pass-authorization-header", cfg: "pass_authorization_header", kind: Switch, default: "false", fate: Absent, text: PASS_ACCESS_TOKEN },
    Flag { name: "pass-basic-auth", cfg: "pass_basic_auth", kind: Switch, default: "true", fate: Absent, text: BASIC_AUTH_PASSWORD },
    Flag { name: "pass-host-header", cfg: "pass_host_header", kind: Switch, default: "true", fate: Carried, text: "`upstream.hostHeader: Localhost` if false and the workload is on a loopback address" },
    Flag { name: "pass-user-headers", cfg: "pass_user_headers", kind: Switch, default: "true", fate: Needless, text: PASS_USER_HEADERS },
    Flag { name: "ping-path", cfg: "ping_path", kind: Text, default: "/ping", fate: Needless, text: GCP_HEALTHCHECKS },
    Flag { name: "ping-user-agent", cfg: "ping_user_agent", kind: Text, default: "", fate: Needless, text: GCP_HEALTHCHECKS },
    Flag { name: "prefer-email-to-user", cfg: "prefer_email_to_user", kind: Switch, default: "false", fate: Absent, text: "`X-Forwarded-User` is the subject, which never changes; read `X-Forwarded-Email` in the workload" },
    Flag { name: "profile-url", cfg: "profile_url", kind: Text, default: "", fate: Needless, text: LOGIN_URL },
    Flag { name: "prompt", cfg: "prompt", kind: Text, default: "", fate: Absent, text: ACR_VALUES },
    Flag { name: "provider", cfg: "provider", kind: Text, default: "google", fate: Carried, text: "`provider.type` and `provider.issuer`; what does not speak OpenID Connect is refused" },
    Flag { name: "provider-ca-file", cfg: "provider_ca_files", kind: List, default: "", fate: Absent, text: PROVIDER_CA_FILE },
    Flag { name: "provider-display-name", cfg: "provider_display_name", kind: Text, default: "", fate: Needless, text: PROVIDER_DISPLAY_NAME },
    Flag { name: "proxy-prefix", cfg: "proxy_prefix", kind: Text, default: "/oauth2", fate: Absent, text: "the prefix is `/oauth2`" },
    Flag { name: "proxy-websockets", cfg: "proxy_websockets", kind: Switch, default: "true", fate: Needless, text: "always so: WebSockets pass" },
    Flag { name: "pubjwk-url", cfg: "pubjwk_url", kind: Text, default: "", fate: Refused, text: ENTRA_ID_FEDERATED_TOKEN_AUTH },
    Flag { name: "ready-path", cfg: "ready_path", kind: Text, default: "/ready", fate: Needless, text: GCP_HEALTHCHECKS },
    Flag { name: "real-client-ip-header", cfg: "real_client_ip_header", kind: Text, default: "X-Real-IP", fate: Needless, text: REAL_CLIENT_IP_HEADER },
    Flag { name: "redeem-url", cfg: "redeem_url", kind: Text, default: "", fate: Needless, text: LOGIN_URL },
    Flag { name: "redirect-url", cfg: "redirect_url", kind: Text, default: "", fate: Carried, text: "`externalUrl`; the callback is always `/oauth2/callback` below it" },
    Flag { name: "redis-ca-path", cfg: "redis_ca_path", kind: Text, default: "", fate: Needless, text: REDIS_CA_PATH },
    Flag { name: "redis-cluster-connection-urls", cfg: "redis_cluster_connection_urls", kind: List, default: "", fate: Needless, text: REDIS_CA_PATH },
    Flag { name: "redis-connection-idle-timeout", cfg: "redis_connection_idle_timeout", kind: Text, default: "", fate: Needless, text: REDIS_CA_PATH },
    Flag { name: "redis-connection-url", cfg: "redis_connection_url", kind: Text, default: "", fate: Needless, text: REDIS_CA_PATH },
    Flag { name: "redis-insecure-skip-tls-verify", cfg: "redis_insecure_skip_tls_verify", kind: Switch, default: "false", fate: Needless, text: REDIS_CA_PATH },
    Flag { name: "redis-password", cfg: "redis_password", kind: Text, default: "", fate: Needless, text: REDIS_CA_PATH },
    Flag { name: "redis-sentinel-connection-urls", cfg: "redis_sentinel_connection_urls", kind: List, default: "", fate: Needless, text: REDIS_CA_PATH },
    Flag { name: "redis-sentinel-master-name", cfg: "redis_sentinel_master_name", kind: Text, default: "", fate: Needless, text: REDIS_CA_PATH },
    Flag { name: "redis-sentinel-password", cfg: "redis_sentinel_password", kind: Text, default: "", fate: Needless, text: REDIS_CA_PATH },
    Flag { name: "redis-use-cluster", cfg: "redis_use_cluster", kind: Switch, default: "false", fate: Needless, text: REDIS_CA_PATH },
    Flag { name: "redis-use-sentinel", cfg: "redis_use_sentinel", kind: Switch, default: "false", fate: Needless, text: REDIS_CA_PATH },
    Flag { name: "redis-username", cfg: "redis_username", kind: Text, default: "", fate: Needless, text: REDIS_CA_PATH },
    Flag { name: "relative-redirect-url", cfg: "relative_redirect_url", kind: Switch, default: "false", fate: Needless, text: REAL_CLIENT_IP_HEADER },
    Flag { name: "request-id-header", cfg: "request_id_header", kind: Text, default: "X-Request-Id", fate: Absent, text: "each request has an id of ours" },
    Flag { name: "request-logging", cfg: "request_logging", kind: Switch, default: "true", fate: Carried, text: "`proxy.logLevel: warn` if false" },
    Flag { name: "request-logging-format", cfg: "request_logging_format", kind: Text, default: "", fate: Needless, text: AUTH_LOGGING },
    Flag { name: "resource", cfg: "resource", kind: Text, default: "", fate: Absent, text: ACR_VALUES },
    Flag { name: "reverse-proxy", cfg: "reverse_proxy", kind: Switch, default: "false", fate: Needless, text: REAL_CLIENT_IP_HEADER },
    Flag { name: "scope", cfg: "scope", kind: Text, default: "", fate: Carried, text: "`provider.scopes`, without `openid`, `email` and `profile`, which are always asked for, and `offline_access`, because no refresh token is kept" },
    Flag { name: "session-cookie-minimal", cfg: "session_cookie_minimal", kind: Switch, default: "false", fate: Needless, text: "always so: a session is one cookie below 1 KiB and has no tokens in it" },
    Flag { name: "session-store-type", cfg: "session_store_type", kind: Text, default: "cookie", fate: Needless, text: REDIS_CA_PATH },
    Flag { name: "set-authorization-header", cfg: "set_authorization_header", kind: Switch, default: "false", fate: Absent, text: PASS_ACCESS_TOKEN },
    Flag { name: "set-basic-auth", cfg: "set_basic_auth", kind: Switch, default: "false", fate: Absent, text: BASIC_AUTH_PASSWORD },
    Flag { name: "set-xauthrequest", cfg: "set_xauthrequest", kind: Switch, default: "false", fate: Needless, text: PASS_USER_HEADERS },
    Flag { name: "show-debug-on-error", cfg: "show_debug_on_error", kind: Switch, default: "false", fate: Needless, text: "never shown: an error page has a request id, and the log has the reason" },
    Flag { name: "signature-key", cfg: "signature_key", kind: Text, default: "", fate: Needless, text: "long deprecated there: responses were signed with it" },
    Flag { name: "silence-ping-logging", cfg: "silence_ping_logging", kind: Switch, default: "false", fate: Needless, text: GCP_HEALTHCHECKS },
    Flag { name: "skip-auth-preflight", cfg: "skip_auth_preflight", kind: Switch, default: "false", fate: Carried, text: "`access.public` for OPTIONS on every path" },
    Flag { name: "skip-auth-regex", cfg: "skip_auth_regex", kind: List, default: "", fate: Carried, text: SKIP_AUTH_REGEX },
    Flag { name: "skip-auth-route", cfg: "skip_auth_routes", kind: List, default: "", fate: Carried, text: SKIP_AUTH_REGEX },
    Flag { name: "skip-auth-strip-headers", cfg: "skip_auth_strip_headers", kind: Switch, default: "true", fate: Needless, text: "always so: what clients send of these headers is removed" },
    Flag { name: "skip-claims-from-profile-url", cfg: "skip_claims_from_profile_url", kind: Switch, default: "false", fate: Needless, text: "the userinfo endpoint is asked only for what the ID token lacks" },
    Flag { name: "skip-jwt-bearer-tokens", cfg: "skip_jwt_bearer_tokens", kind: Switch, default: "false", fate: Carried, text: "`bearer.jwt` with the provider's issuer; Globus tokens are accepted anyway" },
    Flag { name: "skip-oidc-discovery", cfg: "skip_oidc_discovery", kind: Switch, default: "false", fate: Refused, text: "discovery is needed; name a provider that has it" },
    Flag { name: "skip-provider-button", cfg: "skip_provider_button", kind: Switch, default: "false", fate: Needless, text: PROVIDER_DISPLAY_NAME },
    Flag { name: "ssl-insecure-skip-verify", cfg: "ssl_insecure_skip_verify", kind: Switch, default: "false", fate: Absent, text: SSL_INSECURE_SKIP_VERIFY },
    Flag { name: "ssl-upstream-insecure-skip-verify", cfg: "ssl_upstream_insecure_skip_verify", kind: Switch, default: "false", fate: Absent, text: SSL_INSECURE_SKIP_VERIFY },
    Flag { name: "standard-logging", cfg: "standard_logging", kind: Switch, default: "true", fate: Needless, text: AUTH_LOGGING },
    Flag { name: "standard-logging-format", cfg: "standard_logging_format", kind: Text, default: "", fate: Needless, text: AUTH_LOGGING },
    Flag { name: "tls-cert-file", cfg: "tls_cert_file", kind: Text, default: "", fate: Carried, text: TLS_CERT_FILE },
    Flag { name: "tls-cipher-suite", cfg: "tls_cipher_suites", kind: List, default: "", fate: Needless, text: TLS_CIPHER_SUITE },
    Flag { name: "tls-key-file", cfg: "tls_key_file", kind: Text, default: "", fate: Carried, text: TLS_CERT_FILE },
    Flag { name: "tls-min-version", cfg: "tls_min_version", kind: Text, default: "", fate: Needless, text: TLS_CIPHER_SUITE },
    Flag { name: "trusted-ip", cfg: "trusted_ips", kind: List, default: "", fate: Absent, text: "addresses let nobody in; use a bearer token, `access.serviceAccounts` or `access.public`" },
    Flag { name: "trusted-proxy-ip", cfg: "trusted_proxy_ips", kind: List, default: "", fate: Needless, text: REAL_CLIENT_IP_HEADER },
    Flag { name: "upstream", cfg: "upstreams", kind: List, default: "", fate: Carried, text: "a loopback address: `mode: Sidecar` and `upstream.port`; another one: `mode: Standalone` and `upstream.url`; `static://` only: `mode: Standalone` without an address, for an ingress that asks. One for all paths; several, paths, sockets and folders are refused" },
    Flag { name: "upstream-timeout", cfg: "upstream_timeout", kind: Text, default: "30s", fate: Carried, text: "`upstream.responseTimeoutSeconds`; without it there is no limit, because some answers take long to begin" },
    Flag { name: "use-system-trust-store", cfg: "use_system_trust_store", kind: Switch, default: "false", fate: Absent, text: PROVIDER_CA_FILE },
    Flag { name: "user-id-claim", cfg: "user_id_claim", kind: Text, default: "email", fate: Refused, text: OIDC_EMAIL_CLAIM },
    Flag { name: "validate-url", cfg: "validate_url", kind: Text, default: "", fate: Needless, text: LOGIN_URL },
    Flag { name: "version", cfg: "version", kind: Switch, default: "false", fate: Needless, text: CONFIG_TEST },
    Flag { name: "whitelist-domain", cfg: "whitelist_domains", kind: List, default: "", fate: Absent, text: "after a login, users return to `externalUrl` only; make a GlobusAuthProxy for each host" },
];

const ACR_VALUES: &str = "the parameters of the login are ours; set it at the provider, or with Globus in `provider.sessionRequirements`";
const ALLOWED_GROUP: &str = "`access.groups`; beside a rule about addresses it is refused, because there both must hold and here one suffices";
const API_ROUTE: &str = "always so: whoever does not open a page in a browser gets 401 with `WWW-Authenticate`, as JSON if asked for";
const AUTH_LOGGING: &str =
    "logs are JSON lines on standard output for the cluster's collector; `proxy.logLevel`";
const AZURE_GRAPH_GROUP_FIELD: &str = "what it admits cannot be asked for by OpenID Connect; let a provider such as Dex or Keycloak put it into the claim of `provider.groupsClaim`";
const BANNER: &str = "the pages are ours";
const BASIC_AUTH_PASSWORD: &str = "no password is sent to the workload; `identityHeaders.sharedSecret` shows it that a request came through the proxy";
const CLIENT_ID: &str =
    "the Secret of `provider.clientSecretRef`, keys `client-id` and `client-secret`";
const CODE_CHALLENGE_METHOD: &str = "always on: PKCE with S256";
const CONFIG_TEST: &str = "a command of that program, not a setting";
const COOKIE_CSRF_EXPIRE: &str =
    "always so: a login has a cookie of its own, for 15 minutes; a browser may have 8 at once";
const COOKIE_CSRF_SAMESITE: &str =
    "always so: the cookie is `__Host-`, `Secure`, `HttpOnly`, `SameSite=Lax`, for path `/`";
const COOKIE_SECRET: &str =
    "the operator makes keys for each proxy and rotates them without logging anybody out";
const DISPLAY_HTPASSWD_FORM: &str = "there are no passwords; programs bring a bearer token";
const ENTRA_ID_FEDERATED_TOKEN_AUTH: &str = "the client shows itself by a secret";
const GCP_HEALTHCHECKS: &str =
    "probes are on a port of their own, so no path of the workload is taken";
const HTTP_ADDRESS: &str =
    "the operator gives the port: `proxy.port`, and port 80 of the Service with `mode: Standalone`";
const LOGIN_URL: &str = "found by discovery at `provider.issuer`";
const METRICS_SECURE_ADDRESS: &str = "metrics are plain HTTP, for the cluster's network";
const OIDC_EMAIL_CLAIM: &str =
    "the rules are about the verified claim `email`; let the provider put the address there";
const PASS_ACCESS_TOKEN: &str =
    "the workload gets no token of the user; it reads the identity headers";
const PASS_USER_HEADERS: &str = "always so: `X-Forwarded-User`, `-Email`, `-Preferred-Username`, `-Groups` and the same with `X-Auth-Request-`; `identityHeaders` names more";
const PROVIDER_CA_FILE: &str =
    "the provider's certificate must be one that the system's authorities vouch for";
const PROVIDER_DISPLAY_NAME: &str =
    "always so: browsers that open a page are sent to the login at once";
const REAL_CLIENT_IP_HEADER: &str =
    "the address is `externalUrl`, whatever a forwarded header says; no header is trusted";
const REDIS_CA_PATH: &str = "there is no store: a session is one small cookie, and the operator tells all replicas of sessions that ended";
const SKIP_AUTH_REGEX: &str =
    "`access.public`, if it is a plain path; what is not carried over needs a login";
const SSL_INSECURE_SKIP_VERIFY: &str = "certificates are always verified";
const TLS_CERT_FILE: &str =
    "`proxy.tlsSecretRef`, a Secret of type `kubernetes.io/tls`; the one port then serves TLS only";
const TLS_CIPHER_SUITE: &str = "always so: TLS 1.2 and 1.3, and only ciphers with forward secrecy";
