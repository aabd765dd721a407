//! WinRM: a remote shell of Windows over HTTPS (MS-WSMV), with one command in it at a time.

mod soap;

use std::path::PathBuf;
use std::time::Duration;

use deploy_core::secret::{SecretBytes, SecretRef, read_source_file};
use deploy_core::{Context, Error, ErrorKind, SettingError};
use deploy_http::{Client, Request};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answer::Output;
use crate::random;
use soap::{Action, OPERATION_TIMEOUT, PIECE, Reply, message, reply};

/// What a script prints is longer only by mistake.
const MOST_OUTPUT: usize = 16 << 20;
/// The longest certificate file, in bytes.
const SIZE_LIMIT: u64 = 1 << 20;
/// The authorization header of a client that shows a certificate (MS-WSMV, 2.2.1).
const BY_CERTIFICATE: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual";

/// A Windows host that is reached over WinRM. Always HTTPS: without it, the key would go over the network in the clear.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WinrmSettings {
    /// Name or address of the host, as its certificate has it. Required.
    ///
    /// Example: `host = "web1.example.com"`.
    pub host: String,

    /// The port of WinRM's HTTPS listener.
    ///
    /// Default: `5986`.
    /// Example: `port = 5986`.
    #[serde(default = "default_port")]
    pub port: u16,

    /// A local account of the host, for Basic authentication; with `password`.
    ///
    /// Default: absent. Example: `user = "certdeploy"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,

    /// Where its password is found: a reference, never the password itself.
    ///
    /// Default: absent. Example: `password = "file:/etc/certdeploy/web1.password"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,

    /// A file with a client certificate and its chain, as PEM, instead of `user`; with `client_key`.
    ///
    /// Default: absent. Example: `client_certificate = "/etc/certdeploy/client.pem"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,

    /// Where the key of the client certificate is found, as PEM.
    ///
    /// Default: absent. Example: `client_key = "file:/etc/certdeploy/client.key"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<SecretRef>,

    /// A file of PEM certificates that vouch for the host, instead of this machine's authorities.
    ///
    /// The certificate of a listener that signed it itself can stand there. Default: absent.
    /// Example: `ca_file = "/etc/certdeploy/web1.pem"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl WinrmSettings {
    /// With Basic authentication, everything else at its default.
    #[must_use]
    pub fn new(host: impl Into<String>, user: impl Into<String>, password: SecretRef) -> Self {
        Self {
            host: host.into(),
            port: default_port(),
            user: Some(user.into()),
            password: Some(password),
            client_certificate: None,
            client_key: None,
            ca_file: None,
        }
    }

    pub(crate) fn check(&self, setting: &str) -> Result<(), SettingError> {
        let error = |field: &str, message: &str| Err(SettingError::new(format!("{setting}.{field}"), message));
        if self.host.is_empty() || self.host.contains(['/', '@', '?', '#']) || self.host.contains(char::is_whitespace) {
            return error("host", "is not the name or the address of a host");
        }
        if deploy_http::check_url(&self.url()).is_err() {
            return error("host", "is not the name or the address of a host");
        }
        match (&self.user, &self.password, &self.client_certificate, &self.client_key) {
            (Some(user), Some(_), None, None) if user.is_empty() || user.contains(':') => {
                error("user", "is not the name of an account: Basic authentication takes no colon")
            }
            (Some(user), Some(_), None, None) if user.contains(['\\', '@']) => {
                error("user", "is of a domain: WinRM takes Basic authentication for local accounts only")
            }
            (Some(_), Some(_), None, None) | (None, None, Some(_), Some(_)) => Ok(()),
            _ => error("user", "is needed together with `password`, or else `client_certificate` with `client_key`"),
        }
    }

    fn url(&self) -> String {
        let address = self.host.parse::<std::net::Ipv6Addr>();
        let host = address.map_or_else(|_| self.host.clone(), |address| format!("[{address}]"));
        format!("https://{host}:{}", self.port)
    }

    fn client(&self, context: &Context) -> Result<Client, Error> {
        let builder = Client::builder(&self.url())
            .with_ca_file(self.ca_file.clone())
            .with_body_limit(MOST_OUTPUT)
            // The host holds an answer back for as long as there is nothing to say.
            .with_timeout(Duration::from_secs(OPERATION_TIMEOUT + 20));
        if let (Some(user), Some(password)) = (&self.user, &self.password) {
            return builder.with_basic_auth(user, &password.resolve(context)?).build(context);
        }
        let (Some(file), Some(key)) = (&self.client_certificate, &self.client_key) else {
            return Err(Error::new(ErrorKind::ConfigurationInvalid, "WinRM needs a user, or a client certificate"));
        };
        let (certificate, _) = read_source_file(context.host(), file, SIZE_LIMIT).map_err(|error| {
            Error::new(ErrorKind::ConfigurationInvalid, "the client certificate cannot be used").with_source(error)
        })?;
        let key = SecretBytes::from(key.resolve(context)?.expose().as_bytes());
        builder.with_client_certificate(certificate.expose(), key).build(context)
    }

    /// Runs a command in a shell of its own.
    pub(crate) async fn run(&self, command: &[String], input: &SecretBytes, context: &Context) -> Result<Output, Error> {
        let remote = RemoteShell {
            client: self.client(context)?,
            to: format!("{}/wsman", self.url()),
            session: format!("uuid:{}", random::uuid(context)?),
            by_certificate: self.client_certificate.is_some(),
            context,
        };
        let Reply::Shell(shell) = remote.ask(Action::Create).await? else { return Err(confused()) };
        let output = remote.run(&shell, command, input).await;
        // What came out counts. A shell that cannot be deleted ends when it has been idle for a while.
        if !output.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout) {
            drop(remote.ask(Action::Delete { shell: &shell }).await);
        }
        output
    }
}

