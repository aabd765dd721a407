//! Servers that know one thing: to go from plain text to TLS, well or badly.

mod packets;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::listener::{Listener, close_gently};
use crate::pki::Issued;
use crate::tls_server::serve_once;

/// What a [`StartTlsPeer`] speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlainProtocol {
    /// FTP (RFC 4217).
    Ftp,
    /// IMAP (RFC 9051).
    Imap,
    /// LDAP (RFC 4511).
    Ldap,
    /// LMTP (RFC 2033).
    Lmtp,
    /// MySQL and MariaDB, protocol 4.1.
    Mysql,
    /// POP3 (RFC 2595).
    Pop3,
    /// PostgreSQL.
    Postgres,
    /// ManageSieve (RFC 5804).
    Sieve,
    /// SMTP (RFC 3207).
    Smtp,
    /// XMPP (RFC 6120). The client has to ask for `www.example.test`.
    Xmpp,
}

/// How a [`StartTlsPeer`] misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It closes the connection after its greeting, or where the client speaks first, without an answer.
    Close,
    /// It greets with lines without end; where there are no lines, as `LongLine`.
    Flood,
    /// It sends plain text along with its answer to STARTTLS, which a careless client takes for part of the TLS session.
    Inject,
    /// It greets with one line that never ends; where there are no lines, its first answer does not end.
    LongLine,
    /// It behaves.
    None,
    /// It does not list STARTTLS among its extensions, and refuses it. Where there is no such list (FTP, IMAP, LDAP, POP3), it
    /// refuses.
    NotOffered,
    /// It lists STARTTLS and refuses it, as Postfix does when its certificate can't be loaded.
    Refuse,
    /// It accepts connections and says nothing.
    Silent,
}

/// What [`Fault::Inject`] adds.
const INJECTED: &str = "* BYE injected\r\n";

/// A server on 127.0.0.1 that offers STARTTLS with one certificate.
pub struct StartTlsPeer(Listener);

impl StartTlsPeer {
    /// Starts it on a free port.
    #[must_use]
    pub fn start(protocol: PlainProtocol, issued: &Issued, fault: Fault) -> Self {
        let (loopback, issued) = (SocketAddr::from(([127, 0, 0, 1], 0)), issued.clone());
        let serve = move |stream| {
            // An error here is a client that left, which is what some faults are for.
            drop(converse(stream, protocol, &issued, fault));
        };
        Self(Listener::start(loopback, serve).expect("a listening socket"))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// How many connections it accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.0.accepted()
    }
}

impl std::fmt::Debug for StartTlsPeer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("StartTlsPeer").field(&self.address()).finish()
    }
}

fn converse(mut stream: TcpStream, protocol: PlainProtocol, issued: &Issued, fault: Fault) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    let greeting = match protocol {
        PlainProtocol::Ftp => "220-ftp.test\r\n  220 is not the end yet\r\n220 ready\r\n",
        PlainProtocol::Imap => "* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n",
        PlainProtocol::Lmtp | PlainProtocol::Smtp => "220-mail.test\r\n220 ready\r\n",
        PlainProtocol::Pop3 => "+OK ready\r\n",
        PlainProtocol::Sieve if fault == Fault::NotOffered => "\"IMPLEMENTATION\" \"STARTTLS\"\r\nOK\r\n",
        PlainProtocol::Sieve => "\"SIEVE\" \"fileinto\"\r\n\"STARTTLS\"\r\nOK \"ready\"\r\n",
        PlainProtocol::Ldap | PlainProtocol::Mysql | PlainProtocol::Postgres | PlainProtocol::Xmpp => {
            if packets::converse(&mut stream, protocol, fault)? {
                serve_once(stream, issued);
            } else {
                close_gently(&mut stream);
            }
            return Ok(());
        }
    };
    match fault {
        Fault::Close => {
            stream.write_all(greeting.as_bytes())?;
            return Ok(());
        }
        // Both end when the client leaves.
        Fault::Flood => loop {
            stream.write_all(if protocol == PlainProtocol::Imap { b"* OK more\r\n" } else { b"220-more\r\n" })?;
        },
        Fault::LongLine => loop {
            stream.write_all(&[b'x'; 1024])?;
        },
        Fault::Silent => return reader.read_line(&mut line).map(drop),
        Fault::Inject | Fault::None | Fault::NotOffered | Fault::Refuse => stream.write_all(greeting.as_bytes())?,
    }
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match answer(protocol, line.trim_end(), fault) {
            Answer::Text(text) => stream.write_all(text.as_bytes())?,
            Answer::StartTls(mut text) => {
                if fault == Fault::Inject {
                    text.push_str(INJECTED);
                }
                stream.write_all(text.as_bytes())?;
                serve_once(stream, issued);
                return Ok(());
            }
            Answer::Quit(text) => {
                stream.write_all(text.as_bytes())?;
                close_gently(&mut stream);
                return Ok(());
            }
        }
    }
}

