//! Named pairs of certificate and key, as certificate authorities, ACME clients and operators leave them: good ones in every
//! form, and bad ones.

use deploy_core::ErrorKind;

use crate::conformance::NAME;
use crate::pki::{Authority, Issued, KeyKind, Request};

/// A certificate and a key, as the text of two files.
#[derive(Clone)]
#[non_exhaustive]
pub struct Fixture {
    /// What is in the file with the certificates.
    pub fullchain: String,
    /// What is in the file with the key.
    pub key: String,
    /// What is served once it is deployed; for a bad pair, what it was made of.
    pub issued: Issued,
    /// How it is refused; `None` for a good pair.
    pub refused: Option<ErrorKind>,
}

impl std::fmt::Debug for Fixture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Fixture").field("issued", &self.issued).field("refused", &self.refused).finish_non_exhaustive()
    }
}

/// Makes one fixture.
pub type Make = fn(&Authority) -> Fixture;

/// Every fixture by name. All good ones cover the name of the conformance suite.
pub const FIXTURES: &[(&str, Make)] = &[
    ("rsa_2048", |authority| good(authority.issue(&request().key(KeyKind::Rsa2048)))),
    ("rsa_3072", |authority| good(authority.issue(&request().key(KeyKind::Rsa3072)))),
    ("rsa_4096", |authority| good(authority.issue(&request().key(KeyKind::Rsa4096)))),
    ("rsa_pkcs1", |authority| traditional(authority.issue(&request().key(KeyKind::Rsa2048)))),
    ("ecdsa_p256", |authority| good(authority.issue(&request().key(KeyKind::EcP256)))),
    ("ecdsa_p384", |authority| good(authority.issue(&request().key(KeyKind::EcP384)))),
    ("ecdsa_p521", |authority| good(authority.issue(&request().key(KeyKind::EcP521)))),
    ("ecdsa_sec1", |authority| traditional(authority.issue(&request().key(KeyKind::EcP256)))),
    ("ed25519_pkcs8_version_1", |authority| {
        let fixture = good(authority.issue(&request().key(KeyKind::Ed25519)));
        Fixture { key: fixture.issued.ed25519_key_pem_version_1(), ..fixture }
    }),
    ("ed25519_pkcs8_version_2", |authority| good(authority.issue(&request().key(KeyKind::Ed25519)))),
    ("long_chain", |authority| good(authority.issue_deep(&request(), 4))),
    ("no_chain", |authority| {
        let mut fixture = good(authority.issue(&request()));
        fixture.fullchain.clone_from(&fixture.issued.leaf_pem);
        fixture.issued.chain_der.clear();
        fixture
    }),
    ("duplicate_intermediate", |authority| {
        let fixture = good(authority.issue(&request()));
        Fixture { fullchain: fixture.fullchain.clone() + &fixture.issued.chain_pem, ..fixture }
    }),
    ("root_included", |authority| {
        let fixture = good(authority.issue(&request()));
        Fixture { fullchain: fixture.fullchain.clone() + &authority.root_pem(), ..fixture }
    }),
    ("crlf", |authority| good(authority.issue(&request())).rewritten(|text| text.replace('\n', "\r\n"))),
    ("no_final_newline", |authority| good(authority.issue(&request())).rewritten(|text| text.trim_end().to_owned())),
    ("remarks_between_blocks", |authority| {
        good(authority.issue(&request())).rewritten(|text| text.replace("-----BEGIN", "subject=/CN=remark\n\n-----BEGIN"))
    }),
    ("wildcard", |authority| good(authority.issue(&Request::new(&["*.example.test", "example.test"])))),
    ("internationalised_name", |authority| good(authority.issue(&Request::new(&["xn--bcher-kva.example.test", NAME])))),
    ("ip_names", |authority| {
        let addresses = [[192, 0, 2, 1].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()];
        good(authority.issue(&request().with_ips(&addresses)))
    }),
    ("no_common_name", |authority| good(authority.issue(&request().without_common_name()))),
    ("wrong_order", |authority| {
        let fixture = bad(authority.issue(&request()));
        Fixture { fullchain: fixture.issued.chain_pem.clone() + &fixture.issued.leaf_pem, ..fixture }
    }),
    ("foreign_chain", |authority| {
        let fixture = bad(authority.issue(&request()));
        Fixture { fullchain: fixture.issued.leaf_pem.clone() + &Authority::new().intermediate_pem(), ..fixture }
    }),
    ("expired", |authority| bad(authority.issue(&request().days_from_now(-90, -1)))),
    ("not_yet_valid", |authority| bad(authority.issue(&request().days_from_now(2, 90)))),
    ("mismatch", |authority| {
        let other = authority.issue(&request());
        let fixture = bad(authority.issue(&request()));
        Fixture { key: other.key_pem, ..fixture }
    }),
    ("mismatch_of_kinds", |authority| {
        let other = authority.issue(&request().key(KeyKind::Rsa2048));
        let fixture = bad(authority.issue(&request()));
        Fixture { key: other.key_pem, ..fixture }
    }),
    ("encrypted_key", |authority| Fixture { key: ENCRYPTED.to_owned(), ..bad(authority.issue(&request())) }),
    ("encrypted_traditional_key", |authority| Fixture {
        key: ENCRYPTED_TRADITIONAL.to_owned(),
        ..bad(authority.issue(&request()))
    }),
    ("empty_certificate", |authority| Fixture { fullchain: String::new(), ..bad(authority.issue(&request())) }),
    ("empty_key", |authority| Fixture { key: String::new(), ..bad(authority.issue(&request())) }),
    ("truncated_certificate", |authority| {
        let fixture = bad(authority.issue(&request()));
        Fixture { fullchain: fixture.fullchain[..fixture.fullchain.len() / 3].to_owned(), ..fixture }
    }),
    ("truncated_key", |authority| {
        let fixture = bad(authority.issue(&request()));
        Fixture { key: fixture.key[..fixture.key.len() / 2].to_owned(), ..fixture }
    }),
    ("garbage", |authority| Fixture { fullchain: "\u{0}\u{1}garbage".repeat(100), ..bad(authority.issue(&request())) }),
];

