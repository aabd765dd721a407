//! Settings that cannot be right.

use super::*;

fn problem(change: impl FnOnce(&mut EnvoySettings)) -> String {
    let mut settings = EnvoySettings::new("/etc/envoy/sds/www.json", "www");
    change(&mut settings);
    settings.check().map_or_else(|error| format!("{}: {}", error.path, error.message), |()| String::new())
}

fn pair(settings: &mut EnvoySettings, directory: &str) {
    settings.fullchain = Some(format!("{directory}/www.crt").into());
    settings.key = Some(format!("{directory}/www.key").into());
}

#[test]
fn a_secret_has_a_name_and_a_file_whose_form_envoy_knows() {
    assert_eq!(problem(|_| {}), "");
    assert!(problem(|settings| settings.secret_name = None).starts_with("secret_name: is missing"));
    assert!(problem(|settings| settings.sds = "/etc/envoy/sds/www.conf".into()).starts_with("sds: does not end with"));
    assert!(problem(|settings| settings.sds = "www.json".into()).starts_with("sds: "));
}

#[test]
fn certificate_and_key_have_both_a_file_or_none() {
    assert_eq!(problem(|settings| pair(settings, "/etc/envoy/tls")), "");
    assert!(problem(|settings| settings.key = Some("/etc/envoy/www.key".into())).starts_with("fullchain: is missing"));
    assert!(problem(|settings| settings.fullchain = Some("/etc/envoy/www.crt".into())).starts_with("key: is missing"));
    let one_file = |settings: &mut EnvoySettings| {
        pair(settings, "/etc/envoy/tls");
        settings.key = settings.fullchain.clone();
    };
    assert!(problem(one_file).contains("same file as `fullchain`"));
    let in_the_secret = |settings: &mut EnvoySettings| {
        pair(settings, "/etc/envoy/tls");
        settings.key = Some(settings.sds.clone());
    };
    assert!(problem(in_the_secret).contains("same file as `sds`"));
}

#[test]
fn generations_have_the_pair_and_no_name() {
    let generations = |directory: &'static str| {
        move |settings: &mut EnvoySettings| {
            settings.layout = Layout::Generation("/etc/envoy/tls/www".into());
            settings.secret_name = None;
            pair(settings, directory);
        }
    };
    assert_eq!(problem(generations("/etc/envoy/tls/www/current")), "");
    assert!(problem(generations("/etc/envoy/tls")).starts_with("fullchain: "));
    assert!(problem(|settings| settings.layout = Layout::Generation("/etc/envoy/tls/www".into())).starts_with("fullchain: "));
}

#[test]
fn the_admin_interface_is_on_this_machine_or_has_tls() {
    for admin in ["http://127.0.0.1:9901", "/run/envoy/admin.sock"] {
        assert_eq!(problem(|settings| settings.admin = Some(admin.into())), "");
    }
    assert!(problem(|settings| settings.admin = Some("http://10.0.0.1:9901".into())).starts_with("admin: "));
    assert!(problem(|settings| settings.admin = Some("127.0.0.1:9901".into())).starts_with("admin: "));
}
