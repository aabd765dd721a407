//! MySQL and MariaDB, `SSLRequest` of protocol 4.1 (MySQL's source documentation, "Connection Phase Packets").

use super::{Conversation, StartTlsProblem, StartTlsStep, Talk, malformed, refused};

const PROTOCOL_VERSION: u8 = 10;
const ERROR: u8 = 0xff;

/// Capabilities: protocol 4.1, TLS, and the way of logging in that goes with both.
const CLIENT_PROTOCOL_41: u32 = 0x200;
const CLIENT_SSL: u32 = 0x800;
const CLIENT_SECURE_CONNECTION: u32 = 0x8000;

/// The character set `utf8mb4_general_ci`, which both know.
const CHARACTER_SET: u8 = 45;

pub(super) fn start(conversation: &mut Conversation<'_, '_>) -> Talk<()> {
    let [low, middle, high, sequence] = conversation.hear_array()?;
    let greeting = conversation.hear_bytes(u32::from_le_bytes([low, middle, high, 0]) as usize)?;
    let text = || String::from_utf8_lossy(&greeting);
    match greeting.first() {
        Some(&PROTOCOL_VERSION) => {}
        // After two bytes of a number there is a sentence.
        Some(&ERROR) => return Err(refused(&String::from_utf8_lossy(greeting.get(3..).unwrap_or_default()))),
        _ => return Err(malformed(&text())),
    }
    if lower_capabilities(&greeting).ok_or_else(|| malformed(&text()))? & CLIENT_SSL == 0 {
        return Err(StartTlsProblem::NotOffered.into());
    }
    // TLS begins right after it, without an answer.
    conversation.send(StartTlsStep::Request, &ssl_request(sequence.wrapping_add(1)))
}

/// They follow the version (a text that ends with a zero), the connection's number, eight random bytes and a zero.
fn lower_capabilities(greeting: &[u8]) -> Option<u32> {
    let end_of_version = greeting.iter().position(|&byte| byte == 0)?;
    let bytes = greeting.get(end_of_version + 1..)?.get(4 + 8 + 1..)?.first_chunk::<2>()?;
    Some(u32::from(u16::from_le_bytes(*bytes)))
}

fn ssl_request(sequence: u8) -> Vec<u8> {
    const LENGTH: u8 = 32;
    let capabilities = CLIENT_PROTOCOL_41 | CLIENT_SSL | CLIENT_SECURE_CONNECTION;
    let largest_packet: u32 = 1 << 24;
    let mut packet = vec![LENGTH, 0, 0, sequence];
    packet.extend(capabilities.to_le_bytes());
    packet.extend(largest_packet.to_le_bytes());
    packet.push(CHARACTER_SET);
    packet.extend([0; 23]);
    packet
}
