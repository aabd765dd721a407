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

/// Stands in for HAProxy: answers one connection after the other with these texts, and says what it was asked.
fn stand_in<const N: usize>(
    directory: &std::path::Path,
    answers: [&'static str; N],
) -> (Socket, tokio::task::JoinHandle<Vec<String>>) {
    let path = directory.join("haproxy.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            stream.read_to_string(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            asked.push(request);
        }
        asked
    });
    (Socket::Unix(path), asked)
}

fn context() -> Context {
    Context::new("/nowhere", deploy_testkit::provider()).with_timeout(Duration::from_secs(10))
}

#[tokio::test]
async fn stand_in_that_is_locked_is_asked_again() {
    let directory = tempfile::tempdir().unwrap();
    let locked = "Operations on certificates are currently locked!\n\n";
    let (socket, asked) = stand_in(directory.path(), [locked, locked, "Committing /a.pem.\nSuccess!\n\n"]);
    let (context, command) = (context(), ["commit", "ssl", "cert", "/a.pem"]);
    Cli { socket: &socket, context: &context }.expect(&command, &["Success!"]).await.unwrap();
    assert_eq!(asked.await.unwrap(), ["commit ssl cert /a.pem\n"; 3]);
}

/// From 2.7 on the master answers when it knows (Management Guide, `reload`).
#[tokio::test]
async fn stand_in_for_a_newer_master_says_what_became_of_the_reload() {
    let proc = "#<PID> <type> <reloads>\n1 master 0 [failed: 0] 0d00h00m01s 2.8.0\n\n";
    for (answer, succeeds) in [("Success=1\n--\n", true), ("Success=0\n--\n[ALERT] no such file\n", false), ("What?\n", false)] {
        let directory = tempfile::tempdir().unwrap();
        let (socket, _asked) = stand_in(directory.path(), [proc, answer]);
        let result = MasterReload::new(socket).apply(&context()).await;
        assert_eq!(result.is_ok(), succeeds, "{result:?}");
        if answer.contains("ALERT") {
            assert!(result.unwrap_err().full_message().contains("no such file"));
        }
    }
}
