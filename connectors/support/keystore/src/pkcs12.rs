//! PKCS#12: RFC 7292. What is not ours is kept as the bytes that it was, inside of the encryption.

use deploy_core::secret::{SecretBytes, SecretString};
use der::asn1::ObjectIdentifier;
use der::{Decode as _, Reader as _, SliceReader};
use rustls::crypto::SecureRandom;
use sha1::{Digest as _, Sha1};
use zeroize::Zeroizing;

use crate::error::KeystoreError;
use crate::tlv::{self, BMP_STRING, EXPLICIT_0, IMPLICIT_0, OCTETS, OID, SEQUENCE, SET};
use crate::{Encryption, KeyEntry, pbe};

const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ENCRYPTED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.6");
const KEY_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.1");
const SHROUDED_KEY_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.2");
const CERTIFICATE_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.3");
const X509_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.22.1");
const FRIENDLY_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.20");
const LOCAL_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.21");
/// Microsoft's name of the provider that a key belongs to: `szOID_PKCS_12_KEY_PROVIDER_NAME_ATTR` of wincrypt.h.
const KEY_PROVIDER_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.17.1");
/// Java's mark of a certificate that is trusted, and not a part of a chain.
const TRUSTED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113894.746875.1.1");

/// A store that was opened, or a new one.
#[derive(Debug)]
pub(crate) struct Pkcs12 {
    safes: Vec<Safe>,
    encryption: Encryption,
}

/// A part of the store, which is encrypted as a whole or not at all.
#[derive(Debug)]
struct Safe {
    sealed: bool,
    bags: Vec<Bag>,
}

#[derive(Debug)]
struct Bag {
    /// The whole of it, which is what is written again.
    raw: SecretBytes,
    content: Content,
    name: Option<String>,
    key_id: Option<Vec<u8>>,
    trusted: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Certificate(Vec<u8>),
    /// The key, in clear inside of its bag.
    Key(SecretBytes),
    /// An `EncryptedPrivateKeyInfo`.
    ShroudedKey(Vec<u8>),
    /// Secret keys, lists of revoked certificates, and whatever there may be.
    Other,
}

/// The number of a safe, and of a bag in it.
type Place = (usize, usize);

impl Pkcs12 {
    pub(crate) fn empty(encryption: Encryption) -> Self {
        Self { safes: Vec::new(), encryption }
    }

    pub(crate) fn open(bytes: &[u8], password: &SecretString) -> Result<Self, KeystoreError> {
        let password = password.expose();
        let mut file = SliceReader::new(bytes)?;
        if bytes.starts_with(&[SEQUENCE, 0x80]) {
            return Err(KeystoreError::Unsupported("a PKCS#12 in BER, with lengths that are not given".into()));
        }
        let mut pfx = tlv::enter(&mut file, SEQUENCE)?;
        if u32::decode(&mut pfx)? != 3 {
            return Err(KeystoreError::Unsupported("a PKCS#12 of another version than 3".into()));
        }
        let mut content_info = tlv::enter(&mut pfx, SEQUENCE)?;
        if ObjectIdentifier::decode(&mut content_info)? != DATA {
            return Err(KeystoreError::Unsupported("a PKCS#12 that is signed with a key, and not with a password".into()));
        }
        let contents = tlv::next(&mut tlv::enter(&mut content_info, EXPLICIT_0)?, OCTETS)?;
        if pfx.is_finished() {
            return Err(KeystoreError::Unsupported("a PKCS#12 without an integrity check (MAC)".into()));
        }
        let (holds, encryption) = pbe::check_mac(tlv::next(&mut pfx, SEQUENCE)?, contents, password)?;
        file.finish()?;

        let parts = tlv::elements(tlv::next(&mut SliceReader::new(contents)?, SEQUENCE)?)?;
        let safes: Result<Vec<Safe>, KeystoreError> = parts.into_iter().map(|part| Safe::open(part, password)).collect();
        match safes {
            _ if holds => Ok(Self { safes: safes?, encryption }),
            Ok(safes) if safes.iter().any(|safe| safe.sealed) => {
                Err(KeystoreError::Damaged("its integrity check fails, although the password opens it".into()))
            }
            _ => Err(KeystoreError::WrongPassword),
        }
    }

