//! Values that nobody can guess.

use aws_lc_rs::rand;

/// An opaque token in the shape of Globus's: `Ag` and letters and digits.
pub(crate) fn token() -> String {
    let mut token = String::with_capacity(TOKEN_LENGTH);
    token.push_str("Ag");
    while token.len() < TOKEN_LENGTH {
        token.push(character());
    }
    token
}

/// One of 62 characters, all equally likely.
fn character() -> char {
    loop {
        let mut byte = [0];
        // Without randomness there are no secrets; an emulator that waits is better than one that
        // goes on with guessable tokens.
        if rand::fill(&mut byte).is_err() {
            continue;
        }
        let [byte] = byte;
        if let Some(character) = ALPHABET.get(usize::from(byte & 0x3f)) {
            return char::from(*character);
        }
    }
}

const TOKEN_LENGTH: usize = 72;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_shape_of_globus_and_differ() {
        let (one, two) = (token(), token());
        assert!(one.starts_with("Ag") && one.len() == TOKEN_LENGTH && one != two);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
