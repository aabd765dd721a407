use std::path::Path;

use super::scratch;

/// The main file and, after the first zero byte, a fragment beside it.
pub fn configuration(input: &[u8]) {
    let directory = scratch();
    let (main, fragment) = match input.iter().position(|&byte| byte == 0) {
        Some(end) => (&input[..end], Some(&input[end + 1..])),
        None => (input, None),
    };
    let path = directory.path().join("certdeploy.toml");
    std::fs::write(&path, main).expect("a scratch directory takes files");
    if let Some(fragment) = fragment {
        let fragments = directory.path().join("certdeploy.d");
        std::fs::create_dir(&fragments).expect("a new directory");
        std::fs::write(fragments.join("more.toml"), fragment).expect("a scratch directory takes files");
    }
    judge(&path);
}

/// An error says where and what; the same file gives the same answer again.
fn judge(path: &Path) {
    let load = || certdeploy::check_configuration(path, &certdeploy::registry()).map_err(|error| error.to_string());
    let read = load();
    if let Err(error) = &read {
        assert!(error.contains("certdeploy"), "an error that names no file: {error:?}");
    }
    assert_eq!(read, load(), "another answer to the same question");
}
