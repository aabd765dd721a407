//! The little DER that PKCS#12 and JKS need: the content of a tag, and a tag around contents.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode as _, ErrorKind, Reader as _, SliceReader};
use zeroize::Zeroizing;

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTETS: u8 = 0x04;
pub(crate) const NULL: &[u8] = &[0x05, 0x00];
pub(crate) const OID: u8 = 0x06;
pub(crate) const BMP_STRING: u8 = 0x1e;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// `[0]`, around something else.
pub(crate) const EXPLICIT_0: u8 = 0xa0;
/// `[0]`, in place of the tag of octets.
pub(crate) const IMPLICIT_0: u8 = 0x80;

/// The content of the next element, which has this tag.
pub(crate) fn next<'a>(reader: &mut SliceReader<'a>, tag: u8) -> der::Result<&'a [u8]> {
    if reader.peek_byte() != Some(tag) {
        return Err(reader.error(ErrorKind::Failed));
    }
    AnyRef::decode(reader).map(AnyRef::value)
}

/// The same, to be read on.
pub(crate) fn enter<'a>(reader: &mut SliceReader<'a>, tag: u8) -> der::Result<SliceReader<'a>> {
    SliceReader::new(next(reader, tag)?)
}

/// The whole elements in a content, tags and lengths included.
pub(crate) fn elements(content: &[u8]) -> der::Result<Vec<&[u8]>> {
    let mut reader = SliceReader::new(content)?;
    let mut elements = Vec::new();
    while !reader.is_finished() {
        elements.push(reader.tlv_bytes()?);
    }
    Ok(elements)
}

/// An element of these contents, one after the other. What it may hold of a key is wiped.
pub(crate) fn element(tag: u8, contents: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = contents.iter().map(|content| content.len()).sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 10));
    bytes.push(tag);
    let digits = length.to_be_bytes();
    let digits = &digits[digits.iter().take_while(|digit| **digit == 0).count()..];
    match digits {
        [] => bytes.push(0),
        [short @ ..=0x7f] => bytes.push(*short),
        _ => {
            // At most eight digits.
            bytes.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            bytes.extend_from_slice(digits);
        }
    }
    contents.iter().for_each(|content| bytes.extend_from_slice(content));
    bytes
}

pub(crate) fn oid(oid: ObjectIdentifier) -> Zeroizing<Vec<u8>> {
    element(OID, &[oid.as_bytes()])
}

pub(crate) fn integer(number: u32) -> Zeroizing<Vec<u8>> {
    let digits = number.to_be_bytes();
    let skipped = digits.iter().take(3).take_while(|digit| **digit == 0).count();
    let sign: &[u8] = if digits[skipped] > 0x7f { &[0] } else { &[] };
    element(INTEGER, &[sign, &digits[skipped..]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_numbers_are_written_as_they_are_read() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let bytes = element(OCTETS, &[&content]);
            let mut reader = SliceReader::new(&bytes).unwrap();
            assert_eq!(next(&mut reader, OCTETS).unwrap(), content);
            assert!(reader.is_finished());
        }
        for number in [0, 1, 127, 128, 255, 256, 10_000, u32::MAX] {
            assert_eq!(u32::from_der(&integer(number)).unwrap(), number);
        }
        assert!(next(&mut SliceReader::new(&integer(1)).unwrap(), OCTETS).is_err());
    }
}
