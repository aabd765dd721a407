//! Other machines, reached with the system's own `ssh`.
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//!
//! use deploy_core::command::Limits;
//! use deploy_core::host::{Host as _, Local};
//! use deploy_core::secret::SecretBytes;
//! use deploy_ssh::{SshSettings, quote};
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let machine = SshSettings::new("web1.example.com");
//! machine.check()?;
//! let mut command = machine.command(quote(["openssl", "pkey", "-noout"]));
//! command.input = Some(SecretBytes::from(b"what it reads".to_vec()));
//! let output = Local::new().run(&command, None, &Limits::new(Instant::now() + Duration::from_secs(30), None))?;
//! if output.code == Some(255) {
//!     return Err(machine.failure(&output).into());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is decided here
//!
//! - The **system's `ssh`** does it: agents, certificates, hardware keys, jump hosts and `~/.ssh/config` work as they do for
//!   the operator, and cryptography is OpenSSH's. The environment is not passed on; an agent is named by its socket.
//! - **Host keys are always checked** (`StrictHostKeyChecking=yes`), and no setting or configuration file turns that off.
//! - Nobody is ever asked for anything (`BatchMode=yes`): passwords and passphrases are not supported.
//! - Secrets go through standard input, never through a command line.

mod client;
mod failure;
mod quote;
mod settings;

pub use quote::quote;
pub use settings::SshSettings;
