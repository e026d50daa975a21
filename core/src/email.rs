//! E-mail addresses as identities: compared exactly, without surprises.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An e-mail address in the form in which addresses are compared: ASCII letters in lower case,
/// everything else untouched.
///
/// Only ASCII is folded. Unicode case folding would make different addresses equal (`K`, the Kelvin
/// sign, folds to `k`), which is how allowlists have been passed before.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Email(String);

impl Email {
    /// The normalised address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the `@`.
    pub fn domain(&self) -> &str {
        self.0
            .rsplit_once('@')
            .map_or("", |(_local, domain)| domain)
    }
}

impl FromStr for Email {
    type Err = NotAnEmail;

    /// Parses an address that can stand on an allowlist or in an identity.
    ///
    /// # Errors
    /// [`NotAnEmail`] names the first rule that the text breaks. Quoted local parts (RFC 5321 §4.1.2)
    /// are refused: providers do not issue them, and they can hide a second `@`.
    fn from_str(text: &str) -> Result<Self, NotAnEmail> {
        if text.len() > MAX_LENGTH {
            return Err(NotAnEmail::TooLong);
        }
        // Letters, digits and what else is usual need no second look.
        let is_plain = |b: u8| {
            matches!(
                b,
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'@' | b'.' | b'-' | b'_' | b'+'
            )
        };
        if !text.bytes().all(is_plain)
            && text
                .chars()
                .any(|c| c.is_control() || c.is_whitespace() || FORBIDDEN.contains(&c))
        {
            return Err(NotAnEmail::ForbiddenCharacter);
        }
        let Some((local, domain)) = text.split_once('@') else {
            return Err(NotAnEmail::NoAt);
        };
        if domain.contains('@') {
            return Err(NotAnEmail::SeveralAts);
        }
        if local.is_empty()
            || domain.is_empty()
            || domain.starts_with('.')
            || domain.ends_with('.')
            || domain.contains("..")
        {
            return Err(NotAnEmail::EmptyPart);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for Email {
    type Error = NotAnEmail;

    fn try_from(text: String) -> Result<Self, NotAnEmail> {
        text.parse()
    }
}

impl From<Email> for String {
    fn from(email: Email) -> Self {
        email.0
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A rule about the part after the `@`: a domain, or `*.` and a domain for every domain below it.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailDomain(String);

impl EmailDomain {
    /// Whether `email` is of this domain. `example.org` is no rule about `x.example.org`, and
    /// `*.example.org` none about `example.org`; `badexample.org` is neither.
    pub fn matches(&self, email: &Email) -> bool {
        match self.0.strip_prefix('*') {
            // No label of a domain is empty, so something stands before the suffix.
            Some(suffix) => email.domain().ends_with(suffix),
            None => self.0 == email.domain(),
        }
    }
}

impl FromStr for EmailDomain {
    type Err = NotAnEmail;

    /// Parses a domain, with the rules of the domain of an address.
    ///
    /// # Errors
    /// As for [`Email`]. `*` alone is refused: it would admit everybody, which has a switch of its own.
    fn from_str(text: &str) -> Result<Self, NotAnEmail> {
        let domain = text.strip_prefix("*.").unwrap_or(text);
        if domain.contains('@') {
            return Err(NotAnEmail::SeveralAts);
        }
        format!("x@{domain}").parse::<Email>()?;
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for EmailDomain {
    type Error = NotAnEmail;

    fn try_from(text: String) -> Result<Self, NotAnEmail> {
        text.parse()
    }
}

impl From<EmailDomain> for String {
    fn from(domain: EmailDomain) -> Self {
        domain.0
    }
}

/// Why a text is not an e-mail address that we compare.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAnEmail {
    /// The part before or after the `@`, or a label of the domain, is empty.
    #[error("a part of the address is empty")]
    EmptyPart,
    /// White space, a control character, a quote, a comma or the like.
    #[error("the address has a character that is not allowed, such as a space, a quote or a comma")]
    ForbiddenCharacter,
    /// No `@`.
    #[error("the address has no @")]
    NoAt,
    /// More than one `@`, as in Globus user names such as `a@b@accounts.google.com`.
    #[error("the address has more than one @")]
    SeveralAts,
    /// Longer than an address can be (RFC 5321 §4.5.3.1.3).
    #[error("the address is longer than 254 bytes")]
    TooLong,
}

const MAX_LENGTH: usize = 254;
const FORBIDDEN: [char; 10] = ['"', ',', ';', ':', '<', '>', '(', ')', '\\', '*'];

/// Reads an allowlist: one address per line or separated by commas, `#` starts a comment.
///
/// # Errors
/// The first entry that is not an address, with its line. One bad entry refuses the whole list, so
/// that a typing error cannot silently lock somebody out, or in.
pub fn parse_list(text: &str) -> Result<Vec<Email>, BadEntry> {
    let mut emails = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line
            .split_once('#')
            .map_or(line, |(before, _comment)| before);
        for entry in line
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            let email = entry.parse().map_err(|reason| BadEntry {
                line: index + 1,
                entry: entry.chars().take(80).collect(),
                reason,
            })?;
            emails.push(email);
        }
    }
    Ok(emails)
}

/// An allowlist entry that cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}: {entry:?} is not an e-mail address: {reason}")]
pub struct BadEntry {
    line: usize,
    entry: String,
    reason: NotAnEmail,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("Alice@Example.ORG", "alice@example.org")]
    #[case("a+b@x-y.test", "a+b@x-y.test")]
    #[case("o'brien@example.org", "o'brien@example.org")]
    #[case("\u{212a}@example.org", "\u{212a}@example.org")] // the Kelvin sign is not a k
    #[case("İ@example.org", "İ@example.org")]
    fn addresses_are_folded_in_ascii_only(#[case] text: &str, #[case] normal: &str) {
        assert_eq!(
            text.parse::<Email>().map(String::from),
            Ok(normal.to_owned())
        );
    }

    #[rstest]
    #[case("", NotAnEmail::NoAt)]
    #[case("alice", NotAnEmail::NoAt)]
    #[case("@example.org", NotAnEmail::EmptyPart)]
    #[case("alice@", NotAnEmail::EmptyPart)]
    #[case("alice@example.org.", NotAnEmail::EmptyPart)]
    #[case("alice@.example.org", NotAnEmail::EmptyPart)]
    #[case("alice@evil.test@example.org", NotAnEmail::SeveralAts)]
    #[case("\"a@b\"@example.org", NotAnEmail::ForbiddenCharacter)]
    #[case("alice @example.org", NotAnEmail::ForbiddenCharacter)]
    #[case("alice@example.org\r\nX: y", NotAnEmail::ForbiddenCharacter)]
    #[case("*@example.org", NotAnEmail::ForbiddenCharacter)]
    #[case("*", NotAnEmail::ForbiddenCharacter)]
    fn what_is_not_an_address_is_refused(#[case] text: &str, #[case] reason: NotAnEmail) {
        assert_eq!(text.parse::<Email>(), Err(reason));
    }

    #[test]
    fn an_address_longer_than_smtp_allows_is_refused() {
        let text = format!("{}@example.org", "a".repeat(250));
        assert_eq!(text.parse::<Email>(), Err(NotAnEmail::TooLong));
    }

    #[test]
    fn a_list_takes_lines_commas_and_comments() {
        let list = "# the team\nA@x.test, b@x.test\n\n  c@x.test # since May\n";
        let emails: Vec<String> = parse_list(list)
            .unwrap()
            .into_iter()
            .map(String::from)
            .collect();
        assert_eq!(emails, ["a@x.test", "b@x.test", "c@x.test"]);
    }

    #[test]
    fn one_bad_entry_refuses_the_list_and_names_its_line() {
        let error = parse_list("a@x.test\nb@x.test,bob\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2: \"bob\" is not an e-mail address: the address has no @"
        );
    }

    #[rstest]
    #[case("example.org", "a@example.org", true)]
    #[case("Example.ORG", "a@EXAMPLE.org", true)]
    #[case("example.org", "a@x.example.org", false)]
    #[case("example.org", "a@badexample.org", false)]
    #[case("example.org", "a@example.org.evil.test", false)]
    #[case("*.example.org", "a@x.example.org", true)]
    #[case("*.example.org", "a@y.x.example.org", true)]
    #[case("*.example.org", "a@example.org", false)]
    #[case("*.example.org", "a@badexample.org", false)]
    #[case("example.org", "a@ex\u{430}mple.org", false)]
    fn a_domain_matches_itself_only(
        #[case] domain: &str,
        #[case] email: &str,
        #[case] matches: bool,
    ) {
        let domain: EmailDomain = domain.parse().unwrap();
        assert_eq!(domain.matches(&email.parse().unwrap()), matches);
    }

    #[rstest]
    #[case("*")]
    #[case("")]
    #[case("*.")]
    #[case(".example.org")]
    #[case("example.org.")]
    #[case("a@example.org")]
    #[case("*.*.org")]
    #[case("ex ample.org")]
    fn what_is_no_domain_is_refused(#[case] domain: &str) {
        assert!(domain.parse::<EmailDomain>().is_err());
    }

    #[test]
    fn a_domain_is_written_as_it_is_read() {
        let domain: EmailDomain = serde_json::from_str("\"*.Example.org\"").unwrap();
        assert_eq!(serde_json::to_string(&domain).unwrap(), "\"*.example.org\"");
    }
}
