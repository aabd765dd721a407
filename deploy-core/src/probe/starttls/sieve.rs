//! ManageSieve (RFC 5804, 1.7 and 2.2).

use super::{Conversation, StartTlsProblem, StartTlsStep, Talk, malformed, refused};

pub(super) fn start(conversation: &mut Conversation<'_, '_>) -> Talk<()> {
    // The greeting is the list of capabilities.
    let mut offered = false;
    loop {
        let line = conversation.hear()?;
        if !line.starts_with('"') {
            expect_ok(&line)?;
            break;
        }
        offered |= line.trim_end().eq_ignore_ascii_case("\"STARTTLS\"");
    }
    if !offered {
        return Err(StartTlsProblem::NotOffered.into());
    }
    conversation.say(StartTlsStep::Request, "STARTTLS")?;
    expect_ok(&conversation.hear()?)
}

fn expect_ok(line: &str) -> Talk<()> {
    let word = line.split([' ', '(']).next().unwrap_or_default().to_ascii_uppercase();
    match word.as_str() {
        "OK" => Ok(()),
        "BYE" | "NO" => Err(refused(line)),
        _ => Err(malformed(line)),
    }
}
