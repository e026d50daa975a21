//! OAuth and OpenID Connect rules, sealing, secrets and the contracts between operator and sidecar.
