//! Encryption and integrity by password, as PKCS#12 has them: RFC 7292, appendices B and C, and RFC 8018.

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{
    BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt as _, BlockModeEncrypt as _, KeyInit, KeyIvInit as _,
};
use deploy_core::secret::SecretBytes;
use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _, Reader as _, SliceReader};
use des::TdesEde3;
use hmac::{Hmac, Mac as _};
use pkcs5::EncryptionScheme;
use pkcs5::pbes2::{self, Kdf};
use rc2::Rc2;
use rustls::crypto::SecureRandom;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use crate::Encryption;
use crate::error::KeystoreError;
use crate::tlv::{self, NULL, OCTETS, SEQUENCE};

const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");
const SHA_3DES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.3");
const SHA_RC2_128: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.5");
const SHA_RC2_40: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.6");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

/// What Java writes (`keystore.pkcs12.keyPbeIterationCount` in its `java.security`); OpenSSL writes 2048.
const ITERATIONS: u32 = 10_000;
/// A file that asks for more is not worth the time.
const MOST_ITERATIONS: u32 = 5_000_000;

/// What a key is derived for: RFC 7292, appendix B.3.
#[derive(Clone, Copy)]
enum Purpose {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// Decrypts what an `AlgorithmIdentifier` (whole, with its tag) says how to.
pub(crate) fn decrypt(algorithm: &[u8], ciphertext: &[u8], password: &str) -> Result<SecretBytes, KeystoreError> {
    let mut fields = tlv::enter(&mut SliceReader::new(algorithm)?, SEQUENCE)?;
    let oid = ObjectIdentifier::decode(&mut fields)?;
    match oid {
        PBES2 => {
            let scheme = EncryptionScheme::from_der(algorithm)?;
            match scheme.pbes2().map(|parameters| &parameters.kdf) {
                Some(Kdf::Pbkdf2(kdf)) => check_iterations(kdf.iteration_count)?,
                _ => return Err(KeystoreError::Unsupported("encrypted with another key derivation than PBKDF2".into())),
            }
            scheme.decrypt(password, ciphertext).map(SecretBytes::from).map_err(|_| KeystoreError::WrongPassword)
        }
        SHA_3DES => Pkcs12Pbe::read(&mut fields)?.decrypt::<TdesEde3>(ciphertext, password, 24),
        SHA_RC2_128 => Pkcs12Pbe::read(&mut fields)?.decrypt::<Rc2>(ciphertext, password, 16),
        SHA_RC2_40 => Pkcs12Pbe::read(&mut fields)?.decrypt::<Rc2>(ciphertext, password, 5),
        _ => Err(KeystoreError::Unsupported(format!("encrypted by the algorithm {oid}"))),
    }
}

/// Encrypts, and says how: the whole `AlgorithmIdentifier`, and the bytes.
pub(crate) fn encrypt(
    encryption: Encryption,
    plaintext: &[u8],
    password: &str,
    random: &dyn SecureRandom,
) -> Result<(Vec<u8>, Vec<u8>), KeystoreError> {
    match encryption {
        Encryption::Modern => {
            let (salt, iv) = (fresh::<16>(random)?, fresh::<16>(random)?);
            let unfit = |_| KeystoreError::Unsupported("to be encrypted in a way that does not work".into());
            let parameters = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(ITERATIONS, &salt, iv).map_err(unfit)?;
            let ciphertext = parameters.encrypt(password, plaintext).map_err(unfit)?;
            Ok((EncryptionScheme::from(parameters).to_der()?, ciphertext))
        }
        Encryption::Legacy => {
            let pbe = Pkcs12Pbe { salt: fresh::<16>(random)?.to_vec(), iterations: ITERATIONS };
            let parameters = tlv::element(SEQUENCE, &[&tlv::element(OCTETS, &[&pbe.salt]), &tlv::integer(ITERATIONS)]);
            let algorithm = tlv::element(SEQUENCE, &[&tlv::oid(SHA_3DES), &parameters]);
            Ok((algorithm.to_vec(), pbe.encrypt::<TdesEde3>(plaintext, password, 24)?))
        }
    }
}

/// Whether a `MacData` (its content) is right for the bytes, and what kind it is.
pub(crate) fn check_mac(mac_data: &[u8], bytes: &[u8], password: &str) -> Result<(bool, Encryption), KeystoreError> {
    let mut fields = SliceReader::new(mac_data)?;
    let mut digest_info = tlv::enter(&mut fields, SEQUENCE)?;
    let oid = ObjectIdentifier::decode(&mut tlv::enter(&mut digest_info, SEQUENCE)?)?;
    let expected = tlv::next(&mut digest_info, OCTETS)?;
    let salt = tlv::next(&mut fields, OCTETS)?;
    let iterations = if fields.is_finished() { 1 } else { u32::decode(&mut fields)? };
    check_iterations(iterations)?;
    macro_rules! check {
        ($digest:ty, $block:literal) => {{
            let key = derive::<$digest>($block, Purpose::Mac, password, salt, iterations, <$digest>::output_size());
            Hmac::<$digest>::new_from_slice(&key).is_ok_and(|mac| mac.chain_update(bytes).verify_slice(expected).is_ok())
        }};
    }
    let holds = match oid {
        SHA1 => check!(Sha1, 64),
        SHA256 => check!(Sha256, 64),
        SHA384 => check!(Sha384, 128),
        SHA512 => check!(Sha512, 128),
        _ => return Err(KeystoreError::Unsupported(format!("protected by the algorithm {oid}"))),
    };
    Ok((holds, if oid == SHA1 { Encryption::Legacy } else { Encryption::Modern }))
}

/// A whole `MacData` for the bytes.
pub(crate) fn mac(
    encryption: Encryption,
    bytes: &[u8],
    password: &str,
    random: &dyn SecureRandom,
) -> Result<Vec<u8>, KeystoreError> {
    let salt = fresh::<16>(random)?;
    macro_rules! compute {
        ($digest:ty) => {{
            let key = derive::<$digest>(64, Purpose::Mac, password, &salt, ITERATIONS, <$digest>::output_size());
            let mac = Hmac::<$digest>::new_from_slice(&key).map_err(|error| KeystoreError::Damaged(error.to_string()))?;
            mac.chain_update(bytes).finalize().into_bytes().to_vec()
        }};
    }
    let (oid, mac) = match encryption {
        Encryption::Legacy => (SHA1, compute!(Sha1)),
        Encryption::Modern => (SHA256, compute!(Sha256)),
    };
    let algorithm = tlv::element(SEQUENCE, &[&tlv::oid(oid), NULL]);
    let digest_info = tlv::element(SEQUENCE, &[&algorithm, &tlv::element(OCTETS, &[&mac])]);
    Ok(tlv::element(SEQUENCE, &[&digest_info, &tlv::element(OCTETS, &[&salt]), &tlv::integer(ITERATIONS)]).to_vec())
}

/// The older encryption: RFC 7292, appendix C.
struct Pkcs12Pbe {
    salt: Vec<u8>,
    iterations: u32,
}

impl Pkcs12Pbe {
    fn read(fields: &mut SliceReader<'_>) -> Result<Self, KeystoreError> {
        let mut parameters = tlv::enter(fields, SEQUENCE)?;
        let salt = tlv::next(&mut parameters, OCTETS)?.to_vec();
        let iterations = u32::decode(&mut parameters)?;
        check_iterations(iterations)?;
        Ok(Self { salt, iterations })
    }

