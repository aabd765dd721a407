//! The generated parts of docs/: written, or compared with what is there.

mod connectors;
mod generated;
mod invariants;

use std::path::PathBuf;

use clap::Args;

use crate::{Outcome, shell};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Change nothing; fail when something is stale
    #[arg(long)]
    pub(crate) check: bool,
}

/// A file of docs/ that is generated, as a whole or in part.
struct Page {
    /// Relative to docs/.
    path: PathBuf,
    text: String,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let docs = shell::root().join("docs");
    let mut stale = Vec::new();
    for page in generated::pages()?.into_iter().chain(connectors::pages()).chain([invariants::page()?]) {
        let path = docs.join(&page.path);
        if std::fs::read_to_string(&path).is_ok_and(|text| text == page.text) {
            continue;
        }
        let shown = format!("docs/{}", page.path.display());
        if options.check {
            stale.push(shown);
            continue;
        }
        if let Some(parent) = path.parent() {
            shell::create_directory(parent)?;
        }
        std::fs::write(&path, &page.text).map_err(|error| format!("can't write {shown}: {error}"))?;
        println!("    {shown}");
    }
    if stale.is_empty() { Ok(()) } else { Err(format!("stale: {}; run `cargo xtask docs`", stale.join(", "))) }
}
