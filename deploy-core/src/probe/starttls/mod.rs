//! From plain text to TLS: one small function per protocol, over a conversation with limits.

mod ftp;
mod imap;
mod ldap;
mod mysql;
mod pop3;
mod postgres;
mod sieve;
mod smtp;
mod xmpp;

use std::fmt;
use std::io::{self, Read as _, Write as _};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ProbeError;
use super::transport::Transport;

/// The longest line, or message where there are no lines, and the most lines in one conversation, that a peer may send.
/// RFC 5321 (4.5.3.1.5) allows lines of 512 bytes.
const MAXIMUM_LINE: usize = 4 * 1024;
const MAXIMUM_LINES: usize = 64;

/// How much of a reply is kept for messages.
const MAXIMUM_QUOTE: usize = 200;

/// A protocol that starts in plain text and turns to TLS on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StartTls {
    /// FTP, `AUTH TLS` (RFC 4217); usually port 21.
    Ftp,
    /// IMAP, `STARTTLS` (RFC 9051, 6.2.1); usually port 143.
    Imap,
    /// LDAP, the extended operation StartTLS (RFC 4511); usually port 389.
    Ldap,
    /// LMTP, `STARTTLS` after `LHLO` (RFC 2033, RFC 3207); usually port 24.
    Lmtp,
    /// MySQL and MariaDB, `SSLRequest`; usually port 3306.
    Mysql,
    /// POP3, `STLS` (RFC 2595); usually port 110.
    Pop3,
    /// PostgreSQL, `SSLRequest`; usually port 5432.
    Postgres,
    /// ManageSieve, `STARTTLS` (RFC 5804); usually port 4190.
    Sieve,
    /// SMTP, `STARTTLS` after `EHLO` (RFC 3207); usually port 25 or 587.
    Smtp,
    /// XMPP from client to server, `starttls` (RFC 6120); usually port 5222.
    Xmpp,
    /// XMPP from server to server; usually port 5269.
    XmppServer,
}

impl fmt::Display for StartTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ftp => "ftp",
            Self::Imap => "imap",
            Self::Ldap => "ldap",
            Self::Lmtp => "lmtp",
            Self::Mysql => "mysql",
            Self::Pop3 => "pop3",
            Self::Postgres => "postgres",
            Self::Sieve => "sieve",
            Self::Smtp => "smtp",
            Self::Xmpp => "xmpp",
            Self::XmppServer => "xmpp_server",
        })
    }
}

/// How far the plain-text part got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartTlsStep {
    /// Waiting for the server's greeting.
    Greeting,
    /// Introducing ourselves and asking what the server can do.
    Hello,
    /// Asking for TLS.
    Request,
}

impl fmt::Display for StartTlsStep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Greeting => "greeting",
            Self::Hello => "hello",
            Self::Request => "request for TLS",
        })
    }
}

/// What a server did instead of starting TLS. Replies are quoted up to 200 characters, without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StartTlsProblem {
    /// Its answer is not one of this protocol.
    #[error("the server's answer makes no sense here: {reply:?}")]
    Malformed {
        /// What it said.
        reply: String,
    },
    /// It sent plain text after it had agreed to TLS, which a careless client takes for part of the secure session.
    #[error("the server sent plain text after agreeing to start TLS")]
    PlainTextAfterReply,
    /// It does not list the extension, or says that it has none.
    #[error("the server does not offer STARTTLS")]
    NotOffered,
    /// It said no.
    #[error("the server refuses: {reply:?}")]
    Refused {
        /// What it said.
        reply: String,
    },
    /// It talks more than anyone needs to.
    #[error("the server sent a line or message of more than {MAXIMUM_LINE} bytes, or more than {MAXIMUM_LINES} lines")]
    TooMuch,
}

