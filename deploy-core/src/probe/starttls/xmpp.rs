//! XMPP (RFC 6120, 5.4), as a client or as another server. The answers are searched as text: what is looked for is a name that
//! every server writes with the prefix `stream`, or without one.

use super::{Conversation, StartTlsProblem, StartTlsStep, Talk, malformed, refused};

pub(super) fn start(conversation: &mut Conversation<'_, '_>, namespace: &str, name: &str) -> Talk<()> {
    let opening = format!(
        "<?xml version='1.0'?><stream:stream to='{name}' version='1.0' xmlns='{namespace}' \
         xmlns:stream='http://etherx.jabber.org/streams'>"
    );
    conversation.send(StartTlsStep::Hello, opening.as_bytes())?;
    let features = conversation.hear_until(&["</stream:features>", "<stream:features/>", "</stream:error>"])?;
    if features.contains("<stream:error") {
        return Err(refused(&features));
    }
    if !features.contains("<starttls") {
        return Err(StartTlsProblem::NotOffered.into());
    }
    conversation.send(StartTlsStep::Request, b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")?;
    let answer = conversation.hear_until(&["/>", "</proceed>", "</failure>"])?;
    match answer.trim_start() {
        answer if answer.starts_with("<proceed") => Ok(()),
        answer if answer.starts_with("<failure") => Err(refused(answer)),
        answer => Err(malformed(answer)),
    }
}
