//! OAuth 2.0 and OpenID Connect as a client, without input or output.
//!
//! | term | type |
//! |---|---|
//! | provider metadata (OpenID Connect Discovery §3, RFC 8414) | [`metadata::ProviderMetadata`] |
//! | authorization request, token request (RFC 6749 §4.1.1, §4.1.3) | [`authorization_code`] |
//! | authorization response (RFC 6749 §4.1.2) | [`callback::AuthorizationResponse`] |
//! | ID token (OpenID Connect Core §2) | [`id_token`] |
//! | logout token (OpenID Connect Back-Channel Logout §2.4) | [`logout_token`] |
//! | key set (RFC 7517), JWT (RFC 7519) | [`jwks::KeySet`], [`jwt`] |
//! | introspection (RFC 7662) | [`introspection`] |
//! | groups and session requirements of Globus | [`globus`] |

pub mod authorization_code;
pub mod callback;
pub mod claims;
pub mod globus;
pub mod id_token;
pub mod introspection;
pub mod jwks;
pub mod jwt;
pub mod logout_token;
pub mod metadata;
