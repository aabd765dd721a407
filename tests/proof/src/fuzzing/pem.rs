use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, MaterialError};

/// A chain and a key, separated by the first zero byte; both at once, where there is none.
pub fn pem(input: &[u8]) {
    let (chain, key) = match input.iter().position(|&byte| byte == 0) {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, input),
    };
    let key = SecretBytes::from(key.to_vec());
    judge(Certificate::from_pem(chain, &key));
    judge(Certificate::from_pem_with_chain(chain, b"", &key));
    judge(Certificate::from_combined_pem(&SecretBytes::from(input.to_vec())));
}

/// What was accepted can be looked at and written down, and what is written down is accepted as the same.
fn judge(read: Result<Certificate, MaterialError>) {
    let certificate = match read {
        Ok(certificate) => certificate,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "an error without words: {error:?}");
            let _advice = error.next_step();
            return;
        }
    };
    let _whether = certificate.check_with_provider(&deploy_testkit::provider());
    let _validity = certificate.check_validity(std::time::SystemTime::UNIX_EPOCH);
    let _seen = (certificate.names(), certificate.covers("www.example.test"), certificate.key_pkcs8_der());
    let again = [
        Certificate::from_pem(&certificate.fullchain_pem(), &certificate.key_pem()),
        Certificate::from_pem_with_chain(&certificate.leaf_pem(), &certificate.chain_pem(), &certificate.key_pem()),
        Certificate::from_combined_pem(&certificate.combined_pem()),
        Certificate::from_combined_pem(&certificate.combined_key_first_pem()),
    ];
    for again in again {
        let again = again.expect("our own rendering is accepted");
        assert_eq!(again.fingerprint(), certificate.fingerprint());
        assert_eq!(again.key_pem().expose(), certificate.key_pem().expose());
        assert!(again.chain_der().eq(certificate.chain_der()), "another chain");
    }
}
