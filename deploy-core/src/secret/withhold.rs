//! What others print may hold a key. That is taken out before anybody is shown it, or it is kept.

/// Stands in place of what is taken out.
const WITHHELD: &str = "[withheld: it may be a key]";

/// Words of Base64 or hexadecimal from this length on are taken for a key: an IPv6 address has at most 39 characters.
const WORD: usize = 40;

/// Text of others, such as the output of a command, without what may be a private key: blocks in PEM, also where a part of
/// one was cut off, and long words in Base64 or hexadecimal. A password is not known from other text, and stays.
#[must_use]
pub fn withhold(text: &str) -> String {
    without_words(&without_blocks(text))
}

fn without_blocks(text: &str) -> String {
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    // Of output only the end is kept: a block may have lost its beginning.
    if let Some(end) = boundary(rest, "END")
        && boundary(rest, "BEGIN").is_none_or(|begin| begin.start > end.start)
    {
        shown.push_str(WITHHELD);
        rest = &rest[end.end..];
    }
    while let Some(begin) = boundary(rest, "BEGIN") {
        shown.push_str(&rest[..begin.start]);
        shown.push_str(WITHHELD);
        rest = boundary(&rest[begin.end..], "END").map_or("", |end| &rest[begin.end + end.end..]);
    }
    shown + rest
}

/// Where a block of a private key begins or ends.
fn boundary(text: &str, which: &str) -> Option<std::ops::Range<usize>> {
    const DASHES: &str = "-----";
    text.match_indices(&format!("{DASHES}{which} ")).find_map(|(start, opening)| {
        let label = start + opening.len();
        let length = text[label..].find(DASHES)?;
        let end = label + length + DASHES.len();
        text[label..label + length].ends_with("PRIVATE KEY").then_some(start..end)
    })
}

fn without_words(text: &str) -> String {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.split('\n') {
        let word = line.trim();
        // The last line of a block is a short one.
        let rest_of_block = inside && !word.is_empty() && word.chars().all(is_encoded);
        inside = rest_of_block || is_key(word);
        lines.push(if inside { WITHHELD.to_owned() } else { words(line) });
    }
    lines.dedup_by(|line, before| line == WITHHELD && before == WITHHELD);
    lines.join("\n")
}

fn words(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(is_encoded) {
        let length = rest[start..].find(|c| !is_encoded(c)).unwrap_or(rest.len() - start);
        let word = &rest[start..start + length];
        shown.push_str(&rest[..start]);
        shown.push_str(if word.split('=').any(holds_key) { WITHHELD } else { word });
        rest = &rest[start + length..];
    }
    shown + rest
}

fn is_encoded(c: char) -> bool {
    is_base64(c) || c == ':'
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/=".contains(c)
}

fn holds_key(word: &str) -> bool {
    is_key(word) || word.split(':').any(is_key)
}

/// Long, and either hexadecimal, or Base64 that is no path of ordinary words.
fn is_key(word: &str) -> bool {
    let has = |kind: fn(&char) -> bool| word.chars().any(|c| kind(&c));
    let hexadecimal = word.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
    let mixed = has(char::is_ascii_digit) && has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase);
    word.len() >= WORD && (hexadecimal || (mixed && word.chars().all(is_base64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2\n\
                         OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r\n\
                         1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G";

    #[test]
    fn s1_a_key_that_a_command_prints_is_withheld() {
        let block = format!("-----BEGIN PRIVATE KEY-----\n{LINES}\nAbC=\n-----END PRIVATE KEY-----\n");
        let cut_off = &block[40..];
        let unended = &block[..120];
        for printed in [block.as_str(), &block.replace('\n', "\\n"), cut_off, unended, LINES, &LINES[..64]] {
            let shown = withhold(&format!("cannot load: {printed}"));
            let line = LINES.lines().find(|line| shown.contains(&line[10..26]));
            assert_eq!(line, None, "{shown}");
        }
        assert_eq!(withhold(&format!("before\n{block}after\n")), format!("before\n{WITHHELD}\nafter\n"));
        assert_eq!(withhold(&format!("{LINES}\nAbC=\nand more")), format!("{WITHHELD}\nand more"));
        let hexadecimal = "30:81:87:02:01:00:30:13:06:07:2a:86:48:ce:3d";
        assert_eq!(withhold(&format!("priv:\n    {hexadecimal}:\n    0f:3c")), format!("priv:\n{WITHHELD}"));
        assert_eq!(withhold(&hexadecimal.replace(':', "")), hexadecimal.replace(':', ""), "too short for a key");
        assert_eq!(withhold(&format!("key={},", hexadecimal.replace(':', "").repeat(2))), format!("{WITHHELD},"));
    }

    #[test]
    fn what_an_operator_needs_stays() {
        for text in [
            "nginx: [emerg] cannot load certificate \"/etc/nginx/tls/www.crt\": BIO_new_file() failed (SSL: error:80000002:system \
             library::No such file or directory:calling fopen(/etc/nginx/tls/www.crt, r))",
            "bind() to [2001:0db8:85a3:0000:0000:8a2e:0370:7334]:443 failed (98: Address already in use)",
            "/usr/local/openresty/nginx/sites/enabled/everything is no file",
            "-----BEGIN CERTIFICATE-----",
            "",
            "  two\n\n",
        ] {
            assert_eq!(withhold(text), text);
        }
    }
}
