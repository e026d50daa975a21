//! W3C Trace Context: the header `traceparent`, by which the work on one request is found again in
//! several programs.

use std::fmt;
use std::str::FromStr;

/// The header's name.
pub const TRACEPARENT: &str = "traceparent";
/// The header with what further systems have to say (W3C Trace Context §3.3).
pub const TRACESTATE: &str = "tracestate";

/// Where in a trace a request stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceContext {
    /// The whole trace. Never all zero.
    pub trace_id: [u8; 16],
    /// The span that caused the request. Never all zero.
    pub parent_id: [u8; 8],
    /// Whether whoever caused it may have recorded it.
    pub is_sampled: bool,
}

/// Not a `traceparent`; whoever receives one starts a trace of its own (W3C Trace Context §4.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a traceparent")]
pub struct BadTraceparent;

impl FromStr for TraceContext {
    type Err = BadTraceparent;

    /// Reads a `traceparent` of version 00, or of a later one as far as we know it (W3C Trace Context
    /// §3.2.2).
    ///
    /// # Errors
    /// [`BadTraceparent`].
    fn from_str(text: &str) -> Result<Self, BadTraceparent> {
        let mut fields = text.split('-');
        let version: [u8; 1] = field(fields.next())?;
        let trace_id = field(fields.next())?;
        let parent_id = field(fields.next())?;
        let [flags]: [u8; 1] = field(fields.next())?;
        let is_later = version != [0];
        if version == [0xff] || (!is_later && fields.next().is_some()) {
            return Err(BadTraceparent);
        }
        if trace_id == [0; 16] || parent_id == [0; 8] {
            return Err(BadTraceparent);
        }
        Ok(Self {
            trace_id,
            parent_id,
            is_sampled: flags & SAMPLED != 0,
        })
    }
}

/// `N` bytes in lower-case hexadecimal.
fn field<const N: usize>(text: Option<&str>) -> Result<[u8; N], BadTraceparent> {
    let digits = text.unwrap_or_default().as_bytes();
    let mut bytes = [0; N];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return Err(BadTraceparent);
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Ok(bytes)
}

const fn digit(digit: u8) -> Result<u8, BadTraceparent> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(BadTraceparent),
    }
}

impl fmt::Display for TraceContext {
    /// The value of `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.is_sampled { SAMPLED } else { 0 };
        let (trace, parent) = (Hex(&self.trace_id), Hex(&self.parent_id));
        write!(f, "00-{trace}-{parent}-{flags:02x}")
    }
}

/// Bytes in lower-case hexadecimal.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

const SAMPLED: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[rstest]
    #[case::sampled(EXAMPLE, true)]
    #[case::not_sampled("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", false)]
    #[case::further_flags("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fe", false)]
    #[case::later("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true)]
    #[case::longer("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what", true)]
    fn what_the_standard_allows_is_read(#[case] text: &str, #[case] is_sampled: bool) {
        let context: TraceContext = text.parse().unwrap();
        assert_eq!(
            Hex(&context.trace_id).to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(Hex(&context.parent_id).to_string(), "b7ad6b7169203331");
        assert_eq!(context.is_sampled, is_sampled);
    }

    #[rstest]
    #[case::empty("")]
    #[case::words("hello")]
    #[case::upper_case("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01")]
    #[case::forbidden_version("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    #[case::longer("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what")]
    #[case::shorter("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331")]
    #[case::no_trace("00-00000000000000000000000000000000-b7ad6b7169203331-01")]
    #[case::no_parent("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01")]
    #[case::a_short_trace("00-0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01")]
    #[case::half_a_byte("00-0af7651916cd43dd8448eb211c80319cf-b7ad6b7169203331-01")]
    #[case::not_hexadecimal("00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01")]
    #[case::not_ascii("00-0af7651916cd43dd8448eb211c80319\u{e9}-b7ad6b7169203331-01")]
    fn anything_else_is_not(#[case] text: &str) {
        assert_eq!(text.parse::<TraceContext>(), Err(BadTraceparent));
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        let context: TraceContext = EXAMPLE.parse().unwrap();
        assert_eq!(context.to_string(), EXAMPLE);
    }

    proptest! {
        #[test]
        fn fuzz_whatever_a_client_sends_is_read_or_refused(text in "(00|[0-9a-f]{2})-?[0-9a-f-]{0,60}|\\PC{0,80}") {
            if let Ok(context) = text.parse::<TraceContext>() {
                prop_assert_eq!(context.to_string().parse(), Ok(context));
            }
        }
    }
}
