//! The peers that do not speak in lines: each is one short exchange.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::{Fault, INJECTED, PlainProtocol};

/// Speaks up to the point where TLS begins; `false` where it does not come to that.
pub(super) fn converse(stream: &mut TcpStream, protocol: PlainProtocol, fault: Fault) -> std::io::Result<bool> {
    match fault {
        Fault::Close => return Ok(false),
        Fault::Silent => return hear_to_the_end(stream),
        _ => {}
    }
    match protocol {
        PlainProtocol::Ldap => ldap(stream, fault),
        PlainProtocol::Mysql => mysql(stream, fault),
        PlainProtocol::Postgres => postgres(stream, fault),
        _ => xmpp(stream, fault),
    }
}

fn ldap(stream: &mut TcpStream, fault: Fault) -> std::io::Result<bool> {
    let mut request = [0; 31];
    stream.read_exact(&mut request)?;
    assert_eq!(&request, b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037");
    match fault {
        Fault::Flood | Fault::LongLine => say_without_end(stream, b"\x30\x84\x7f\xff\xff\xff"),
        // With lengths in the long form, as OpenLDAP does not write them and others do.
        Fault::NotOffered | Fault::Refuse => {
            let response = b"\x30\x84\0\0\0\x1d\x02\x01\x01\x78\x84\0\0\0\x14\x0a\x01\x34\x04\0\x04\x0dnot available";
            stream.write_all(response)?;
            hear_to_the_end(stream)
        }
        _ => agree(stream, fault, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\0\x04\0\x04\0"),
    }
}

fn mysql(stream: &mut TcpStream, fault: Fault) -> std::io::Result<bool> {
    const SSL: u16 = 0x800;
    let offered = if fault == Fault::NotOffered { 0 } else { SSL };
    let capabilities = (0xf7ff | offered).to_le_bytes();
    let greeting =
        [b"\x0a8.0.0-test\0\x01\0\0\0saltsalt\0".as_slice(), &capabilities, b"\x2d\x02\0\xff\xdf\x15", &[0; 10]].concat();
    match fault {
        Fault::Flood | Fault::LongLine => return say_without_end(stream, b"\xff\xff\xff\0"),
        Fault::Refuse => {
            stream.write_all(&packet(b"\xff\x10\x04TLS and all else is not available"))?;
            return Ok(false);
        }
        Fault::NotOffered => {
            stream.write_all(&packet(&greeting))?;
            return hear_to_the_end(stream);
        }
        _ => agree(stream, fault, &packet(&greeting))?,
    };
    let mut request = [0; 36];
    stream.read_exact(&mut request)?;
    assert_eq!(&request[..4], b"\x20\0\0\x01");
    assert_eq!(u16::from_le_bytes([request[4], request[5]]) & SSL, SSL);
    Ok(true)
}

fn packet(payload: &[u8]) -> Vec<u8> {
    [&[u8::try_from(payload.len()).expect("a short payload"), 0, 0, 0], payload].concat()
}

fn postgres(stream: &mut TcpStream, fault: Fault) -> std::io::Result<bool> {
    let mut request = [0; 8];
    stream.read_exact(&mut request)?;
    assert_eq!(request, [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
    match fault {
        Fault::Flood | Fault::LongLine => say_without_end(stream, b"E\x7f\xff\xff\xff"),
        Fault::NotOffered => {
            stream.write_all(b"N")?;
            hear_to_the_end(stream)
        }
        Fault::Refuse => {
            stream.write_all(b"E\0\0\0\x1bSFATAL\0Mnot available\0\0")?;
            hear_to_the_end(stream)
        }
        _ => agree(stream, fault, b"S"),
    }
}

fn xmpp(stream: &mut TcpStream, fault: Fault) -> std::io::Result<bool> {
    let opening = hear_to(stream, "streams'>")?;
    assert!(opening.contains("to='www.example.test'"), "{opening}");
    let stream_begins = "<?xml version='1.0'?><stream:stream from='www.example.test' version='1.0' \
                         xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
    stream.write_all(stream_begins.as_bytes())?;
    match fault {
        Fault::Flood | Fault::LongLine => return say_without_end(stream, b"<stream:features>"),
        Fault::NotOffered => {
            stream.write_all(b"<stream:features/>")?;
            return hear_to_the_end(stream);
        }
        _ => stream.write_all(
            b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>",
        )?,
    }
    hear_to(stream, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")?;
    if fault == Fault::Refuse {
        stream.write_all(b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls' text='not available'/></stream:stream>")?;
        return hear_to_the_end(stream);
    }
    agree(stream, fault, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
}

/// Gives its consent, with plain text behind it where that is the fault.
fn agree(stream: &mut TcpStream, fault: Fault, consent: &[u8]) -> std::io::Result<bool> {
    let behind: &[u8] = if fault == Fault::Inject { INJECTED.as_bytes() } else { b"" };
    stream.write_all(&[consent, behind].concat())?;
    Ok(true)
}

/// Announces something long, and keeps to that until the client leaves.
fn say_without_end(stream: &mut TcpStream, announcement: &[u8]) -> std::io::Result<bool> {
    stream.write_all(announcement)?;
    loop {
        stream.write_all(&[b'x'; 1024])?;
    }
}

fn hear_to(stream: &mut TcpStream, end: &str) -> std::io::Result<String> {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with(end) {
        stream.read_exact(&mut byte)?;
        text.push(byte[0].into());
    }
    Ok(text)
}

/// The client has nothing more to hear, and leaves.
fn hear_to_the_end(stream: &mut TcpStream) -> std::io::Result<bool> {
    std::io::copy(stream, &mut std::io::sink())?;
    Ok(false)
}