    /// Puts the key under its alias, and says whether anything had to be changed for it.
    pub(crate) fn put(
        &mut self,
        entry: &KeyEntry<'_>,
        encryption: Option<Encryption>,
        random: &dyn SecureRandom,
    ) -> Result<bool, KeystoreError> {
        let encryption = encryption.unwrap_or(self.encryption);
        let old = self.find(entry)?;
        if let Some(place) = old {
            let held = self.holds(place, entry)?;
            if held && self.bag(place).name.as_deref() == Some(entry.alias) && encryption == self.encryption {
                return Ok(false);
            }
        }
        self.encryption = encryption;
        let others = self.chains_of_others(old);
        self.remove(old);
        if entry.alone && self.bags().next().is_some() {
            return Err(KeystoreError::NotAlone);
        }
        self.add(entry, random)?;

        let ours = self.find(entry)?;
        if self.chains_of_others(ours) != others {
            return Err(KeystoreError::SameName { whose: "another key".into() });
        }
        if !ours.is_some_and(|place| self.has_chain(place, entry)) {
            return Err(KeystoreError::SameName { whose: format!("{:?}", entry.alias) });
        }
        Ok(true)
    }

    pub(crate) fn leaves(&self) -> Vec<&[u8]> {
        let keys = self.bags().filter(|(_, bag)| bag.is_key());
        keys.filter_map(|(place, _)| self.bag(*self.chain(place).first()?).certificate()).collect()
    }

