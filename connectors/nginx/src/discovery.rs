//! What nginx serves, out of `nginx -T`.

use std::collections::BTreeMap;

use deploy_core::probe::Endpoint;
use deploy_core::{Error, Found, Look, endpoint_at};

/// One entry for each pair of files that a server with TLS names.
pub(crate) fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
    Ok(read(&look.run(&["nginx", "-T"])?))
}

/// What a block says, with what it takes over from the blocks around it.
#[derive(Clone, Default)]
struct Block {
    is_server: bool,
    certificates: Vec<String>,
    keys: Vec<String>,
    listens: Vec<String>,
    names: Vec<String>,
}

#[derive(Default)]
struct Pair {
    names: Vec<String>,
    listens: Vec<String>,
}

fn read(configuration: &str) -> Vec<Found> {
    let mut pairs: BTreeMap<(String, String), Pair> = BTreeMap::new();
    let mut blocks = vec![Block::default()];
    let mut words: Vec<String> = Vec::new();
    for token in tokens(configuration) {
        match token {
            Token::Word(word) => words.push(word),
            Token::Opens => {
                let around = blocks.last().cloned().unwrap_or_default();
                let is_server = words.first().is_some_and(|word| word == "server");
                blocks.push(Block { is_server, listens: Vec::new(), names: Vec::new(), ..around });
                words.clear();
            }
            Token::Closes => {
                if let Some(block) = blocks.pop().filter(|block| block.is_server) {
                    add(&mut pairs, &block);
                }
            }
            Token::Ends => {
                if let (Some(block), Some((directive, arguments))) = (blocks.last_mut(), words.split_first()) {
                    take(block, directive, arguments);
                }
                words.clear();
            }
        }
    }
    pairs.into_iter().map(|((fullchain, key), pair)| found(fullchain, key, pair)).collect()
}

fn take(block: &mut Block, directive: &str, arguments: &[String]) {
    match directive {
        "ssl_certificate" => block.certificates.extend(arguments.first().cloned()),
        "ssl_certificate_key" => block.keys.extend(arguments.first().cloned()),
        "server_name" => block.names.extend(arguments.iter().cloned()),
        "listen" if arguments.iter().skip(1).any(|word| word == "ssl" || word == "quic") => {
            block.listens.extend(arguments.first().cloned());
        }
        _ => {}
    }
}

/// A server that listens for TLS. Files whose names are made at each handshake, or that are no files, are not ours.
fn add(pairs: &mut BTreeMap<(String, String), Pair>, block: &Block) {
    if block.listens.is_empty() {
        return;
    }
    for (certificate, key) in block.certificates.iter().zip(&block.keys) {
        let is_file = |path: &String| path.starts_with('/') && !path.contains('$');
        if is_file(certificate) && is_file(key) && certificate != key {
            let pair = pairs.entry((certificate.clone(), key.clone())).or_default();
            for (all, own) in [(&mut pair.names, &block.names), (&mut pair.listens, &block.listens)] {
                let new: Vec<String> = own.iter().filter(|word| !all.contains(*word)).cloned().collect();
                all.extend(new);
            }
        }
    }
}

fn found(fullchain: String, key: String, pair: Pair) -> Found {
    let names: Vec<String> = pair.names.into_iter().filter(|name| is_host(name)).collect();
    let asked = names.iter().find(|name| !name.contains('*'));
    let endpoints: Vec<Endpoint> = pair.listens.iter().filter_map(|listen| endpoint(listen, asked)).take(1).collect();
    let found = Found::new(names).with("fullchain", fullchain).with("key", key);
    if endpoints.is_empty() { found } else { found.with("verify", endpoints) }
}

/// A name of a host or a wildcard; not a pattern, nor the `_` that stands for nobody.
fn is_host(name: &str) -> bool {
    name.contains('.') && !name.starts_with('~') && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-*".contains(c))
}

/// Where a `listen` can be reached from this host.
fn endpoint(listen: &str, name: Option<&String>) -> Option<Endpoint> {
    let (host, port) = match listen.rsplit_once(':') {
        _ if listen.starts_with("unix:") => return None,
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, port),
        _ if listen.parse::<u16>().is_ok() => ("", listen),
        _ => (listen, "443"),
    };
    let host = match host {
        "" | "*" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    endpoint_at(format!("{host}:{port}"), name.map(String::as_str))
}

enum Token {
    Word(String),
    Opens,
    Closes,
    Ends,
}

/// Words, braces and semicolons; comments are left out, quotes taken off.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    let mut word: Option<String> = None;
    while let Some(c) = characters.next() {
        match c {
            '#' if word.is_none() => while characters.next_if(|c| *c != '\n').is_some() {},
            '"' | '\'' if word.is_none() => {
                let mut quoted = String::new();
                while let Some(inner) = characters.next().filter(|inner| *inner != c) {
                    quoted.push(if inner == '\\' { characters.next().unwrap_or('\\') } else { inner });
                }
                tokens.push(Token::Word(quoted));
            }
            // A variable in braces is a part of its word.
            '{' if word.as_ref().is_some_and(|word| word.ends_with('$')) => word.get_or_insert_default().push(c),
            '}' if word.as_ref().is_some_and(|word| word.contains("${")) => word.get_or_insert_default().push(c),
            '{' | '}' | ';' => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(match c {
                    '{' => Token::Opens,
                    '}' => Token::Closes,
                    _ => Token::Ends,
                });
            }
            c if c.is_whitespace() => tokens.extend(word.take().map(Token::Word)),
            c => word.get_or_insert_default().push(c),
        }
    }
    tokens
}

#[cfg(test)]
mod tests;
