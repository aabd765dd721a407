//! What Dovecot serves, out of `doveconf -nP`. Without `-P` Dovecot hides where the key is.

use deploy_core::probe::{Endpoint, StartTls};
use deploy_core::{Error, Found, Look, endpoint_at};

/// Services with TLS, in the order in which they are thought of for `verify`.
const LISTENERS: [(&str, &str, u16, Option<StartTls>); 4] = [
    ("imap", "imap", 143, Some(StartTls::Imap)),
    ("imap", "imaps", 993, None),
    ("pop3", "pop3", 110, Some(StartTls::Pop3)),
    ("pop3", "pop3s", 995, None),
];

/// One entry for each pair of files.
pub(crate) fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
    Ok(read(&look.run(&["doveconf", "-nP"])?))
}

fn read(configuration: &str) -> Vec<Found> {
    let lines = lines(configuration);
    let mut found: Vec<Found> = Vec::new();
    for line in lines.iter().filter(|line| matches!(&*line.name, "ssl_cert" | "ssl_server_cert_file")) {
        let is_key = |other: &&Line<'_>| other.blocks == line.blocks && matches!(&*other.name, "ssl_key" | "ssl_server_key_file");
        let key = lines.iter().find(is_key).and_then(Line::file);
        let (Some(fullchain), Some(key)) = (line.file(), key.filter(|key| Some(*key) != line.file())) else { continue };
        let new = Found::new(line.names()).with("fullchain", fullchain).with("key", key);
        let is_known = |known: &&mut Found| ["fullchain", "key"].iter().all(|file| known.settings[*file] == new.settings[*file]);
        if let Some(known) = found.iter_mut().find(is_known) {
            known.names.extend(new.names);
            continue;
        }
        // What is served at one address or for one protocol only is not looked for elsewhere.
        let everywhere = line.blocks.iter().all(|block| block.starts_with("local_name "));
        found.push(match endpoint(&lines, new.names.first()).filter(|_| everywhere) {
            Some(endpoint) => new.with("verify", [endpoint]),
            None => new,
        });
    }
    found
}

/// `name = value`, and the blocks that it stands in.
struct Line<'a> {
    blocks: Vec<&'a str>,
    name: String,
    value: &'a str,
}

impl<'a> Line<'a> {
    /// The path in `</etc/dovecot/tls/mail.crt`, and the same without `<`, as 2.4 has it.
    fn file(&self) -> Option<&'a str> {
        let path = self.value.strip_prefix('<').unwrap_or(self.value).trim();
        (path.starts_with('/') && !path.contains('%')).then_some(path)
    }

    fn names(&self) -> impl Iterator<Item = &'a str> {
        self.blocks.last().and_then(|block| block.strip_prefix("local_name ")).into_iter().flat_map(str::split_whitespace)
    }
}

fn lines(configuration: &str) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut blocks: Vec<&str> = Vec::new();
    for line in configuration.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some((name, value)) = line.split_once(" =") {
            let value = value.trim().trim_matches('"');
            // In 2.4 a block of this name is another way to write a prefix.
            lines.push(match blocks.split_last() {
                Some((&"ssl_server", around)) => Line { blocks: around.to_vec(), name: format!("ssl_server_{name}"), value },
                _ => Line { blocks: blocks.clone(), name: name.to_owned(), value },
            });
        } else if let Some(opening) = line.strip_suffix('{') {
            blocks.push(opening.trim());
        } else if line == "}" {
            blocks.pop();
        }
    }
    lines
}