    pub(crate) fn to_bytes(&self, password: &SecretString, random: &dyn SecureRandom) -> Result<SecretBytes, KeystoreError> {
        let password = password.expose();
        let mut parts = Vec::new();
        for safe in self.safes.iter().filter(|safe| !safe.bags.is_empty()) {
            let bags: Vec<&[u8]> = safe.bags.iter().map(|bag| bag.raw.expose()).collect();
            let bags = tlv::element(SEQUENCE, &bags);
            parts.push(if safe.sealed {
                let (algorithm, ciphertext) = pbe::encrypt(self.encryption, &bags, password, random)?;
                let content = tlv::element(SEQUENCE, &[&tlv::oid(DATA), &algorithm, &tlv::element(IMPLICIT_0, &[&ciphertext])]);
                content_info(ENCRYPTED_DATA, &tlv::element(SEQUENCE, &[&tlv::integer(0), &content]))
            } else {
                content_info(DATA, &tlv::element(OCTETS, &[&bags]))
            });
        }
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_slice()).collect();
        let contents = tlv::element(SEQUENCE, &parts);
        let mac = pbe::mac(self.encryption, &contents, password, random)?;
        let safe = content_info(DATA, &tlv::element(OCTETS, &[&contents]));
        Ok(SecretBytes::from(tlv::element(SEQUENCE, &[&tlv::integer(3), &safe, &mac]).to_vec()))
    }

    /// The key that the entry is to replace.
    fn find(&self, entry: &KeyEntry<'_>) -> Result<Option<Place>, KeystoreError> {
        let named = |bag: &Bag| bag.name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(entry.alias));
        let keys: Vec<Place> =
            self.bags().filter(|(_, bag)| bag.is_key() && (entry.alone || named(bag))).map(|(place, _)| place).collect();
        match keys[..] {
            [] => {}
            [place] => return Ok(Some(place)),
            _ if entry.alone => return Err(KeystoreError::NotAlone),
            _ => return Err(KeystoreError::Ambiguous { alias: entry.alias.to_owned() }),
        }
        let alias = || entry.alias.to_owned();
        if self.bags().any(|(_, bag)| bag.trusted && named(bag)) {
            Err(KeystoreError::TrustedAlias { alias: alias() })
        } else if self.bags().any(|(_, bag)| bag.content == Content::Other && named(bag)) {
            Err(KeystoreError::OtherAlias { alias: alias() })
        } else if self.bags().next().is_some() && self.bags().all(|(_, bag)| matches!(bag.content, Content::Certificate(_))) {
            Err(KeystoreError::Truststore)
        } else {
            Ok(None)
        }
    }

    /// Whether the key at this place is the entry's, with its chain.
    fn holds(&self, place: Place, entry: &KeyEntry<'_>) -> Result<bool, KeystoreError> {
        let key = match &self.bag(place).content {
            Content::Key(_) => return Ok(false),
            Content::ShroudedKey(shrouded) => {
                let [algorithm, ciphertext] = pair(shrouded)?;
                let ciphertext = tlv::next(&mut SliceReader::new(ciphertext)?, OCTETS)?;
                let key = pbe::decrypt(algorithm, ciphertext, entry.key_password.expose()).and_then(|key| {
                    tlv::next(&mut SliceReader::new(key.expose())?, SEQUENCE)?;
                    Ok(key)
                });
                key.map_err(|error| match error {
                    KeystoreError::Unsupported(_) => error,
                    _ => KeystoreError::WrongKeyPassword { alias: entry.alias.to_owned() },
                })?
            }
            Content::Certificate(_) | Content::Other => return Ok(false),
        };
        let alone = !entry.alone || self.bags().count() == 1 + self.chain(place).len();
        Ok(key == entry.certificate.key_pkcs8_der() && alone && self.has_chain(place, entry))
    }

    /// Whether who reads the key at this place finds the entry's certificates, in order. Java goes on beyond them where it can:
    /// a root that is trusted.
    fn has_chain(&self, place: Place, entry: &KeyEntry<'_>) -> bool {
        let found = self.chain(place);
        let wanted = entry.chain();
        found.len() >= wanted.len()
            && wanted.iter().zip(&found).all(|(wanted, place)| self.bag(*place).certificate() == Some(*wanted))
            && found[wanted.len()..].iter().all(|place| self.bag(*place).trusted)
    }

    /// The certificates of the key at this place as Java finds them: the one of the same local key ID, and then the first one
    /// that has the issuer's name.
    fn chain(&self, key: Place) -> Vec<Place> {
        let key_id = self.bag(key).key_id.as_deref();
        let certificates = || self.bags().filter_map(|(place, bag)| Some((place, bag, bag.certificate()?)));
        let mut next = certificates().find(|(_, bag, _)| key_id.is_some() && bag.key_id.as_deref() == key_id);
        let mut chain = Vec::new();
        while let Some((place, _, certificate)) = next {
            if chain.contains(&place) {
                break;
            }
            chain.push(place);
            let Some((issuer, _)) = names(certificate).filter(|(issuer, subject)| issuer != subject) else { break };
            next = certificates().find(|(_, _, other)| names(other).is_some_and(|(_, subject)| subject == issuer));
        }
        chain
    }

    /// Every other key with its certificates, to be compared.
    fn chains_of_others(&self, ours: Option<Place>) -> Vec<(SecretBytes, Vec<Vec<u8>>)> {
        let others = self.bags().filter(|(place, bag)| bag.is_key() && Some(*place) != ours);
        others
            .map(|(place, bag)| {
                let chain = self.chain(place).into_iter().filter_map(|place| self.bag(place).certificate().map(<[u8]>::to_vec));
                (bag.raw.clone(), chain.collect())
            })
            .collect()
    }

    /// Removes a key, and its certificates where no other key has them and nobody trusts them.
    fn remove(&mut self, key: Option<Place>) {
        let Some(key) = key else { return };
        let others: Vec<Place> =
            self.bags().filter(|(place, bag)| bag.is_key() && *place != key).flat_map(|(place, _)| self.chain(place)).collect();
        let mut gone: Vec<Place> =
            self.chain(key).into_iter().filter(|place| !others.contains(place) && !self.bag(*place).trusted).collect();
        gone.push(key);
        for (number, safe) in self.safes.iter_mut().enumerate() {
            let mut index = 0..;
            safe.bags.retain(|_| !index.next().is_some_and(|index| gone.contains(&(number, index))));
        }
    }

    fn add(&mut self, entry: &KeyEntry<'_>, random: &dyn SecureRandom) -> Result<(), KeystoreError> {
        let chain = entry.chain();
        let key_id = Sha1::new().chain_update(entry.alias).chain_update(entry.certificate.leaf_der()).finalize();
        let of_certificate = attributes(entry.alias, &key_id, None);
        let of_key = attributes(entry.alias, &key_id, entry.provider);
        let known: Vec<Vec<u8>> =
            self.bags().filter(|(_, bag)| !bag.trusted).filter_map(|(_, bag)| bag.certificate().map(<[u8]>::to_vec)).collect();
        for (index, certificate) in chain.iter().enumerate() {
            if index > 0 && known.iter().any(|known| known == certificate) {
                continue;
            }
            let value = tlv::element(EXPLICIT_0, &[&tlv::element(OCTETS, &[certificate])]);
            let value = tlv::element(SEQUENCE, &[&tlv::oid(X509_CERTIFICATE), &value]);
            let bag = bag(CERTIFICATE_BAG, &value, if index == 0 { &of_certificate } else { &[] });
            self.safe(true).push(Bag::read(&bag)?);
        }
        let key = entry.certificate.key_pkcs8_der();
        let (algorithm, ciphertext) = pbe::encrypt(self.encryption, key.expose(), entry.key_password.expose(), random)?;
        let value = tlv::element(SEQUENCE, &[&algorithm, &tlv::element(OCTETS, &[&ciphertext])]);
        let key = Bag::read(&bag(SHROUDED_KEY_BAG, &value, &of_key))?;
        self.safe(false).push(key);
        Ok(())
    }

    /// The bags of the first safe of a kind, which is made if there is none.
    fn safe(&mut self, sealed: bool) -> &mut Vec<Bag> {
        let index = self.safes.iter().position(|safe| safe.sealed == sealed).unwrap_or_else(|| {
            self.safes.push(Safe { sealed, bags: Vec::new() });
            self.safes.len() - 1
        });
        &mut self.safes[index].bags
    }

    fn bags(&self) -> impl Iterator<Item = (Place, &Bag)> {
        let numbered = |(number, safe)| {
            let Safe { bags, .. }: &Safe = safe;
            bags.iter().enumerate().map(move |(index, bag)| ((number, index), bag))
        };
        self.safes.iter().enumerate().flat_map(numbered)
    }

    fn bag(&self, (safe, index): Place) -> &Bag {
        &self.safes[safe].bags[index]
    }
}

