use super::*;

#[test]
fn a_payload_has_no_blank_lines_and_ends_with_one() {
    let payload = SecretBytes::from(&b"A\r\n\r\n B\n\n  \nC"[..]);
    let sent = request(&["set", "ssl", "cert", r"/a b;c\d.pem"], Some(&payload));
    assert_eq!(String::from_utf8_lossy(sent.expose()), "set ssl cert /a\\ b\\;c\\\\d.pem <<\nA\nB\nC\n\n");
    assert_eq!(request(&["show", "ssl", "cert"], None).expose(), b"show ssl cert\n");
}

#[test]
fn only_a_list_of_certificates_is_one() {
    let open = Loaded::parse("# transaction\n*/a.pem\n# filename\n/a.pem\n/b c.pem\n\n").unwrap();
    assert_eq!((open.transaction.as_deref(), open.names), (Some("/a.pem"), vec!["/a.pem".to_owned(), "/b c.pem".to_owned()]));
    for answer in ["\n", "# filename\n\n"] {
        assert!(Loaded::parse(answer).is_some_and(|none| none.names.is_empty()), "{answer}");
    }
    for answer in ["Unknown command.\n", "# transaction\n/a.pem\n# filename\n", "/a.pem\n"] {
        assert!(Loaded::parse(answer).is_none(), "{answer}");
    }
}

#[test]
fn the_counts_of_the_master_are_read_from_its_line_alone() {
    let count = |line| Reloads::parse(line).map(|reloads| (reloads.all, reloads.failed));
    assert_eq!(count("825             master          3 [failed: 2]   0d00h00m07s     2.6.12-1+deb12u4"), Some((3, 2)));
    assert_eq!(count("907             worker          2               0d00h00m01s     2.6.12-1+deb12u4"), None);
    assert_eq!(count("#<PID>          <type>          <reloads>       <uptime>        <version>"), None);
}

#[test]
fn serial_numbers_are_compared_as_numbers() {
    assert!(is_same_number("0a1b", "A1B"));
    assert!(!is_same_number("0a1b", "A1B0"));
}

#[test]
fn an_error_has_what_was_said_and_not_every_command_there_is() {
    assert_eq!(
        shortened("Can't load the payload\nCan't update x!\n\nUnknown command. Please enter"),
        "Can't load the payload Can't update x!"
    );
    assert_eq!(shortened("Unknown command. Please enter"), "Unknown command. Please enter");
    assert_eq!(shortened("\n"), "nothing");
}
