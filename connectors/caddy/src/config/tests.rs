use super::*;

#[test]
fn the_admin_api_is_on_this_machine_and_written_as_caddy_writes_it() {
    for good in ["localhost:2019", "127.0.0.1:2019", "[::1]:2019", "unix//run/caddy/admin.sock"] {
        assert_eq!(Admin::try_from(good.to_owned()).map(String::from).as_deref(), Ok(good));
    }
    for bad in [
        "",
        "localhost",
        "10.0.0.1:2019",
        "unix/admin.sock",
        "/run/caddy/admin.sock",
        "http://localhost:2019",
        "localhost:2019/x",
    ] {
        assert!(Admin::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}

#[test]
fn two_ways_to_tell_caddy_are_one_too_many() {
    let mut settings = CaddySettings::new("/etc/caddy/tls/www.crt", "/etc/caddy/tls/www.key");
    settings.check().unwrap();
    settings.reload = Some(default_reload());
    settings.check().unwrap();
    settings.admin = Some(Admin::Tcp("localhost:2019".to_owned()));
    assert_eq!(settings.check().unwrap_err().path, "reload");
}
