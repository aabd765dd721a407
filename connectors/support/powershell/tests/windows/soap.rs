//! WinRM as MS-WSMV has it, strict: what a message lacks or has too much of is a fault.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_testkit::stand_in::{Answer, HttpRequest};
use roxmltree::{Document, Node};

use super::host::{Host, Running, Shell};
use super::scripts;

const S: &str = "http://www.w3.org/2003/05/soap-envelope";
const A: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing";
const W: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd";
const P: &str = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd";
const RSP: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell";
const CMD: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd";
const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";
const MOST_SHELLS: usize = 30;
/// `MaxEnvelopeSizekb`, as documented.
const MOST_BYTES: usize = 150 * 1024;

/// A fault: status, subcode, code, text.
struct Fault(u16, &'static str, u64, String);

fn fault(subcode: &'static str, code: u64, text: impl Into<String>) -> Fault {
    Fault(500, subcode, code, text.into())
}

fn schema(text: impl Into<String>) -> Fault {
    Fault(400, "w:SchemaValidationError", 2_150_858_817, text.into())
}

/// Answers one request.
pub(super) fn answer(request: &HttpRequest, host: &mut Host) -> Answer {
    if request.method != "POST" || request.path != "/wsman" {
        return Answer::new(404);
    }
    let (user, password) = &host.user;
    let wanted = if host.by_certificate {
        "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual".to_owned()
    } else {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    };
    if request.header("authorization") != Some(&wanted) {
        return Answer::new(401)
            .with_header("WWW-Authenticate", "Negotiate")
            .with_header("WWW-Authenticate", "Basic realm=\"WSMAN\"");
    }
    let kind = request.header("content-type").unwrap_or_default().replace(' ', "").to_lowercase();
    if kind != "application/soap+xml;charset=utf-8" {
        return Answer::new(415);
    }
    let text = String::from_utf8(request.body.clone()).unwrap_or_default();
    let document = match Document::parse(&text) {
        Ok(document) => document,
        Err(error) => return answer_fault(&schema(error.to_string()), ""),
    };
    let id = document.descendants().find(|node| node.has_tag_name((A, "MessageID"))).and_then(|node| node.text());
    let id = id.unwrap_or_default();
    if request.body.len() > MOST_BYTES {
        return answer_fault(&fault("w:EncodingLimit", 2_150_858_848, "The message is longer than MaxEnvelopeSize."), id);
    }
    match respond(&document, host) {
        Ok(Some((action, body))) => Answer::new(200).with_header("Content-Type", "application/soap+xml;charset=UTF-8").with_body(
            format!(
                r#"<s:Envelope xml:lang="en-US" xmlns:s="{S}" xmlns:a="{A}" xmlns:w="{W}" xmlns:x="{TRANSFER}" xmlns:rsp="{RSP}"><s:Header><a:Action>{action}Response</a:Action><a:MessageID>uuid:{id}</a:MessageID><a:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:To><a:RelatesTo>{id}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"#,
            ),
        ),
        // The handler of a script decided that nobody hears of it.
        Ok(None) => host.silence(),
        Err(refused) => answer_fault(&refused, id),
    }
}

fn answer_fault(Fault(status, subcode, code, text): &Fault, id: &str) -> Answer {
    Answer::new(*status).with_header("Content-Type", "application/soap+xml;charset=UTF-8").with_body(format!(
        r#"<s:Envelope xml:lang="en-US" xmlns:s="{S}" xmlns:a="{A}" xmlns:w="{W}" xmlns:e="http://schemas.xmlsoap.org/ws/2004/08/eventing"><s:Header><a:Action>http://schemas.dmtf.org/wbem/wsman/1/wsman/fault</a:Action><a:MessageID>uuid:{id}</a:MessageID><a:RelatesTo>{id}</a:RelatesTo></s:Header><s:Body><s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>{subcode}</s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang="en-US">{text} </s:Text></s:Reason><s:Detail><f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="{code}" Machine="web1"><f:Message>{text} </f:Message></f:WSManFault></s:Detail></s:Fault></s:Body></s:Envelope>"#
    ))
}

/// What WinRM says when the account has too many shells.
pub fn quota_fault() -> Answer {
    fault_answer("w:QuotaLimit", 2_150_859_173, "The maximum number of shells for this user was exceeded.")
}

/// A fault, whatever was asked.
pub fn fault_answer(subcode: &'static str, code: u64, text: &str) -> Answer {
    answer_fault(&fault(subcode, code, text), "")
}

fn child<'a, 'i>(node: Node<'a, 'i>, namespace: &str, name: &str) -> Result<Node<'a, 'i>, Fault> {
    let mut found = node.children().filter(|child| child.has_tag_name((namespace, name)));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(schema(format!("one {name} is needed"))),
    }
}

