//! What Apache serves, out of the list of its virtual hosts and the files that they stand in.

use std::path::Path;

use deploy_core::probe::Endpoint;
use deploy_core::{Error, Found, Look, endpoint_at};

/// One entry for each certificate that a virtual host names.
pub(crate) fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
    let list = look.run(&["apachectl", "-t", "-D", "DUMP_VHOSTS"])?;
    let mut hosts: Vec<Host> = Vec::new();
    for (file, line) in places(&list) {
        let Some(text) = look.read(Path::new(file))? else { continue };
        if let Some(host) = Host::read(&text, line) {
            match hosts.iter_mut().find(|known| known.has_files_of(&host)) {
                Some(known) => known.names.extend(host.names),
                None => hosts.push(host),
            }
        }
    }
    Ok(hosts.into_iter().map(Host::found).collect())
}

/// File and line of each virtual host, once, as in `*:443  www.example.com (/etc/apache2/sites-enabled/www.conf:1)`.
fn places(list: &str) -> Vec<(&str, usize)> {
    let mut places = Vec::new();
    for line in list.lines() {
        let place = line.trim_end().strip_suffix(')').and_then(|line| line.rsplit_once('(')?.1.rsplit_once(':'));
        if let Some((file, Ok(number))) = place.map(|(file, number)| (file, number.parse()))
            && !places.contains(&(file, number))
        {
            places.push((file, number));
        }
    }
    places
}

/// A virtual host with certificate and key in files of their own.
struct Host {
    address: String,
    names: Vec<String>,
    certificate: String,
    key: String,
    chain: Option<String>,
}

impl Host {
    /// The one that begins in this line, counted from 1.
    fn read(text: &str, line: usize) -> Option<Self> {
        let mut lines = text.lines().skip(line.checked_sub(1)?).map(str::trim);
        let opening = lines.next()?.strip_prefix('<')?.trim_end_matches('>');
        let (_, addresses) = opening.split_once(char::is_whitespace)?;
        let address = addresses.split_whitespace().next()?.trim_matches('"').to_owned();
        let (mut names, mut certificate, mut key, mut chain) = (Vec::new(), None, None, None);
        for line in lines.take_while(|line| !line.to_ascii_lowercase().starts_with("</virtualhost")) {
            let Some((directive, arguments)) = line.split_once(char::is_whitespace) else { continue };
            let path = Some(arguments.trim().trim_matches('"').to_owned());
            match directive.to_ascii_lowercase().as_str() {
                "servername" => names.insert(0, arguments.trim().to_owned()),
                "serveralias" => names.extend(arguments.split_whitespace().map(str::to_owned)),
                "sslcertificatefile" => certificate = path,
                "sslcertificatekeyfile" => key = path,
                "sslcertificatechainfile" => chain = path,
                _ => {}
            }
        }
        let is_file = |path: &String| path.starts_with('/') && !path.contains("${");
        let (certificate, key) = (certificate.filter(is_file)?, key.filter(is_file)?);
        let chain = chain.filter(is_file);
        (certificate != key).then_some(Self { address, names, certificate, key, chain })
    }

    fn has_files_of(&self, other: &Self) -> bool {
        (&self.certificate, &self.key, &self.chain) == (&other.certificate, &other.key, &other.chain)
    }

    fn found(self) -> Found {
        let bare = |name: String| name.rsplit_once("://").map_or(name.clone(), |(_, host)| host.to_owned());
        let bare = |name| bare(name).split(':').next().unwrap_or_default().to_owned();
        let names: Vec<String> = self.names.into_iter().map(bare).collect();
        let asked = names.iter().find(|name| !name.contains('*'));
        let endpoint = endpoint(&self.address, asked);
        let found = Found::new(names);
        let found = match self.chain {
            Some(chain) => found.with("leaf", self.certificate).with("chain", chain),
            None => found.with("fullchain", self.certificate),
        };
        let found = found.with("key", self.key);
        match endpoint {
            Some(endpoint) => found.with("verify", [endpoint]),
            None => found,
        }
    }
}

/// Where a virtual host can be reached from this host.
fn endpoint(address: &str, name: Option<&String>) -> Option<Endpoint> {
    let (host, port) = address.rsplit_once(':')?;
    let host = if matches!(host, "*" | "_default_" | "0.0.0.0") { "127.0.0.1" } else { host };
    endpoint_at(format!("{host}:{port}"), name.map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_virtual_hosts_gives_each_place_once() {
        let list = "VirtualHost configuration:\n\
            *:80                   plain.example.com (/etc/apache2/sites-enabled/000-default.conf:1)\n\
            *:443                  is a NameVirtualHost\n         \
                default server www.example.com (/etc/apache2/sites-enabled/www.conf:2)\n         \
                port 443 namevhost www.example.com (/etc/apache2/sites-enabled/www.conf:2)\n                 \
                alias example.com\n";
        let expected = [("/etc/apache2/sites-enabled/000-default.conf", 1), ("/etc/apache2/sites-enabled/www.conf", 2)];
        assert_eq!(places(list), expected);
    }

    #[test]
    fn a_virtual_host_is_read_from_its_line_to_its_end() {
        let text = "# www\n<VirtualHost *:443>\n  ServerAlias example.com *.example.com\n  ServerName www.example.com:443\n  \
            SSLCertificateFile \"/etc/apache2/tls/www.crt\"\n  sslcertificatekeyfile /etc/apache2/tls/www.key\n</VirtualHost>\n\
            <VirtualHost *:8443>\n  SSLCertificateFile ${TLS}/a.crt\n  SSLCertificateKeyFile /a.key\n</VirtualHost>\n";
        let found = Host::read(text, 2).unwrap().found();
        assert_eq!(found.names, ["www.example.com", "example.com", "*.example.com"]);
        let expected = serde_json::json!({
            "fullchain": "/etc/apache2/tls/www.crt",
            "key": "/etc/apache2/tls/www.key",
            "verify": [{ "connect": "127.0.0.1:443", "server_name": "www.example.com" }],
        });
        assert_eq!(serde_json::Value::Object(found.settings), expected);
        assert!(Host::read(text, 8).is_none());
        assert!(Host::read(text, 0).is_none() && Host::read(text, 99).is_none());
    }
}
