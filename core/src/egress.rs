//! Which addresses a program may be sent to by somebody else's configuration. Pure.
//!
//! Whoever names an issuer could otherwise make a program inside of a cluster ask what only the cluster can
//! reach: a cloud's metadata service, a database, another workload.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What beside the public internet may be asked.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Egress {
    /// Internal networks that are allowed.
    pub allowed: Vec<IpNet>,
}

impl Egress {
    /// Whether `address` may be asked: it is public, or in a network that is allowed.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address)
            || self
                .allowed
                .iter()
                .any(|network| network.contains(&address))
    }
}

/// Whether everybody may reach `address`. One that stands for an IPv4 address is what that one is.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        // Shared by carriers (RFC 6598), protocol assignments (RFC 6890), benchmarks (RFC 2544), reserved.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let v4 = |high: u16, low: u16| {
        is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
    };
    match address.segments() {
        // NAT64 (RFC 6052), and 6to4 (RFC 3056).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        // Local NAT64 (RFC 8215), Teredo (RFC 4380), which may stand for anything, and documents.
        [0x64, 0xff9b, ..] | [0x2001, 0 | 0xdb8, ..] => false,
        // Of what is assigned to everybody, all of 2000::/3: neither loopback, nor local, nor multicast.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("8.8.8.8")]
    #[case("100.63.255.255")]
    #[case("100.128.0.0")]
    #[case("172.15.0.1")]
    #[case("172.32.0.1")]
    #[case("198.20.0.1")]
    #[case("2606:4700::1111")]
    #[case("64:ff9b::808:808")]
    #[case("2002:808:808::1")]
    #[case("::ffff:8.8.8.8")]
    fn a_public_address_may_be_asked(#[case] address: IpAddr) {
        assert!(Egress::default().permits(address));
    }

    #[rstest]
    #[case::loopback("127.0.0.1")]
    #[case::loopback_of_another("127.1.2.3")]
    #[case::loopback_v6("::1")]
    #[case::loopback_mapped("::ffff:127.0.0.1")]
    #[case::unspecified("0.0.0.0")]
    #[case::this_network("0.1.2.3")]
    #[case::unspecified_v6("::")]
    #[case::private_a("10.0.0.1")]
    #[case::private_b("172.16.0.1")]
    #[case::private_c("192.168.255.255")]
    #[case::metadata("169.254.169.254")]
    #[case::metadata_mapped("::ffff:169.254.169.254")]
    #[case::metadata_nat64("64:ff9b::a9fe:a9fe")]
    #[case::nat64_local("64:ff9b:1::808:808")]
    #[case::metadata_6to4("2002:a9fe:a9fe::1")]
    #[case::metadata_v6("fd00:ec2::254")]
    #[case::carrier("100.64.0.1")]
    #[case::carrier_end("100.127.255.255")]
    #[case::link_local_v6("fe80::1")]
    #[case::unique_local("fc00::1")]
    #[case::multicast("224.0.0.1")]
    #[case::multicast_v6("ff02::1")]
    #[case::broadcast("255.255.255.255")]
    #[case::reserved("240.0.0.1")]
    #[case::benchmarks("198.18.0.1")]
    #[case::assignments("192.0.0.1")]
    #[case::documents("192.0.2.1")]
    #[case::documents_v6("2001:db8::1")]
    #[case::teredo("2001::1")]
    #[case::site_local("fec0::1")]
    fn an_internal_address_may_not(#[case] address: IpAddr) {
        assert!(!Egress::default().permits(address));
    }

    #[test]
    fn a_network_that_is_allowed_may_be_asked_and_no_other() {
        let egress = Egress {
            allowed: vec![
                "10.1.0.0/16".parse().unwrap(),
                "fd00:1::/32".parse().unwrap(),
            ],
        };
        let permits = |address: &str| egress.permits(address.parse().unwrap());
        assert!(permits("10.1.2.3") && permits("::ffff:10.1.2.3") && permits("fd00:1::5"));
        assert!(!permits("10.2.0.1") && !permits("fd00:2::5") && !permits("127.0.0.1"));
    }
}
