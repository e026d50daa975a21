//! Randomness for secrets: state, nonce, PKCE verifier, session ids and keys.

use aws_lc_rs::rand::SystemRandom;

/// `N` bytes from the operating system's cryptographic generator.
///
/// # Errors
/// [`Unavailable`] if the operating system gives none; nothing secret can be made then.
pub fn bytes<const N: usize>() -> Result<[u8; N], Unavailable> {
    let mut bytes = [0_u8; N];
    aws_lc_rs::rand::SecureRandom::fill(&SystemRandom::new(), &mut bytes)
        .map_err(|_unspecified| Unavailable)?;
    Ok(bytes)
}

/// The operating system's random generator did not answer.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("failed to read random bytes from the operating system")]
pub struct Unavailable;
