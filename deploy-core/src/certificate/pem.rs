//! A strict PEM reader and writer (RFC 7468, with what OpenSSL writes between blocks).
//!
//! Whoever lets unknown text through between blocks also lets a truncated or pasted-over file through, so everything that
//! is neither a block nor a known kind of remark is an error with its line number.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::error::{MaterialError, Part};
use crate::secret::SecretBytes;

/// The longest input that is looked at, in bytes: 1 MiB.
pub const SIZE_LIMIT: usize = 1024 * 1024;

/// The most blocks in one input.
pub const BLOCK_LIMIT: usize = 64;

const LINE_LENGTH: usize = 64;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One block: its label, the line of its BEGIN, and its content. It may be a key, so it is cleared when dropped.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) label: String,
    pub(super) line: usize,
    pub(super) content: SecretBytes,
}

/// All blocks of an input, in order.
pub(super) fn read(input: &[u8], part: Part) -> Result<Vec<Block>, MaterialError> {
    if input.len() > SIZE_LIMIT {
        return Err(MaterialError::TooLarge { part, limit: SIZE_LIMIT });
    }
    let input = input.strip_prefix(BYTE_ORDER_MARK).unwrap_or(input);
    if input.trim_ascii().is_empty() {
        return Err(MaterialError::Empty { part });
    }
    let mut lines = input.split(|byte| *byte == b'\n').enumerate().map(|(index, line)| (index + 1, line.trim_ascii_end()));
    let mut blocks = Vec::new();
    while let Some((number, line)) = lines.next() {
        if let Some(label) = boundary(line, "BEGIN") {
            if blocks.len() == BLOCK_LIMIT {
                return Err(MaterialError::TooManyBlocks { part, limit: BLOCK_LIMIT });
            }
            blocks.push(read_block(label, number, &mut lines, input.len(), part)?);
        } else if !is_remark(line) {
            return Err(MaterialError::TextOutsideBlock { part, line: number });
        }
    }
    Ok(blocks)
}

/// Appends a block. The buffer has to have room for [`encoded_len`] more, so that it never leaves a copy behind.
pub(super) fn write(label: &str, content: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(b"-----BEGIN ");
    into.extend_from_slice(label.as_bytes());
    into.extend_from_slice(b"-----\n");
    let mut line = Zeroizing::new([0_u8; LINE_LENGTH]);
    for bytes in content.chunks(LINE_LENGTH / 4 * 3) {
        // Cannot fail: 48 bytes become 64.
        let length = STANDARD.encode_slice(bytes, &mut line[..]).unwrap_or_default();
        into.extend_from_slice(&line[..length]);
        into.push(b'\n');
    }
    into.extend_from_slice(b"-----END ");
    into.extend_from_slice(label.as_bytes());
    into.extend_from_slice(b"-----\n");
}

/// How many bytes [`write`] appends.
pub(super) fn encoded_len(label: &str, content: &[u8]) -> usize {
    let base64 = content.len().div_ceil(3) * 4;
    "-----BEGIN -----\n-----END -----\n".len() + 2 * label.len() + base64 + base64.div_ceil(LINE_LENGTH)
}

fn read_block<'a>(
    label: &str,
    begin: usize,
    lines: &mut impl Iterator<Item = (usize, &'a [u8])>,
    capacity: usize,
    part: Part,
) -> Result<Block, MaterialError> {
    let mut base64 = Zeroizing::new(Vec::with_capacity(capacity));
    for (number, line) in lines {
        if let Some(ended) = boundary(line, "END") {
            if ended != label {
                let (began, ended) = (label.to_owned(), ended.to_owned());
                return Err(MaterialError::EndMismatch { part, line: number, began, ended });
            }
            let mut content = Zeroizing::new(vec![0; base64.len() / 4 * 3]);
            let length = STANDARD
                .decode_slice(&base64, &mut content)
                .map_err(|_| MaterialError::BadBase64 { part, line: number.saturating_sub(1).max(begin) })?;
            let content = SecretBytes::from(&content[..length]);
            return Ok(Block { label: label.to_owned(), line: begin, content });
        }
        if boundary(line, "BEGIN").is_some() {
            break;
        }
        // The headers of RFC 1421, which only encrypted keys have.
        if base64.is_empty() && line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED") {
            return Err(MaterialError::KeyEncrypted);
        }
        let line = line.trim_ascii();
        let alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
        if !line.iter().all(alphabet) || (base64.ends_with(b"=") && !line.is_empty()) {
            return Err(MaterialError::BadBase64 { part, line: number });
        }
        base64.extend_from_slice(line);
    }
    Err(MaterialError::UnterminatedBlock { part, line: begin, label: label.to_owned() })
}

/// The label of a `-----BEGIN label-----` line. A label is short, and of capitals, digits and few signs, so that it may
/// be shown: RFC 7468 section 3 allows more, but nobody uses it.
fn boundary<'a>(line: &'a [u8], word: &str) -> Option<&'a str> {
    let label = line.strip_prefix(b"-----")?.strip_prefix(word.as_bytes())?.strip_prefix(b" ")?.strip_suffix(b"-----")?;
    let plain = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b" .#-".contains(byte);
    (!label.is_empty() && label.len() <= 40 && label.iter().all(plain)).then(|| std::str::from_utf8(label).ok())?
}

