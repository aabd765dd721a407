//! SMTP (RFC 3207) and LMTP, which differ in one word.

use std::net::IpAddr;

use super::{Conversation, StartTlsProblem, StartTlsStep, Talk, malformed, refused};

pub(super) fn start(conversation: &mut Conversation<'_, '_>, hello: &str) -> Talk<()> {
    expect(&reply(conversation)?, "220")?;
    let literal = match conversation.transport.local_address() {
        Some(IpAddr::V4(address)) => format!("[{address}]"),
        Some(IpAddr::V6(address)) => format!("[IPv6:{address}]"),
        None => "[127.0.0.1]".to_owned(),
    };
    // A client without a name of its own gives its address (RFC 5321, 4.1.3).
    conversation.say(StartTlsStep::Hello, &format!("{hello} {literal}"))?;
    let capabilities = reply(conversation)?;
    expect(&capabilities, "250")?;
    let is_offer = |line: &String| line.get(4..).is_some_and(|keyword| keyword.trim().eq_ignore_ascii_case("STARTTLS"));
    if !capabilities.iter().skip(1).any(is_offer) {
        return Err(StartTlsProblem::NotOffered.into());
    }
    conversation.say(StartTlsStep::Request, "STARTTLS")?;
    expect(&reply(conversation)?, "220")
}

/// A whole reply (RFC 5321, 4.2.1): lines of one code, with a hyphen after it in all but the last. Never empty.
fn reply(conversation: &mut Conversation<'_, '_>) -> Talk<Vec<String>> {
    let mut lines: Vec<String> = Vec::new();
    loop {
        let line = conversation.hear()?;
        let (code, rest) = line.split_at_checked(3).ok_or_else(|| malformed(&line))?;
        let same = lines.first().is_none_or(|first| first.starts_with(code));
        let last = match rest.as_bytes().first() {
            None | Some(b' ') => true,
            Some(b'-') => false,
            Some(_) => return Err(malformed(&line)),
        };
        if !same || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed(&line));
        }
        lines.push(line);
        if last {
            return Ok(lines);
        }
    }
}

fn expect(reply: &[String], code: &str) -> Talk<()> {
    match reply.last() {
        Some(line) if line.starts_with(code) => Ok(()),
        last => Err(refused(last.map(String::as_str).unwrap_or_default())),
    }
}
