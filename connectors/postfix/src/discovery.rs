//! What Postfix serves, out of `postconf -x`, which prints `name = value` with all `$name` expanded.

use std::collections::HashMap;

use deploy_core::probe::{Endpoint, StartTls};
use deploy_core::{Error, Found, Look, endpoint_at};

const COMMAND: [&str; 7] =
    ["postconf", "-x", "smtpd_tls_chain_files", "smtpd_tls_cert_file", "smtpd_tls_key_file", "myhostname", "inet_interfaces"];

/// The certificate of `main.cf`, if it is in files of its own.
pub(crate) fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
    Ok(read(&look.run(&COMMAND)?).into_iter().collect())
}

fn read(parameters: &str) -> Option<Found> {
    let lines = parameters.lines().filter_map(|line| line.split_once('='));
    let values: HashMap<&str, &str> = lines.map(|(name, value)| (name.trim(), value.trim())).collect();
    let value = |name: &str| values.get(name).copied().filter(|value| !value.is_empty());
    let name = value("myhostname").filter(|name| name.contains('.'));
    let found = Found::new(name);
    // Beside chain files, Postfix ignores the other two.
    let found = match value("smtpd_tls_chain_files") {
        Some(chain_files) => found.with("chain_file", file(chain_files)?),
        None => {
            let (fullchain, key) = (file(value("smtpd_tls_cert_file")?)?, file(value("smtpd_tls_key_file")?)?);
            if fullchain == key {
                return None;
            }
            found.with("fullchain", fullchain).with("key", key)
        }
    };
    Some(match endpoint(value("inet_interfaces"), name) {
        Some(endpoint) => found.with("verify", [endpoint]),
        None => found,
    })
}

/// A single file: several hold other kinds of keys, or key and certificate apart, which nobody can tell by their names.
fn file(value: &str) -> Option<&str> {
    (value.starts_with('/') && !value.contains([',', ' ', '\t', '$'])).then_some(value)
}

/// The port for mail, as seen from this host.
fn endpoint(interfaces: Option<&str>, name: Option<&str>) -> Option<Endpoint> {
    let host = match interfaces.and_then(|list| list.split([',', ' ']).next()) {
        None | Some("all" | "loopback-only" | "localhost") => "127.0.0.1",
        Some(host) => host,
    };
    Some(endpoint_at(format!("{host}:25"), name)?.with_starttls(StartTls::Smtp))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(parameters: &str) -> Option<serde_json::Value> {
        read(parameters).map(|found| serde_json::Value::Object(found.settings))
    }

    #[test]
    fn a_pair_is_found_while_there_is_no_chain_file() {
        let pair = "smtpd_tls_cert_file = /etc/ssl/certs/mail.pem\nsmtpd_tls_key_file = /etc/ssl/private/mail.key\n";
        let expected = serde_json::json!({
            "fullchain": "/etc/ssl/certs/mail.pem",
            "key": "/etc/ssl/private/mail.key",
            "verify": [{ "connect": "127.0.0.1:25", "server_name": "mail.example.com", "starttls": "smtp" }],
        });
        let beside = "smtpd_tls_chain_files =\nmyhostname = mail.example.com\ninet_interfaces = all\n";
        assert_eq!(settings(&format!("{beside}{pair}")), Some(expected));

        let expected = serde_json::json!({
            "chain_file": "/etc/postfix/tls/mail.pem",
            "verify": [{ "connect": "192.0.2.7:25", "starttls": "smtp" }],
        });
        let beside =
            "smtpd_tls_chain_files = /etc/postfix/tls/mail.pem\nmyhostname = mail\ninet_interfaces = 192.0.2.7, 127.0.0.1\n";
        assert_eq!(settings(&format!("{beside}{pair}")), Some(expected));
    }

    #[test]
    fn what_is_no_single_file_is_left_out() {
        let both = "smtpd_tls_cert_file = /etc/postfix/mail.pem\nsmtpd_tls_key_file = /etc/postfix/mail.pem\n";
        for parameters in ["smtpd_tls_chain_files = /etc/postfix/rsa.pem, /etc/postfix/ecdsa.pem\n", both, "", "= \n=\n"] {
            assert_eq!(settings(parameters), None);
        }
    }
}
