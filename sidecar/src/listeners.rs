//! Who listens in this pod, read from `/proc/net/tcp` and `tcp6`: whether the workload can be reached
//! beside the proxy.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Reads the part of a table that has the listeners. The kernel names them first, and every connection
/// of the pod after them: those can be thousands, and to print them all costs milliseconds.
///
/// # Errors
/// The table cannot be read.
pub(crate) fn table(mut file: impl Read) -> std::io::Result<String> {
    let mut text = Vec::new();
    let mut piece = [0; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        text.extend(piece.iter().take(read));
        let whole = String::from_utf8_lossy(&text);
        if read == 0 || lines(&whole).any(|(_, state)| state != LISTEN) {
            return Ok(whole.into_owned());
        }
    }
}

/// The sockets on which the workload can be reached from outside the pod: listeners on `port` whose
/// address is not loopback and which are not `ours`.
pub(crate) fn exposed(tables: &[String], port: u16, ours: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut exposed: Vec<SocketAddr> = of_workload(tables, port, ours)
        .filter(|socket| !socket.ip().to_canonical().is_loopback())
        .collect();
    exposed.sort_unstable();
    exposed.dedup();
    exposed
}

/// Whether the workload listens on `port` at all.
pub(crate) fn is_listening(tables: &[String], port: u16, ours: &[SocketAddr]) -> bool {
    of_workload(tables, port, ours).next().is_some()
}

fn of_workload(
    tables: &[String],
    port: u16,
    ours: &[SocketAddr],
) -> impl Iterator<Item = SocketAddr> {
    tables
        .iter()
        .flat_map(|table| listening(table))
        .filter(move |socket| socket.port() == port && !ours.contains(socket))
}

/// The listening sockets of a table (`proc_net_tcp` in the kernel's documentation): the second field is
/// the local address in hexadecimal, the fourth the state, of which `0A` is LISTEN.
fn listening(table: &str) -> impl Iterator<Item = SocketAddr> {
    lines(table)
        .filter(|(_, state)| *state == LISTEN)
        .filter_map(|(local, _)| parse_address(local))
}

/// Address and state in each line that is long enough to have both.
fn lines(table: &str) -> impl Iterator<Item = (&str, &str)> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next()?;
        // What follows shows that the state is there in full.
        let state = fields.nth(1)?;
        fields.next().map(|_| (local, state))
    })
}

const LISTEN: &str = "0A";
/// A few lines of a table: the kernel fills what it is asked for, if it has that much.
const PIECE: usize = 600;

/// The kernel prints an address as 32-bit words in the byte order of the machine.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |start: usize| {
        u32::from_str_radix(address.get(start..start + 8)?, 16)
            .ok()
            .map(u32::to_ne_bytes)
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            IpAddr::V6(Ipv6Addr::from(
                <[u8; 16]>::try_from(words.as_flattened()).ok()?,
            ))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    const HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn tables(v4: &str, v6: &str) -> [String; 2] {
        [format!("{HEADER}{v4}"), format!("{HEADER}{v6}")]
    }

    #[test]
    fn a_workload_on_loopback_is_not_exposed() {
        let tables = tables(
            "   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000 65532 0 1\n",
            "   0: 00000000000000000000000001000000:1388 00000000000000000000000000000000:0000 0A 0 0 0 1\n\
             1: 0000000000000000FFFF00000100007F:1388 00000000000000000000000000000000:0000 0A 0 0 0 1\n",
        );
        assert_eq!(exposed(&tables, 5000, &[]), []);
    }

    #[test]
    fn a_workload_on_every_address_is_named() {
        let tables = tables(
            "   0: 00000000:1388 00000000:0000 0A 0 0 0 65532 0 1\n\
             1: 0500F40A:1388 00000000:0000 0A 0 0 0 65532 0 1\n",
            "   0: 00000000000000000000000000000000:1388 00000000000000000000000000000000:0000 0A 0 0 0 1\n",
        );
        let sockets: Vec<String> = exposed(&tables, 5000, &[])
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(sockets, ["0.0.0.0:5000", "10.244.0.5:5000", "[::]:5000"]);
    }

    #[test]
    fn other_ports_connections_and_our_own_listeners_do_not_count() {
        let tables = tables(
            "   0: 00000000:1054 00000000:0000 0A 0 0 0 65532 0 1\n\
             1: 0500F40A:1388 0100F40A:D431 01 0 0 0 65532 0 1\n\
             2: 0500F40A:1388 00000000:0000 0A 0 0 0 65532 0 1\n",
            "",
        );
        let ours = ["10.244.0.5:5000".parse().unwrap()];
        assert_eq!(exposed(&tables, 5000, &ours), []);
    }

    /// Hands out a line at a time, and no line after `last`.
    struct Lines<'a>(std::slice::Iter<'a, &'a str>);

    impl Read for Lines<'_> {
        fn read(&mut self, piece: &mut [u8]) -> std::io::Result<usize> {
            let line = self
                .0
                .next()
                .ok_or_else(|| std::io::Error::other("enough"))?;
            piece[..line.len()].copy_from_slice(line.as_bytes());
            Ok(line.len())
        }
    }

    #[test]
    fn a_table_is_read_to_its_first_connection() {
        let lines = [
            HEADER,
            "0: 00000000:1388 00000000:0000 0A 0 0\n",
            "1: 0100007F:1388 00000000:0000 0A 0 0\n",
            "2: 0500F40A:1388 0100F40A:D431 01 0 0\n",
        ];
        let text = table(Lines(lines.iter())).unwrap();
        assert_eq!(text, lines.concat());
        // A line that is not whole yet says nothing.
        let pieces = [HEADER, "0: 00000000:1388 00000000:0000 0", "A 0 0\n", ""];
        assert_eq!(table(Lines(pieces.iter())).unwrap(), pieces.concat());
    }

    #[test]
    fn garbage_is_skipped() {
        let tables = [
            "x".to_owned(),
            format!("{HEADER}\n0:\n0: zz:zz x 0A\n0: 00:1388 x 0A\n"),
        ];
        assert_eq!(exposed(&tables, 5000, &[]), []);
    }
}
