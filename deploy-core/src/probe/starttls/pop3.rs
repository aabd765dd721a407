//! POP3 (RFC 2595, 4).

use super::{Conversation, StartTlsStep, Talk, malformed, refused};

pub(super) fn start(conversation: &mut Conversation<'_, '_>) -> Talk<()> {
    expect_ok(&conversation.hear()?)?;
    conversation.say(StartTlsStep::Request, "STLS")?;
    expect_ok(&conversation.hear()?)
}

fn expect_ok(line: &str) -> Talk<()> {
    if line.starts_with("+OK") {
        Ok(())
    } else if line.starts_with("-ERR") {
        Err(refused(line))
    } else {
        Err(malformed(line))
    }
}
