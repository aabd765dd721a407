//! Settings that cannot be right.

use super::*;

fn problem(change: impl FnOnce(&mut TraefikSettings)) -> String {
    let mut settings =
        TraefikSettings::new("/etc/traefik/tls/www.crt", "/etc/traefik/tls/www.key", "/etc/traefik/dynamic/tls.yml");
    change(&mut settings);
    settings.check().map_or_else(|error| format!("{}: {}", error.path, error.message), |()| String::new())
}

#[test]
fn three_files_have_three_absolute_paths() {
    assert_eq!(problem(|_| {}), "");
    assert!(problem(|settings| settings.dynamic = "tls.yml".into()).starts_with("dynamic: "));
    assert!(problem(|settings| settings.dynamic = settings.key.clone()).contains("a file of their own"));
    assert!(problem(|settings| settings.key = settings.fullchain.clone()).contains("a file of their own"));
}

#[test]
fn the_api_is_on_this_machine_or_has_tls_and_a_token_is_for_an_api() {
    assert_eq!(problem(|settings| settings.api = Some("http://127.0.0.1:8080".into())), "");
    assert!(problem(|settings| settings.api = Some("http://10.0.0.1:8080".into())).starts_with("api: "));
    assert!(problem(|settings| settings.api_token = Some(SecretRef::Env("TOKEN".into()))).starts_with("api: is missing"));
}
