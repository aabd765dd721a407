//! Other machines, reached with the system's own `ssh`: [`Ssh`] is a host that files are deployed to, and
//! [`SshSettings::command`] runs one line.
//!
//! An agent registers the way, and targets with `via = { ssh = { host = "web1" } }` are on that machine:
//!
//! ```
//! use deploy_core::Registry;
//! use deploy_ssh::Ssh;
//!
//! let registry = Registry::new().with_route::<Ssh>();
//! let route = registry.route("ssh").ok_or("ssh was registered above")?;
//! let web1 = route.build(serde_json::json!({ "host": "web1.example.com", "user": "root" }))?;
//! assert_eq!(web1.host.name(), "root@web1.example.com");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! One line on any machine, of Windows, too:
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
//!
//! # The host
//!
//! One POSIX shell on the other side reads `remote.sh` and answers requests, one line each; bytes of files follow on its
//! standard input. It works in a directory that it has entered by path and whose device and inode it has compared with those
//! of the directory that was opened: the kernel pins a working directory, and that is as good as a descriptor.
//!
//! SFTP (version 3, which is OpenSSH's) would not do. Its attributes have no device, inode, number of links, time of change or
//! part of a second, and the engine tells by those whether somebody else changed a file; it has no sync of directories; and its
//! server runs as the user that logs in, whatever `sudo` allows. What was wanted of it is there all the same: exclusive
//! creation with mode 0600, rename over what is there (`mv -T`, within one file system only), sync (`sync FILE`), hard links.
//!
//! Commands have a session of their own each, over the same connection. The lock is `flock(1)`, held by the shell.

mod answer;
mod client;
mod commands;
mod connection;
mod failure;
mod host;
mod quote;
mod session;
mod settings;

pub use host::Ssh;
pub use quote::quote;
pub use settings::SshSettings;
