//! Secrets that are known by how they look, whatever stands before them.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::text::{Masked, is_placeholder, looks_random, past_escape};

/// What each looks like. `START` stands where letters before it could make another word of it (`disk-`, `SLOVAKIA`). Of rows that
/// match at the same place, the first one counts.
const KEYS: &[(&str, &str)] = &[
    ("a private key", r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----"),
    ("credentials in a URL", r#"://(?:[^ \t\r\n/?#@\\"'<>`]+@)+"#),
    ("a signature in a URL", r#"(?i-u:[?&](?:X-Amz-Signature|X-Goog-Signature|Signature|sig))=[^ \t\r\n&#\\"'<>`]+"#),
    ("credentials of HTTP", r"START(?i-u:Bearer|Basic)(?:[ \t]{1,8}|%20)[A-Za-z0-9._~+/-]+={0,3}"),
    ("OpenAI, Anthropic and their likes", r"STARTsk-[A-Za-z0-9_-]{16,}"),
    ("Stripe", r"START(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{16,}"),
    ("GitHub", r"gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}"),
    ("GitLab", r"gl(?:pat|ptt|dt|rt|soat|cbt|ft|agent)-[A-Za-z0-9_-]{16,}"),
    ("Slack", r"xox[a-z]-[A-Za-z0-9-]{8,}|xapp-[0-9]-[A-Za-z0-9-]{8,}|hooks\.slack\.com/services/[A-Za-z0-9/]{16,}"),
    // With the secret that stands beside it: base 64 of 40 characters.
    ("AWS", r#"START(?:AKIA|ASIA)[A-Z0-9]{16,}(?:["']?[ \t,:;/|=]{1,4}["']?[A-Za-z0-9/+]{40,})?"#),
    ("Google", r"AIza[A-Za-z0-9_-]{30,}|STARTya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}"),
    ("Hugging Face, npm, Groq", r"START(?:hf|npm|gsk)_[A-Za-z0-9]{20,}"),
    ("xAI, Perplexity, PyPI", r"START(?:xai|pplx|pypi)-[A-Za-z0-9_-]{20,}"),
    ("SendGrid, Vault", r"STARTSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|STARThv[sbr]\.[A-Za-z0-9_-]{20,}"),
    ("DigitalOcean, Shopify", r"do[opr]_v1_[0-9a-f]{32,}|shp(?:at|ss|ca|pa)_[0-9a-fA-F]{32,}"),
    ("Telegram", r"START[0-9]{8,10}:AA[A-Za-z0-9_-]{32,}"),
    ("Discord", r"START[MNO][A-Za-z0-9]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"),
    ("Mailgun, Twilio", r"START(?:key-|SK)[0-9a-f]{32}"),
    ("age", r"AGE-SECRET-KEY-1[0-9A-Z]{40,}"),
];

/// After no letter or digit, after an escape (the `n` of `\n` is none of the word's letters), after a colour of a terminal.
const START: &str =
    r"(?:(?-u:\b)|\\[abefnrtv0]|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2}|\x1b\[[0-9;]{0,9}m)";

/// JSON Web Tokens. By themselves: each key of another form in the letters before the first dot would make the search for that dot begin
/// again.
const WEB_TOKENS: &str = r"eyJ[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]{4,}){1,4}";

/// Of e-mail addresses, what begins at the sign. In names: ASCII, and the letters of Latin, Greek and Cyrillic.
const HOSTS: &str =
    r"(?:@|%40)(?:[A-Za-z0-9\-\u{C0}-\u{24F}\u{370}-\u{52F}]+\.)+[A-Za-z\u{C0}-\u{24F}\u{370}-\u{52F}]{2,}";

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant, which every test compiles")
}

/// A text without keys of known forms, unless it has none.
pub fn mask_keys(text: &str) -> Option<String> {
    static ANY: LazyLock<Regex> = LazyLock::new(|| {
        let rows: Vec<_> = KEYS.iter().map(|(_, row)| row.replace("START", START)).collect();
        compiled(&rows.join("|"))
    });
    mask_each(text, &ANY, |found| {
        let secret = match text[found.clone()].starts_with("-----") {
            true => end_of_private_key(text, found.end).map(|end| found.start..end),
            false => secret_part(text, found),
        };
        let (first, second) = secret.map_or((None, None), |secret| in_two(text, secret));
        first.into_iter().chain(second)
    })
}

/// A text without JSON Web Tokens, unless it has none.
pub fn mask_web_tokens(text: &str) -> Option<String> {
    static ANY: LazyLock<Regex> = LazyLock::new(|| compiled(WEB_TOKENS));
    mask_each(text, &ANY, Some)
}

/// A text without e-mail addresses, unless it has none.
pub fn mask_addresses(text: &str) -> Option<String> {
    static ANY: LazyLock<Regex> = LazyLock::new(|| compiled(HOSTS));
    mask_each(text, &ANY, |host| {
        let before = &text[..host.start];
        let is_part = |c: char| {
            c.is_ascii_alphanumeric() || "._+-".contains(c) || matches!(c, '\u{C0}'..='\u{24F}' | '\u{370}'..='\u{52F}')
        };
        let start = before.trim_end_matches(is_part).len();
        // The user of a URL is none, and `a@b.dot(c)` multiplies matrices.
        let user =
            before.chars().rev().take(LONGEST_USER).take_while(|c| is_of_user(*c)).map(char::len_utf8).sum::<usize>();
        let is_of_url = before[..before.len() - user].ends_with("://");
        let is_address = start < host.start && !is_of_url && !text[host.end..].starts_with('(');
        is_address.then_some(start..host.end)
    })
}

/// No user of a URL has a longer name: who writes one for each of many addresses is not read again and again.
const LONGEST_USER: usize = 256;

fn is_of_user(c: char) -> bool {
    !" \t\r\n,;/?#@\\\"'<>`".contains(c)
}

/// Masks what `parts` makes of each match; it may go on behind it.
fn mask_each<P>(text: &str, pattern: &Regex, mut parts: impl FnMut(Range<usize>) -> P) -> Option<String>
where
    P: IntoIterator<Item = Range<usize>>,
{
    let mut masked = Masked::new(text);
    // What a mask goes before begins a word.
    let (mut start, mut at) = (0, 0);
    while let Some(found) = pattern.find_at(&text[start..], at - start) {
        let found = start + found.start()..start + found.end();
        at = found.end;
        for secret in parts(found) {
            masked.replace(past_escape(text, secret.start).max(start)..secret.end, "");
            at = at.max(secret.end);
            start = secret.end;
        }
    }
    masked.finish()
}

/// An id of AWS and the secret beside it, with whatever quotes are between them, are two.
fn in_two(text: &str, secret: Range<usize>) -> (Option<Range<usize>>, Option<Range<usize>>) {
    let bytes = &text.as_bytes()[secret.clone()];
    let id = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    if id == bytes.len() || !(bytes.starts_with(b"AKIA") || bytes.starts_with(b"ASIA")) {
        return (Some(secret), None);
    }
    let other = bytes.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric() || b"/+".contains(byte)).count();
    (Some(secret.start..secret.start + id), Some(secret.end - other..secret.end))
}

/// What of a match is secret, if it is. A URL keeps the user, a query the name, HTTP the scheme.
fn secret_part(text: &str, found: Range<usize>) -> Option<Range<usize>> {
    let shape = &text[found.clone()];
    let range = if shape.starts_with("://") {
        let user = &shape[3..shape.len() - 1];
        let password = match user.split_once(':') {
            Some((_, password)) => password,
            None if looks_random(user) => user,
            None => "",
        };
        found.end - 1 - password.len()..found.end - 1
    } else if shape.starts_with(['?', '&']) {
        found.start + shape.find('=')? + 1..found.end
    } else {
        let start = found.start + start_of_word(shape);
        start + start_of_secret(&text[start..found.end])?..found.end
    };
    Some(range).filter(|range| !range.is_empty() && !is_placeholder(&text[range.clone()]))
}

/// What `START` matched, if not nothing.
fn start_of_word(shape: &str) -> usize {
    match shape.as_bytes() {
        [b'\\', b'u', ..] => 6,
        [b'\\', b'x', ..] => 4,
        [b'\\', ..] => 2,
        [b'%', ..] => 3,
        [b'\x1b', ..] => shape.find('m').map_or(0, |end| end + 1),
        _ => 0,
    }
}

/// Where in a word the secret begins, if this is one and not `sk-learn-contrib-package`, `Basic training` or `Bearer of news`.
fn start_of_secret(word: &str) -> Option<usize> {
    let scheme = [("basic", true), ("bearer", false)].into_iter().find(|(scheme, _)| {
        word.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            && word[scheme.len()..].starts_with([' ', '\t', '%'])
    });
    let Some((scheme, is_basic)) = scheme else {
        return (!word.starts_with("sk-") || word.bytes().any(|byte| byte.is_ascii_digit())).then_some(0);
    };
    let rest = &word[scheme.len()..];
    let value = rest.strip_prefix("%20").unwrap_or(rest).trim_start_matches([' ', '\t']);
    let is_secret = if is_basic { decodes_to_a_pair(value) } else { looks_random(value) };
    is_secret.then_some(word.len() - value.len())
}

/// Whether this is base 64 of `user:password`, which is what follows `Basic`.
fn decodes_to_a_pair(value: &str) -> bool {
    let digits = value.trim_end_matches('=');
    let mut bits = 0u32;
    let mut count = 0;
    value.len().is_multiple_of(4)
        && digits.bytes().any(|byte| {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' | b'-' => 62,
                _ => 63,
            };
            (bits, count) = (bits << 6 | u32::from(digit), count + 6);
            count >= 8 && {
                count -= 8;
                bits >> count & 0xff == u32::from(b':')
            }
        })
}

/// Where the private key ends of which the first line ends at `begun`. What was cut off goes on to the end of its string, or of the text. A
/// first line that no key follows is none.
fn end_of_private_key(text: &str, begun: usize) -> Option<usize> {
    const DASHES: &str = "-----";
    const LONGEST_LINE: usize = 60;
    const SHORTEST_KEY: usize = 16;
    let rest = &text[begun..];
    // Lines may be strings of an array or of source, but nothing else stands between them.
    let is_of_key =
        |byte: u8| byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"+/=-:,.\\\"'".contains(&byte);
    let is_in =
        |at: &usize| is_of_key(rest.as_bytes()[*at]) && ![DASHES, "\":"].iter().any(|end| rest[*at..].starts_with(end));
    let (body, end) = rest.split_at((0..rest.len()).take_while(is_in).count());
    if end.starts_with("-----END ") {
        let line = &end.as_bytes()[DASHES.len()..end.len().min(LONGEST_LINE)];
        let dashes = line.windows(DASHES.len()).position(|dashes| dashes == DASHES.as_bytes());
        let last = DASHES.len() + dashes.map_or(0, |at| at + DASHES.len());
        let is_in_name = || end[last..].trim_start_matches(|c| c != '"').starts_with("\":");
        if !body.contains('"') || !is_in_name() {
            return Some(begun + body.len() + last);
        }
    }
    let key = body.trim_start_matches(['\\', 'n', 'r', '\n', '\r', ' ', '\t']);
    let string = &key[..key.find(['"', '\'']).unwrap_or(key.len())];
    let is_cut_off =
        string.bytes().take_while(u8::is_ascii_alphanumeric).count() >= SHORTEST_KEY || string.starts_with("Proc-Type");
    is_cut_off.then(|| begun + body.len() - key.len() + string.trim_end_matches('\\').len())
}