/// Leads a fresh connection to the point where TLS begins. `name` is whom to ask for, where the protocol has a word for that.
pub(super) fn start(protocol: StartTls, name: &str, transport: &mut Transport<'_>) -> Result<(), ProbeError> {
    let mut conversation = Conversation { transport, buffer: Vec::new(), lines: 0, step: StartTlsStep::Greeting };
    let result = match protocol {
        StartTls::Ftp => ftp::start(&mut conversation),
        StartTls::Imap => imap::start(&mut conversation),
        StartTls::Ldap => ldap::start(&mut conversation),
        StartTls::Lmtp => smtp::start(&mut conversation, "LHLO"),
        StartTls::Mysql => mysql::start(&mut conversation),
        StartTls::Pop3 => pop3::start(&mut conversation),
        StartTls::Postgres => postgres::start(&mut conversation),
        StartTls::Sieve => sieve::start(&mut conversation),
        StartTls::Smtp => smtp::start(&mut conversation, "EHLO"),
        StartTls::Xmpp => xmpp::start(&mut conversation, "jabber:client", name),
        StartTls::XmppServer => xmpp::start(&mut conversation, "jabber:server", name),
    };
    let result = match result {
        Ok(()) if !conversation.buffer.is_empty() => Err(StartTlsProblem::PlainTextAfterReply.into()),
        result => result,
    };
    let (address, step) = (conversation.transport.address(), conversation.step);
    result.map_err(|interruption| match interruption {
        Interruption::Io(error) => transport.error(error),
        Interruption::Problem(source) => ProbeError::StartTls { address, protocol, step, source },
    })
}

/// Why a conversation ended early.
#[derive(Debug, Error)]
enum Interruption {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Problem(#[from] StartTlsProblem),
}

type Talk<T> = Result<T, Interruption>;

struct Conversation<'a, 'b> {
    transport: &'a mut Transport<'b>,
    /// What was received and not yet heard.
    buffer: Vec<u8>,
    lines: usize,
    step: StartTlsStep,
}

impl Conversation<'_, '_> {
    /// Says one line.
    fn say(&mut self, step: StartTlsStep, line: &str) -> Talk<()> {
        self.send(step, format!("{line}\r\n").as_bytes())
    }

    /// Says something that is not a line.
    fn send(&mut self, step: StartTlsStep, bytes: &[u8]) -> Talk<()> {
        self.step = step;
        Ok(self.transport.write_all(bytes)?)
    }

    /// Hears one line, without its end. Bytes that are not text are replaced.
    fn hear(&mut self) -> Talk<String> {
        self.lines += 1;
        if self.lines > MAXIMUM_LINES {
            return Err(StartTlsProblem::TooMuch.into());
        }
        let line = self.hear_to(|buffer| buffer.iter().position(|&byte| byte == b'\n').map(|end| end + 1))?;
        Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned())
    }

    /// Hears text up to the first end of one of these, that one included.
    fn hear_until(&mut self, ends: &[&str]) -> Talk<String> {
        let end_of = |buffer: &[u8], end: &str| {
            buffer.windows(end.len()).position(|window| window == end.as_bytes()).map(|start| start + end.len())
        };
        let text = self.hear_to(|buffer| ends.iter().filter_map(|end| end_of(buffer, end)).min())?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Hears so many bytes.
    fn hear_bytes(&mut self, count: usize) -> Talk<Vec<u8>> {
        if count > MAXIMUM_LINE {
            return Err(StartTlsProblem::TooMuch.into());
        }
        self.hear_to(|buffer| (buffer.len() >= count).then_some(count))
    }

    /// The same, for a number that is known beforehand.
    fn hear_array<const COUNT: usize>(&mut self) -> Talk<[u8; COUNT]> {
        let mut array = [0; COUNT];
        array.copy_from_slice(&self.hear_bytes(COUNT)?);
        Ok(array)
    }

    /// Receives until `end` knows how much of it is to be heard.
    fn hear_to(&mut self, end: impl Fn(&[u8]) -> Option<usize>) -> Talk<Vec<u8>> {
        loop {
            match end(&self.buffer) {
                Some(end) if end <= MAXIMUM_LINE => return Ok(self.buffer.drain(..end).collect()),
                None if self.buffer.len() <= MAXIMUM_LINE => {}
                _ => return Err(StartTlsProblem::TooMuch.into()),
            }
            let mut chunk = [0; 1024];
            let count = self.transport.read(&mut chunk)?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.buffer.extend_from_slice(&chunk[..count]);
        }
    }
}

fn refused(reply: &str) -> Interruption {
    StartTlsProblem::Refused { reply: quote(reply) }.into()
}

fn malformed(reply: &str) -> Interruption {
    StartTlsProblem::Malformed { reply: quote(reply) }.into()
}

fn quote(reply: &str) -> String {
    reply.chars().filter(|character| !character.is_control()).take(MAXIMUM_QUOTE).collect()
}
