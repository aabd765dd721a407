//! Configurations as `nginx -T` prints them.

use serde_json::{Value, json};

use super::*;

fn settings(configuration: &str) -> Vec<(Vec<String>, Value)> {
    read(configuration).into_iter().map(|found| (found.names, Value::Object(found.settings))).collect()
}

#[test]
fn each_pair_of_files_is_found_once_with_its_names_and_an_address() {
    let configuration = r#"
# configuration file /etc/nginx/nginx.conf:
http {
    ssl_certificate "/etc/nginx/tls/all.crt"; # for all
    ssl_certificate_key /etc/nginx/tls/all.key;
    server { listen 80; server_name plain.example.com; }
    server { listen [::]:443 ssl http2; listen 443 ssl; server_name www.example.com example.com; }
    server { listen 192.0.2.1:8443 ssl; server_name ~^(?<user>.+)\.example\.com$ *.example.com api.example.com;
        location / { if ($host = "a;b}") { return 301 https://${host}/; } } }
}
# configuration file /etc/nginx/conf.d/own.conf:
server {
    listen 443 ssl;
    server_name _;
    ssl_certificate /etc/letsencrypt/live/own.example.com/fullchain.pem;
    ssl_certificate_key /etc/letsencrypt/live/own.example.com/privkey.pem;
}
"#;
    let all = ["www.example.com", "example.com", "*.example.com", "api.example.com"].map(str::to_owned).to_vec();
    assert_eq!(
        settings(configuration),
        [
            (
                Vec::new(),
                json!({
                    "fullchain": "/etc/letsencrypt/live/own.example.com/fullchain.pem",
                    "key": "/etc/letsencrypt/live/own.example.com/privkey.pem",
                    "verify": [{ "connect": "127.0.0.1:443" }],
                })
            ),
            (
                all,
                json!({
                    "fullchain": "/etc/nginx/tls/all.crt",
                    "key": "/etc/nginx/tls/all.key",
                    "verify": [{ "connect": "[::1]:443", "server_name": "www.example.com" }],
                })
            ),
        ]
    );
}

#[test]
fn what_is_no_pair_of_files_is_left_out() {
    let server = |lines: &str| settings(&format!("server {{ listen 443 ssl; {lines} }}"));
    assert!(server("ssl_certificate /tls/$ssl_server_name.crt; ssl_certificate_key /tls/$ssl_server_name.key;").is_empty());
    assert!(server("ssl_certificate /tls/${x}.crt; ssl_certificate_key data:$key;").is_empty());
    assert!(server("ssl_certificate /tls/both.pem; ssl_certificate_key /tls/both.pem;").is_empty());
    assert!(settings("}}} ; server { \"").is_empty());
}