impl Safe {
    /// From a whole `ContentInfo`.
    fn open(content_info: &[u8], password: &str) -> Result<Self, KeystoreError> {
        let mut fields = tlv::enter(&mut SliceReader::new(content_info)?, SEQUENCE)?;
        let oid = ObjectIdentifier::decode(&mut fields)?;
        let mut content = tlv::enter(&mut fields, EXPLICIT_0)?;
        match oid {
            DATA => Self::read(false, tlv::next(&mut content, OCTETS)?),
            ENCRYPTED_DATA => {
                let mut encrypted = tlv::enter(&mut content, SEQUENCE)?;
                u32::decode(&mut encrypted)?;
                let mut info = tlv::enter(&mut encrypted, SEQUENCE)?;
                tlv::next(&mut info, OID)?;
                let algorithm = info.tlv_bytes()?;
                let bags = pbe::decrypt(algorithm, tlv::next(&mut info, IMPLICIT_0)?, password)?;
                Self::read(true, bags.expose())
            }
            _ => Err(KeystoreError::Unsupported("a PKCS#12 with a part that is encrypted for a certificate".into())),
        }
    }

    fn read(sealed: bool, contents: &[u8]) -> Result<Self, KeystoreError> {
        let bags = tlv::elements(tlv::next(&mut SliceReader::new(contents)?, SEQUENCE)?)?;
        Ok(Self { sealed, bags: bags.into_iter().map(Bag::read).collect::<Result<_, _>>()? })
    }
}

impl Bag {
    fn read(raw: &[u8]) -> Result<Self, KeystoreError> {
        let mut fields = tlv::enter(&mut SliceReader::new(raw)?, SEQUENCE)?;
        let oid = ObjectIdentifier::decode(&mut fields)?;
        let value = tlv::next(&mut fields, EXPLICIT_0)?;
        let content = match oid {
            KEY_BAG => Content::Key(SecretBytes::from(value)),
            SHROUDED_KEY_BAG => Content::ShroudedKey(value.to_vec()),
            CERTIFICATE_BAG => {
                certificate(value)?.map_or(Content::Other, |certificate| Content::Certificate(certificate.to_vec()))
            }
            _ => Content::Other,
        };
        let mut bag = Self { raw: SecretBytes::from(raw), content, name: None, key_id: None, trusted: false };
        if !fields.is_finished() {
            for attribute in tlv::elements(tlv::next(&mut fields, SET)?)? {
                bag.read_attribute(attribute)?;
            }
        }
        Ok(bag)
    }

    fn read_attribute(&mut self, attribute: &[u8]) -> Result<(), KeystoreError> {
        let mut fields = tlv::enter(&mut SliceReader::new(attribute)?, SEQUENCE)?;
        let oid = ObjectIdentifier::decode(&mut fields)?;
        let mut values = tlv::enter(&mut fields, SET)?;
        match oid {
            FRIENDLY_NAME => {
                let units = tlv::next(&mut values, BMP_STRING)?.chunks(2);
                let units = units.map(|unit| unit.iter().fold(0, |unit, byte| unit << 8 | u16::from(*byte)));
                self.name = Some(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect());
            }
            LOCAL_KEY_ID => self.key_id = Some(tlv::next(&mut values, OCTETS)?.to_vec()),
            TRUSTED_KEY_USAGE => self.trusted = true,
            _ => {}
        }
        Ok(())
    }

    fn is_key(&self) -> bool {
        matches!(self.content, Content::Key(_) | Content::ShroudedKey(_))
    }

    fn certificate(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Certificate(certificate) => Some(certificate),
            _ => None,
        }
    }
}