/// What may stand between blocks: nothing, a `#` comment, and what OpenSSL writes there (`subject=...`, ` 0 s:...`,
/// `friendlyName: ...`, `Bag Attributes`).
fn is_remark(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") || line == b"Bag Attributes" || line == b"Key Attributes" {
        return true;
    }
    let Some(separator) = line.iter().position(|byte| matches!(byte, b':' | b'=')) else { return false };
    let (label, value) = (&line[..separator], line[separator + 1..].trim_ascii());
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" ._-".contains(byte);
    let label_is_plain = (1..=40).contains(&label.len()) && !label.starts_with(b"-----") && label.iter().all(plain);
    // A stray last line of Base64 ends with one or two `=` and nothing after them; `subject=` may be empty.
    let value_is_text =
        line[separator] == b':' || label == b"subject" || label == b"issuer" || value.iter().any(|byte| *byte != b'=');
    label_is_plain && value_is_text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: &str = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";

    fn contents(input: &str) -> Vec<Vec<u8>> {
        read(input.as_bytes(), Part::Certificate).unwrap().iter().map(|block| block.content.expose().to_vec()).collect()
    }

    fn error(input: &str) -> String {
        read(input.as_bytes(), Part::Certificate).unwrap_err().to_string()
    }

    #[test]
    fn m3_crlf_missing_newline_bom_and_blank_lines_are_accepted() {
        let crlf = BLOCK.replace('\n', "\r\n");
        for input in [BLOCK.to_owned(), crlf, BLOCK.trim_end().to_owned(), format!("\u{feff}\n\n{BLOCK}\n \n")] {
            assert_eq!(contents(&input), [[0, 1, 2]], "{input:?}");
        }
    }

    #[test]
    fn m3_comments_and_openssl_remarks_between_blocks_are_accepted() {
        let remarks = "# a comment\nBag Attributes\n    localKeyID: 01 02\n    friendlyName: www\nKey Attributes: <No Attributes>\n\
                       subject=CN = www\nissuer=\nsubject=/C=DE/CN=www\n 0 s:CN = www\n   i:C = US, O = CA\n";
        assert_eq!(contents(&format!("{remarks}{BLOCK}{remarks}{BLOCK}")).len(), 2);
    }

    #[test]
    fn m2_other_text_outside_of_a_block_is_named_by_its_line() {
        for text in
            ["garbage", "MIIB", "AAAA==", "----BEGIN CERTIFICATE----", "-----END CERTIFICATE-----", "\0", "-----BEGIN x-----"]
        {
            assert_eq!(
                error(&format!("{BLOCK}\n{text}\n{BLOCK}")),
                "line 5 of the certificate file: text outside of a PEM block",
                "{text:?}"
            );
        }
    }

    #[test]
    fn m2_truncated_and_damaged_blocks_each_have_their_own_error() {
        assert_eq!(error(""), "the certificate file is empty");
        assert_eq!(error("\u{feff} \r\n"), "the certificate file is empty");
        let unterminated = "the PEM block \"CERTIFICATE\" that begins at line 1 of the certificate file does not end";
        assert_eq!(error("-----BEGIN CERTIFICATE-----\nAAEC\n"), unterminated);
        assert_eq!(error(&format!("-----BEGIN CERTIFICATE-----\nAAEC\n{BLOCK}")), unterminated);
        let mismatch = BLOCK.replace("END CERTIFICATE", "END PRIVATE KEY");
        assert_eq!(error(&mismatch), "line 3 of the certificate file: END PRIVATE KEY where END CERTIFICATE was expected");
        for bad in ["A*EC", "AAE", "AA=A", "AAE=\nAAEC", "AB=="] {
            let line = 1 + bad.lines().count();
            let input = BLOCK.replace("AAEC", bad);
            assert_eq!(error(&input), format!("line {line} of the certificate file: bad Base64"), "{bad}");
        }
    }

    #[test]
    fn m2_size_and_number_of_blocks_are_bounded() {
        let many = BLOCK.repeat(BLOCK_LIMIT);
        assert_eq!(contents(&many).len(), BLOCK_LIMIT);
        assert!(matches!(
            read(BLOCK.repeat(BLOCK_LIMIT + 1).as_bytes(), Part::Chain),
            Err(MaterialError::TooManyBlocks { part: Part::Chain, limit: BLOCK_LIMIT })
        ));
        let large = vec![b'\n'; SIZE_LIMIT + 1];
        assert!(matches!(read(&large, Part::Key), Err(MaterialError::TooLarge { part: Part::Key, limit: SIZE_LIMIT })));
    }

    proptest! {
        #[test]
        fn any_bytes_give_blocks_or_an_error(input in prop::collection::vec(any::<u8>(), 0..600)) {
            drop(read(&input, Part::Certificate));
        }

        #[test]
        fn any_lines_give_blocks_or_an_error(lines in prop::collection::vec(
            prop_oneof![
                Just("-----BEGIN CERTIFICATE-----".to_owned()), Just("-----END CERTIFICATE-----".to_owned()), Just("AAEC".to_owned()),
                Just("Proc-Type: 4,ENCRYPTED".to_owned()), Just("a=".to_owned()), "[ -~]{0,20}",
            ], 0..12)) {
            drop(read(lines.join("\n").as_bytes(), Part::Key));
        }

        #[test]
        fn what_is_written_is_read_back(content in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut text = Vec::with_capacity(encoded_len("PRIVATE KEY", &content));
            write("PRIVATE KEY", &content, &mut text);
            prop_assert_eq!(text.len(), encoded_len("PRIVATE KEY", &content));
            prop_assert_eq!(text.capacity(), text.len());
            prop_assert!(text.split(|byte| *byte == b'\n').all(|line| line.len() <= LINE_LENGTH));
            let blocks = read(&text, Part::Key).unwrap();
            prop_assert_eq!(blocks.len(), 1);
            prop_assert_eq!(blocks[0].content.expose(), &content[..]);
        }
    }
}
