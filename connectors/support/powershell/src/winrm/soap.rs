//! The messages of WS-Management for a remote shell (MS-WSMV), and nothing that is sent.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_core::secret::{SecretBytes, withhold};
use deploy_core::{Error, ErrorKind, Retry};
use roxmltree::{Document, Node};
use zeroize::Zeroizing;

const ENVELOPE: &str = "http://www.w3.org/2003/05/soap-envelope";
const ADDRESSING: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing";
const WSMAN: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd";
const WSMV: &str = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd";
const SHELL: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell";
const FAULT: &str = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault";
const ANONYMOUS: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous";
const RESOURCE: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd";

/// What every host takes, old ones included (`MaxEnvelopeSizekb`).
const MOST_BYTES: usize = 153_600;
/// So much of standard input goes into one message: in base64 it stays under that, with its header.
pub(super) const PIECE: usize = 96 * 1024;
/// How long the host holds back an answer of which there is nothing yet, in seconds.
pub(super) const OPERATION_TIMEOUT: u64 = 20;
/// A shell that nobody asks about ends after so many seconds.
const IDLE_TIMEOUT: u64 = 120;
/// `ERROR_WSMAN_OPERATION_TIMEDOUT`: there is nothing yet.
const NOTHING_YET: &str = "2150858793";
/// A quota was met; nothing says for how long.
const QUOTA_WAIT: Duration = Duration::from_secs(2);