struct RemoteShell<'a> {
    client: Client,
    to: String,
    session: String,
    by_certificate: bool,
    context: &'a Context,
}

impl RemoteShell<'_> {
    async fn run(&self, shell: &str, command: &[String], input: &SecretBytes) -> Result<Output, Error> {
        let Reply::Command(number) = self.ask(Action::Command { shell, command }).await? else { return Err(confused()) };
        let pieces: Vec<&[u8]> = input.expose().chunks(PIECE).collect();
        for (index, piece) in pieces.iter().enumerate() {
            let last = index + 1 == pieces.len();
            self.ask(Action::Send { shell, command: &number, piece, last }).await?;
        }
        let mut output = Output::default();
        while output.status.is_none() {
            match self.ask(Action::Receive { shell, command: &number }).await? {
                Reply::Output { stdout, stderr, done } => {
                    output.stdout.extend(stdout);
                    output.stderr.extend(stderr);
                    output.status = done;
                }
                Reply::NothingYet => {}
                _ => return Err(confused()),
            }
            if output.stdout.len() + output.stderr.len() > MOST_OUTPUT {
                return Err(Error::new(ErrorKind::Unavailable, format!("a script printed more than {MOST_OUTPUT} bytes")));
            }
        }
        // It has ended; this lets its number go.
        drop(self.ask(Action::Terminate { shell, command: &number }).await);
        Ok(output)
    }

    /// One message and its answer. A fault of WS-Management comes as 500, or as 400.
    async fn ask(&self, action: Action<'_>) -> Result<Reply, Error> {
        let id = format!("uuid:{}", random::uuid(self.context)?);
        let mut request = Request::post(&["wsman"])
            .with_header("accept-encoding", "identity")
            .with_body("application/soap+xml;charset=UTF-8", message(action, &self.to, &id, &self.session));
        if self.by_certificate {
            request = request.with_header("authorization", BY_CERTIFICATE);
        }
        let answer = self.client.send(request).await?;
        match answer.status() {
            200 => reply(answer.body().expose(), &id),
            400 | 500 if answer.body().expose().trim_ascii_start().starts_with(b"<") => reply(answer.body().expose(), &id),
            401 => Err(answer
                .error()
                .with_next_step("check the account, and that the host allows this way: `winrm get winrm/config/service/auth`")),
            _ => Err(answer.error()),
        }
    }
}

fn confused() -> Error {
    Error::new(ErrorKind::Unavailable, "the host answers to something else than it was asked")
}

fn default_port() -> u16 {
    5986
}
