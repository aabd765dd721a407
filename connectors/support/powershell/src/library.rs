//! A type for the arguments of each script, and for what it answers.

use deploy_core::secret::SecretString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::script::Script;

/// The arguments of a script.
pub trait Call: Serialize {
    /// The script.
    const SCRIPT: Script;
    /// What it answers.
    type Answer: DeserializeOwned;
}

/// Reads the certificates that carry a mark, and those of some thumbprints.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::exhaustive_structs, reason = "plain data between crates of this project")]
pub struct FindCertificates<'a> {
    /// The store, of the machine: `My`.
    pub store: &'a str,
    /// What the friendly names have in them.
    pub mark: &'a str,
    /// Others to look for.
    pub thumbprints: &'a [String],
}

/// What [`FindCertificates`] finds.
#[derive(Clone, Debug, Default, Deserialize)]
#[non_exhaustive]
pub struct FoundCertificates {
    /// In no order.
    pub certificates: Vec<StoredCertificate>,
}

/// A certificate in a store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct StoredCertificate {
    /// SHA-1 of the certificate in upper-case hexadecimal, as Windows has it.
    pub thumbprint: String,
    /// SHA-256 of it in lower case.
    pub sha256: String,
    /// What an administrator sees.
    pub friendly_name: String,
    /// Whether it has a key.
    pub has_key: bool,
}

impl Call for FindCertificates<'_> {
    const SCRIPT: Script = Script::FindCertificates;
    type Answer = FoundCertificates;
}

/// Puts a certificate with its key into a store, unless it is there; its issuers into the store `CA`; and lets accounts read the
/// key. Safe to repeat.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::exhaustive_structs, reason = "plain data between crates of this project")]
pub struct ImportCertificate<'a> {
    /// The store, of the machine.
    pub store: &'a str,
    /// SHA-1 of the certificate, as [`crate::thumbprint`] gives it.
    pub thumbprint: &'a str,
    /// SHA-256 of it in lower-case hexadecimal.
    pub sha256: &'a str,
    /// The PFX in base64.
    #[serde(serialize_with = "expose")]
    pub pfx: SecretString,
    /// Its password.
    #[serde(serialize_with = "expose")]
    pub password: SecretString,
    /// Whether the key can be exported again.
    pub exportable: bool,
    /// What an administrator sees, for a new one.
    pub friendly_name: &'a str,
    /// The issuers, each as DER in base64.
    pub chain: Vec<String>,
    /// Accounts or SIDs that may read the key.
    pub read_access: &'a [String],
    /// The thumbprint of the certificate whose key has the readers that this one gets, too.
    pub readers_of: Option<&'a str>,
}

/// What [`ImportCertificate`] did.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Imported {
    /// It was not there.
    pub imported: bool,
    /// As it is now.
    pub friendly_name: String,
    /// The SIDs that may read the key, apart from those that the folder lets.
    pub readers: Vec<String>,
}

impl Call for ImportCertificate<'_> {
    const SCRIPT: Script = Script::ImportCertificate;
    type Answer = Imported;
}

/// Changes friendly names: all, or none if one of them is not what it was.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::exhaustive_structs, reason = "plain data between crates of this project")]
pub struct NameCertificates<'a> {
    /// The store, of the machine.
    pub store: &'a str,
    /// In this order.
    pub changes: Vec<NewName>,
}

/// One change of a friendly name.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::exhaustive_structs, reason = "plain data between crates of this project")]
pub struct NewName {
    /// Whose.
    pub thumbprint: String,
    /// What it was.
    pub from: String,
    /// What it is to be.
    pub to: String,
}

/// What [`NameCertificates`] did.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Named {
    /// So many have the name that they are to have.
    pub named: u32,
}

impl Call for NameCertificates<'_> {
    const SCRIPT: Script = Script::NameCertificates;
    type Answer = Named;
}

/// Removes certificates with their keys, where they carry the mark, and neither http.sys nor Remote Desktop uses them.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::exhaustive_structs, reason = "plain data between crates of this project")]
pub struct RemoveCertificates<'a> {
    /// The store, of the machine.
    pub store: &'a str,
    /// What the friendly names have to have in them.
    pub mark: &'a str,
    /// Which.
    pub thumbprints: Vec<String>,
}

/// What [`RemoveCertificates`] did.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Removed {
    /// These are gone.
    pub removed: Vec<String>,
    /// These are in use, and were left.
    pub used: Vec<String>,
}