fn text<'a>(node: Node<'a, '_>) -> &'a str {
    node.text().unwrap_or_default()
}

fn is_number(text: &str) -> bool {
    let digits = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == 5 && parts.iter().zip([8, 4, 4, 4, 12]).all(|(part, length)| digits(part, length))
}

/// The header's rules, and then the action. `None`: nobody is told.
fn respond(document: &Document<'_>, host: &mut Host) -> Result<Option<(String, String)>, Fault> {
    let envelope = document.root_element();
    if !envelope.has_tag_name((S, "Envelope")) {
        return Err(schema("no SOAP 1.2"));
    }
    let (header, body) = (child(envelope, S, "Header")?, child(envelope, S, "Body")?);
    for node in header.children().filter(Node::is_element) {
        let known = [(A, "To"), (A, "ReplyTo"), (A, "Action"), (A, "MessageID"), (W, "ResourceURI"), (W, "MaxEnvelopeSize")];
        let optional =
            [(W, "OperationTimeout"), (W, "Locale"), (P, "DataLocale"), (P, "SessionId"), (W, "SelectorSet"), (W, "OptionSet")];
        if !known.iter().chain(&optional).any(|name| node.has_tag_name(*name)) {
            return Err(schema(format!("the header {} is not known", node.tag_name().name())));
        }
    }
    let to = text(child(header, A, "To")?);
    if !to.ends_with("/wsman") {
        return Err(fault("a:DestinationUnreachable", 2_150_858_882, "To names no service."));
    }
    let reply_to = text(child(child(header, A, "ReplyTo")?, A, "Address")?);
    if reply_to != "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous" {
        return Err(schema("ReplyTo is not anonymous"));
    }
    if !text(child(header, A, "MessageID")?).strip_prefix("uuid:").is_some_and(is_number) {
        return Err(schema("MessageID is no uuid"));
    }
    if text(child(header, W, "MaxEnvelopeSize")?).parse::<u32>().is_ok_and(|size| size < 8192) {
        return Err(fault("w:EncodingLimit", 2_150_858_848, "MaxEnvelopeSize is too small."));
    }
    if text(child(header, W, "ResourceURI")?) != CMD {
        return Err(fault("a:DestinationUnreachable", 2_150_858_752, "The resource URI is not a shell."));
    }
    let timeout = text(child(header, W, "OperationTimeout")?);
    let seconds =
        timeout.strip_prefix("PT").and_then(|rest| rest.strip_suffix('S')).and_then(|number| number.parse::<f64>().ok());
    if !seconds.is_some_and(|seconds| seconds > 0.0) {
        return Err(schema("OperationTimeout is no duration"));
    }
    let action = text(child(header, A, "Action")?).to_owned();
    let options = options(header)?;
    let selector = match child(header, W, "SelectorSet") {
        Ok(set) => {
            let selector = child(set, W, "Selector")?;
            (selector.attribute("Name") == Some("ShellId")).then(|| text(selector).to_owned())
        }
        Err(_) => None,
    };
    let request = Request { body, options: &options, shell: selector.as_deref() };
    let name = action.strip_prefix(TRANSFER).or_else(|| action.strip_prefix(RSP)).unwrap_or_default();
    let answered = match name {
        "/Create" => request.create(host)?,
        "/Command" => request.command(host)?,
        "/Send" => match request.send(host)? {
            Some(answered) => answered,
            None => return Ok(None),
        },
        "/Receive" => request.receive(host)?,
        "/Signal" => request.signal(host)?,
        "/Delete" => request.delete(host)?,
        _ => return Err(fault("a:ActionNotSupported", 2_150_858_754, "The action is not supported.")),
    };
    Ok(Some((action, answered)))
}

