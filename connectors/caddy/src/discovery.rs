//! What Caddy serves from files, out of its Caddyfile as `caddy adapt` turns it into JSON.

use std::collections::BTreeMap;

use deploy_core::probe::Endpoint;
use deploy_core::{Error, ErrorKind, Found, Look, endpoint_at};
use serde::Deserialize;

/// One entry for each pair of files in a directive `tls`.
pub(crate) fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
    let configuration = look.run(&["caddy", "adapt", "--config", "/etc/caddy/Caddyfile"])?;
    read(&configuration).map_err(|error| {
        Error::new(ErrorKind::PlanInvalid, "what Caddy prints is not its configuration in JSON")
            .with_source(error)
            .with_next_step("write a command after `--` that prints it, as `caddy adapt` does")
    })
}

fn read(configuration: &str) -> Result<Vec<Found>, serde_json::Error> {
    let Configuration { apps } = serde_json::from_str(configuration)?;
    let mut pairs: Vec<&Pair> = Vec::new();
    for pair in &apps.tls.certificates.load_files {
        let is_file = |path: &str| path.starts_with('/') && !path.contains('{');
        let is_new = pairs.iter().all(|known| (&known.certificate, &known.key) != (&pair.certificate, &pair.key));
        if is_new && is_file(&pair.certificate) && is_file(&pair.key) && pair.certificate != pair.key {
            pairs.push(pair);
        }
    }
    Ok(pairs.into_iter().map(|pair| found(pair, &apps.http)).collect())
}

fn found(pair: &Pair, http: &Http) -> Found {
    let mut names: Vec<String> = Vec::new();
    let mut listens = None;
    for server in http.servers.values() {
        let own = |policy: &&Policy| policy.certificate_selection.any_tag.iter().any(|tag| pair.tags.contains(tag));
        for policy in server.tls_connection_policies.iter().filter(own) {
            listens = listens.or_else(|| server.listen.first());
            names.extend(policy.r#match.sni.iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
        }
    }
    let endpoint = listens.and_then(|listen| endpoint(listen, names.iter().find(|name| !name.contains('*'))));
    let found = Found::new(names).with("fullchain", &pair.certificate).with("key", &pair.key);
    match endpoint {
        Some(endpoint) => found.with("verify", [endpoint]),
        None => found,
    }
}

/// Where `:443` or `192.0.2.7:443` can be reached from this host.
fn endpoint(listen: &str, name: Option<&String>) -> Option<Endpoint> {
    let (host, port) = listen.strip_prefix("tcp/").unwrap_or(listen).rsplit_once(':')?;
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    endpoint_at(format!("{host}:{port}"), name.map(String::as_str))
}

/// Caddy's configuration, as far as it is about certificates in files.
#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    apps: Apps,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Apps {
    http: Http,
    tls: Tls,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Http {
    servers: BTreeMap<String, Server>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Server {
    listen: Vec<String>,
    tls_connection_policies: Vec<Policy>,
}

/// Which certificate is served for which names: the tags say which.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Policy {
    r#match: Match,
    certificate_selection: Selection,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Match {
    sni: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Selection {
    any_tag: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tls {
    certificates: Certificates,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Certificates {
    load_files: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    certificate: String,
    key: String,
    #[serde(default)]
    tags: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_is_found_with_the_names_of_its_sites() {
        // Printed by `caddy adapt` of 2.6.2, without the routes.
        let text = r#"{"apps":{"http":{"servers":{
            "srv0":{"listen":["192.0.2.1:8443"],"tls_connection_policies":[
                {"match":{"sni":["only.example.com"]},"certificate_selection":{"any_tag":["cert1"]}},{}]},
            "srv1":{"listen":[":443"],"tls_connection_policies":[
                {"match":{"sni":["*.example.com","example.com"]},"certificate_selection":{"any_tag":["cert0"]}},{}]},
            "srv2":{"listen":[":80"]}}},
            "tls":{"certificates":{"load_files":[
                {"certificate":"/b.crt","key":"/b.key","tags":["cert1"]},
                {"certificate":"/a.crt","key":"/a.key","tags":["cert0"]},
                {"certificate":"/a.crt","key":"/a.key","tags":["cert0"]},
                {"certificate":"relative.crt","key":"/c.key","tags":["cert2"]},
                {"certificate":"/both.pem","key":"/both.pem","tags":["cert3"]}]}}}}"#;
        let found = read(text).unwrap();
        let names: Vec<String> = found.iter().map(|found| found.names.join(" ")).collect();
        assert_eq!(names, ["only.example.com", "*.example.com example.com"]);
        let expected = serde_json::json!({
            "fullchain": "/a.crt",
            "key": "/a.key",
            "verify": [{ "connect": "127.0.0.1:443", "server_name": "example.com" }],
        });
        assert_eq!(serde_json::Value::Object(found[1].settings.clone()), expected);
        assert_eq!(found[0].settings["verify"][0]["connect"], "192.0.2.1:8443");
    }

    #[test]
    fn a_configuration_without_certificates_has_none_and_another_text_is_an_error() {
        assert!(read("{}").unwrap().is_empty());
        assert!(read(r#"{"apps":{"http":{"servers":{"srv0":{"listen":[":80"]}}}}}"#).unwrap().is_empty());
        assert!(read("www.example.com {\n}\n").is_err());
    }
}