/// The first port at which there is TLS, as seen from this host.
fn endpoint(lines: &[Line<'_>], name: Option<&String>) -> Option<Endpoint> {
    let value =
        |blocks: &[&str], name: &str| lines.iter().find(|line| line.blocks == blocks && line.name == name).map(|line| line.value);
    let speaks = |protocol: &str| {
        value(&[], "protocols").is_none_or(|protocols| protocols.split_whitespace().any(|spoken| spoken == protocol))
    };
    LISTENERS.iter().filter(|(protocol, ..)| speaks(protocol)).find_map(|(protocol, listener, usual, starttls)| {
        let (service, listener) = (format!("service {protocol}-login"), format!("inet_listener {listener}"));
        let own = |name| value(&[&*service, &*listener], name);
        let port = own("port").map_or(Some(*usual), |port| port.parse().ok()).filter(|port| *port != 0)?;
        let addresses = own("address").or_else(|| value(&[], "listen")).unwrap_or("*");
        let host = match addresses.split([',', ' ']).next() {
            Some("*" | "0.0.0.0" | "") | None => "127.0.0.1".to_owned(),
            Some("::") => "[::1]".to_owned(),
            Some(address) if address.contains(':') => format!("[{address}]"),
            Some(address) => address.to_owned(),
        };
        let name = name.filter(|name| !name.contains('*')).map(String::as_str);
        let endpoint = endpoint_at(format!("{host}:{port}"), name)?;
        Some(match starttls {
            Some(starttls) => endpoint.with_starttls(*starttls),
            None => endpoint,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_found_with_the_names_that_it_is_for() {
        // Printed by Dovecot 2.3.19.1, and shortened.
        let found = read(
            r#"# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf
# Hostname: mail
passdb {
  args = /etc/dovecot/users
  driver = passwd-file
}
protocols = " imap pop3"
service imap-login {
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    address = 192.0.2.7, ::
    port = 1993
    ssl = yes
  }
}
ssl_cert = </etc/dovecot/tls/mail.crt
ssl_key = </etc/dovecot/tls/mail.key
protocol pop3 {
  ssl_cert = </etc/dovecot/tls/pop3.crt
  ssl_key = </etc/dovecot/tls/pop3.key
}
local_name a.example.org b.example.org {
  ssl_cert = </etc/dovecot/tls/org.crt
  ssl_key = </etc/dovecot/tls/org.key
}
local_name c.example.org {
  ssl_cert = </etc/dovecot/tls/org.crt
  ssl_key = </etc/dovecot/tls/org.key
}
local_name d.example.org {
  ssl_cert = </etc/dovecot/tls/both.pem
  ssl_key = </etc/dovecot/tls/both.pem
}
local_name e.example.org {
  ssl_cert = </etc/dovecot/tls/e.crt
  ssl_key = # hidden, use -P to show it
}
"#,
        );
        let names: Vec<String> = found.iter().map(|found| found.names.join(" ")).collect();
        assert_eq!(names, ["", "", "a.example.org b.example.org c.example.org"]);
        let files = found.iter().map(|found| found.settings["fullchain"].as_str().unwrap_or_default());
        assert_eq!(files.collect::<Vec<_>>(), ["mail", "pop3", "org"].map(|name| format!("/etc/dovecot/tls/{name}.crt")));
        assert_eq!(found[2].settings["key"], "/etc/dovecot/tls/org.key");
        let verify = |found: &Found| found.settings.get("verify").cloned();
        assert_eq!(verify(&found[0]), Some(serde_json::json!([{ "connect": "192.0.2.7:1993" }])));
        assert_eq!(verify(&found[1]), None);
        let expected = serde_json::json!([{ "connect": "192.0.2.7:1993", "server_name": "a.example.org" }]);
        assert_eq!(verify(&found[2]), Some(expected));
    }

    #[test]
    fn both_ways_of_writing_of_2_4_are_read() {
        let expected = serde_json::json!({
            "fullchain": "/etc/dovecot/tls/mail.crt",
            "key": "/etc/dovecot/tls/mail.key",
            "verify": [{ "connect": "127.0.0.1:143", "starttls": "imap" }],
        });
        for text in [
            "ssl_server_cert_file = /etc/dovecot/tls/mail.crt\nssl_server_key_file = /etc/dovecot/tls/mail.key\n",
            "ssl_server {\n  cert_file = /etc/dovecot/tls/mail.crt\n  key_file = /etc/dovecot/tls/mail.key\n}\n",
        ] {
            let [found] = &read(text)[..] else { panic!("{text}") };
            assert_eq!(serde_json::Value::Object(found.settings.clone()), expected);
        }
        assert!(read("}}\n = \n{\nssl_cert =\n").is_empty());
    }
}
