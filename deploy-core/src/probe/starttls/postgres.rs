//! PostgreSQL, `SSLRequest` (its documentation, "Message Formats" and "SSL Session Encryption").

use super::{Conversation, StartTlsProblem, StartTlsStep, Talk, malformed, refused};

/// Length and code of the request.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

pub(super) fn start(conversation: &mut Conversation<'_, '_>) -> Talk<()> {
    conversation.send(StartTlsStep::Request, &SSL_REQUEST)?;
    match conversation.hear_array()? {
        [b'S'] => Ok(()),
        [b'N'] => Err(StartTlsProblem::NotOffered.into()),
        // The length counts itself.
        [b'E'] => {
            let length = u32::from_be_bytes(conversation.hear_array()?) as usize;
            let message = conversation.hear_bytes(length.saturating_sub(4))?;
            Err(refused(&String::from_utf8_lossy(&message)))
        }
        other => Err(malformed(&String::from_utf8_lossy(&other))),
    }
}
