//! A network with nobody on it: every address there is this machine's own, so that a server can be bound to, and reached at,
//! the addresses of its real configuration.

use std::io;

use rustix::fs::{Mode, OFlags};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};

use super::child::unshare_network;

/// The number of the loopback device in every network.
const LOOPBACK: u32 = 1;

/// Has this thread, and those that it starts from now on, enter a network of their own.
pub(crate) fn enter() -> io::Result<()> {
    unshare_network()?;
    ask(NEW_LINK, 0, &loopback_is_up())?;
    ask(NEW_ROUTE, CREATE, &all_is_local(AddressFamily::INET))?;
    match ask(NEW_ROUTE, CREATE, &all_is_local(AddressFamily::INET6)) {
        // A kernel without IPv6 has no server that listens on it, either.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => return Ok(()),
        asked => asked?,
    }
    let nonlocal = rustix::fs::open(NONLOCAL_BIND, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    // Refused in some containers. Only a server that is bound to an IPv6 address of its own misses it.
    nonlocal.and_then(|file| rustix::io::write(file, b"1")).ok();
    Ok(())
}

/// IPv6 looks at addresses and not at routes when something is bound, but for this setting of a network (ip-sysctl).
const NONLOCAL_BIND: &str = "/proc/sys/net/ipv6/ip_nonlocal_bind";

// rtnetlink(7) and netlink(7); the numbers are in linux/rtnetlink.h, linux/netlink.h and linux/if.h.
const NEW_LINK: u16 = 16;
const NEW_ROUTE: u16 = 24;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const HEADER: usize = 16;

/// `struct ifinfomsg`: the loopback device, with the flag "up" set.
fn loopback_is_up() -> Vec<u8> {
    const UP: u32 = 1;
    [[0; 4], LOOPBACK.to_ne_bytes(), UP.to_ne_bytes(), UP.to_ne_bytes()].concat()
}

/// `struct rtmsg` and one attribute: all addresses of a family are local ones, on the loopback device.
fn all_is_local(family: AddressFamily) -> Vec<u8> {
    const TABLE_LOCAL: u8 = 255;
    const PROTOCOL_STATIC: u8 = 4;
    const SCOPE_HOST: u8 = 254;
    const TYPE_LOCAL: u8 = 2;
    const DEVICE: u16 = 4;
    let family = u8::try_from(family.as_raw()).unwrap_or_default();
    let route = [family, 0, 0, 0, TABLE_LOCAL, PROTOCOL_STATIC, SCOPE_HOST, TYPE_LOCAL, 0, 0, 0, 0];
    [&route[..], &8_u16.to_ne_bytes(), &DEVICE.to_ne_bytes(), &LOOPBACK.to_ne_bytes()].concat()
}

/// Sends one message and reads the answer.
fn ask(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    // Routing is protocol 0 of this family, and 0 is the default.
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    let flags = REQUEST | ACKNOWLEDGE | flags;
    let message = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8], body].concat();
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 512];
    let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    // `struct nlmsgerr` begins with a negative error number, or 0.
    let code = answer[..length].get(HEADER..HEADER + 4).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}