impl Call for RemoveCertificates<'_> {
    const SCRIPT: Script = Script::RemoveCertificates;
    type Answer = Removed;
}

/// Reads every https binding of every site, and every mapping of http.sys.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(clippy::exhaustive_structs, reason = "plain data between crates of this project")]
pub struct FindBindings {}

/// What [`FindBindings`] finds.
#[derive(Clone, Debug, Default, Deserialize)]
#[non_exhaustive]
pub struct FoundBindings {
    /// What IIS has in its configuration.
    pub bindings: Vec<Binding>,
    /// What http.sys serves with.
    pub mappings: Vec<Mapping>,
}

/// An https binding of a site.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Binding {
    /// The site.
    pub site: String,
    /// `*:443:www.example.com`.
    pub information: String,
    /// `sslFlags`: 1 for SNI, 2 for the central store, others for what a newer IIS knows.
    pub flags: u32,
    /// SHA-1 of its certificate in upper case, or empty.
    pub thumbprint: String,
    /// The store of its certificate, or empty.
    pub store: String,
}

/// A mapping of http.sys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Mapping {
    /// As below `IIS:\SslBindings`: `0.0.0.0!443`, `!443!www.example.com`.
    pub name: String,
    /// SHA-1 of its certificate in upper case, or empty.
    pub thumbprint: String,
    /// The store of its certificate.
    pub store: String,
}

impl Call for FindBindings {
    const SCRIPT: Script = Script::FindBindings;
    type Answer = FoundBindings;
}

/// Gives bindings another certificate, in place: all, or none if one of them is not what it was.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::exhaustive_structs, reason = "plain data between crates of this project")]
pub struct SetBindings {
    /// In this order.
    pub changes: Vec<BindingChange>,
}

/// One change of a binding.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::exhaustive_structs, reason = "plain data between crates of this project")]
pub struct BindingChange {
    /// The site.
    pub site: String,
    /// `*:443:www.example.com`.
    pub information: String,
    /// The thumbprint that it was seen with; `None`: whatever it has.
    pub from: Option<String>,
    /// The thumbprint that it is to have; empty: none.
    pub to: String,
    /// The store of that.
    pub store: String,
}

/// What [`SetBindings`] did.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct BindingsSet {
    /// So many have the certificate that they are to have.
    pub changed: u32,
}

impl Call for SetBindings {
    const SCRIPT: Script = Script::SetBindings;
    type Answer = BindingsSet;
}

/// Reads files.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::exhaustive_structs, reason = "plain data between crates of this project")]
pub struct ReadFiles<'a> {
    /// Which.
    pub paths: &'a [String],
}

/// What [`ReadFiles`] finds.
#[derive(Debug, Deserialize)]
#[non_exhaustive]
pub struct FilesRead {
    /// In the order of the paths.
    pub files: Vec<FileRead>,
}

/// A file as it is.
#[derive(Debug, Deserialize)]
#[non_exhaustive]
pub struct FileRead {
    /// Where.
    pub path: String,
    /// Its content in base64; `None`: it does not exist.
    #[serde(deserialize_with = "secret")]
    pub content: Option<SecretString>,
}

impl Call for ReadFiles<'_> {
    const SCRIPT: Script = Script::ReadFiles;
    type Answer = FilesRead;
}

/// Writes files, each so that it is never half there; none if one of them is not what it was.
#[derive(Debug, Serialize)]
#[expect(clippy::exhaustive_structs, reason = "plain data between crates of this project")]
pub struct WriteFiles {
    /// In this order.
    pub files: Vec<FileWrite>,
}

/// A file as it is to be.
#[derive(Debug, Serialize)]
#[expect(clippy::exhaustive_structs, reason = "plain data between crates of this project")]
pub struct FileWrite {
    /// Where.
    pub path: String,
    /// SHA-256 of what it was, empty for a file that did not exist; `None`: whatever it was.
    pub from: Option<String>,
    /// Its content in base64; `None`: it is removed.
    #[serde(serialize_with = "expose_some")]
    pub content: Option<SecretString>,
}

/// What [`WriteFiles`] did.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct FilesWritten {
    /// So many are what they are to be.
    pub written: u32,
}

impl Call for WriteFiles {
    const SCRIPT: Script = Script::WriteFiles;
    type Answer = FilesWritten;
}

fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

fn expose_some<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(SecretString::expose).serialize(serializer)
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}