/// A P-256 key, encrypted as PKCS#8 (RFC 5958, section 3) with a password that nobody needs.
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiptMiONwFIwgICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEELzmLhLLtCwqtB46rMQaPuwEgZCL
5Inor6h28SLV7GyGqHBvXCq5R/Qt0F9m7e0s1kCUc4FqWaU5AZlfStbEaZgiiyoQ
FoNNG3DDJKoivZYp+ALd2IA523hzGIlBYZ0BY+W/O6EUpBl1lwMkDdx8XR6Em9QL
PlM8fdZKsTVoVumrHRU0YLUxs84fXNdBr7zScHFcZwLeaM7Reg2oCyh2rC2l7Qs=
-----END ENCRYPTED PRIVATE KEY-----
";

/// The same key, encrypted as OpenSSL did it before PKCS#8 (RFC 1421, section 4.6.1).
const ENCRYPTED_TRADITIONAL: &str = "-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,BDBB48020CFB9707F751E43CB7C865E2

LXelXPDelzpByJ4abiu2WlbvYRpigiyAksugTS98J6g4tKg+Tp9K7h0Ur8qZPGYw
FZUexTdG3hB5kiAx5wROrfmZoz2lZCuAlS2V/cuF4HR7BwHxEXTN/zeSv5zwrocV
CXvSx914gvh1H0M0QhFiealeoKDsbc58YFiCIn/JxCI=
-----END EC PRIVATE KEY-----
";

impl Fixture {
    fn rewritten(mut self, change: impl Fn(&str) -> String) -> Self {
        self.fullchain = change(&self.fullchain);
        self.key = change(&self.key);
        self
    }
}

fn request() -> Request {
    Request::new(&[NAME])
}

fn good(issued: Issued) -> Fixture {
    Fixture { fullchain: issued.fullchain_pem.clone(), key: issued.key_pem.clone(), issued, refused: None }
}

fn traditional(issued: Issued) -> Fixture {
    Fixture { key: issued.traditional_key_pem(), ..good(issued) }
}

fn bad(issued: Issued) -> Fixture {
    Fixture { refused: Some(ErrorKind::MaterialRejected), ..good(issued) }
}