enum Answer {
    Text(String),
    StartTls(String),
    Quit(String),
}

fn answer(protocol: PlainProtocol, line: &str, fault: Fault) -> Answer {
    let refuses = matches!(fault, Fault::NotOffered | Fault::Refuse);
    let (tag, command) = match (protocol, line.split_once(' ')) {
        (PlainProtocol::Imap, Some((tag, command))) => (tag, command),
        _ => ("", line),
    };
    let verb = command.split(' ').next().unwrap_or_default().to_ascii_uppercase();
    match (protocol, verb.as_str()) {
        (PlainProtocol::Ftp, "AUTH") if refuses => Answer::Text("534 TLS is not available\r\n".to_owned()),
        (PlainProtocol::Ftp, "AUTH") => Answer::StartTls("234 AUTH TLS successful\r\n".to_owned()),
        (PlainProtocol::Imap, "STARTTLS") if refuses => Answer::Text(format!("{tag} NO not available\r\n")),
        (PlainProtocol::Imap, "STARTTLS") => Answer::StartTls(format!("{tag} OK begin TLS\r\n")),
        (PlainProtocol::Imap, "LOGOUT") => Answer::Quit(format!("* BYE\r\n{tag} OK\r\n")),
        (PlainProtocol::Imap, _) => Answer::Text(format!("{tag} BAD what?\r\n")),
        (PlainProtocol::Pop3, "STLS") if refuses => Answer::Text("-ERR not available\r\n".to_owned()),
        (PlainProtocol::Pop3, "STLS") => Answer::StartTls("+OK begin TLS\r\n".to_owned()),
        (PlainProtocol::Pop3, "QUIT") => Answer::Quit("+OK\r\n".to_owned()),
        (PlainProtocol::Pop3, _) => Answer::Text("-ERR what?\r\n".to_owned()),
        (PlainProtocol::Sieve, "STARTTLS") if refuses => Answer::Text("NO \"not available\"\r\n".to_owned()),
        (PlainProtocol::Sieve, "STARTTLS") => Answer::StartTls("OK \"begin TLS\"\r\n".to_owned()),
        (PlainProtocol::Smtp, "EHLO") | (PlainProtocol::Lmtp, "LHLO") => {
            let offer = if fault == Fault::NotOffered { "" } else { "250-STARTTLS\r\n" };
            Answer::Text(format!("250-mail.test\r\n250-PIPELINING\r\n{offer}250 8BITMIME\r\n"))
        }
        (_, "STARTTLS") if refuses => Answer::Text("454 4.7.0 TLS not available due to local problem\r\n".to_owned()),
        (_, "STARTTLS") => Answer::StartTls("220 2.0.0 ready to start TLS\r\n".to_owned()),
        (_, "QUIT") => Answer::Quit("221 2.0.0 bye\r\n".to_owned()),
        (_, _) => Answer::Text("502 5.5.2 what?\r\n".to_owned()),
    }
}
