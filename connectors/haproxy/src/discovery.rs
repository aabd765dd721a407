//! What HAProxy serves, out of its configuration: no command of it prints that.

use std::path::{Path, PathBuf};

use deploy_core::probe::Endpoint;
use deploy_core::{Error, Found, Look, endpoint_at};

use crate::client::Socket;
use crate::config::HaproxySettings;

/// One entry for each file that a `bind` line names.
pub(crate) fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
    let configuration = look.show(Path::new("/etc/haproxy/haproxy.cfg"))?;
    Ok(read(&configuration, |path| look.is_directory(path)))
}

fn read(configuration: &str, is_directory: impl Fn(&Path) -> bool) -> Vec<Found> {
    let lines: Vec<Vec<String>> = configuration.lines().map(words).collect();
    let base = lines.iter().find_map(|line| line.strip_prefix(&["crt-base".to_owned()])?.first());
    let socket = lines.iter().find_map(|line| admin_socket(line));
    let mut found: Vec<(PathBuf, Found)> = Vec::new();
    for line in &lines {
        let [keyword, addresses, parameters @ ..] = &line[..] else { continue };
        if keyword != "bind" || !parameters.iter().any(|word| word == "ssl") {
            continue;
        }
        let named = parameters.windows(2).filter(|pair| pair[0] == "crt");
        for (place, pair) in named.enumerate() {
            let path = base.map_or_else(|| PathBuf::from(&pair[1]), |base| Path::new(base).join(&pair[1]));
            let is_file = path.is_absolute() && !pair[1].ends_with('/') && !pair[1].contains('$') && !is_directory(&path);
            if is_file && found.iter().all(|(known, _)| *known != path) {
                // Only the first one of a line is served to a client that asks for no name.
                let endpoint = (place == 0).then(|| endpoint(addresses)).flatten();
                let entry = describe(&path, socket.as_ref(), endpoint);
                found.push((path, entry));
            }
        }
    }
    found.into_iter().map(|(_, found)| found).collect()
}

fn describe(path: &Path, socket: Option<&Socket>, endpoint: Option<Endpoint>) -> Found {
    let mut settings = HaproxySettings::new(path);
    settings.runtime.extend(socket.cloned());
    let found = Found::new([""; 0]).with("combined", path);
    // Not every name can be sent over a socket.
    let found =
        if settings.runtime.is_empty() || settings.check().is_err() { found } else { found.with("runtime", settings.runtime) };
    match endpoint {
        Some(endpoint) => found.with("verify", [endpoint]),
        None => found,
    }
}

/// The socket in `stats socket /run/haproxy/admin.sock mode 660 level admin`.
fn admin_socket(line: &[String]) -> Option<Socket> {
    let [stats, socket, path, parameters @ ..] = line else { return None };
    let is_admin = parameters.windows(2).any(|pair| pair[0] == "level" && pair[1] == "admin");
    let path = path.strip_prefix("unix@").unwrap_or(path);
    (stats == "stats" && socket == "socket" && is_admin && path.starts_with('/'))
        .then(|| Socket::try_from(path.to_owned()).ok())
        .flatten()
}

/// Where the first address of a `bind` line can be reached from this host.
fn endpoint(addresses: &str) -> Option<Endpoint> {
    let address = addresses.split(',').next()?;
    let address = address.strip_prefix("ipv4@").or_else(|| address.strip_prefix("ipv6@")).unwrap_or(address);
    let (host, port) = address.rsplit_once(':')?;
    let host = match host {
        "" | "*" | "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" | "[::]" => "[::1]".to_owned(),
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.to_owned(),
    };
    endpoint_at(format!("{host}:{port}"), None)
}

/// The words of a line: without a comment, and with quotes and backslashes taken off.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' if quote != Some('\'') => word.get_or_insert_default().extend(characters.next()),
            _ if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            '#' if quote.is_none() => break,
            c if c.is_whitespace() && quote.is_none() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURATION: &str = r#"
global
    stats socket /run/haproxy/view.sock mode 666 level user
    stats socket unix@/run/haproxy/admin.sock mode 660 level admin # for renewals
    crt-base /etc/ssl/private
frontend web
    bind :80
    bind :::443,192.0.2.7:443 ssl crt "/etc/haproxy/tls/www one.pem" crt shop.pem alpn h2
    bind 192.0.2.7:8443 ssl crt shop.pem # crt /etc/haproxy/old.pem
    # bind :444 ssl crt /etc/haproxy/off.pem
    bind *:445 ssl crt /etc/haproxy/tls.d
    bind *:446 ssl crt /etc/haproxy/tls/
    bind *:447 ssl crt-list /etc/haproxy/list
    bind *:448 ssl crt ${TLS}
    bind /run/web.sock ssl crt /etc/haproxy/www.key
backend app
    server one 192.0.2.8:443 ssl crt /etc/haproxy/client.pem
"#;

    #[test]
    fn each_file_of_a_bind_line_is_found_once() {
        let found = read(CONFIGURATION, |path| path == Path::new("/etc/haproxy/tls.d"));
        let found: Vec<_> = found.into_iter().map(|found| serde_json::Value::Object(found.settings)).collect();
        let runtime = ["/run/haproxy/admin.sock"];
        let expected = [
            serde_json::json!({
                "combined": "/etc/haproxy/tls/www one.pem",
                "runtime": runtime,
                "verify": [{ "connect": "[::1]:443" }],
            }),
            serde_json::json!({ "combined": "/etc/ssl/private/shop.pem", "runtime": runtime }),
            serde_json::json!({ "combined": "/etc/haproxy/www.key" }),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_line_ends_where_haproxy_ends_it() {
        assert_eq!(words(r#" a"b c"d 'e\' f\ g # h"#), ["ab cd", r"e\", "f g"]);
        assert_eq!(words(r#"'' "#), [""]);
        assert_eq!(words(r#"a "b"#), ["a", "b"]);
    }
}
