//! What Envoy says over its admin interface that it has loaded (envoyproxy.io, "Administration interface", `GET /certs`).

use std::time::Duration;

use async_trait::async_trait;
use deploy_core::{Context, Error, ErrorKind, Reload, ReloadCall};
use deploy_http::{Client, Request};
use serde::Deserialize;

/// No single look takes longer than this.
const GLANCE: Duration = Duration::from_secs(5);

/// Waits until Envoy lists the new leaf.
#[derive(Debug)]
pub(crate) struct Confirmation {
    /// The base URL, or the path of a unix socket.
    pub(crate) admin: String,
    /// The serial number of the leaf, in hexadecimal. `None` in a recovery, where nobody knows it.
    pub(crate) serial: Option<String>,
    /// How long it may take.
    pub(crate) at_most: Duration,
    /// What comes before.
    pub(crate) reload: Option<Reload>,
}

#[async_trait]
impl ReloadCall for Confirmation {
    async fn apply(&self, context: &Context) -> Result<(), Error> {
        self.undo(context).await?;
        let Some(serial) = &self.serial else { return Ok(()) };
        let builder = if self.admin.starts_with('/') {
            Client::builder("http://localhost").with_unix_socket(&self.admin)
        } else {
            Client::builder(&self.admin)
        };
        let client = &builder.with_timeout(GLANCE).build(context)?;
        if context.wait_until(self.at_most, || lists(client, serial)).await? {
            return Ok(());
        }
        let message = format!("Envoy's admin interface does not list the new certificate, serial number {serial}");
        Err(Error::new(ErrorKind::ReloadFailed, message).with_next_step(
            "read Envoy's log and the counters `sds.NAME.update_rejected` and `sds.NAME.key_rotation_failed`; does its \
             `sds_config` name the file and the secret of this target?",
        ))
    }

    /// Envoy sees by itself that the old files are back, and `verify` sees that it serves them.
    async fn undo(&self, context: &Context) -> Result<(), Error> {
        match &self.reload {
            Some(reload) => reload.carry_out(context).await,
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct Certs {
    certificates: Vec<Loaded>,
}

/// A certificate that is in use somewhere. Its path is `<inline>` even where it came from a file.
#[derive(Deserialize)]
struct Loaded {
    #[serde(default)]
    cert_chain: Vec<Details>,
}

#[derive(Deserialize)]
struct Details {
    serial_number: String,
}

async fn lists(client: &Client, serial: &str) -> Result<bool, Error> {
    let answer = client.send(Request::get(&["certs"])).await.map_err(|error| {
        error.with_next_step("start Envoy, or correct `admin`: it is `admin.address` in Envoy's configuration")
    })?;
    let certs: Certs = answer.accept(&[200])?.json()?;
    let mut chains = certs.certificates.iter().flat_map(|loaded| &loaded.cert_chain);
    Ok(chains.any(|details| same_number(&details.serial_number, serial)))
}

/// Whether two numbers in hexadecimal are the same, however they are written.
fn same_number(one: &str, other: &str) -> bool {
    let digits = |text: &str| text.replace(':', "").trim_start_matches('0').to_ascii_lowercase();
    digits(one) == digits(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_the_same_however_it_is_written() {
        assert!(same_number("0ebfd358", "0E:BF:D3:58"));
        assert!(same_number("ebfd358", "0ebfd358"));
        assert!(!same_number("ebfd358", "ebfd3580"));
    }
}