    fn decrypt<C: BlockCipherDecrypt + KeyInit>(
        &self,
        ciphertext: &[u8],
        password: &str,
        key_length: usize,
    ) -> Result<SecretBytes, KeystoreError> {
        let (key, iv) = self.key_and_iv(password, key_length);
        let cipher = cbc::Decryptor::<C>::new_from_slices(&key, &iv).map_err(|_| KeystoreError::WrongPassword)?;
        cipher.decrypt_padded_vec::<Pkcs7>(ciphertext).map(SecretBytes::from).map_err(|_| KeystoreError::WrongPassword)
    }

    fn encrypt<C: BlockCipherEncrypt + KeyInit>(
        &self,
        plaintext: &[u8],
        password: &str,
        key_length: usize,
    ) -> Result<Vec<u8>, KeystoreError> {
        let (key, iv) = self.key_and_iv(password, key_length);
        let cipher = cbc::Encryptor::<C>::new_from_slices(&key, &iv).map_err(|_| KeystoreError::WrongPassword)?;
        Ok(cipher.encrypt_padded_vec::<Pkcs7>(plaintext))
    }

    fn key_and_iv(&self, password: &str, key_length: usize) -> (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>) {
        let derive = |purpose, length| derive::<Sha1>(64, purpose, password, &self.salt, self.iterations, length);
        (derive(Purpose::Key, key_length), derive(Purpose::Iv, 8))
    }
}

/// RFC 7292, appendix B.2. `block` is the digest's block in bytes.
fn derive<D: Digest>(
    block: usize,
    purpose: Purpose,
    password: &str,
    salt: &[u8],
    iterations: u32,
    length: usize,
) -> Zeroizing<Vec<u8>> {
    let password: Zeroizing<Vec<u8>> = Zeroizing::new(password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect());
    let filled = |bytes: &[u8]| bytes.len().div_ceil(block) * block;
    let salts = salt.iter().copied().cycle().take(filled(salt));
    let mut input = Zeroizing::new(Vec::with_capacity(filled(salt) + filled(&password)));
    input.extend(salts.chain(password.iter().copied().cycle().take(filled(&password))));
    let mut derived = Zeroizing::new(Vec::with_capacity(length + <D as Digest>::output_size()));
    loop {
        let mut hash = D::new().chain_update(vec![purpose as u8; block]).chain_update(&*input).finalize();
        for _ in 1..iterations {
            hash = D::digest(&hash);
        }
        derived.extend_from_slice(&hash);
        if derived.len() >= length {
            derived.truncate(length);
            return derived;
        }
        let added: Zeroizing<Vec<u8>> = Zeroizing::new(hash.iter().copied().cycle().take(block).collect());
        for chunk in input.chunks_mut(block) {
            let mut carry = 1;
            for (byte, more) in chunk.iter_mut().zip(&*added).rev() {
                let sum = u16::from(*byte) + u16::from(*more) + carry;
                *byte = sum.to_be_bytes()[1];
                carry = sum >> 8;
            }
        }
    }
}

fn check_iterations(iterations: u32) -> Result<(), KeystoreError> {
    if (1..=MOST_ITERATIONS).contains(&iterations) {
        Ok(())
    } else {
        Err(KeystoreError::Unsupported(format!("protected with {iterations} iterations")))
    }
}

pub(crate) fn fresh<const LENGTH: usize>(random: &dyn SecureRandom) -> Result<[u8; LENGTH], KeystoreError> {
    let mut bytes = [0; LENGTH];
    random.fill(&mut bytes).map_err(|_| KeystoreError::NoRandomness)?;
    Ok(bytes)
}
