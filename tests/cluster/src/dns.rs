//! Asking the cluster's DNS, to see whether it answers. Just enough of RFC 1035 for that.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// Whether `name` has an address, according to the server at `server`.
pub(crate) fn resolves(name: &str, server: Ipv4Addr) -> bool {
    ask(name, server).is_ok_and(|answer| is_answer(&answer))
}

fn ask(name: &str, server: Ipv4Addr) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((server, PORT))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(&query(name))?;
    let mut answer = vec![0; LONGEST_ANSWER];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

/// A question for the IPv4 addresses of `name` (RFC 1035 §4.1).
fn query(name: &str) -> Vec<u8> {
    let [id_high, id_low] = ID;
    let recursion_desired = 1;
    let mut message = vec![
        id_high,
        id_low,
        recursion_desired,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    for label in name.split('.') {
        // Names of the cluster have no label of more than 63 bytes.
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label.as_bytes());
    }
    let (root, kind, class) = ([0], [0, 1], [0, 1]);
    message.extend(root);
    message.extend(kind);
    message.extend(class);
    message
}

/// Whether the message is an answer without error that has at least one record.
fn is_answer(message: &[u8]) -> bool {
    let [
        id_high,
        id_low,
        flags,
        code,
        _,
        _,
        count_high,
        count_low,
        ..,
    ] = message
    else {
        return false;
    };
    [*id_high, *id_low] == ID
        && flags & 0x80 != 0
        && code % 16 == NO_ERROR
        && [*count_high, *count_low] != [0, 0]
}

/// Nobody else is in this network who could guess it.
const ID: [u8; 2] = [0x67, 0x61];
/// In the lower four bits of its byte.
const NO_ERROR: u8 = 0;
const PORT: u16 = 53;
/// Without EDNS, no answer is longer (RFC 1035 §2.3.4).
const LONGEST_ANSWER: usize = 512;
/// It is in the same machine; the first question may be lost before kube-proxy has its rules.
const PATIENCE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_the_name() {
        assert_eq!(
            query("a.bc"),
            b"ga\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02bc\x00\x00\x01\x00\x01"
        );
    }

    #[test]
    fn only_an_answer_with_an_address_counts() {
        let good = b"ga\x85\x80\x00\x01\x00\x01\x00\x00\x00\x00";
        assert!(is_answer(good));
        for (why, bad) in [
            ("too short", b"ga\x85\x80\x00\x01\x00".as_slice()),
            (
                "of another question",
                b"gb\x85\x80\x00\x01\x00\x01\x00\x00\x00\x00",
            ),
            ("a question", b"ga\x01\x00\x00\x01\x00\x01\x00\x00\x00\x00"),
            (
                "no such name",
                b"ga\x85\x83\x00\x01\x00\x01\x00\x00\x00\x00",
            ),
            ("no record", b"ga\x85\x80\x00\x01\x00\x00\x00\x00\x00\x00"),
        ] {
            assert!(!is_answer(bad), "{why}");
        }
    }
}
