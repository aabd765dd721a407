//! What has to be new every time.

use deploy_core::secret::SecretString;
use deploy_core::{Context, Error, ErrorKind};

/// A random number in the form of RFC 9562, in upper case as Windows writes them.
pub(crate) fn uuid(context: &Context) -> Result<String, Error> {
    let mut bytes = [0; 16];
    fill(&mut bytes, context)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    Ok([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

/// A password of 32 hexadecimal digits: 128 bits, and nothing that any program takes for something else.
pub(crate) fn password(context: &Context) -> Result<SecretString, Error> {
    let mut bytes = zeroize::Zeroizing::new([0; 16]);
    fill(&mut *bytes, context)?;
    let mut text = String::with_capacity(32);
    for byte in bytes.iter() {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    Ok(SecretString::from(text))
}

fn fill(bytes: &mut [u8], context: &Context) -> Result<(), Error> {
    let filled = context.provider().secure_random.fill(bytes);
    filled.map_err(|_| Error::new(ErrorKind::Internal, "the system gives no random numbers"))
}
