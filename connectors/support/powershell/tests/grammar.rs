//! Every script that is sent to a host, and the one that a person runs there, read by a grammar of PowerShell.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own")]

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_core::secret::{SecretBytes, SecretString};
use deploy_powershell::{Pfx, Script};
use sha1::{Digest as _, Sha1};
use tree_sitter::{Node, Parser};

fn parser() -> Parser {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).unwrap();
    parser
}

/// What the grammar does not understand: the lines, and what stands there.
fn errors(text: &str) -> Vec<String> {
    let tree = parser().parse(text, None).unwrap();
    let mut found = Vec::new();
    collect(tree.root_node(), text, &mut found);
    found
}

fn collect(node: Node<'_>, text: &str, found: &mut Vec<String>) {
    if node.is_error() || node.is_missing() {
        let shown: String = text[node.byte_range()].chars().take(80).collect();
        found.push(format!("line {}: {} {shown:?}", node.start_position().row + 1, node.kind()));
    }
    let mut cursor = node.walk();
    for child in node.children(&mut cursor) {
        collect(child, text, found);
    }
}

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn every_script_is_powershell() {
    for script in Script::ALL {
        assert_eq!(errors(&script.text()), Vec::<String>::new(), "{script:?}");
    }
    assert_eq!(errors(include_str!("../src/scripts/loader.ps1")), Vec::<String>::new());
}

#[test]
fn grammar_finds_what_is_none() {
    for wrong in ["if ($a { }", "foreach ($a of $b) { }", "function { param($a }"] {
        assert!(!errors(wrong).is_empty(), "{wrong}");
    }
}

#[test]
fn every_script_stops_at_the_first_error_and_has_one_answer() {
    for script in Script::ALL {
        let text = script.text();
        assert!(text.starts_with("param($Request)\n$ErrorActionPreference = 'Stop'\nSet-StrictMode -Version 2\n"), "{script:?}");
        assert_eq!(text.matches("[Console]::Out.WriteLine(").count(), 1, "{script:?}");
        assert_eq!(text.matches("function Invoke-Call {").count(), 1, "{script:?}");
        assert!(text.ends_with("Write-Answer $answer\nexit $status\n"), "{script:?}");
        // What is not captured would be a second answer, or part of the first.
        for forbidden in ["Write-Host", "Write-Output", "Invoke-Expression", "-ExecutionPolicy", "certutil", "$env:PFX"] {
            assert!(!text.contains(forbidden), "{script:?}: {forbidden}");
        }
    }
}

#[test]
fn script_files_are_all_in_use() {
    let texts: String = Script::ALL.map(Script::text).concat() + include_str!("../src/scripts/loader.ps1");
    for entry in fs::read_dir(file("src/scripts")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(texts.contains(&text), "{}", path.display());
        assert!(text.is_ascii() && !text.contains(['\t', '\r']), "{}", path.display());
    }
}

#[test]
fn script_for_a_person_with_a_windows_host_is_powershell_and_its_pfx_open() {
    let text = fs::read_to_string(file("../../../docs/examples/windows/prove.ps1")).unwrap();
    assert_eq!(errors(&text), Vec::<String>::new());
    let password = SecretString::from("proof-of-certdeploy".to_owned());
    let certificates: Vec<&str> = text.split("    thumbprint = '").skip(1).take(3).collect();
    for certificate in certificates {
        let (thumbprint, rest) = certificate.split_at(40);
        let pfx: String = rest.split("@'\n").nth(1).unwrap().split("'@").next().unwrap().split_whitespace().collect();
        let bytes = SecretBytes::from(STANDARD.decode(pfx).unwrap());
        let leaf = Pfx { bytes, password: password.clone() }.leaf("prove.ps1").unwrap().unwrap();
        assert_eq!(Sha1::digest(&leaf).iter().map(|byte| format!("{byte:02X}")).collect::<String>(), thumbprint);
        assert!(rest.contains(&deploy_testkit::pki::fingerprint(&leaf)));
    }
    // It runs every script that is sent.
    for entry in fs::read_dir(file("src/scripts")).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(text.contains(&format!("'{name}")), "{name}");
    }
}
