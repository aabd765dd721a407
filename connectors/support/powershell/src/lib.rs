//! What connectors to Windows share: PowerShell scripts as data, and the ways to run them on a host.
//!
//! ```no_run
//! use deploy_core::{Context, Error};
//! use deploy_powershell::{FindCertificates, Connection, WinrmSettings};
//!
//! # async fn example(context: Context, password: deploy_core::secret::SecretRef) -> Result<(), Error> {
//! let connection = Connection::Winrm(WinrmSettings::new("web1.example.com", "certdeploy", password));
//! let call = FindCertificates { store: "My", mark: "[certdeploy:front ", thumbprints: &[] };
//! let found = connection.call(&call, &context).await?;
//! println!("Windows build {}: {:?}", found.build, found.result.certificates);
//! # Ok(())
//! # }
//! ```
//!
//! # What is decided here
//!
//! - **Scripts are data.** Each is a file below `src/scripts`, the same in every run; its arguments have a type in
//!   [`library`](FindCertificates) and come as JSON through standard input. Nothing is spliced into a script, and nothing but a
//!   short fixed loader stands on a command line. So no name can become code, no limit of `cmd.exe` counts, and neither a
//!   list of processes nor the log of script blocks shows a key.
//! - Windows PowerShell 5.1, 64 bit, as an administrator, in full language mode: anything else is refused by name.
//! - A script stops at the first error, and prints one line of JSON in ASCII with a number that is new every time. Without that
//!   line what it did is not known, and it can be run again: every script looks before it changes.
//! - One script at a time runs on a host (a mutex of the system): one whose answer was lost may still be at work.
//! - A PFX has a password that is used once, and an encryption that the Windows in question reads.
//!
//! # WinRM
//!
//! HTTPS only; the host's certificate is verified, with no switch against it. Basic authentication and client certificates. There
//! is no Negotiate: Kerberos needs the system's C library or a large crate that is young, and NTLM is on its way out.
//!
//! # SSH
//!
//! The system's own `ssh`, with Windows' OpenSSH server at the other end: keys, agents, certificates and jump hosts as
//! `deploy-ssh` has them. The remote command is made of words that no shell reads as anything else.
//!
//! None of this was run on Windows: there was none. It was built from Microsoft's documents and from what widely used clients
//! do; tests use a stand-in that such clients (pywinrm, pypsrp) agree with.

mod answer;
mod connection;
mod library;
mod mark;
mod pfx;
mod random;
mod script;
mod ssh;
mod store;
mod winrm;

pub use answer::{Answer, Output};
pub use connection::Connection;
pub use library::{
    Binding, BindingChange, BindingsSet, Call, FileRead, FileWrite, FilesRead, FilesWritten, FindBindings, FindCertificates,
    FoundBindings, FoundCertificates, ImportCertificate, Imported, Mapping, NameCertificates, Named, NewName, ReadFiles,
    RemoveCertificates, Removed, SetBindings, StoredCertificate, WriteFiles,
};
pub use mark::{Mark, Standing, Tag};
pub use pfx::{Pfx, check_key, thumbprint};
pub use script::{Script, command};
pub use store::{Found, Import, SavedName, Store};
pub use winrm::WinrmSettings;
