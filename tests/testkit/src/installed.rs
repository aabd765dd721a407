//! Programs that Debian has no package of, from the target directory.

use std::path::PathBuf;

/// What `cargo xtask servers` puts into the target directory: `envoy`, or `aws/bin/python` with the packages of
/// tests/clients/aws.txt.
///
/// # Errors
/// It is not there; the sentence says how to get it.
pub fn installed(program: &str) -> Result<PathBuf, String> {
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = executable.ancestors().nth(3).ok_or("this test is in no target directory")?;
    let program = target.join("servers").join(program);
    if program.exists() { Ok(program) } else { Err(format!("there is no {}: cargo xtask servers", program.display())) }
}
