//! From a script to a command that Windows runs, and what goes into its standard input.
//!
//! The command is always the same and knows nothing: it reads one line, which has the script and its arguments. So neither the
//! limit of `cmd.exe` (8191 characters) nor the log of script blocks (event 4104) meets a key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_core::secret::SecretBytes;
use deploy_core::{Error, ErrorKind};
use serde::Serialize;
use zeroize::Zeroizing;

const LOADER: &str = include_str!("scripts/loader.ps1");
const PRELUDE: &str = include_str!("scripts/prelude.ps1");
const EPILOGUE: &str = include_str!("scripts/epilogue.ps1");
const IIS: &str = include_str!("scripts/iis.ps1");

/// One of the scripts of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Script {
    /// See [`crate::FindBindings`].
    FindBindings,
    /// See [`crate::FindCertificates`].
    FindCertificates,
    /// See [`crate::ImportCertificate`].
    ImportCertificate,
    /// See [`crate::NameCertificates`].
    NameCertificates,
    /// See [`crate::ReadFiles`].
    ReadFiles,
    /// See [`crate::RemoveCertificates`].
    RemoveCertificates,
    /// See [`crate::SetBindings`].
    SetBindings,
    /// See [`crate::WriteFiles`].
    WriteFiles,
}

impl Script {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::FindBindings,
        Self::FindCertificates,
        Self::ImportCertificate,
        Self::NameCertificates,
        Self::ReadFiles,
        Self::RemoveCertificates,
        Self::SetBindings,
        Self::WriteFiles,
    ];

    /// The whole text, as it is run. The same every time.
    #[must_use]
    pub fn text(self) -> String {
        let body: &[&str] = match self {
            Self::FindBindings => &[IIS, include_str!("scripts/find-bindings.ps1")],
            Self::FindCertificates => &[include_str!("scripts/find-certificates.ps1")],
            Self::ImportCertificate => &[include_str!("scripts/import-certificate.ps1")],
            Self::NameCertificates => &[include_str!("scripts/name-certificates.ps1")],
            Self::ReadFiles => &[include_str!("scripts/read-files.ps1")],
            Self::RemoveCertificates => &[include_str!("scripts/remove-certificates.ps1")],
            Self::SetBindings => &[IIS, include_str!("scripts/set-bindings.ps1")],
            Self::WriteFiles => &[include_str!("scripts/write-files.ps1")],
        };
        [&[PRELUDE], body, &[EPILOGUE]].concat().concat()
    }
}

/// The command that reads a script from its standard input and runs it: program and arguments.
#[must_use]
pub fn command() -> Vec<String> {
    let units: Vec<u8> = LOADER.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let fixed = ["powershell.exe", "-NoProfile", "-NonInteractive", "-OutputFormat", "Text", "-EncodedCommand"];
    fixed.map(str::to_owned).into_iter().chain([STANDARD.encode(units)]).collect()
}

/// What the loader reads.
#[derive(Serialize)]
struct Line<'a, A> {
    script: &'a str,
    nonce: &'a str,
    arguments: &'a A,
}

/// The line for the loader: JSON in ASCII, so that the code page of a console makes no difference. `nonce` marks the answer.
pub(crate) fn line(script: Script, arguments: &impl Serialize, nonce: &str) -> Result<SecretBytes, Error> {
    let line = SecretBytes::from_json(&Line { script: &script.text(), nonce, arguments })
        .map_err(|error| Error::new(ErrorKind::Internal, "the arguments of a script are no JSON").with_source(error))?;
    Ok(in_ascii(&line))
}

/// With `\u` for what is not ASCII: in JSON that can only stand in texts.
fn in_ascii(json: &SecretBytes) -> SecretBytes {
    let text = Zeroizing::new(String::from_utf8_lossy(json.expose()).into_owned());
    let wide = text.chars().filter(|character| !character.is_ascii()).count();
    let mut line = Zeroizing::new(String::with_capacity(text.len() + 12 * wide + 1));
    for character in text.chars() {
        if character.is_ascii() {
            line.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                line.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    line.push('\n');
    SecretBytes::from(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_short_enough_for_cmd_exe_and_the_same_for_every_script() {
        let line = command().join(" ");
        assert!(line.len() < 2000, "{}: cmd.exe takes 8191 characters, and some versions of sshd fewer", line.len());
        assert!(line.is_ascii() && !line.contains(['"', '%', '^', '&']), "nothing that a shell reads: {line}");
    }

    #[test]
    fn line_is_ascii_and_reads_as_what_it_was() {
        let arguments = serde_json::json!({ "site": "Büro \u{1f512}\n", "path": r"C:\x" });
        let line = line(Script::ReadFiles, &arguments, "n").unwrap();
        let text = std::str::from_utf8(line.expose()).unwrap();
        assert!(text.is_ascii() && text.ends_with('\n') && text.lines().count() == 1);
        let read: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            (&read["arguments"], &read["nonce"], &read["script"]),
            (&arguments, &"n".into(), &Script::ReadFiles.text().into())
        );
    }
}
