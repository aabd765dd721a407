//! IMAP (RFC 9051, 6.2.1).

use super::{Conversation, StartTlsStep, Talk, malformed, refused};

const TAG: &str = "a1";

pub(super) fn start(conversation: &mut Conversation<'_, '_>) -> Talk<()> {
    let greeting = conversation.hear()?;
    match word(&greeting, 0).as_str() {
        "*" if word(&greeting, 1) == "OK" => {}
        "*" => return Err(refused(&greeting)),
        _ => return Err(malformed(&greeting)),
    }
    // Whether it is offered shows in the answer; a server without it says BAD or NO.
    conversation.say(StartTlsStep::Request, &format!("{TAG} STARTTLS"))?;
    loop {
        let line = conversation.hear()?;
        match (word(&line, 0).as_str(), word(&line, 1).as_str()) {
            ("*", "BYE") => return Err(refused(&line)),
            ("*", _) => {}
            ("A1", "OK") => return Ok(()),
            ("A1", "NO" | "BAD") => return Err(refused(&line)),
            _ => return Err(malformed(&line)),
        }
    }
}

fn word(line: &str, index: usize) -> String {
    line.split_ascii_whitespace().nth(index).unwrap_or_default().to_ascii_uppercase()
}
