//! What Globus Auth and Globus Groups have beyond OAuth 2.0 and OpenID Connect.

pub mod groups;
pub mod requirements;