/// What is asked.
#[derive(Clone, Copy)]
pub(super) enum Action<'a> {
    Create,
    Command { shell: &'a str, command: &'a [String] },
    Send { shell: &'a str, command: &'a str, piece: &'a [u8], last: bool },
    Receive { shell: &'a str, command: &'a str },
    Terminate { shell: &'a str, command: &'a str },
    Delete { shell: &'a str },
}

/// A message, from header to body.
pub(super) fn message(action: Action<'_>, to: &str, id: &str, session: &str) -> SecretBytes {
    let (name, options): (&str, &[(&str, &str)]) = match action {
        Action::Create => (
            "http://schemas.xmlsoap.org/ws/2004/09/transfer/Create",
            // 65001 is UTF-8.
            &[("WINRS_NOPROFILE", "TRUE"), ("WINRS_CODEPAGE", "65001")],
        ),
        Action::Command { .. } => {
            ("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Command", &[("WINRS_SKIP_CMD_SHELL", "FALSE")])
        }
        Action::Send { .. } => ("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Send", &[]),
        Action::Receive { .. } => {
            ("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Receive", &[("WSMAN_CMDSHELL_OPTION_KEEPALIVE", "TRUE")])
        }
        Action::Terminate { .. } => ("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Signal", &[]),
        Action::Delete { .. } => ("http://schemas.xmlsoap.org/ws/2004/09/transfer/Delete", &[]),
    };
    let options: String = options.iter().map(|(name, value)| format!(r#"<w:Option Name="{name}">{value}</w:Option>"#)).collect();
    let options = if options.is_empty() { options } else { format!("<w:OptionSet>{options}</w:OptionSet>") };
    let selector = action.shell().map_or_else(String::new, |shell| {
        format!(r#"<w:SelectorSet><w:Selector Name="ShellId">{}</w:Selector></w:SelectorSet>"#, escaped(shell))
    });
    let to = escaped(to);
    let head = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="{ENVELOPE}" xmlns:a="{ADDRESSING}" xmlns:w="{WSMAN}" xmlns:p="{WSMV}" xmlns:rsp="{SHELL}"><s:Header><a:To>{to}</a:To><a:ReplyTo><a:Address s:mustUnderstand="true">{ANONYMOUS}</a:Address></a:ReplyTo><a:Action s:mustUnderstand="true">{name}</a:Action><a:MessageID>{id}</a:MessageID><w:ResourceURI s:mustUnderstand="true">{RESOURCE}</w:ResourceURI><w:MaxEnvelopeSize s:mustUnderstand="true">{MOST_BYTES}</w:MaxEnvelopeSize><w:OperationTimeout>PT{OPERATION_TIMEOUT}S</w:OperationTimeout><w:Locale xml:lang="en-US" s:mustUnderstand="false"/><p:DataLocale xml:lang="en-US" s:mustUnderstand="false"/><p:SessionId s:mustUnderstand="false">{session}</p:SessionId>{selector}{options}</s:Header><s:Body>"#,
    );
    let body = action.body();
    // Allocated in full: what is sent holds a key.
    let mut text = Zeroizing::new(String::with_capacity(head.len() + body.len() + 32));
    for part in [&head, &*body, "</s:Body></s:Envelope>"] {
        text.push_str(part);
    }
    SecretBytes::from(text.as_bytes())
}

impl Action<'_> {
    fn shell(&self) -> Option<&str> {
        match self {
            Self::Create => None,
            Self::Command { shell, .. }
            | Self::Send { shell, .. }
            | Self::Receive { shell, .. }
            | Self::Terminate { shell, .. }
            | Self::Delete { shell } => Some(shell),
        }
    }

    fn body(&self) -> Zeroizing<String> {
        Zeroizing::new(match self {
            Self::Create => format!(
                "<rsp:Shell><rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams>\
                 <rsp:IdleTimeOut>PT{IDLE_TIMEOUT}S</rsp:IdleTimeOut></rsp:Shell>"
            ),
            Self::Command { command, .. } => {
                let mut line = String::from("<rsp:CommandLine>");
                for (index, word) in command.iter().enumerate() {
                    let name = if index == 0 { "Command" } else { "Arguments" };
                    line.push_str(&format!("<rsp:{name}>{}</rsp:{name}>", escaped(word)));
                }
                line + "</rsp:CommandLine>"
            }
            Self::Send { command, piece, last, .. } => {
                let start = format!(r#"<rsp:Send><rsp:Stream Name="stdin" CommandId="{}" End="{last}">"#, escaped(command));
                let mut text = String::with_capacity(start.len() + piece.len() / 3 * 4 + 64);
                text.push_str(&start);
                STANDARD.encode_string(piece, &mut text);
                text.push_str("</rsp:Stream></rsp:Send>");
                text
            }
            Self::Receive { command, .. } => format!(
                r#"<rsp:Receive><rsp:DesiredStream CommandId="{}">stdout stderr</rsp:DesiredStream></rsp:Receive>"#,
                escaped(command)
            ),
            Self::Terminate { command, .. } => format!(
                r#"<rsp:Signal CommandId="{}"><rsp:Code>{SHELL}/signal/Terminate</rsp:Code></rsp:Signal>"#,
                escaped(command)
            ),
            Self::Delete { .. } => String::new(),
        })
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The shell's number, from a `Create`.
    Shell(String),
    /// The command's number, from a `Command`.
    Command(String),
    /// What a command printed meanwhile, from a `Receive`; with the status if it has ended.
    Output { stdout: Vec<u8>, stderr: Vec<u8>, done: Option<i32> },
    /// The command runs and prints nothing.
    NothingYet,
    /// Of any other request.
    Done,
}

/// Reads the answer to the message of this number.
pub(super) fn reply(body: &[u8], id: &str) -> Result<Reply, Error> {
    let text = std::str::from_utf8(body).map_err(|error| strange("no text").with_source(error))?;
    // Document type definitions are refused by the parser, and with them entities.
    let document = Document::parse(text).map_err(|error| strange("no XML").with_source(error))?;
    let body = find(document.root_element(), ENVELOPE, "Body").ok_or_else(|| strange("no SOAP"))?;
    if let Some(fault) = find(body, ENVELOPE, "Fault") {
        return self::fault(fault);
    }
    let relates = document.descendants().find(|node| node.has_tag_name((ADDRESSING, "RelatesTo")));
    if relates.and_then(|node| node.text()) != Some(id) {
        return Err(strange("an answer to another message"));
    }
    let text = |node: Node<'_, '_>| node.text().unwrap_or_default().trim().to_owned();
    if let Some(created) = body.descendants().find(|node| node.has_tag_name((WSMAN, "Selector"))) {
        return Ok(Reply::Shell(text(created)));
    }
    if let Some(command) = body.descendants().find(|node| node.has_tag_name((SHELL, "CommandId"))) {
        return Ok(Reply::Command(text(command)));
    }
    match find(body, SHELL, "ReceiveResponse") {
        Some(received) => output(received),
        None => Ok(Reply::Done),
    }
}

fn output(received: Node<'_, '_>) -> Result<Reply, Error> {
    let (mut stdout, mut stderr, mut done) = (Vec::new(), Vec::new(), None);
    for node in received.children().filter(Node::is_element) {
        match node.tag_name().name() {
            "Stream" => {
                let stream = if node.attribute("Name") == Some("stderr") { &mut stderr } else { &mut stdout };
                let text: String = node.text().unwrap_or_default().split_whitespace().collect();
                let bytes = STANDARD.decode(text).map_err(|error| strange("a stream that is not base64").with_source(error))?;
                stream.extend(bytes);
            }
            "CommandState" if node.attribute("State").is_some_and(|state| state.ends_with("/Done")) => {
                let code = find(node, SHELL, "ExitCode").and_then(|code| code.text()).and_then(|code| code.trim().parse().ok());
                done = Some(code.unwrap_or_default());
            }
            _ => {}
        }
    }
    Ok(Reply::Output { stdout, stderr, done })
}

fn fault(fault: Node<'_, '_>) -> Result<Reply, Error> {
    let subcode = fault.descendants().find(|node| node.has_tag_name((ENVELOPE, "Subcode")));
    let subcode = subcode.and_then(|node| find(node, ENVELOPE, "Value")).and_then(|node| node.text()).unwrap_or_default();
    let subcode = subcode.rsplit(':').next().unwrap_or_default();
    let detail = fault.descendants().find(|node| node.has_tag_name((FAULT, "WSManFault")));
    let code = detail.and_then(|node| node.attribute("Code")).unwrap_or_default();
    if code == NOTHING_YET || subcode == "TimedOut" {
        return Ok(Reply::NothingYet);
    }
    let reason = |node: Node<'_, '_>| {
        let texts: String = node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect();
        texts.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let said = detail
        .map(reason)
        .filter(|said| !said.is_empty())
        .or_else(|| fault.descendants().find(|node| node.has_tag_name((ENVELOPE, "Reason"))).map(reason));
    let said: String = withhold(&said.unwrap_or_default()).chars().take(500).collect();
    let error = |kind, message: &str| Error::new(kind, format!("{message}: {said} ({subcode}, code {code})"));
    Err(match subcode {
        "AccessDenied" => error(ErrorKind::PermissionDenied, "WinRM refuses")
            .with_next_step("give the account the right to a remote shell: the group Administrators, and `winrm configSDDL`"),
        "QuotaLimit" => error(ErrorKind::RateLimited, "WinRM has too much to do").with_retry(Retry::After(QUOTA_WAIT)),
        // The service was restarted, or the shell's time was over. Every script can be run again.
        "InvalidSelectors" => error(ErrorKind::Unavailable, "the remote shell is gone").with_retry(Retry::Later),
        "EncodingLimit" => error(ErrorKind::ConfigurationInvalid, "WinRM takes no message of that size")
            .with_next_step("set MaxEnvelopeSizekb of the host to 150 or more"),
        _ => error(ErrorKind::Unavailable, "WinRM cannot do it"),
    })
}

fn find<'a, 'i>(node: Node<'a, 'i>, namespace: &str, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name((namespace, name)))
}

fn strange(what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the host answers with {what}"))
        .with_next_step("see whether WinRM listens at the host and the port of the settings")
}
