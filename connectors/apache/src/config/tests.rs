//! Settings that cannot be right.

use super::*;

fn problem(change: impl FnOnce(&mut ApacheSettings)) -> String {
    let mut settings = ApacheSettings::new("/etc/apache2/tls/www.crt", "/etc/apache2/tls/www.key");
    change(&mut settings);
    settings.check().map_or_else(|error| format!("{}: {}", error.path, error.message), |()| String::new())
}

#[test]
fn the_chain_is_in_the_certificate_file_or_in_one_of_its_own() {
    assert_eq!(problem(|_| {}), "");
    let apart = |settings: &mut ApacheSettings| {
        settings.fullchain = None;
        settings.leaf = Some("/etc/apache2/tls/www.leaf.crt".into());
        settings.chain = Some("/etc/apache2/tls/www.chain.crt".into());
    };
    assert_eq!(problem(apart), "");
    assert!(problem(|settings| settings.fullchain = None).starts_with("fullchain: is missing"));
    assert!(problem(|settings| settings.chain = Some("/etc/chain".into())).starts_with("fullchain: holds the chain"));
    let leaf_alone = |settings: &mut ApacheSettings| {
        apart(settings);
        settings.chain = None;
    };
    assert!(problem(leaf_alone).starts_with("chain: is missing"));
}

#[test]
fn each_file_has_an_absolute_path_of_its_own() {
    assert!(problem(|settings| settings.key = "www.key".into()).starts_with("key: "));
    assert!(problem(|settings| settings.key = "/etc/apache2//tls/www.crt".into()).contains("same file as `fullchain`"));
    assert!(problem(|settings| settings.pid_file = Some("httpd.pid".into())).starts_with("pid_file: "));
}
