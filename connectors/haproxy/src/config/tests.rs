use super::*;

fn refused(change: impl FnOnce(&mut HaproxySettings)) -> String {
    let mut settings = HaproxySettings::new("/etc/haproxy/tls/www.pem");
    settings.check().unwrap();
    change(&mut settings);
    settings.check().unwrap_err().path
}

fn socket(text: &str) -> Socket {
    Socket::try_from(text.to_owned()).unwrap()
}

#[test]
fn what_cannot_be_right_is_refused_by_name() {
    assert_eq!(refused(|settings| settings.combined = "www.pem".into()), "combined");
    assert_eq!(refused(|settings| settings.crt_list = Some("/etc/haproxy/tls".to_owned())), "crt_list");
    assert_eq!(refused(|settings| settings.runtime_path = Some("/tls/www.pem".to_owned())), "runtime_path");
    assert_eq!(refused(|settings| settings.mode = Some(Mode::new(0o644))), "mode");
    assert_eq!(
        refused(|settings| {
            settings.reload = Some(default_reload());
            settings.master_socket = Some(socket("/run/haproxy-master.sock"));
        }),
        "reload"
    );
}

#[test]
fn a_name_that_breaks_the_line_or_means_a_part_of_a_certificate_is_not_sent() {
    let with = |path: &str| {
        let path = path.to_owned();
        refused(move |settings| {
            settings.runtime = vec![socket("/run/haproxy/admin.sock")];
            settings.combined = path.into();
        })
    };
    assert_eq!(with("/etc/haproxy/www.pem\nshow info"), "combined");
    assert_eq!(with("/etc/haproxy/www.pem.key"), "combined");
}

#[test]
fn sockets_are_paths_or_addresses_with_a_port() {
    for good in ["/run/haproxy/admin.sock", "127.0.0.1:9999", "[::1]:9999"] {
        assert_eq!(String::from(socket(good)), good);
    }
    for bad in ["", "admin.sock", "localhost", "127.0.0.1", "haproxy.example.com:9999"] {
        assert!(Socket::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}
