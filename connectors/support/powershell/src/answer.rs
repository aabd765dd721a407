//! What a script printed: one line of JSON among whatever else a console shows, or something that says nothing.

use deploy_core::secret::withhold;
use deploy_core::{Error, ErrorKind, Retry};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// What came out of a command.
#[derive(Clone, Default)]
#[expect(clippy::exhaustive_structs, reason = "a way to run a script makes one")]
pub struct Output {
    /// Its exit status, where it was told.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// Without what was printed: a file's content may be in it.
impl std::fmt::Debug for Output {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "status {:?} [{} bytes]", self.status, self.stdout.len())
    }
}

/// The result of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<R> {
    /// What it says.
    pub result: R,
    /// The build of Windows it ran on: 17763 is Server 2019.
    pub build: u32,
}

#[derive(Deserialize)]
struct Line<R> {
    #[serde(default)]
    build: u32,
    error: Option<Refusal>,
    result: Option<R>,
}

#[derive(Deserialize)]
struct Refusal {
    kind: String,
    message: String,
    code: String,
}

/// Reads the answer to the line that had this nonce.
pub(crate) fn read<R: DeserializeOwned>(output: &Output, nonce: &str) -> Result<Answer<R>, Error> {
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains(r#"{"certdeploy":"constrained"}"#) {
        return Err(Error::new(
            ErrorKind::ConfigurationInvalid,
            "PowerShell is in constrained language mode there, which cannot do it",
        )
        .with_next_step("allow the account full language mode in AppLocker or WDAC"));
    }
    let mark = format!(r#"{{"certdeploy":"{nonce}""#);
    let mut answers = text.lines().filter_map(|line| line.find(&mark).map(|start| line[start..].trim_end()));
    let (Some(line), None) = (answers.next(), answers.next()) else {
        return Err(unknown(output, "the script gave no answer"));
    };
    // The parser's message could quote what was printed.
    let line: Line<R> = serde_json::from_str(line).map_err(|_| unknown(output, "the answer of the script breaks off"))?;
    match line {
        Line { error: Some(refusal), .. } => Err(refusal.into_error()),
        Line { result: Some(result), build, .. } if output.status.is_none_or(|status| status == 0) => {
            Ok(Answer { result, build })
        }
        _ => Err(unknown(output, "the script says that it did it, and ended with an error")),
    }
}

/// Whether it did what it was to do is not known. Every script can be run again.
fn unknown(output: &Output, message: &str) -> Error {
    let status = output.status.map_or_else(|| "no exit status".to_owned(), |status| format!("exit status {status}"));
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.split_whitespace().collect();
    let said: String = withhold(&said.join(" ")).chars().take(300).collect();
    let colon = if said.is_empty() { "" } else { ": " };
    Error::new(ErrorKind::Unavailable, format!("{message} ({status}{colon}{said})"))
        .with_retry(Retry::Later)
        .with_next_step("see whether `powershell.exe` runs there for this account; then run again")
}

impl Refusal {
    fn into_error(self) -> Error {
        let said = withhold(&self.message).replace(char::is_control, " ");
        let said = said.trim();
        let with_code = || format!("Windows refuses: {said} ({})", self.code);
        let new = |kind: ErrorKind, next: &str| Error::new(kind, said).with_next_step(next);
        match self.kind.as_str() {
            "busy" => Error::new(ErrorKind::Unavailable, said).with_retry(Retry::Later),
            "conflict" => Error::new(ErrorKind::Conflict, said),
            "key_access" => new(ErrorKind::PermissionDenied, "let the account change permissions below Microsoft\\Crypto"),
            "missing" => new(ErrorKind::ConfigurationInvalid, "create it, or correct the target's settings; then run again"),
            "no_key" => new(ErrorKind::StageFailed, "import the certificate by hand and see what Windows says"),
            "not_elevated" => new(ErrorKind::PermissionDenied, "use an account of the group Administrators, with a full token"),
            "not_taken" => new(ErrorKind::ReloadFailed, "look at the binding in IIS Manager and at the event log"),
            "pfx" => Error::new(ErrorKind::StageFailed, format!("Windows cannot read the PFX: {said}"))
                .with_next_step("see whether this Windows knows the type of the key"),
            "unsupported" => Error::new(ErrorKind::ConfigurationInvalid, said),
            // E_ACCESSDENIED.
            _ if self.code == "0x80070005" => Error::new(ErrorKind::PermissionDenied, with_code()),
            // ERROR_NO_SUCH_LOGON_SESSION: the binding's certificate has no key that http.sys can open.
            _ if self.code == "0x80070520" => Error::new(ErrorKind::ReloadFailed, with_code())
                .with_next_step("the key of the certificate cannot be used: remove the certificate, and deploy again"),
            _ => Error::new(ErrorKind::ReloadFailed, with_code()).with_next_step("look at the event log of the host"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(stdout: &str, status: i32) -> Result<Answer<u32>, Error> {
        let output = Output { status: Some(status), stdout: stdout.into(), stderr: b"#< CLIXML\r\n<Objs>".to_vec() };
        read(&output, "7f")
    }

    #[test]
    fn answer_is_found_among_what_a_console_shows() {
        let noise = "WARNING: slow\r\n\u{feff}{\"certdeploy\":\"7f\",\"build\":17763,\"result\":5}\r\nbye\r\n";
        assert_eq!(answer(noise, 0).unwrap(), Answer { result: 5, build: 17763 });
    }

    #[test]
    fn p2_what_is_not_a_whole_answer_leaves_the_outcome_open() {
        let whole = r#"{"certdeploy":"7f","build":1,"result":5}"#;
        for (stdout, status) in [
            ("", 0),
            ("", 1),
            (r#"{"certdeploy":"7f","build":1,"resu"#, 0),
            (r#"{"certdeploy":"70","build":1,"result":5}"#, 0),
            (r#"{"certdeploy":"7f","build":1}"#, 0),
            (whole, 1),
            (&format!("{whole}\n{whole}"), 0),
        ] {
            let error = answer(stdout, status).unwrap_err();
            assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Later), "{stdout}");
        }
    }

    #[test]
    fn p8_refusals_have_the_kind_that_their_cause_has() {
        for (kind, code, expected) in [
            ("missing", "0x80131509", ErrorKind::ConfigurationInvalid),
            ("conflict", "0x80131509", ErrorKind::Conflict),
            ("not_elevated", "0x80131509", ErrorKind::PermissionDenied),
            ("unexpected", "0x80070005", ErrorKind::PermissionDenied),
            ("unexpected", "0x80070520", ErrorKind::ReloadFailed),
            ("unexpected", "0x80131501", ErrorKind::ReloadFailed),
        ] {
            let line = format!(r#"{{"certdeploy":"7f","build":1,"error":{{"kind":"{kind}","message":"No.","code":"{code}"}}}}"#);
            let error = answer(&line, 1).unwrap_err();
            assert_eq!((error.kind(), error.retry()), (expected, Retry::Never), "{line}");
            assert!(error.to_string().contains("No."), "{error}");
        }
        let constrained = answer(r#"{"certdeploy":"constrained"}"#, 1).unwrap_err();
        assert_eq!(constrained.kind(), ErrorKind::ConfigurationInvalid);
    }
}