fn options(header: Node<'_, '_>) -> Result<Vec<(String, String)>, Fault> {
    let Ok(set) = child(header, W, "OptionSet") else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for option in set.children().filter(Node::is_element) {
        let name = option.attribute("Name").ok_or_else(|| schema("an option without a name"))?;
        let value = text(option);
        let truth = ["TRUE", "FALSE"].contains(&value.to_uppercase().as_str());
        let fits = match name {
            "WINRS_NOPROFILE" | "WINRS_SKIP_CMD_SHELL" | "WINRS_CONSOLEMODE_STDIN" | "WSMAN_CMDSHELL_OPTION_KEEPALIVE" => truth,
            "WINRS_CODEPAGE" => value.parse::<u32>().is_ok(),
            _ => false,
        };
        if !fits {
            return Err(fault("w:InvalidOptions", 2_150_858_872, format!("The option {name} is not valid.")));
        }
        found.push((name.to_owned(), value.to_owned()));
    }
    Ok(found)
}

struct Request<'a, 'i> {
    body: Node<'a, 'i>,
    options: &'a [(String, String)],
    shell: Option<&'a str>,
}

impl Request<'_, '_> {
    fn only(&self, allowed: &[&str]) -> Result<(), Fault> {
        match self.options.iter().find(|(name, _)| !allowed.contains(&name.as_str())) {
            Some((name, _)) => Err(fault("w:InvalidOptions", 2_150_858_872, format!("The option {name} is not for this."))),
            None => Ok(()),
        }
    }

    fn create(&self, host: &mut Host) -> Result<String, Fault> {
        self.only(&["WINRS_NOPROFILE", "WINRS_CODEPAGE"])?;
        let shell = child(self.body, RSP, "Shell")?;
        if text(child(shell, RSP, "InputStreams")?) != "stdin" || text(child(shell, RSP, "OutputStreams")?) != "stdout stderr" {
            return Err(schema("the streams of a shell are stdin, stdout and stderr"));
        }
        if host.shells.len() >= MOST_SHELLS {
            return Err(fault("w:QuotaLimit", 2_150_859_173, "The maximum number of shells for this user was exceeded."));
        }
        host.number += 1;
        let id = format!("{:08X}-0000-4000-8000-000000000001", host.number);
        host.shells.insert(id.clone(), Shell::default());
        Ok(format!(
            r#"<x:ResourceCreated><a:Address>https://web1:5986/wsman</a:Address><a:ReferenceParameters><w:ResourceURI>{CMD}</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">{id}</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated><rsp:Shell><rsp:ShellId>{id}</rsp:ShellId><rsp:ResourceUri>{CMD}</rsp:ResourceUri><rsp:Owner>{}</rsp:Owner><rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>"#,
            host.user.0
        ))
    }

