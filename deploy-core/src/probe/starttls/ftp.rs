//! FTP (RFC 4217, 4).

use super::{Conversation, StartTlsStep, Talk, malformed, refused};

pub(super) fn start(conversation: &mut Conversation<'_, '_>) -> Talk<()> {
    expect(&reply(conversation)?, "220")?;
    conversation.say(StartTlsStep::Request, "AUTH TLS")?;
    expect(&reply(conversation)?, "234")
}

/// The last line of a reply (RFC 959, 4.2): after a code and a hyphen there may be any text, until the code comes with a space.
fn reply(conversation: &mut Conversation<'_, '_>) -> Talk<String> {
    let first = conversation.hear()?;
    let (code, rest) = first.split_at_checked(3).ok_or_else(|| malformed(&first))?;
    if !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed(&first));
    }
    match rest.as_bytes().first() {
        None | Some(b' ') => return Ok(first),
        Some(b'-') => {}
        Some(_) => return Err(malformed(&first)),
    }
    loop {
        let line = conversation.hear()?;
        if line.strip_prefix(code).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')) {
            return Ok(line);
        }
    }
}

fn expect(reply: &str, code: &str) -> Talk<()> {
    if reply.starts_with(code) { Ok(()) } else { Err(refused(reply)) }
}
