//! Which addresses a run may reach through the proxy (BND-2): global ones that are not this machine's, however spelled.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// The address that is reached in the end: the IPv4 address that an IPv6 address embeds, else the address itself.
pub(super) fn meant(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip.to_canonical() else { return ip.to_canonical() };
    match v6.segments() {
        // NAT64's well-known prefix.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        _ => IpAddr::V6(v6),
    }
}

/// Whether the address is the same single host everywhere on the internet.
pub(super) fn is_global(ip: IpAddr) -> bool {
    match meant(ip) {
        IpAddr::V4(v4) => global4(v4),
        IpAddr::V6(v6) => global6(v6),
    }
}

fn global4(ip: Ipv4Addr) -> bool {
    match ip.octets() {
        // This network, private, loopback, multicast and reserved.
        [0 | 10 | 127 | 224.., ..]
        // Link-local, where clouds keep their metadata.
        | [169, 254, ..]
        | [192, 168, ..]
        // Protocols, documentation, relays of 6to4.
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        // Measurements.
        | [198, 18 | 19, ..] => false,
        // Shared by a provider's customers, and private.
        [100, b, ..] => b & 0xc0 != 64,
        [172, b, ..] => b & 0xf0 != 16,
        _ => true,
    }
}

fn global6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        // Teredo, ORCHID and other protocols; documentation; 6to4, which carries any IPv4 address.
        [0x2001, 0..0x200 | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..0x1000, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Whether this machine has the address, shown by listening on it. An unclear answer counts as yes.
pub(super) fn is_own(ip: IpAddr) -> bool {
    let ip = meant(ip);
    let name = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
    let any = std::fs::read_to_string(format!("/proc/sys/net/{name}/ip_nonlocal_bind")).is_ok_and(|v| v.trim() == "1");
    if !any {
        return !matches!(UdpSocket::bind((ip, 0)), Err(e) if e.kind() == ErrorKind::AddrNotAvailable);
    }
    // This machine allows listening on any address. A connection to an own address comes from that address; nothing is
    // sent.
    let from: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let spoken = UdpSocket::bind((from, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    spoken.is_ok_and(|own| own.ip() == ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_whole_internet_knows_is_global() {
        for good in [
            "8.8.8.8",
            "1.1.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "198.17.0.1",
            "223.255.255.254",
            "192.0.1.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:4860:4860::8888",
            "2001:200::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_global(good.parse().unwrap()), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "2001::1",
            "2001:db8::1",
            "2001:10::1",
            "2001:20::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "5f00::1",
        ] {
            assert!(!is_global(bad.parse().unwrap()), "{bad}");
        }
    }

    #[test]
    fn this_machine_knows_its_own() {
        for own in ["127.0.0.1", "127.1.2.3", "::ffff:127.0.0.1", "64:ff9b::7f00:1"] {
            assert!(is_own(own.parse().unwrap()), "{own}");
        }
        assert!(!is_own("8.8.8.8".parse().unwrap()));
    }
}