    fn shell<'h>(&self, host: &'h mut Host) -> Result<&'h mut Shell, Fault> {
        let gone = || fault("w:InvalidSelectors", 2_150_858_843, "The shell was not found on the server.");
        host.shells.get_mut(self.shell.unwrap_or_default()).ok_or_else(gone)
    }

    fn running<'h>(&self, host: &'h mut Host, id: Option<&str>) -> Result<&'h mut Running, Fault> {
        let command = self.shell(host)?.command.as_mut();
        let unknown = || fault("w:InvalidParameter", 2_150_858_853, "The command is not known.");
        command.filter(|command| Some(command.id.as_str()) == id).ok_or_else(unknown)
    }

    fn command(&self, host: &mut Host) -> Result<String, Fault> {
        self.only(&["WINRS_SKIP_CMD_SHELL", "WINRS_CONSOLEMODE_STDIN"])?;
        let line = child(self.body, RSP, "CommandLine")?;
        let mut words = vec![text(child(line, RSP, "Command")?).to_owned()];
        words.extend(line.children().filter(|node| node.has_tag_name((RSP, "Arguments"))).map(|node| text(node).to_owned()));
        // Windows has one line: some clients send the arguments as one, others each for itself.
        words = words.join(" ").split(' ').map(str::to_owned).collect();
        if words.join(" ").len() > 8191 {
            return Err(fault("w:InternalError", 206, "The command line is too long."));
        }
        host.number += 1;
        let id = format!("{:08X}-0000-4000-8000-000000000002", host.number);
        let shell = self.shell(host)?;
        if shell.command.is_some() {
            return Err(fault("w:Concurrency", 2_150_858_990, "The shell runs a command already."));
        }
        let mut running = Running { id: id.clone(), line: words, stdin: Vec::new(), ended: false, output: Vec::new(), status: 0 };
        scripts::begin(&mut running);
        shell.command = Some(running);
        Ok(format!("<rsp:CommandResponse><rsp:CommandId>{id}</rsp:CommandId></rsp:CommandResponse>"))
    }

    fn send(&self, host: &mut Host) -> Result<Option<String>, Fault> {
        self.only(&[])?;
        let stream = child(child(self.body, RSP, "Send")?, RSP, "Stream")?;
        if stream.attribute("Name") != Some("stdin") {
            return Err(schema("input goes to stdin"));
        }
        let piece = STANDARD.decode(text(stream)).map_err(|_| schema("a stream that is not base64"))?;
        let ends = stream.attribute("End").is_some_and(|end| end.eq_ignore_ascii_case("true"));
        let running = self.running(host, stream.attribute("CommandId"))?;
        if running.ended {
            return Err(fault("w:InternalError", 232, "The pipe is being closed."));
        }
        running.stdin.extend(piece);
        running.ended = ends;
        if ends {
            let taken = self.shell(host)?.command.take();
            let Some(mut running) = taken else { return Err(schema("no command")) };
            let told = scripts::run(&mut running, host);
            self.shell(host)?.command = Some(running);
            if !told {
                return Ok(None);
            }
        }
        Ok(Some("<rsp:SendResponse/>".to_owned()))
    }

    fn receive(&self, host: &mut Host) -> Result<String, Fault> {
        self.only(&["WSMAN_CMDSHELL_OPTION_KEEPALIVE"])?;
        let wanted = child(child(self.body, RSP, "Receive")?, RSP, "DesiredStream")?;
        if text(wanted) != "stdout stderr" {
            return Err(schema("there are stdout and stderr"));
        }
        let running = self.running(host, wanted.attribute("CommandId"))?;
        let id = running.id.clone();
        let next = if running.output.is_empty() { Some(None) } else { Some(running.output.remove(0)) };
        let Some(Some(piece)) = next else {
            let text = "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.";
            return Err(fault("w:TimedOut", 2_150_858_793, text));
        };
        let stream = |name: &str, bytes: &[u8]| {
            format!(r#"<rsp:Stream Name="{name}" CommandId="{id}">{}</rsp:Stream>"#, STANDARD.encode(bytes))
        };
        let mut body = stream("stdout", &piece);
        if running.output.is_empty() {
            body += &stream("stderr", b"#< CLIXML\r\n");
            body += &format!(r#"<rsp:Stream Name="stdout" CommandId="{id}" End="true"/>"#);
            body += &format!(
                r#"<rsp:CommandState CommandId="{id}" State="{RSP}/CommandState/Done"><rsp:ExitCode>{}</rsp:ExitCode></rsp:CommandState>"#,
                running.status
            );
        } else {
            body += &format!(r#"<rsp:CommandState CommandId="{id}" State="{RSP}/CommandState/Running"/>"#);
        }
        Ok(format!("<rsp:ReceiveResponse>{body}</rsp:ReceiveResponse>"))
    }

    fn signal(&self, host: &mut Host) -> Result<String, Fault> {
        self.only(&[])?;
        let signal = child(self.body, RSP, "Signal")?;
        let code = text(child(signal, RSP, "Code")?);
        if !["terminate", "ctrl_c"].iter().any(|name| code.to_lowercase() == format!("{RSP}/signal/{name}")) {
            return Err(schema("the signal is not known"));
        }
        self.running(host, signal.attribute("CommandId"))?;
        self.shell(host)?.command = None;
        Ok("<rsp:SignalResponse/>".to_owned())
    }

    fn delete(&self, host: &mut Host) -> Result<String, Fault> {
        self.only(&[])?;
        self.shell(host)?;
        host.shells.remove(self.shell.unwrap_or_default());
        Ok(String::new())
    }
}
