//! What lighttpd serves, out of `lighttpd -p`.

use deploy_core::probe::Endpoint;
use deploy_core::{Error, Found, Look};

/// One entry for each pair of files.
pub(crate) fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
    Ok(read(&look.run(&["lighttpd", "-p", "-f", "/etc/lighttpd/lighttpd.conf"])?))
}

/// A block in braces: the condition that it stands under, and the two files.
#[derive(Default)]
struct Block {
    condition: String,
    certificate: Option<String>,
    key: Option<String>,
}

fn read(configuration: &str) -> Vec<Found> {
    let mut blocks = vec![Block::default()];
    let mut pairs: Vec<(String, String, Vec<String>)> = Vec::new();
    let mut close = |block: Block| {
        let Block { condition, certificate: Some(certificate), key: Some(key) } = block else { return };
        match pairs.iter_mut().find(|(known, other, _)| *known == certificate && *other == key) {
            Some((.., conditions)) => conditions.push(condition),
            None if certificate != key => pairs.push((certificate, key, vec![condition])),
            None => {}
        }
    };
    for line in configuration.lines().map(str::trim) {
        if line.starts_with('}')
            && let Some(block) = blocks.pop()
        {
            close(block);
        }
        if line.ends_with('{') {
            blocks.push(Block { condition: line.to_owned(), ..Block::default() });
        } else if let (Some(block), Some((name, value))) = (blocks.last_mut(), line.split_once('=')) {
            let value = Some(value.trim().trim_matches('"').to_owned()).filter(|value| value.starts_with('/'));
            match name.trim() {
                "ssl.pemfile" => block.certificate = value,
                "ssl.privkey" => block.key = value,
                _ => {}
            }
        }
    }
    blocks.into_iter().for_each(close);
    pairs.into_iter().map(|(fullchain, key, conditions)| found(fullchain, key, &conditions)).collect()
}

/// The names of `$HTTP["host"] == "www.example.com"`, and the address of `$SERVER["socket"] == "0.0.0.0:443"`.
fn found(fullchain: String, key: String, conditions: &[String]) -> Found {
    let of = |what: &'static str| {
        conditions.iter().filter(move |line| line.starts_with(what)).filter_map(|line| line.rsplit('"').nth(1)).map(str::to_owned)
    };
    let names: Vec<String> = of(r#"$HTTP["host"]"#).filter(|name| name.contains('.')).collect();
    let port = of(r#"$SERVER["socket"]"#).find_map(|socket| socket.rsplit_once(':')?.1.parse::<u16>().ok()).unwrap_or(443);
    let endpoint = Endpoint::new(format!("127.0.0.1:{port}"));
    let endpoint = names.first().map_or_else(|| endpoint.clone(), |name| endpoint.clone().with_server_name(name));
    Found::new(names).with("fullchain", fullchain).with("key", key).with("verify", [endpoint])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_found_under_whatever_condition_it_stands() {
        let text = r#"config {
    var.PID = 1
    ssl.pemfile = "/etc/lighttpd/tls/www.crt"
    ssl.privkey = "/etc/lighttpd/tls/www.key"
    $SERVER["socket"] == "0.0.0.0:8443" {
        # block 1
        ssl.engine = "enable"
        ssl.pemfile = "/etc/lighttpd/tls/www.crt"
        ssl.privkey = "/etc/lighttpd/tls/www.key"
    } # end of $SERVER["socket"] == "0.0.0.0:8443"
    $HTTP["host"] == "own.example.com" {
        ssl.pemfile = "/etc/lighttpd/own.pem"
    }
}
"#;
        let found = read(text);
        assert_eq!(found.len(), 1, "a file with both is not for this connector: {found:?}");
        let expected = serde_json::json!({
            "fullchain": "/etc/lighttpd/tls/www.crt",
            "key": "/etc/lighttpd/tls/www.key",
            "verify": [{ "connect": "127.0.0.1:8443" }],
        });
        assert_eq!(serde_json::Value::Object(found[0].settings.clone()), expected);
        assert!(read("}}}").is_empty());
    }
}