fn content_info(oid: ObjectIdentifier, content: &[u8]) -> Zeroizing<Vec<u8>> {
    tlv::element(SEQUENCE, &[&tlv::oid(oid), &tlv::element(EXPLICIT_0, &[content])])
}

fn bag(oid: ObjectIdentifier, value: &[u8], attributes: &[u8]) -> Zeroizing<Vec<u8>> {
    tlv::element(SEQUENCE, &[&tlv::oid(oid), &tlv::element(EXPLICIT_0, &[value]), attributes])
}

/// A name and a local key ID, which tie a key and its certificate together; and a provider for the key.
fn attributes(name: &str, key_id: &[u8], provider: Option<&str>) -> Vec<u8> {
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    let attribute =
        |oid, tag, value: &[u8]| tlv::element(SEQUENCE, &[&tlv::oid(oid), &tlv::element(SET, &[&tlv::element(tag, &[value])])]);
    let mut all = vec![attribute(FRIENDLY_NAME, BMP_STRING, &wide(name)), attribute(LOCAL_KEY_ID, OCTETS, key_id)];
    all.extend(provider.map(|provider| attribute(KEY_PROVIDER_NAME, BMP_STRING, &wide(provider))));
    // A set has an order in DER: X.690, 11.6.
    all.sort_by(|one, other| one.as_slice().cmp(other));
    tlv::element(SET, &all.iter().map(|attribute| attribute.as_slice()).collect::<Vec<_>>()).to_vec()
}

/// The certificate in a bag's value; `None` for SDSI, which is not X.509.
fn certificate(value: &[u8]) -> Result<Option<&[u8]>, KeystoreError> {
    let mut fields = tlv::enter(&mut SliceReader::new(value)?, SEQUENCE)?;
    let oid = ObjectIdentifier::decode(&mut fields)?;
    let mut value = tlv::enter(&mut fields, EXPLICIT_0)?;
    Ok(if oid == X509_CERTIFICATE { Some(tlv::next(&mut value, OCTETS)?) } else { None })
}

/// The two elements of a sequence.
fn pair(sequence: &[u8]) -> Result<[&[u8]; 2], KeystoreError> {
    let elements = tlv::elements(tlv::next(&mut SliceReader::new(sequence)?, SEQUENCE)?)?;
    elements.try_into().map_err(|_| KeystoreError::Damaged("a key is not made of an algorithm and its bytes".into()))
}

/// Issuer and subject of a certificate: RFC 5280, section 4.1.
fn names(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut outer = tlv::enter(&mut SliceReader::new(certificate).ok()?, SEQUENCE).ok()?;
    let fields = tlv::elements(tlv::next(&mut outer, SEQUENCE).ok()?).ok()?;
    // The version is there from 2 on, as `[0]`; then serial number, algorithm, issuer, validity, subject.
    let version = usize::from(fields.first()?.first() == Some(&EXPLICIT_0));
    Some((fields.get(version + 2)?, fields.get(version + 4)?))
}

#[cfg(test)]
pub(crate) mod tests {
    use deploy_testkit::{Authority, Request};
    use proptest::sample::Index;

    use super::*;

    impl Pkcs12 {
        pub(crate) fn raw_without(&self, alias: &str) -> Vec<SecretBytes> {
            let others = self.bags().filter(|(_, bag)| bag.name.as_deref() != Some(alias));
            others.map(|(_, bag)| bag.raw.clone()).collect()
        }

        pub(crate) fn keep_trusted(&mut self) {
            self.safes.iter_mut().for_each(|safe| safe.bags.retain(|bag| bag.trusted));
        }
    }

    /// Changes bytes of the bags of a store, where an integrity check would keep them from being read.
    pub(crate) fn read_and_put_into_changed(changes: &[(Index, u8)]) {
        let password = SecretString::from("password-of-store".to_owned());
        let mut store = Pkcs12::open(include_bytes!("../tests/data/keytool.p12"), &password).unwrap();
        for safe in &mut store.safes {
            let bags: Vec<&[u8]> = safe.bags.iter().map(|bag| bag.raw.expose()).collect();
            let mut contents = tlv::element(SEQUENCE, &bags).to_vec();
            for (index, byte) in changes {
                let index = index.index(contents.len());
                contents[index] = *byte;
            }
            if let Ok(changed) = Safe::read(safe.sealed, &contents) {
                *safe = changed;
            }
        }
        let issued = Authority::new().issue(&Request::new(&["www.example.test"]));
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = deploy_core::Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        drop(store.put(&KeyEntry::new("other", &certificate, &password), None, deploy_testkit::provider().secure_random));
    }
}
