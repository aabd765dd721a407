//! One call: a request goes out, the program runs to its end, its answer comes in.

use std::collections::BTreeMap;
use std::io;
use std::time::{Instant, SystemTime};

use deploy_core::command::{Command, CommandError, CommandOutput, Limits, OUTPUT_LIMIT};
use deploy_core::secret::{SecretBytes, SecretRef, SecretString};
use deploy_core::{Certificate, Context, Error};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::problem::{Problem, reported, without_answer};
use crate::protocol::{Answer, Kept, Material, Operation, PROTOCOL, Request};
use crate::redact::Redactor;

/// A program that speaks the protocol, for the length of one deployment.
#[derive(Debug)]
pub(crate) struct Program {
    target: String,
    command: Command,
    settings: Map<String, Value>,
    references: BTreeMap<String, SecretRef>,
    secrets: BTreeMap<String, SecretString>,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject<'a> {
    /// The target as it is.
    Target,
    /// A certificate to deploy.
    Certificate(&'a Certificate),
    /// A certificate to switch to, from this revision of the remote.
    Switch(&'a Certificate, Option<&'a str>),
    /// What to go back to.
    Snapshot(&'a deploy_core::Snapshot),
}

impl Program {
    /// Nothing is started or fetched yet.
    pub(crate) fn new(
        target: &str,
        command: Command,
        settings: Map<String, Value>,
        references: BTreeMap<String, SecretRef>,
    ) -> Self {
        Self { target: target.to_owned(), command, settings, references, secrets: BTreeMap::new() }
    }

    /// Starts the program once, and returns the result that it prints.
    pub(crate) fn ask<R: DeserializeOwned>(
        &mut self,
        operation: Operation,
        subject: Subject<'_>,
        context: &Context,
    ) -> Result<R, Error> {
        let name = self.name();
        self.fetch_secrets(operation, context)?;
        let key = match subject {
            Subject::Certificate(certificate) | Subject::Switch(certificate, _) => Some(certificate.key_pem()),
            Subject::Target | Subject::Snapshot(_) => None,
        };
        let redactor = Redactor::new(&self.secrets, key.as_ref());
        let command = self.command(operation, subject, context).map_err(|problem| without_answer(&name, operation, problem))?;
        let limits = Limits::new(context.deadline(), Some(context.cancellation()));
        let answer = match context.host().run(&command, None, &limits) {
            Ok(output) => read(output, &redactor),
            Err(error) => Err(not_run(error, &redactor)),
        };
        match answer {
            Ok(Answer { result: Some(result), .. }) => Ok(result),
            Ok(Answer { error: Some(failure), .. }) => Err(reported(&name, operation, &failure, &redactor)),
            Ok(_) => Err(without_answer(&name, operation, Problem::Neither)),
            Err(problem) => Err(without_answer(&name, operation, problem)),
        }
    }

    /// The program, for messages: without its arguments.
    pub(crate) fn name(&self) -> String {
        self.command.arguments.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Text of the program, without the secrets that it was given.
    pub(crate) fn shown(&self, text: &str) -> String {
        Redactor::new(&self.secrets, None).text(text)
    }

    /// Once, and not for the handshake: going back does not depend on where secrets come from.
    fn fetch_secrets(&mut self, operation: Operation, context: &Context) -> Result<(), Error> {
        if operation == Operation::Describe {
            return Ok(());
        }
        for (name, reference) in &self.references {
            if !self.secrets.contains_key(name) {
                self.secrets.insert(name.clone(), reference.resolve(context)?);
            }
        }
        Ok(())
    }

    /// The command with the request on its standard input.
    fn command(&self, operation: Operation, subject: Subject<'_>, context: &Context) -> Result<Command, Problem> {
        let left = context.deadline().saturating_duration_since(Instant::now());
        let request = Request {
            protocol: PROTOCOL,
            operation,
            target: &self.target,
            settings: &self.settings,
            secrets: &self.secrets,
            // Whole milliseconds are enough, and are read well.
            deadline_seconds: (self.command.timeout.min(left).as_secs_f64() * 1000.0).floor() / 1000.0,
            certificate: None,
            revision: if let Subject::Switch(_, revision) = subject { revision } else { None },
            snapshot: None,
        };
        let input = match subject {
            Subject::Target => encode(&request),
            Subject::Snapshot(snapshot) => {
                encode(&Request { snapshot: Some(Kept::new(snapshot.version, &snapshot.bytes)), ..request })
            }
            Subject::Certificate(certificate) | Subject::Switch(certificate, _) => {
                let [leaf, chain, fullchain] = [certificate.leaf_pem(), certificate.chain_pem(), certificate.fullchain_pem()];
                let [leaf, chain, fullchain] = [&leaf, &chain, &fullchain].map(|pem| String::from_utf8_lossy(pem));
                let material = Material {
                    fingerprint: certificate.fingerprint(),
                    names: certificate.names(),
                    not_before: rfc3339(certificate.not_before()),
                    not_after: rfc3339(certificate.not_after()),
                    leaf: &leaf,
                    chain: &chain,
                    fullchain: &fullchain,
                    key: &certificate.key_pem(),
                };
                encode(&Request { certificate: Some(material), ..request })
            }
        };
        let mut command = self.command.clone();
        command.input = Some(input.map_err(Problem::Request)?);
        Ok(command)
    }
}

/// Measured first: a buffer that grows would leave copies of the key behind.
fn encode(request: &Request<'_>) -> Result<SecretBytes, serde_json::Error> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, request)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0 + 1));
    serde_json::to_writer(&mut *bytes, request)?;
    bytes.push(b'\n');
    Ok(SecretBytes::from(std::mem::take(&mut *bytes)))
}

/// Counts what is written to it.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// X.509 knows no year above 9999, which is where `humantime` ends, too.
fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The answer of a program that ended. The exit status counts first: what a program printed before it failed is not
/// believed.
fn read<R: DeserializeOwned>(mut output: CommandOutput, redactor: &Redactor) -> Result<Answer<R>, Problem> {
    let printed = SecretBytes::from(std::mem::take(&mut output.stdout));
    if !output.success() {
        return Err(Problem::Ended { ending: output.ending(), said: redactor.said(&output) });
    }
    // Standard error may have been cut as well, which does no harm; where both are full, nobody can tell.
    if output.truncated && printed.len() >= OUTPUT_LIMIT {
        return Err(Problem::TooLong);
    }
    if printed.expose().trim_ascii().is_empty() {
        return Err(Problem::Silent);
    }
    parse(printed.expose(), redactor)
}

/// First whose protocol it is: what follows may have any form in another one.
fn parse<R: DeserializeOwned>(printed: &[u8], redactor: &Redactor) -> Result<Answer<R>, Problem> {
    #[derive(Deserialize)]
    struct Spoken {
        protocol: u32,
    }
    let Spoken { protocol } = serde_json::from_slice(printed).map_err(|error| {
        let text = redactor.text(&error.to_string());
        if error.is_data() { Problem::WrongForm(text) } else { Problem::NotJson(text) }
    })?;
    if protocol != PROTOCOL {
        return Err(Problem::Version(protocol.to_string()));
    }
    let mut document = serde_json::Deserializer::from_slice(printed);
    let answer: Answer<R> = serde_path_to_error::deserialize(&mut document)
        .map_err(|error| Problem::WrongForm(redactor.text(&format!("`{}`: {}", error.path(), error.inner()))))?;
    if answer.result.is_some() && answer.error.is_some() {
        return Err(Problem::Both);
    }
    Ok(answer)
}

fn not_run(error: CommandError, redactor: &Redactor) -> Problem {
    match error {
        CommandError::Timeout { after, mut output } => {
            // It may be half a snapshot.
            drop(SecretBytes::from(std::mem::take(&mut output.stdout)));
            Problem::TimedOut { after, said: redactor.said(&output) }
        }
        error => Problem::NotRun(error),
    }
}
