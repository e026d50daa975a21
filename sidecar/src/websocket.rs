//! Frames of WebSocket (RFC 6455 §5.2), as far as a proxy must know them to end a connection politely:
//! where one stops, and what Close looks like.

/// Where in a stream of frames we are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Frames(Expected);

/// What comes next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Expected {
    /// The first byte of a frame.
    #[default]
    Opcode,
    /// The second: whether there is a mask, and the length or how long the length is.
    Length,
    /// That many more bytes of a length.
    ExtendedLength {
        bytes: u8,
        so_far: u64,
        is_masked: bool,
    },
    /// That many more bytes of the mask, and then the payload.
    Mask { bytes: u8, payload: u64 },
    /// That many more bytes of the payload; never none.
    Payload(u64),
}

impl Frames {
    /// Whether the last frame is complete and the next has not begun, so that one of ours fits in between.
    pub(crate) fn is_between(self) -> bool {
        self.0 == Expected::Opcode
    }

    /// Moves on over `bytes`.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.finish(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Moves on over `bytes`, to the end of the present frame at most, and says how far that was.
    pub(crate) fn finish(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(rest @ [byte, ..]) = bytes.get(taken..) {
            if let Expected::Payload(left) = self.0 {
                let here = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                let after = left.saturating_sub(u64::try_from(here).unwrap_or(u64::MAX));
                self.0 = Expected::payload(after);
                taken += here;
            } else {
                self.0 = self.0.after(*byte);
                taken += 1;
            }
            if self.is_between() {
                break;
            }
        }
        taken
    }
}

impl Expected {
    fn after(self, byte: u8) -> Self {
        match self {
            Self::Opcode => Self::Length,
            Self::Length => {
                let is_masked = byte & MASKED != 0;
                match byte & !MASKED {
                    LENGTH_OF_2_BYTES => Self::extended(2, 0, is_masked),
                    LENGTH_OF_8_BYTES => Self::extended(8, 0, is_masked),
                    length => Self::masked(is_masked, length.into()),
                }
            }
            Self::ExtendedLength {
                bytes,
                so_far,
                is_masked,
            } => Self::extended(bytes - 1, so_far << 8 | u64::from(byte), is_masked),
            Self::Mask { bytes: 1, payload } => Self::payload(payload),
            Self::Mask { bytes, payload } => Self::Mask {
                bytes: bytes - 1,
                payload,
            },
            Self::Payload(left) => Self::payload(left - 1),
        }
    }

    const fn extended(bytes: u8, so_far: u64, is_masked: bool) -> Self {
        if bytes == 0 {
            Self::masked(is_masked, so_far)
        } else {
            Self::ExtendedLength {
                bytes,
                so_far,
                is_masked,
            }
        }
    }

    const fn masked(is_masked: bool, payload: u64) -> Self {
        if is_masked {
            Self::Mask { bytes: 4, payload }
        } else {
            Self::payload(payload)
        }
    }

    const fn payload(left: u64) -> Self {
        if left == 0 {
            Self::Opcode
        } else {
            Self::Payload(left)
        }
    }
}

/// Why we close (RFC 6455 §7.4.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CloseCode {
    /// 1001, going away: the proxy stops. A client should connect again.
    GoingAway,
    /// 1008, policy violation: the user may no longer be here.
    PolicyViolation,
}

impl CloseCode {
    const fn bytes(self) -> [u8; 2] {
        let code: u16 = match self {
            Self::GoingAway => 1001,
            Self::PolicyViolation => 1008,
        };
        code.to_be_bytes()
    }

    /// The frame that a server sends.
    pub(crate) const fn server_frame(self) -> [u8; 4] {
        let [high, low] = self.bytes();
        [FINAL_CLOSE, 2, high, low]
    }

    /// The frame that a client sends, which must be masked (RFC 6455 §5.3).
    pub(crate) const fn client_frame(self, mask: [u8; 4]) -> [u8; 8] {
        let [high, low] = self.bytes();
        let [a, b, c, d] = mask;
        [FINAL_CLOSE, MASKED | 2, a, b, c, d, high ^ a, low ^ b]
    }
}

const MASKED: u8 = 0x80;
const LENGTH_OF_2_BYTES: u8 = 126;
const LENGTH_OF_8_BYTES: u8 = 127;
/// The only frame of its message, with opcode 8.
const FINAL_CLOSE: u8 = 0x88;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn frame(payload: usize, mask: Option<[u8; 4]>) -> Vec<u8> {
        let bit = if mask.is_some() { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match payload {
            0..126 => frame.push(bit | u8::try_from(payload).unwrap()),
            126..65_536 => {
                frame.push(bit | 0x7e);
                frame.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(bit | 0x7f);
                frame.extend(u64::try_from(payload).unwrap().to_be_bytes());
            }
        }
        frame.extend(mask.into_iter().flatten());
        // Bytes that would be long lengths if they were taken for a header.
        frame.resize(frame.len() + payload, 0xff);
        frame
    }

    #[rstest]
    #[case(0)]
    #[case(1)]
    #[case(125)]
    #[case(126)]
    #[case(127)]
    #[case(65_535)]
    #[case(65_536)]
    fn a_frame_ends_after_its_payload(
        #[case] payload: usize,
        #[values(None, Some([0xff; 4]))] mask: Option<[u8; 4]>,
    ) {
        let frame = frame(payload, mask);
        let mut frames = Frames::default();
        for (passed, byte) in frame.iter().enumerate() {
            assert_eq!(frames.is_between(), passed == 0, "after {passed}");
            frames.pass(&[*byte]);
        }
        assert!(frames.is_between());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_come(
            payloads in prop::collection::vec((prop_oneof![0..300_usize, 65_000..66_000_usize], any::<Option<[u8; 4]>>()), 1..6),
            cut in any::<prop::sample::Index>(),
            chunk in 1..9000_usize,
        ) {
            let frames: Vec<_> = payloads.iter().map(|(payload, mask)| frame(*payload, *mask)).collect();
            let all = frames.concat();
            let mut ends = vec![0];
            for frame in &frames {
                ends.push(ends.last().unwrap() + frame.len());
            }
            let cut = cut.index(all.len());
            let mut passed = Frames::default();
            for chunk in all[..cut].chunks(chunk) {
                passed.pass(chunk);
            }
            prop_assert_eq!(passed.is_between(), ends.contains(&cut));
            let next = ends.iter().find(|end| **end > cut).unwrap();
            prop_assert_eq!(cut + passed.finish(&all[cut..]), *next);
            prop_assert!(passed.is_between());
        }

        #[test]
        fn fuzz_nothing_is_too_strange_to_pass(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let (mut whole, mut single) = (Frames::default(), Frames::default());
            whole.pass(&bytes);
            for byte in &bytes {
                single.pass(&[*byte]);
            }
            prop_assert_eq!(whole, single);
        }
    }

    #[test]
    fn close_is_what_the_standard_says() {
        assert_eq!(CloseCode::GoingAway.server_frame(), [0x88, 2, 0x03, 0xe9]);
        assert_eq!(
            CloseCode::PolicyViolation.server_frame(),
            [0x88, 2, 0x03, 0xf0]
        );
        let masked = CloseCode::GoingAway.client_frame([1, 2, 3, 4]);
        assert_eq!(masked, [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe9 ^ 2]);
        let mut frames = Frames::default();
        frames.pass(&masked);
        assert!(frames.is_between());
    }
}
