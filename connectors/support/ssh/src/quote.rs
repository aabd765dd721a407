//! Quoting for a POSIX shell, the only place where it is done.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// Words as a line that a POSIX shell takes for exactly these words; bytes that are no UTF-8 stay what they are.
///
/// Everything between single quotes stands for itself (POSIX, Shell Command Language, 2.2.2), so that only the single quote
/// needs care.
///
/// ```
/// assert_eq!(deploy_ssh::quote(["nginx", "-g", "it's; $(this)"]), r"nginx -g 'it'\''s; $(this)'");
/// ```
pub fn quote<I>(words: I) -> OsString
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    let mut line = Vec::new();
    for word in words {
        if !line.is_empty() {
            line.push(b' ');
        }
        push(&mut line, word.as_ref().as_bytes());
    }
    OsString::from_vec(line)
}

fn push(line: &mut Vec<u8>, word: &[u8]) {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:@%+,=".contains(byte);
    // A first word with `=` would be an assignment.
    if !word.is_empty() && word.iter().all(plain) && !word.contains(&b'=') {
        return line.extend_from_slice(word);
    }
    line.push(b'\'');
    for &byte in word {
        match byte {
            b'\'' => line.extend_from_slice(br"'\''"),
            _ => line.push(byte),
        }
    }
    line.push(b'\'');
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use deploy_core::command::{Command, Limits};
    use deploy_core::host::{Host as _, Local};

    use super::*;

    #[test]
    fn a_posix_shell_gives_back_every_word_as_it_was() {
        let every_byte: Vec<u8> = (1..=255).collect();
        let words: Vec<OsString> = [
            &b""[..],
            b"plain",
            b"A=b",
            b"it's",
            b"''",
            b"$(id) `id` $HOME",
            b"a\nb",
            b"\\",
            b"*",
            b"~",
            b"-n",
            b"#",
            b"!x",
            &every_byte,
        ]
        .iter()
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
        let mut script = quote(["printf", "%s\\0"]);
        script.push(" ");
        script.push(quote(&words));
        let command = Command::new([OsStr::new("/bin/sh"), OsStr::new("-c"), &script]);
        let output = Local::new().run(&command, None, &Limits::new(Instant::now() + Duration::from_secs(10), None)).unwrap();
        let back: Vec<&[u8]> = output.stdout.strip_suffix(b"\0").unwrap().split(|byte| *byte == 0).collect();
        assert_eq!(back, words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
    }
}
