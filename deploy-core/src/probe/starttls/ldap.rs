//! LDAP, the extended operation StartTLS (RFC 4511, 4.12 and 4.14), in BER.

use super::{Conversation, StartTlsStep, Talk, malformed, refused};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const ENUMERATED: u8 = 0x0a;
const OCTET_STRING: u8 = 0x04;
const EXTENDED_RESPONSE: u8 = 0x78;

/// Message 1: an `ExtendedRequest` with the name of StartTLS.
const REQUEST: &[u8; 31] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

pub(super) fn start(conversation: &mut Conversation<'_, '_>) -> Talk<()> {
    conversation.send(StartTlsStep::Request, REQUEST)?;
    let [tag, first] = conversation.hear_array()?;
    if tag != SEQUENCE {
        return Err(malformed(&format!("a message that begins with the byte {tag:#04x}")));
    }
    let length = match first {
        0..0x80 => usize::from(first),
        _ => big_endian(&conversation.hear_bytes(usize::from(first & 0x7f))?),
    };
    let message = conversation.hear_bytes(length)?;
    let response = response(&message).ok_or_else(|| malformed("a message that is no response to StartTLS"))?;
    // A server that ends the connection says so in message 0 (RFC 4511, 4.4.1).
    match response {
        Response { message: 1, code: 0, .. } => Ok(()),
        Response { code, diagnostic, .. } => Err(refused(&format!("result {code}, {}", String::from_utf8_lossy(diagnostic)))),
    }
}

struct Response<'a> {
    message: usize,
    code: usize,
    diagnostic: &'a [u8],
}

fn response(mut message: &[u8]) -> Option<Response<'_>> {
    let number = big_endian(element(&mut message, INTEGER)?);
    let mut body = element(&mut message, EXTENDED_RESPONSE)?;
    let code = big_endian(element(&mut body, ENUMERATED)?);
    let _matched_name = element(&mut body, OCTET_STRING)?;
    Some(Response { message: number, code, diagnostic: element(&mut body, OCTET_STRING)? })
}

/// The content of the next element, which has to have this tag.
fn element<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&[found, first], mut after) = rest.split_first_chunk::<2>()?;
    let length = match first {
        0..0x80 => usize::from(first),
        _ => {
            let (length, behind) = after.split_at_checked(usize::from(first & 0x7f))?;
            after = behind;
            big_endian(length)
        }
    };
    let (content, behind) = after.split_at_checked(length)?;
    *rest = behind;
    (found == tag).then_some(content)
}

/// A number without a sign; one that is too large becomes the largest.
fn big_endian(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number: usize, &byte| number.saturating_mul(256).saturating_add(byte.into()))
}
